"""A packed tile: the live rows of one tile of the operand, copied into a contiguous buffer that stays in the cache.

Integers are put together in groups on the way (arithmetic.py, interleave.py): then a row of the buffer holds `group`
rows of X.

Worth its copy where rows lie a power of two apart (they all fall into one set of the cache), or where vectors straddle
cache lines and each row of the operand is read many times.
"""

from typing import Any

import numpy as np
from tvm.tirx.script import builder as T

from tesa.schedules.cpu.arithmetic import Arithmetic
from tesa.schedules.cpu.interleave import Chunk, chunks, elements, interleaved
from tesa.schedules.cpu.loops import lanes, named, serial, unrolled
from tesa.schedules.cpu.nest import Builder, Tile
from tesa.schedules.cpu.operand import Operand, Tiling


class Packing:
    """buffer[i][:] = row i of the live rows of a tile. Make one while constants are collected."""

    def __init__(self, builder: Builder, view: Operand, sums: Arithmetic) -> None:
        self._sums, self._problem = sums, builder.problem
        live = view.offsets[view.offsets >= 0]
        self.rows = len(live)
        step = int(live[1] - live[0]) if len(live) > 1 else 0
        first = int(live[0]) if len(live) else 0
        self._step = step if np.array_equal(live, first + step * np.arange(len(live))) else None
        self._first = first
        self._table = None if self._step is not None else builder.constant(live.astype(np.int32))

    def allocate(self, tiling: Tiling, rows: int | None = None) -> Any:
        """The buffer for all live rows, or for so many of them."""
        size = max(self.rows if rows is None else rows, 1) * tiling.row
        return named("packed", T.alloc_buffer((size,), self._sums.element, align=64))

    def fill(self, names: Any, tile: Tile, buffer: Any, first: Any = 0, count: Any = None) -> None:
        """Copy `count` live rows from the first-th on (all of them by default) to the front of the buffer."""
        t = tile.tiling
        with serial("i", self.rows if count is None else count) as i:
            offset = self._offset(names, first + i)
            members = [self._member(offset, j) for j in range(self._sums.group)]
            pieces = chunks(t) if self._sums.interleaves else ()
            for piece in pieces:
                self._interleaved(tile, [member + tile.base for member in members], piece, buffer, i * t.row)
            if not pieces:
                with unrolled("v", t.vectors) as v, lanes(t.lanes) as lane:
                    parts = [tile.source[member + tile.base + tile.at(v) + lane] for member in members]
                    T.buffer_store(buffer, self._sums.pack(parts), [i * t.row + v * t.lanes + lane])
            for q in range(t.width, t.width + t.tail):
                parts = [tile.source[member + tile.base + q] for member in members]
                T.buffer_store(buffer, self._sums.pack(parts), [i * t.row + q])

    def _interleaved(self, tile: Tile, starts: list[Any], piece: Chunk, buffer: Any, at: Any) -> None:
        """Store the elements of a chunk's columns. starts: where its rows of X begin; at: a row of the buffer."""
        count, sums = tile.tiling.lanes, self._sums
        rows = [sums.code(tile.source[T.ramp(start + piece.start, 1, piece.width)]) for start in starts]
        found = interleaved(rows, piece.width, count, [column for column, _ in piece.stored])
        for column, place in piece.stored:
            value = elements(found[column], sums.element, count)
            T.buffer_store(buffer, value, [T.ramp(at + place, 1, count) if count > 1 else at + place])

    def _member(self, offset: Any, j: int) -> Any:
        """The place of row j of the group at `offset`. Beyond the last row: that row once more, it meets zeros of W."""
        k, n = self._problem.k, self._problem.n
        if j == 0 or k % self._sums.group == 0:
            return offset + j * n
        return T.min(offset + j * n, (k - 1) * n)

    def _offset(self, names: Any, row: Any) -> Any:
        if self._table is None:
            return self._first + row * self._step
        return names.constants[self._table][row]
