"""Sums over the calibration data that a layer is scored and solved by: products of its inputs, now and before."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.compress.columns import Columns, rows_of
from tesa.compress.importance import Inputs
from tesa.compress.layers import Layer

Floats = NDArray[np.float64]
ROWS = 20_000
"""Input rows that are enough for a small layer; a wide one takes PER_COLUMN times its columns."""
PER_COLUMN = 8


@dataclass(frozen=True, eq=False)
class Gram:
    """Sums over `count` rows x of the input, for each group of a layer (one, where it has none), a leading axis of g.

    now: (g, k, k) x x^T of the network as it is. cross: (g, k, k) x d^T, d being the same rows in the dense network.
    mean, mean_dense: (g, k). power: (m,) the variance of each output of the dense network.
    """

    count: int
    now: Floats
    cross: Floats
    mean: Floats
    mean_dense: Floats
    power: Floats

    def centered(self) -> tuple[Floats, Floats]:
        """(now, cross) of inputs without their means: what is left to a weight that a bias stands beside."""
        now = self.now - self.count * self.mean[:, :, None] * self.mean[:, None, :]
        return now, self.cross - self.count * self.mean[:, :, None] * self.mean_dense[:, None, :]

    def inputs(self, rows: int) -> Inputs:
        """The facts that importances are computed from, for a weight of so many rows."""
        square = np.einsum("gkk->gk", self.now) / self.count
        covariance = self.centered()[0] / self.count
        if len(self.now) == 1:
            return Inputs(square[0], covariance[0])
        each = rows // len(self.now)
        return Inputs(np.repeat(square, each, 0), np.repeat(covariance, each, 0))


def gram(
    layer: Layer,
    pairs: Callable[[], Iterable[tuple[NDArray[Any], NDArray[Any]]]],
    differs: bool,
    weight: NDArray[Any],
    seed: int,
) -> Gram:
    """The sums of a layer over its inputs (dense, now), read batch by batch. differs: these are not the same.

    weight: (m, k), the dense one.
    """
    groups = layer.groups if layer.op != "linear" else 1
    k = weight.shape[1]
    total = sum(rows_of(layer, dense.shape) for dense, _ in pairs())
    columns = Columns(layer, min(1.0, max(ROWS, PER_COLUMN * k) / max(total, 1)), seed)
    now = np.zeros((groups, k, k))
    cross = np.zeros((groups, k, k)) if differs else now
    sums, dense_sums = (np.zeros((groups, k)) for _ in range(2))
    outputs = np.zeros((2, len(weight)))
    blocks = weight.reshape(groups, -1, k).astype(np.float32)
    count = 0
    for dense, current in pairs():
        d, x = columns.pair(dense, current)
        d, x = (array if array.ndim == 3 else array[None] for array in (d, x))
        turned = x.swapaxes(1, 2)
        now += turned @ x
        if differs:
            cross += turned @ d
        sums += x.sum(1, dtype=np.float64)
        dense_sums += d.sum(1, dtype=np.float64)
        y = d @ blocks.swapaxes(1, 2)
        outputs += [y.sum(1, dtype=np.float64).reshape(-1), np.square(y).sum(1, dtype=np.float64).reshape(-1)]
        count += x.shape[1]
    power = outputs[1] / count - np.square(outputs[0] / count)
    return Gram(count, now, cross, sums / count, dense_sums / count, np.maximum(power, 0))
