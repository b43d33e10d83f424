"""Weights as tiles for matrix units: which tiles are live, and how each is laid out for the lanes of a warp.

A kernel cuts W into row blocks of `rows` rows. A step of a row block is a tile of `rows` x `depth` weights that has a
non-zero, and the rows of X that it is multiplied with. A block of threads computes one row block for `columns` columns
of Y: its steps one after the other.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.schedules.gpu.view import View
from tesa.schedules.gpus import MatrixUnit
from tesa.schedules.types import FloatArray, Problem

Pack = Callable[[NDArray[Any]], NDArray[np.uint32]]
"""Tiles of (steps, rows, depth) elements -> words of (steps, ...) in the order in which lanes load them."""


HELD, COPIED, GROUPED = WAYS = range(3)
"""Ways to a matrix unit: X by registers, W straight to them; both by asynchronous copies; by units of four warps."""


@dataclass(frozen=True)
class Tiling:
    """The facts that a kernel of tiles is written from.

    unit: the matrix instruction. rows, depth: of a step; columns: of a block of threads; threads: of a block. way: how
    X and W come to the unit, one of WAYS; stages: steps that have a place in shared memory, 0 for the way's own number.
    """

    problem: Problem
    view: View = field(repr=False)
    unit: MatrixUnit
    rows: int
    columns: int
    depth: int
    threads: int
    way: int = 0
    stages: int = 0

    @property
    def bits(self) -> int:
        """The bits of an element that the unit takes."""
        return {"float16": 16, "bfloat16": 16, "tfloat32": 32, "float32": 32, "int8": 8, "uint8": 8}[self.unit.inputs]

    @property
    def per(self) -> int:
        """Elements of a word of 32 bits."""
        return 32 // self.bits

    @property
    def wide(self) -> bool:
        """True where four neighbouring columns always lie one behind the other in X, at a multiple of four elements."""
        return self.view.border is None and self.view.n % 4 == 0

    @property
    def across(self) -> int:
        """Blocks of threads for all columns."""
        return -(-self.view.columns // self.columns)

    @property
    def x_bytes(self) -> int:
        """The bytes of an element of X in memory."""
        return 4 if self.problem.x_dtype == "float32" else 1


@dataclass(frozen=True)
class Steps:
    """The live tiles of a weight.

    tiles: (steps, rows, depth), zeros beyond W. blocks: (row blocks, 4) of int32: first step, steps, first row, 0, the
    longest first, so that none of them begins last. rows: (steps, depth, 1 or 2) of int32: where the rows of X lie, in
    bytes behind where a column begins, and with a border how far their tap lies from the window's first one, row |
    column << 16. A row block with no non-zero has no step.
    """

    tiles: FloatArray = field(repr=False)
    blocks: NDArray[np.int32] = field(repr=False)
    rows: NDArray[np.int32] = field(repr=False)


def steps(tiling: Tiling, weight: FloatArray) -> Steps:
    """The live tiles of a weight (m, k)."""
    m, k = weight.shape
    high, deep = -(-m // tiling.rows), -(-k // tiling.depth)
    whole = np.zeros((high * tiling.rows, deep * tiling.depth), np.float32)
    whole[:m, :k] = weight
    tiles = whole.reshape(high, tiling.rows, deep, tiling.depth).swapaxes(1, 2)
    live = (tiles != 0).any(axis=(2, 3))
    count = live.sum(axis=1)
    first = np.concatenate([[0], np.cumsum(count)[:-1]])
    blocks = np.stack([first, count, np.arange(high) * tiling.rows, np.zeros(high, np.int64)], -1)
    order = np.argsort(-count, kind="stable")
    places = np.nonzero(live)[1][:, None] * tiling.depth + np.arange(tiling.depth)
    return Steps(tiles[live], blocks[order].astype(np.int32), _rows(tiling, np.minimum(places, k - 1)))


def live_steps(weight: FloatArray, rows: int, depth: int) -> NDArray[np.int64]:
    """The number of steps of each row block.

    >>> live_steps(np.eye(32, 48, dtype=np.float32), 16, 16).tolist()
    [1, 1]
    """
    m, k = weight.shape
    high, deep = -(-m // rows), -(-k // depth)
    live = np.zeros((high * rows, deep * depth), bool)
    live[:m, :k] = weight != 0
    return np.asarray(live.reshape(high, rows, deep, depth).any(axis=(1, 3)).sum(axis=1), np.int64)


def _rows(tiling: Tiling, places: NDArray[np.int64]) -> NDArray[np.int32]:
    view = tiling.view
    offsets = view.offsets[places] * tiling.x_bytes
    if view.border is None:
        return offsets[..., None].astype(np.int32)
    far = np.array([view.border.rows[row][0] | view.border.columns[column][0] << 16 for row, column in view.taps])
    return np.stack([offsets, far[places]], -1).astype(np.int32)


def elements(tiles: FloatArray, inputs: str) -> NDArray[Any]:
    """Weights as the elements of a unit: unsigned integers of the same bits, or int8.

    >>> one = np.array([1.0], np.float32)
    >>> elements(one, "float16").tolist(), elements(one, "bfloat16").tolist()
    ([15360], [16256])
    """
    if inputs in ("int8", "uint8"):
        return tiles.astype(np.int8)
    if inputs == "float16":
        return tiles.astype(np.float16).view(np.uint16)
    bits = np.ascontiguousarray(tiles, np.float32).view(np.uint32)
    if inputs == "float32":
        return bits
    drop = 16 if inputs == "bfloat16" else 13
    near = bits + np.uint32((1 << (drop - 1)) - 1) + (bits >> np.uint32(drop) & np.uint32(1))  # ties to even
    kept = near >> np.uint32(drop)
    return kept.astype(np.uint16) if inputs == "bfloat16" else kept << np.uint32(drop)


def two_of_four(weight: FloatArray) -> bool:
    """True where no four neighbours along k, from a multiple of four on, have more than two non-zeros.

    >>> two_of_four(np.array([[1, 0, 2, 0], [0, 0, 0, 3]], np.float32)), two_of_four(np.ones((1, 4), np.float32))
    (True, False)
    """
    m, k = weight.shape
    groups = np.zeros((m, -(-k // 4) * 4), bool)
    groups[:, :k] = weight != 0
    return bool((groups.reshape(m, -1, 4).sum(-1) <= 2).all())


def compress(tiles: FloatArray) -> tuple[FloatArray, NDArray[np.uint32]]:
    """Tiles (..., depth) of a 2:4 pattern -> their two of four (..., depth / 2), and where they lie.

    The places of a group are four bits (..., depth / 4): the first one in the lower two, which rise. Where a group has
    fewer non-zeros, zeros fill up.

    >>> values, places = compress(np.array([[0, 5, 0, 7]], np.float32))
    >>> values.tolist(), places.tolist()
    ([[5.0, 7.0]], [[13]])
    """
    groups = tiles.reshape(*tiles.shape[:-1], tiles.shape[-1] // 4, 4)
    order = np.argsort(groups == 0, axis=-1, kind="stable")[..., :2]
    order.sort(axis=-1)
    values = np.take_along_axis(groups, order, -1).reshape(*tiles.shape[:-1], tiles.shape[-1] // 2)
    return values, (order[..., 0] | order[..., 1] << 2).astype(np.uint32)


@dataclass(frozen=True)
class DotGroup:
    """Rows k to k + 3 of X, and the rows of a panel that have a non-zero there: (number, four codes as a word)."""

    k: int
    words: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class DotPanel:
    """Rows first to first + rows of W: its live groups of four."""

    first: int
    rows: int
    groups: tuple[DotGroup, ...]
