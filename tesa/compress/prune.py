"""prune: the model with zeros in its weights, by a pattern, an importance and a budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.attributes.impose import Imposed
from tesa.attributes.zeros import Mask
from tesa.compress.budget import BUDGETS, default_budget, keep, spread
from tesa.compress.importance import find_importance
from tesa.compress.layers import Layer, find_layers
from tesa.compress.result import Pruned, PrunedLayer
from tesa.compress.rules import INFEASIBLE, Rules, assign, by_name, with_sparsity
from tesa.compress.tensors import Tensors
from tesa.errors import UsageError
from tesa.frontend.file import read_model
from tesa.frontend.given import file_size
from tesa.frontend.names import did_you_mean

Scorer = Callable[[str, Any, Any], Any]
"""(layer, weight (m, k), inputs or None) -> scores (m, k)."""

NO_DATA = (
    "without calibration data (--data) nothing repairs what the zeros cost: a network that keeps 99 % of its accuracy "
    "at 70 % with data may fall to guessing without"
)


def prune(
    model: str | Path | Any,
    pattern: str | Imposed = "unstructured",
    sparsity: float | None = None,
    *,
    layers: Mapping[str, str | float | Imposed | None] | None = None,
    depthwise: str | Imposed | None = None,
    importance: str | Scorer | Mapping[str, Any] | None = None,
    budget: str | None = None,
    ends: bool = False,
    infeasible: str = "error",
) -> Pruned:
    """Set weights of an ONNX model to zero; everything else of it stays.

    model: a path, or a ModelProto, which is not changed. pattern, sparsity: "16x1" and 0.3, or "0.3:16x1"; "2:4";
    the patterns are those of `tesa list patterns`. layers: by name or glob another share, pattern with its share, or
    None to stay dense. depthwise: a pattern for depthwise filters, which otherwise stay dense. importance: a name
    (`tesa.compress.importances()`), a function (layer, weight (m, k), inputs) -> scores, or arrays by layer or
    initializer. budget: "balanced", "global" or "network". ends: also prune the first and the last layer. infeasible:
    "error", or "dense" to leave a layer that cannot have its pattern as it is.

    Raises UsageError for a name that no layer has, and for a pattern or a share that a layer cannot have.

    >>> from importlib.resources import files
    >>> found = prune(str(files("tesa.models") / "digits.onnx"), "16x1", 0.5, ends=True)
    >>> len(found.layers), round(found.sparsity, 2) >= 0.5
    (10, True)
    """
    _check(budget, infeasible)
    every = with_sparsity(pattern, sparsity)
    taps = None if depthwise is None else with_sparsity(depthwise, None)
    rules = Rules(every, by_name(layers or {}, every), ends, infeasible, taps)
    work = opened(model)
    found = find_layers(work.view.graph, work.tensors)
    if not found.layers:
        raise UsageError(f"{work.source}: no layer has a weight that can be pruned")
    assigned = assign(rules, found.layers)
    chosen = [layer for layer in found.layers if layer.name in assigned.patterns]
    scorer = scorer_of(importance, chosen)
    if scorer.data:
        raise UsageError(f"the importance {importance!r} needs calibration data: give --data calib.npz")
    masks, rows = {}, []
    patterns = dict(assigned.patterns)
    if budget == "network":
        patterns = spread({layer.name: _scores(scorer, layer, work.tensors) for layer in chosen}, patterns)
    for layer in chosen:
        imposed = patterns[layer.name]
        how = budget or ("balanced" if scorer.rowwise else default_budget(imposed))
        mask = keep(_scores(scorer, layer, work.tensors), imposed, how)
        row, stored = apply_mask(work.tensors, layer, mask, imposed)
        masks[layer.tensor] = stored
        rows.append(row)
    return Pruned(
        work.proto, tuple(rows), (*assigned.left, *found.others), masks, (NO_DATA,), work.external,
        {"pattern": str(every), "importance": scorer.name, "budget": budget or "by pattern"},
    )  # fmt: skip


def _check(budget: str | None, infeasible: str) -> None:
    if budget is not None and budget not in BUDGETS:
        raise UsageError(
            f"there is no budget {budget!r}; expected {', '.join(BUDGETS)}. {did_you_mean(budget, BUDGETS)}"
        )
    if infeasible not in INFEASIBLE:
        raise UsageError(f"infeasible is {infeasible!r}; expected {' or '.join(INFEASIBLE)}")


@dataclass(frozen=True, eq=False)
class Work:
    """A model that is being pruned. proto: what will be written; view: the same without functions of its own."""

    proto: Any
    view: Any
    tensors: Tensors
    source: str
    external: bool


def opened(model: str | Path | Any) -> Work:
    """Read a model; a ModelProto is copied."""
    source, proto = read_model(model)
    external = False
    if isinstance(model, str | Path):
        external = Path(model).stat().st_size + 1024 < file_size(proto)
    else:
        copy = type(proto)()
        copy.CopyFrom(proto)
        proto = copy
    view = proto
    if proto.functions:
        from onnx import inliner

        view = inliner.inline_local_functions(proto)
    return Work(proto, view, Tensors(proto, source), source, external)


@dataclass(frozen=True)
class Scoring:
    """An importance, ready to be used."""

    name: str
    score: Scorer
    data: bool = False
    rowwise: bool = False


def scorer_of(given: str | Scorer | Mapping[str, Any] | None, layers: list[Layer]) -> Scoring:
    """The importance that a user asks for. UsageError for an unknown name or arrays of unknown layers."""
    if isinstance(given, Mapping):
        return _own_arrays(given, layers)
    if given is not None and not isinstance(given, str):
        return Scoring(getattr(given, "__name__", "own"), given)
    known = find_importance(given or "l1")
    return Scoring(known.name, lambda _, weight, inputs: known.score(weight, inputs), known.data, known.rowwise)


def _own_arrays(given: Mapping[str, Any], layers: list[Layer]) -> Scoring:
    by_layer: dict[str, Any] = {}
    names = {own: layer for layer in layers for own in layer.known_as()}
    for name, scores in given.items():
        if name not in names:
            raise UsageError(f"importance is given for {name!r}, which is no layer that is pruned. "
                             f"{did_you_mean(name, names)}".rstrip())  # fmt: skip
        layer, array = names[name], np.asarray(scores)
        if array.shape not in (layer.shape, (layer.rows, layer.k)):
            raise UsageError(
                f"layer {layer.name}: the importance has the shape {list(array.shape)}, its weight {list(layer.shape)}"
            )
        by_layer[layer.name] = layer.matrix(array) if array.shape == layer.shape else array
    return Scoring("given", lambda name, weight, _: by_layer.get(name, np.abs(weight)))


def _scores(scorer: Scoring, layer: Layer, tensors: Tensors, inputs: Any = None) -> NDArray[np.float64]:
    """The scores of a layer's weight, checked."""
    weight = layer.numbers(tensors)
    return checked_scores(scorer.score(layer.name, weight.astype(np.float64), inputs), layer, weight)


def checked_scores(scores: Any, layer: Layer, weight: NDArray[Any]) -> NDArray[np.float64]:
    """Scores as (m, k), those of weights that are 0 already below all others. UsageError where they are no numbers."""
    array = np.asarray(scores, np.float64)
    if array.shape != weight.shape:
        raise UsageError(
            f"layer {layer.name}: the importance has the shape {list(array.shape)}, its weight as a matrix "
            f"(outputs, k) {list(weight.shape)}"
        )
    if not np.isfinite(array).all() or (array < 0).any():
        what = "not finite" if not np.isfinite(array).all() else "below 0"
        raise UsageError(f"layer {layer.name}: some importance is {what}; scores are numbers of 0 and more")
    return array


def apply_mask(tensors: Tensors, layer: Layer, mask: Mask, imposed: Imposed) -> tuple[PrunedLayer, Mask]:
    """Write zeros into a weight. (its row in the result, the mask in the stored shape)."""
    array = tensors.get(layer.tensor)
    assert array is not None
    before = layer.numbers(tensors)
    stored = layer.stored(mask)
    zero = array.dtype.type(0) if layer.codes is None else layer.codes.zeros(array.shape)
    tensors.set(layer.tensor, np.ascontiguousarray(np.where(stored, array, zero)).astype(array.dtype))
    return summary(layer, before, np.where(mask, before, np.float32(0)), imposed), np.ascontiguousarray(stored)


def summary(layer: Layer, before: NDArray[Any], after: NDArray[Any], imposed: Imposed, **more: Any) -> PrunedLayer:
    """The row of a layer: what its weight was, and is."""
    total = float(np.abs(before).sum(dtype=np.float64))
    left = float(np.abs(np.where(after != 0, before, 0)).sum(dtype=np.float64))
    return PrunedLayer(
        layer.name, layer.tensor, layer.op, (layer.rows, layer.k), imposed.text,
        1 - int(np.count_nonzero(after)) / after.size, left / total if total else 1.0, **more,
    )  # fmt: skip
