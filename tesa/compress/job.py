"""A model that is being pruned, with all that was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tesa.attributes.impose import Imposed
from tesa.base.progress import Progress, silent
from tesa.compress.bias import Biases
from tesa.compress.layers import Layer, find_layers
from tesa.compress.opened import Work
from tesa.compress.reconstruct import Plan, Reconstruction, unrepairable
from tesa.compress.samples import Samples
from tesa.compress.scoring import Scoring, checked_scores
from tesa.compress.shelf import LIMIT
from tesa.compress.walk import Walk

Scores = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Job:
    """layers: those that get a pattern, patterns: by their names. budget: one for all, None for that of each pattern.

    threads: of onnxruntime. memory: bytes of activations in memory.
    """

    work: Work
    layers: tuple[Layer, ...]
    patterns: Mapping[str, Imposed]
    scorer: Scoring
    budget: str | None = None
    seed: int = 0
    threads: int = 1
    memory: int = LIMIT
    progress: Progress = silent

    def again(self) -> Job:
        """The same after nodes of the model were moved."""
        work = self.work.again()
        found = {layer.name: layer for layer in find_layers(work.view.graph, work.tensors).layers}
        return replace(self, work=work, layers=tuple(found[layer.name] for layer in self.layers))

    def walk(self, samples: Samples) -> Walk:
        """A walk through the model, at its start."""
        return Walk(self.work.view, self.work.tensors, samples, threads=self.threads, memory=self.memory)

    def biases(self) -> Biases:
        """The biases of the model."""
        return Biases(self.work.view.graph, self.work.tensors, fixed=self.work.view is not self.work.proto)

    def weight_scores(self, layer: Layer) -> Scores:
        """The scores of a layer without data."""
        weight = layer.numbers(self.work.tensors)
        scores = self.scorer.score(layer.name, weight.astype(np.float64), None)
        return checked_scores(scores, layer, weight)

    def dense_scores(self, samples: Samples, scorer: Scoring) -> dict[str, Scores]:
        """The scores of all layers in the network as it is; those of a layer without inputs of its own by magnitude."""
        with self.walk(samples) as walk:
            first = Reconstruction(walk, self.biases(), Plan(self.patterns, scorer, self.budget, seed=self.seed))
            return {layer.name: _scores(first, layer, number) for number, layer in enumerate(self.layers)}


def _scores(first: Reconstruction, layer: Layer, number: int) -> Scores:
    sums = None
    weight = layer.numbers(first.tensors).astype(np.float64)
    if not unrepairable(layer):
        sums, weight = first.sums(layer, number)
    if sums is None:
        return np.abs(weight)
    return checked_scores(first.plan.scorer.score(layer.name, weight, sums.inputs(layer.rows)), layer, weight)
