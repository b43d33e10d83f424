"""The indexed form: the pattern is constant data, one non-zero at a time.

Before:
    for m, n:  Y[m, n] = epilogue(sum_k W[m, k] * X[k, n])

After, for each tile of V vectors (see nest.py for the loops around it):
    for block of live k, so that its slice of X stays in the first-level cache:
        for group of rows with equally many non-zeros in this block:
            for U rows of the group at a time:
                acc[U][V] = 0, or what the blocks before have left
                for i in the rows' non-zeros:
                    for u in U:  acc[u][:] += value[e, u] * S[offset[e, u] + position]
                partial sums = acc, or in the last block  Y = epilogue(acc)
A group's trip counts are all the same, which the branch predictor needs: blocks leave a handful of non-zeros to a row. To
make groups of U rows, rows are sorted by their count and the shorter ones filled up with zero weights; a last odd row
goes alone. Vector registers: U V accumulators + U for the weights; X is an operand of the multiplication.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm.tirx.script import builder as T

from tesa.schedules.cpu.cut import cut
from tesa.schedules.cpu.epilogue import Names
from tesa.schedules.cpu.nest import Builder, Tile, lanes, vector_start
from tesa.schedules.cpu.operand import LINE, Tiling, operand
from tesa.schedules.cpu.packing import Packing
from tesa.schedules.registry import schedule
from tesa.schedules.types import Code, Config, FloatArray, Isa, Problem


@dataclass(frozen=True)
class Stream:
    """The non-zeros in the order in which they are used.

    values, offsets: of each non-zero. rows: the rows in turn. groups: (groups, 4) of number of row sets, non-zeros of a
    row, where its values start, where its rows start. at: (shares, blocks, 3) first group of a block, first group of
    single rows, end.
    """

    values: NDArray[np.float32]
    offsets: NDArray[np.int32]
    rows: NDArray[np.int32]
    groups: NDArray[np.int32]
    at: NDArray[np.int32]


class _Writer:
    """Puts a stream together."""

    def __init__(self) -> None:
        self.values: list[NDArray[np.float32]] = []
        self.offsets: list[NDArray[np.int64]] = []
        self.rows: list[int] = []
        self.groups: list[list[int]] = []
        self._size = 0

    def add(self, sets: list[list[int]], part: FloatArray, offsets: NDArray[np.int64]) -> None:
        """Sets of rows, of one size; rows of `part`, whose column j lies at offsets[j]."""
        previous = -1
        for rows in sets:
            length = max(int(np.count_nonzero(part[r])) for r in rows)
            if length != previous:
                self.groups.append([0, length, self._size, len(self.rows)])
                previous = length
            self.groups[-1][0] += 1
            self.rows += rows
            values = np.zeros((length, len(rows)), np.float32)
            places = np.zeros((length, len(rows)), np.int64)
            for u, r in enumerate(rows):
                live = np.flatnonzero(part[r])
                values[: len(live), u] = part[r, live]
                places[: len(live), u] = offsets[live]
            self.values.append(values.ravel())
            self.offsets.append(places.ravel())
            self._size += values.size


def stream(
    weight: FloatArray,
    blocks: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
    bounds: Sequence[int],
    unit: int,
) -> Stream:
    """The stream of a weight. blocks: the columns of each block and their offsets; bounds: shares of rows; unit: U.

    The first and the last block have all rows, empty ones too; the blocks between only the rows with non-zeros.
    """
    writer, at = _Writer(), []
    for low, high in zip(bounds[:-1], bounds[1:], strict=True):
        for b, (columns, offsets) in enumerate(blocks):
            part = weight[:, columns]
            counts = np.count_nonzero(part[low:high], axis=1)
            rows = np.argsort(counts, kind="stable") + low
            if 0 < b < len(blocks) - 1:
                rows = rows[np.sort(counts) > 0]
            whole = len(rows) // unit * unit
            first = len(writer.groups)
            writer.add(rows[:whole].reshape(-1, unit).tolist(), part, offsets)
            single = len(writer.groups)
            writer.add([[int(r)] for r in rows[whole:]], part, offsets)
            at.append((first, single, len(writer.groups)))
    return Stream(
        np.concatenate(writer.values or [np.zeros(0, np.float32)]),
        np.concatenate(writer.offsets or [np.zeros(0, np.int64)]).astype(np.int32),
        np.array(writer.rows, np.int32),
        np.array(writer.groups, np.int32).ravel(),
        np.array(at, np.int32).ravel(),
    )


@dataclass(frozen=True)
class _Kernel:
    """Writes the statements of a tile. sizes: live k of each block. The other fields are constants and the config."""

    problem: Problem
    unit: int
    sizes: tuple[int, ...]
    packing: Packing | None
    values: int
    offsets: int
    rows: int
    groups: int
    at: int

    def tile(self, names: Names, tile: Tile) -> None:
        """All blocks of the tile."""
        blocks = len(self.sizes)
        buffer = self.packing.allocate(tile.tiling, max(self.sizes)) if self.packing else None
        partial = None
        if blocks > 1:
            partial = T.alloc_buffer((self.problem.m * _stride(tile.tiling),), "float32", align=64)
        self._block(names, tile, buffer, partial, 0, blocks == 1, True)
        if blocks > 2:
            with T.serial(1, blocks - 1) as block:
                self._block(names, tile, buffer, partial, block, False, False)
        if blocks > 1:
            self._block(names, tile, buffer, partial, blocks - 1, True, False)

    def _block(
        self, names: Names, tile: Tile, buffer: Any, partial: Any, block: Any, last: bool, first: bool
    ) -> None:
        if self.packing:
            size = self.sizes[-1] if last else self.sizes[0]
            self.packing.fill(names, tile, buffer, block * self.sizes[0], size)
        step = _Step(self, names, tile, buffer, partial, first, last)
        at = (tile.share * len(self.sizes) + block) * 3
        limits = names.constants[self.at]
        step.groups(limits[at], limits[at + 1], self.unit)
        if self.unit > 1:
            step.groups(limits[at + 1], limits[at + 2], 1)


@dataclass(frozen=True)
class _Step:
    """Writes one block of a tile."""

    kernel: _Kernel
    names: Names
    tile: Tile
    buffer: Any
    partial: Any
    first: bool
    last: bool

    def groups(self, low: Any, high: Any, unit: int) -> None:
        """The groups low ... high - 1, whose rows go `unit` at a time."""
        table = self.names.constants[self.kernel.groups]
        with T.serial(low, high) as g:
            length, start, row = T.bind(table[g * 4 + 1]), T.bind(table[g * 4 + 2]), T.bind(table[g * 4 + 3])
            with T.serial(0, table[g * 4]) as r:
                self._rows(row + r * unit, start + r * length * unit, length, unit)

    def _rows(self, row: Any, start: Any, length: Any, unit: int) -> None:
        t = self.tile.tiling
        constants, kernel = self.names.constants, self.kernel
        acc = T.alloc_buffer((unit, t.vectors, t.lanes), "float32", scope="local")

        def each(body: Callable[[Any, Any, Any], None]) -> None:
            with T.unroll(0, unit) as u, T.unroll(0, t.vectors) as v, lanes(t.lanes) as lane:
                body(u, v, lane)

        def place(u: Any, v: Any, lane: Any) -> Any:
            return constants[kernel.rows][row + u] * _stride(t) + v * t.lanes + lane

        def begin(u: Any, v: Any, lane: Any) -> None:
            T.buffer_store(acc, T.float32(0) if self.first else self.partial[place(u, v, lane)], [u, v, lane])

        def keep(u: Any, v: Any, lane: Any) -> None:
            T.buffer_store(self.partial, acc[u, v, lane], [place(u, v, lane)])

        each(begin)
        with T.serial(0, length) as i:

            def add(u: Any, v: Any, lane: Any) -> None:
                e = start + i * unit + u
                x = self._x(constants[kernel.offsets][e], v, lane)
                T.buffer_store(acc, acc[u, v, lane] + constants[kernel.values][e] * x, [u, v, lane])

            each(add)
        if self.last:
            self.tile.finish(acc, lambda u: constants[kernel.rows][row + u], unit)
        else:
            each(keep)

    def _x(self, offset: Any, v: Any, lane: Any) -> Any:
        t = self.tile.tiling
        if self.buffer is not None:
            return self.buffer[offset + v * t.lanes + lane]
        return self.tile.source[offset + self.tile.base + vector_start(t, v) + lane]


def _stride(tiling: Tiling) -> int:
    """Elements of a row of partial sums."""
    return -(-tiling.width // LINE) * LINE


def _space(problem: Problem, weight: FloatArray, isa: Isa) -> Sequence[Config]:
    if problem.op == "depthwise":
        return []
    return [{"vectors": 8, "rows": 1, "kblock": 96, "pack": 1}]


def _estimate(problem: Problem, weight: FloatArray, isa: Isa, config: Config) -> float:
    return 1.0


@schedule("indexed", arch="x86", space=_space, estimate=_estimate)
def emit_indexed(problem: Problem, weight: FloatArray, isa: Isa, config: Config, symbol: str) -> Code:
    """The non-zeros as a list of values and offsets, blocked over k."""
    live = (weight != 0).any(axis=0)
    view, unit = operand(problem, live), config["rows"]
    columns = np.flatnonzero(live)
    size = min(config["kblock"] or problem.k, max(len(columns), 1))
    made = Builder(problem, cut(problem, isa, view, config["vectors"], np.count_nonzero(weight, axis=1)))
    blocks = []
    for first in range(0, max(len(columns), 1), size):
        block = columns[first : first + size]
        packed = np.arange(len(block)) * made.cut.tiling.width
        blocks.append((block, packed if config["pack"] else view.offsets[block]))
    packing = Packing(made, view) if config["pack"] else None
    data = stream(weight, blocks, made.cut.bounds, unit)
    constants = [made.constant(a) for a in (data.values, data.offsets, data.rows, data.groups, data.at)]
    kernel = _Kernel(problem, unit, tuple(len(b) for b, _ in blocks), packing, *constants)
    return made.build(symbol, kernel.tile)
