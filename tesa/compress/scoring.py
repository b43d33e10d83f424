"""The importance that a user asks for, by name, as a function or as arrays, ready to score layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.attributes.impose import Imposed
from tesa.compress.budget import default_budget
from tesa.compress.importance import find_importance
from tesa.compress.layers import Layer
from tesa.errors import UsageError
from tesa.frontend.names import did_you_mean

Scorer = Callable[[str, Any, Any], Any]
"""(layer, weight (m, k), inputs or None) -> scores (m, k)."""


@dataclass(frozen=True)
class Scoring:
    """An importance, ready to be used."""

    name: str
    score: Scorer
    data: bool = False
    rowwise: bool = False


def find_scoring(name: str) -> Scoring:
    """The importance of that name."""
    known = find_importance(name)
    return Scoring(known.name, lambda _, weight, inputs: known.score(weight, inputs), known.data, known.rowwise)


def budget_of(given: str | None, scorer: Scoring, imposed: Imposed) -> str:
    """The budget of a layer: as given, else balanced where scores compare inside of a row, else by the pattern."""
    return given or ("balanced" if scorer.rowwise else default_budget(imposed))


def scorer_of(given: str | Scorer | Mapping[str, Any] | None, layers: list[Layer]) -> Scoring:
    """The importance that a user asks for. UsageError for an unknown name or arrays of unknown layers."""
    if isinstance(given, Mapping):
        return _own_arrays(given, layers)
    if given is not None and not isinstance(given, str):
        return Scoring(getattr(given, "__name__", "own"), given)
    return find_scoring(given or "l1")


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
