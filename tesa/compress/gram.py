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
FEW = 16
"""Rows for each column below which some samples are held out, to see what least squares does to them."""
HELD = 5
"""One sample of so many is held out."""


@dataclass(frozen=True, eq=False)
class Gram:
    """Sums over `count` rows x of the input, for each group of a layer (one, where it has none), a leading axis of g.

    now: (g, k, k) x x^T of the network as it is. cross: (g, k, k) x d^T, d being the same rows in the dense network.
    mean, mean_dense: (g, k). power: (m,) the variance of each output of the dense network.
    part: the same without the samples that are held out; None where rows are many.
    """

    count: int
    now: Floats
    cross: Floats
    mean: Floats
    mean_dense: Floats
    power: Floats
    part: Gram | None = None

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


@dataclass(eq=False)
class _Sums:
    """Sums of one layer that grow batch by batch. cross: a sum of its own, else that of the products."""

    groups: int
    k: int
    blocks: NDArray[np.float32]
    differs: bool

    def __post_init__(self) -> None:
        self.now = np.zeros((self.groups, self.k, self.k))
        self.cross = np.zeros_like(self.now) if self.differs else self.now
        self.first, self.dense = (np.zeros((self.groups, self.k)) for _ in range(2))
        self.outputs = np.zeros((2, self.groups * self.blocks.shape[1]))
        self.count = 0

    def add(self, d: NDArray[Any], x: NDArray[Any]) -> None:
        """Add rows (groups, rows, k) of the dense network and of the one as it is."""
        if not x.shape[1]:
            return
        turned = x.swapaxes(1, 2)
        self.now += turned @ x
        if self.differs:
            self.cross += turned @ d
        self.first += x.sum(1, dtype=np.float64)
        self.dense += d.sum(1, dtype=np.float64)
        y = d @ self.blocks.swapaxes(1, 2)
        self.outputs += [y.sum(1, dtype=np.float64).reshape(-1), np.square(y).sum(1, dtype=np.float64).reshape(-1)]
        self.count += x.shape[1]

    def absorb(self, other: _Sums) -> None:
        """Add the sums of other rows."""
        self.now += other.now
        if self.differs:
            self.cross += other.cross
        self.first += other.first
        self.dense += other.dense
        self.outputs += other.outputs
        self.count += other.count

    def result(self, part: Gram | None = None) -> Gram:
        """What was added."""
        count = max(self.count, 1)
        power = self.outputs[1] / count - np.square(self.outputs[0] / count)
        return Gram(
            self.count, self.now, self.cross, self.first / count, self.dense / count, np.maximum(power, 0), part
        )


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
    sizes = [rows_of(layer, dense.shape) for dense, _ in pairs()]
    wanted = max(ROWS, PER_COLUMN * k)
    columns = Columns(layer, min(1.0, wanted / max(sum(sizes), 1)), seed)
    few = min(sum(sizes), wanted) < FEW * k
    blocks = weight.reshape(groups, -1, k).astype(np.float32)
    sums, held = (_Sums(groups, k, blocks, differs) for _ in range(2))
    for number, (dense, current) in enumerate(pairs()):
        d, x = columns.pair(dense, current)
        d, x = (array if array.ndim == 3 else array[None] for array in (d, x))
        kept = _kept(number, len(sizes), x.shape[1]) if few else x.shape[1]
        sums.add(d[:, :kept], x[:, :kept])
        held.add(d[:, kept:], x[:, kept:])
    if not (sums.count and held.count):
        return (sums if sums.count else held).result()
    part = sums.result()
    held.absorb(sums)
    return held.result(part)


def _kept(number: int, batches: int, rows: int) -> int:
    """The rows of a batch, in front, that are not held out: all or none, where there are many batches."""
    if batches >= HELD:
        return 0 if number % HELD == HELD - 1 else rows
    return rows - rows // HELD
