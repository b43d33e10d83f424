"""The quality of a table's predictions: every layer from the times of all the others.

Hyperparameters and the width of the ranges are learnt once, from all layers, the one that is left out among them: to
learn them anew without each layer would take minutes, and the errors are a little too small for it.
"""

import math
from dataclasses import dataclass

import numpy as np

from tesa.costs.table import CostTable

NEAR = 0.10
"""A pick this much slower than the best measured kernel is as good as the best."""


@dataclass(frozen=True)
class FamilyQuality:
    """Errors of a family's predicted times on layers left out, as shares of the time: half, 80 % and 95 % are below.

    bare: the median error of the family's own estimate, set right by one factor for all layers.
    """

    name: str
    kernels: int
    layers: int
    median: float
    p80: float
    p95: float
    bare: float


@dataclass(frozen=True)
class Quality:
    """Errors of the families and of picks. layers: those with several kernels, of which one was picked without its
    times.

    near: the share of picks within NEAR of the fastest of the layer's measured kernels; loss: how much slower the picks
    are, geometric mean; near_by_estimate: the share with the families' own estimates instead. None without layers.
    """

    families: tuple[FamilyQuality, ...]
    layers: int
    near: float | None
    loss: float | None
    near_by_estimate: float | None


def quality(table: CostTable) -> Quality:
    """Predict each layer from all others, and compare with what was measured."""
    rows = []
    predicted: dict[int, list[tuple[float, float, float]]] = {}  # of a layer: measured, predicted, estimated
    for name, family in table.families.items():
        error, _ = family.left_out
        estimates = np.array([query.estimate_ms for query in family.queries])
        bare = np.log(family.times / estimates)
        half, most, nearly_all = np.expm1(np.quantile(np.abs(error), [0.5, 0.8, 0.95]))
        off = math.expm1(float(np.median(np.abs(bare - np.median(bare)))))
        layers = len(np.unique(family.layers))
        rows.append(FamilyQuality(name, len(error), layers, float(half), float(most), float(nearly_all), off))
        for layer, ms, wrong, expected in zip(family.layers, family.times, error, estimates, strict=True):
            predicted.setdefault(int(layer), []).append((float(ms), float(ms / np.exp(wrong)), float(expected)))
    picks = [kernels for kernels in predicted.values() if len(kernels) > 1]
    if not picks:
        return Quality(tuple(rows), 0, None, None, None)
    by_table, by_estimate = (np.array([_lost(kernels, column) for kernels in picks]) for column in (1, 2))
    return Quality(
        tuple(rows),
        len(picks),
        float((by_table <= 1 + NEAR).mean()),
        float(np.expm1(np.log(by_table).mean())),
        float((by_estimate <= 1 + NEAR).mean()),
    )


def _lost(kernels: list[tuple[float, float, float]], column: int) -> float:
    """The time of the kernel that this column of times picks, as a multiple of the best one's."""
    return min(kernels, key=lambda kernel: kernel[column])[0] / min(kernel[0] for kernel in kernels)
