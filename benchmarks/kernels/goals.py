"""The figures that are wanted, group by group: geometric mean and least ratio over the best peer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Row = dict[str, Any]


@dataclass(frozen=True)
class Goal:
    """name: which cases; takes: whether a row is one of them; mean, least: the ratios that are wanted."""

    name: str
    takes: Callable[[Row], bool]
    mean: float
    least: float


def _sparse(group: str, low: float, high: float = 1.0) -> Callable[[Row], bool]:
    return lambda row: row["group"] == group and row["pattern"] != "dense" and low <= row["sparsity"] <= high


def _codes(pattern: str, share: float) -> Callable[[Row], bool]:
    return lambda row: row["group"] == "i" and row["pattern"] == pattern and row["sparsity"] == share


def _dense(dtype: str) -> Callable[[Row], bool]:
    return lambda row: row["pattern"] == "dense" and row["dtype"] == dtype


GOALS = (
    Goal("a, 70 to 99 %", _sparse("a", 0.7), 2.2, 1.15),
    Goal("b, 90 %", _sparse("b", 0.9), 1.7, 1.0),
    Goal("b, 70 %", _sparse("b", 0.7, 0.7), 1.2, 0.95),
    Goal("b, 30 %", _sparse("b", 0.3, 0.3), 1.0, 0.95),
    Goal("c", _sparse("c", 0.8), 2.5, 1.3),
    Goal("d", _sparse("d", 0.8), 1.9, 1.2),
    Goal("e, blocks, 70 to 90 %", _sparse("e", 0.7), 2.5, 1.3),
    Goal("e, 16x1 and 4x4, 30 %", _sparse("e", 0.3, 0.3), 1.2, 1.0),
    Goal("f", _sparse("f", 0.7), 1.6, 1.0),
    Goal("g", lambda row: row["group"] == "g", 1.3, 1.0),
    Goal("h, 70 and 90 %", _sparse("h", 0.7), 1.8, 1.0),
    Goal("i, 70 %", _codes("unstructured", 0.7), 2.2, 1.0),
    Goal("i, 80 %", _codes("unstructured", 0.8), 3.0, 1.0),
    Goal("i, 90 %", _codes("unstructured", 0.9), 4.7, 1.0),
    Goal("i, 1x4, 70 %", _codes("1x4", 0.7), 3.0, 1.0),
    Goal("i, 1x4, 90 %", _codes("1x4", 0.9), 8.0, 1.0),
    Goal("i, 4x4, 70 %", _codes("4x4", 0.7), 3.0, 1.0),
    Goal("i, 4x4, 90 %", _codes("4x4", 0.9), 8.0, 1.0),
    Goal("i, 16x1, 70 %", _codes("16x1", 0.7), 2.4, 1.0),
    Goal("i, 16x1, 90 %", _codes("16x1", 0.9), 6.0, 1.0),
    Goal("dense, float32", _dense("float32"), 0.9, 0.75),
    Goal("dense, int8", _dense("int8"), 0.8, 0.75),
)


def reached(rows: Sequence[Row]) -> list[list[str]]:
    """For each goal that any row belongs to: name, cases, mean and least ratio, what is wanted, whether it is met."""
    table = []
    for goal in GOALS:
        ratios = [row["ratio"] for row in rows if row["ratio"] and goal.takes(row)]
        if ratios:
            mean, least = float(np.exp(np.mean(np.log(ratios)))), min(ratios)
            met = "yes" if mean >= goal.mean and least >= goal.least else "no"
            wanted = f"{goal.mean:g} / {goal.least:g}"
            table.append([goal.name, str(len(ratios)), f"{mean:.2f}", f"{least:.2f}", wanted, met])
    return table
