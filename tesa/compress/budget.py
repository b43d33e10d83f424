"""Masks out of scores: how many units of each layer stay, and which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tesa.attributes.impose import Imposed
from tesa.attributes.patterns.tiles import block_scores
from tesa.attributes.zeros import Mask
from tesa.errors import UsageError

BUDGETS = ("balanced", "global", "network")
"""balanced: each group of rows of a layer keeps equally many units. global: a layer keeps the best of all of its own.
network: one threshold for the units of all layers."""


def default_budget(imposed: Imposed) -> str:
    """Balanced for blocks of several rows: a global budget would gather weak rows and remove them whole."""
    unit = imposed.imposition.unit
    rows = 1 if unit is None or imposed.imposition.balanced is None else unit(1 << 30, 1, imposed.sizes)[0]
    return "balanced" if rows > 1 else "global"


def keep(scores: NDArray[np.float64], imposed: Imposed, budget: str) -> Mask:
    """(m, k): what stays of a weight of these scores.

    >>> keep(np.array([[4.0, 1, 2, 3]]), Imposed.parse("0.5"), "global")
    array([[ True, False, False,  True]])
    """
    rule = imposed.imposition
    size = np.asarray(scores, np.float64)
    if budget == "balanced" and rule.balanced is not None:
        return rule.balanced(size, imposed.sparsity, imposed.sizes)  # type: ignore[arg-type]
    return rule.keep(size, imposed.sparsity, imposed.sizes)  # type: ignore[arg-type]


def spread(scores: Mapping[str, NDArray[np.float64]], patterns: Mapping[str, Imposed]) -> dict[str, Imposed]:
    """The patterns with the shares that one threshold for all units of all layers gives; together they keep the budget.

    UsageError for a pattern that has only one share, as 2:4.
    """
    units = {}
    for name, imposed in patterns.items():
        unit = imposed.imposition.unit
        if unit is None:
            raise UsageError(f"layer {name}: {imposed.text} allows one share of zeros; it has no budget with others")
        m, k = scores[name].shape
        rows, columns = unit(m, k, imposed.sizes)
        units[name] = (block_scores(scores[name], rows, columns).ravel(), rows * columns)  # type: ignore[arg-type]
    values = np.concatenate([value for value, _ in units.values()])
    areas = np.concatenate([np.full(value.size, area) for value, area in units.values()])
    gone = sum(imposed.sparsity * scores[name].size for name, imposed in patterns.items())
    order = np.argsort(values, kind="stable")
    taken = np.zeros(values.size, bool)
    taken[order[np.cumsum(areas[order]) <= gone]] = True
    result, start = {}, 0
    for name, (value, _) in units.items():
        share = float(taken[start : start + value.size].mean())
        result[name] = replace(patterns[name], sparsity=min(share, 1 - 1 / value.size))
        start += value.size
    return result
