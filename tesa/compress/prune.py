"""prune: the model with zeros in its weights, by pattern, importance and budget; repaired where there are data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tesa.attributes.impose import Imposed
from tesa.attributes.zeros import Mask
from tesa.base.progress import Progress, automatic, shows_progress, silent
from tesa.compress.budget import BUDGETS, spread
from tesa.compress.job import Job
from tesa.compress.layers import find_layers
from tesa.compress.metric import Arrays, Metric, read_metric
from tesa.compress.opened import opened
from tesa.compress.rearrange.gains import Arranged
from tesa.compress.rearrange.rows import Orders, arrangement, keep_in_order
from tesa.compress.rearranged import rearranged
from tesa.compress.reconstruct import ORDERED, Plan, Reconstruction
from tesa.compress.result import Pruned, PrunedLayer
from tesa.compress.rules import INFEASIBLE, Rules, assign, by_name, with_sparsity
from tesa.compress.samples import Data, Outputs, Samples, relative_error
from tesa.compress.scoring import Scorer, budget_of, scorer_of
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


@shows_progress
def prune(
    model: str | Path | Any,
    pattern: str | Imposed = "unstructured",
    sparsity: float | None = None,
    *,
    data: Data | None = None,
    layers: Mapping[str, str | float | Imposed | None] | None = None,
    depthwise: str | Imposed | None = None,
    metric: str | Path | Metric | Callable[[Arrays, Arrays], float] | None = None,
    importance: str | Scorer | Mapping[str, Any] | None = None,
    budget: str | None = None,
    ends: bool = False,
    infeasible: str = "error",
    rearrange: str | bool = False,
    reconstruct: bool = True,
    seed: int = 0,
    threads: int = 1,
    memory: int = 1 << 30,
    progress: Progress | None = automatic,
) -> Pruned:
    """Set weights of an ONNX model to zero; everything else of it stays.

    model: a path, or a ModelProto, which is not changed. pattern, sparsity: "16x1" and 0.3, or "0.3:16x1"; "2:4";
    the patterns are those of `tesa list patterns`. layers: by name or glob another share, pattern with its share, or
    None to stay dense. depthwise: a pattern for depthwise filters, which otherwise stay dense. importance: a name
    (`tesa.compress.importances()`), a function (layer, weight (m, k), inputs) -> scores, or arrays by layer or
    initializer. budget: "balanced", "global" or "network". ends: also prune the first and the last layer. infeasible:
    "error", or "dense" to leave a layer that cannot have its pattern as it is.

    rearrange: put channels together that lose the same, so that more is kept. "network": in the whole network, whose
    outputs stay as they are; "layer": each layer takes its rows in an order of its own, which the file does not show
    and which costs nothing where kernels store rows in any order, as row panels do; "auto" (or True): by layer where
    the pattern is one of rows only, else the network. With data, what matters is then scored scale-free.

    data: calibration data, an .npz or arrays by input, whose first axis counts samples. With them each layer is
    repaired by least squares on its mask (reconstruct=False: masks alone), layer by layer, its inputs those of the
    network as it is pruned by then, its targets those of the dense one. seed: which input rows are drawn where there
    are many. metric: a function metric(outputs, data) or a file with one: its number for the dense and the pruned
    model on these data, of which it gets what is no input as well. threads: of onnxruntime. memory: bytes of
    activations that are kept in memory; others go to temporary files. progress: by default a bar in a terminal or
    notebook; None for silence.

    Raises UsageError for a name that no layer has, for a pattern or a share that a layer cannot have, and for data that
    do not fit the model or are not finite.

    >>> from importlib.resources import files
    >>> found = prune(str(files("tesa.models") / "digits.onnx"), "16x1", 0.5)
    >>> len(found.layers), found.sparsity > 0.5
    (9, True)
    """
    how, progress = arrangement(rearrange), progress or silent
    _check(budget, infeasible)
    every = with_sparsity(pattern, sparsity)
    taps = None if depthwise is None else with_sparsity(depthwise, None)
    rules = Rules(every, by_name(layers or {}, every), ends, infeasible, taps)
    work = opened(model)
    samples = None if data is None else Samples.of(work.view, data, extra=metric is not None)
    before = None if samples is None else work.outputs(samples, threads)
    found = find_layers(work.view.graph, work.tensors)
    if not found.layers:
        raise UsageError(f"{work.source}: no layer has a weight that can be pruned")
    assigned = assign(rules, found.layers)
    chosen = [layer for layer in found.layers if layer.name in assigned.patterns]
    scorer = scorer_of(ORDERED if importance is None and samples is not None else importance, chosen)
    if scorer.data and samples is None:
        raise UsageError(f"the importance {importance!r} needs calibration data: give --data calib.npz")
    job = Job(work, tuple(chosen), assigned.patterns, scorer, budget, seed, threads, memory, progress)
    warnings = [NO_DATA] if samples is None else _warnings(samples)
    arranged: Arranged | None = None
    orders: Orders = {}
    if how:
        arranged, orders, said = rearranged(job, samples, how)
        warnings += said
        job = job.again() if arranged.gathers else job
    rows = _by_weights(job, orders) if samples is None else _by_data(job, samples, orders, repair=reconstruct)
    scores = () if before is None or samples is None else _scores(samples, before, work.proto, read_metric(metric))
    return Pruned(
        work.proto, tuple(row for row, _ in rows), (*assigned.left, *found.others),
        {layer.tensor: mask for layer, (_, mask) in zip(job.layers, rows, strict=True)}, tuple(warnings), work.external,
        {"pattern": str(every), "importance": scorer.name, "budget": budget or "by pattern",
         "reconstructed": samples is not None and reconstruct}, arranged, *scores,
    )  # fmt: skip


def _check(budget: str | None, infeasible: str) -> None:
    if budget is not None and budget not in BUDGETS:
        hint = did_you_mean(budget, BUDGETS)
        raise UsageError(f"there is no budget {budget!r}; expected {', '.join(BUDGETS)}. {hint}".rstrip())
    if infeasible not in INFEASIBLE:
        raise UsageError(f"infeasible is {infeasible!r}; expected {' or '.join(INFEASIBLE)}")


def _scores(
    samples: Samples, before: Outputs, proto: Any, metric: Metric | None
) -> tuple[float, float | None, float | None]:
    """(the relative error of the outputs, the metric of the dense model, that of the pruned one)."""
    after = samples.run(proto, name="the pruned model")
    error = relative_error(after, before)
    if metric is None:
        return error, None, None
    return error, metric(before, samples.extra), metric(after, samples.extra)


def _warnings(samples: Samples) -> list[str]:
    if samples.count >= FEW:
        return []
    return [f"{samples.count} samples are few: least squares then fits them rather than the task; give some hundred"]


def _by_weights(job: Job, orders: Orders) -> Rows:
    patterns = dict(job.patterns)
    if job.budget == "network":
        patterns = spread({layer.name: job.weight_scores(layer) for layer in job.layers}, patterns)
    rows = []
    for layer in job.layers:
        imposed = patterns[layer.name]
        budget = budget_of(job.budget, job.scorer, imposed)
        mask = keep_in_order(job.weight_scores(layer), imposed, budget, orders.get(layer.name))
        rows.append(apply_mask(job.work.tensors, layer, mask, imposed))
    return rows


def _by_data(job: Job, samples: Samples, orders: Orders, *, repair: bool) -> Rows:
    patterns = dict(job.patterns)
    if job.budget == "network":
        patterns = spread(job.dense_scores(samples, job.scorer), patterns)
    plan = Plan(patterns, job.scorer, job.budget, repair, job.seed, orders)
    with job.walk(samples) as walk:
        return Reconstruction(walk, job.biases(), plan, job.progress).run(job.layers)
