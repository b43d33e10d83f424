"""prune: the model with zeros in its weights, by pattern, importance and budget; repaired where there are data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.attributes.impose import Imposed
from tesa.attributes.zeros import Mask
from tesa.base.progress import Progress, silent
from tesa.compress.bias import Biases
from tesa.compress.budget import BUDGETS, default_budget, keep, spread
from tesa.compress.layers import Layer, find_layers
from tesa.compress.opened import Work, opened
from tesa.compress.reconstruct import ORDERED, Plan, Reconstruction, unrepairable
from tesa.compress.result import Pruned, PrunedLayer
from tesa.compress.rules import INFEASIBLE, Rules, assign, by_name, with_sparsity
from tesa.compress.samples import Data, Samples
from tesa.compress.scoring import Scorer, Scoring, checked_scores, scorer_of
from tesa.compress.walk import Walk
from tesa.compress.write import apply_mask
from tesa.errors import UsageError
from tesa.frontend.names import did_you_mean

NO_DATA = (
    "without calibration data (--data) nothing repairs what the zeros cost: a network that keeps 99 % of its accuracy "
    "at 70 % with data may fall to guessing without"
)
FEW = 64
"""Samples below which least squares fits them rather than the task."""

Rows = list[tuple[PrunedLayer, Mask]]


@dataclass(frozen=True)
class _Run:
    """The options of a run that go through it unchanged."""

    budget: str | None
    reconstruct: bool
    seed: int
    threads: int
    memory: int
    progress: Progress


def prune(
    model: str | Path | Any,
    pattern: str | Imposed = "unstructured",
    sparsity: float | None = None,
    *,
    data: Data | None = None,
    layers: Mapping[str, str | float | Imposed | None] | None = None,
    depthwise: str | Imposed | None = None,
    importance: str | Scorer | Mapping[str, Any] | None = None,
    budget: str | None = None,
    ends: bool = False,
    infeasible: str = "error",
    reconstruct: bool = True,
    seed: int = 0,
    threads: int = 1,
    memory: int = 1 << 30,
    progress: Progress = silent,
) -> Pruned:
    """Set weights of an ONNX model to zero; everything else of it stays.

    model: a path, or a ModelProto, which is not changed. pattern, sparsity: "16x1" and 0.3, or "0.3:16x1"; "2:4";
    the patterns are those of `tesa list patterns`. layers: by name or glob another share, pattern with its share, or
    None to stay dense. depthwise: a pattern for depthwise filters, which otherwise stay dense. importance: a name
    (`tesa.compress.importances()`), a function (layer, weight (m, k), inputs) -> scores, or arrays by layer or
    initializer. budget: "balanced", "global" or "network". ends: also prune the first and the last layer. infeasible:
    "error", or "dense" to leave a layer that cannot have its pattern as it is.

    data: calibration data, an .npz or arrays by input, whose first axis counts samples. With them each layer is
    repaired by least squares on its mask (reconstruct=False: masks alone), layer by layer, its inputs those of the
    network as it is pruned by then, its targets those of the dense one. seed: which input rows are drawn where there
    are many. threads: of onnxruntime. memory: bytes of activations that are kept in memory; others go to temporary
    files.

    Raises UsageError for a name that no layer has, for a pattern or a share that a layer cannot have, and for data that
    do not fit the model or are not finite.

    >>> from importlib.resources import files
    >>> found = prune(str(files("tesa.models") / "digits.onnx"), "16x1", 0.5)
    >>> len(found.layers), found.sparsity > 0.5
    (9, True)
    """
    _check(budget, infeasible)
    every = with_sparsity(pattern, sparsity)
    taps = None if depthwise is None else with_sparsity(depthwise, None)
    rules = Rules(every, by_name(layers or {}, every), ends, infeasible, taps)
    work = opened(model)
    samples = None if data is None else Samples.of(work.view, data)
    found = find_layers(work.view.graph, work.tensors)
    if not found.layers:
        raise UsageError(f"{work.source}: no layer has a weight that can be pruned")
    assigned = assign(rules, found.layers)
    chosen = [layer for layer in found.layers if layer.name in assigned.patterns]
    scorer = scorer_of(ORDERED if importance is None and samples is not None else importance, chosen)
    if scorer.data and samples is None:
        raise UsageError(f"the importance {importance!r} needs calibration data: give --data calib.npz")
    run = _Run(budget, reconstruct, seed, threads, memory, progress)
    patterns = dict(assigned.patterns)
    if samples is None:
        rows, warnings = _by_weights(work, chosen, patterns, scorer, run), [NO_DATA]
    else:
        rows, warnings = _by_data(work, chosen, patterns, scorer, samples, run), _warnings(samples)
    return Pruned(
        work.proto, tuple(row for row, _ in rows), (*assigned.left, *found.others),
        {layer.tensor: mask for layer, (_, mask) in zip(chosen, rows, strict=True)}, tuple(warnings), work.external,
        {"pattern": str(every), "importance": scorer.name, "budget": budget or "by pattern",
         "reconstructed": samples is not None and reconstruct},
    )  # fmt: skip


def _check(budget: str | None, infeasible: str) -> None:
    if budget is not None and budget not in BUDGETS:
        hint = did_you_mean(budget, BUDGETS)
        raise UsageError(f"there is no budget {budget!r}; expected {', '.join(BUDGETS)}. {hint}".rstrip())
    if infeasible not in INFEASIBLE:
        raise UsageError(f"infeasible is {infeasible!r}; expected {' or '.join(INFEASIBLE)}")


def _warnings(samples: Samples) -> list[str]:
    if samples.count >= FEW:
        return []
    return [f"{samples.count} samples are few: least squares then fits them rather than the task; give some hundred"]


def _by_weights(work: Work, chosen: list[Layer], patterns: dict[str, Imposed], scorer: Scoring, run: _Run) -> Rows:
    def scores(layer: Layer) -> NDArray[np.float64]:
        weight = layer.numbers(work.tensors)
        return checked_scores(scorer.score(layer.name, weight.astype(np.float64), None), layer, weight)

    if run.budget == "network":
        patterns = spread({layer.name: scores(layer) for layer in chosen}, patterns)
    rows = []
    for layer in chosen:
        imposed = patterns[layer.name]
        how = run.budget or ("balanced" if scorer.rowwise else default_budget(imposed))
        rows.append(apply_mask(work.tensors, layer, keep(scores(layer), imposed, how), imposed))
    return rows


def _by_data(
    work: Work, chosen: list[Layer], patterns: dict[str, Imposed], scorer: Scoring, samples: Samples, run: _Run
) -> Rows:
    def reconstruction(walk: Walk, plan: Plan) -> Reconstruction:
        biases = Biases(work.view.graph, work.tensors, fixed=work.view is not work.proto)
        return Reconstruction(walk, biases, plan, run.progress)

    if run.budget == "network":
        with Walk(work.view, work.tensors, samples, threads=run.threads, memory=run.memory) as walk:
            first = reconstruction(walk, Plan(patterns, scorer, run.budget, seed=run.seed))
            patterns = spread(
                {layer.name: _network_scores(first, layer, n) for n, layer in enumerate(chosen)}, patterns
            )
    with Walk(work.view, work.tensors, samples, threads=run.threads, memory=run.memory) as walk:
        return reconstruction(walk, Plan(patterns, scorer, run.budget, run.reconstruct, run.seed)).run(chosen)


def _network_scores(first: Reconstruction, layer: Layer, number: int) -> NDArray[np.float64]:
    """The scores of a layer in the dense network; those of one without inputs of its own by magnitude."""
    sums = None
    weight = layer.numbers(first.tensors).astype(np.float64)
    if not unrepairable(layer):
        sums, weight = first.sums(layer, number)
    if sums is None:
        return np.abs(weight)
    return checked_scores(first.plan.scorer.score(layer.name, weight, sums.inputs(layer.rows)), layer, weight)
