"""Costs of configurations: milliseconds by the cost table of the target, or multiply-adds, to compare with.

Of each layer alone it is a table, choice by choice; what one layer's zeros make of its neighbours, and codes of layers
that follow each other, is seen only where a whole model is lowered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tesa.attributes.impose import impose
from tesa.attributes.zeros import zeros_of
from tesa.base.progress import Event, Progress, silent
from tesa.choose.integer import IntegerContest
from tesa.choose.predict import expected, table_for
from tesa.costs.table import CostTable
from tesa.decompose.candidates import plain_candidates
from tesa.explore.choices import DENSE, FLOAT, Choice, Config
from tesa.explore.variants import Variants
from tesa.layers.layer import Layer
from tesa.layers.network import Network, to_network
from tesa.schedules.types import FloatArray, Problem
from tesa.targets.target import Target

METRICS = ("latency", "flops")


class Predictor:
    """The expected milliseconds of layers and of whole models on a target, with what was asked before kept."""

    def __init__(
        self, target: Target, threads: int = 1, log: Any = None, shapes: Mapping[str, Any] | None = None,
        table: CostTable | None = None,
    ) -> None:  # fmt: skip
        self.target, self.threads, self.shapes = target, threads, shapes
        self.table = table if table is not None else table_for(target, threads, log)
        self._known: dict[tuple[Problem, str], float] = {}

    def layer(self, problem: Problem, weight: FloatArray) -> float:
        """Milliseconds of the fastest kernel of one layer."""
        key = problem, zeros_of(weight).digest
        if key not in self._known:
            if not weight.any():
                return 0.0
            options = plain_candidates(problem, weight, self.target)
            self._known[key] = min(expected(options, problem, weight, self.target, self.table).values())
        return self._known[key]

    def network(self, model: Any) -> Network:
        """A model lowered as a compile does it, propagated, compacted, layers of codes on integers."""
        contest = IntegerContest(self.target, self.table, measure=False)
        return to_network(model, threads=self.threads, shapes=self.shapes, integer=contest.decide)

    def model(self, model: Any) -> float:
        """Milliseconds of all weight layers of a model together, as a compile would make them."""
        return sum(self.layer(layer.problem, layer.weight) for layer in self.network(model).layers)


class Latencies:
    """Milliseconds and multiply-adds of every layer under every choice, each alone.

    fixed: milliseconds of the layers that are not explored.
    """

    def __init__(
        self, variants: Variants, names: Sequence[str], choices: Sequence[Choice], predictor: Predictor,
        progress: Progress = silent,
    ) -> None:  # fmt: skip
        self.names, self.predictor = list(names), predictor
        dense = {layer.name: layer for layer in predictor.network(variants.work.proto).layers}
        coded = self._coded(variants, names) if any(choice.bits != FLOAT for choice in choices) else {}
        self.missing = [name for name in names if name not in dense]
        self.names = [name for name in names if name in dense]
        self.ms: dict[str, dict[Choice, float]] = {}
        self.flops: dict[str, dict[Choice, float]] = {}
        for place, name in enumerate(self.names):
            progress(Event("latency table", place, len(self.names), name))
            self.ms[name], self.flops[name] = {}, {}
            for choice in choices:
                layer = dense[name] if choice.bits == FLOAT else coded.get(name)
                if layer is None or not variants.feasible(name, choice):
                    continue
                self.ms[name][choice] = self._one(layer, choice)
                work = dense[name].problem
                self.flops[name][choice] = work.m * work.k * work.n * work.batch * (1 - choice.sparsity)
        progress(Event("latency table", len(self.names), len(self.names)))
        self.fixed = sum(
            predictor.layer(layer.problem, layer.weight) for name, layer in dense.items() if name not in self.ms
        )
        self.dense_ms = self.total({})

    def _one(self, layer: Layer, choice: Choice) -> float:
        weight = layer.weight if choice.imposed is None else impose(layer.weight, choice.imposed)
        if choice.channels:  # its rows are gone; that its readers lose inputs is not seen here
            return self.predictor.layer(layer.problem, layer.weight) * (1 - choice.sparsity)
        return self.predictor.layer(layer.problem, weight)

    def _coded(self, variants: Variants, names: Sequence[str]) -> dict[str, Layer]:
        """The layers on integers, where all of them are."""
        model = variants.assembled(dict.fromkeys(names, Choice(None, 8)))
        predictor = self.predictor
        lowered = to_network(model, threads=predictor.threads, shapes=predictor.shapes, integer=lambda _: True)
        return {layer.name: layer for layer in lowered.layers if layer.problem.dtype == "int8"}

    def total(self, config: Config, metric: str = "latency") -> float:
        """Milliseconds (with the fixed ones), or multiply-adds, of a configuration, layer by layer."""
        table = self.ms if metric == "latency" else self.flops
        found = sum(rows[config.get(name, DENSE)] for name, rows in table.items())
        return found + (self.fixed if metric == "latency" else 0.0)

    def choices(self, name: str) -> list[Choice]:
        """The choices that a layer has."""
        return list(self.ms[name])
