"""A whole decomposition in one kernel: blocks and scattered elements meet in the registers, not in memory.

Before:
    for m, n:  Y[m, n] = epilogue(sum_k W1[m, k] * X[k, n] + sum_k W2[m, k] * X[k, n])

After, for each tile of V vectors (tesa.schedules.cpu.nest has the loops around it):
    for panel of R rows, rows that have much in common:
        acc[R][V] = 0
        for e in the columns that are live in any of the panel's rows of W1:
            x[V] = S[offset(e) + position]
            for r in R:  acc[r][:] += W1[e, r] * x[:]
        for i in 1 ... the most elements that a row of the panel has in W2:
            for r in R:  acc[r][:] += value[i, r] * S[offset(i, r) + position]
        Y[the panel's rows] = epilogue(acc)
Rows may be taken in any order, each is stored where it belongs; so they are sorted by their number of scattered
elements within a row of blocks, and the shorter ones are filled up with zero weights. One trip count serves a panel.

Of a "mixed" problem W1 are int8 codes, added up as int32 by the dot product instruction from a packed tile of codes,
and W2 are float32 outliers, added to the converted sums. They read a second tile, of single codes, and convert on the
way into a register: in float32 that tile would be four times as large, and out of the first-level cache.

Registers: R V accumulators + V of x + 1 for the broadcast weight.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.tirx.script import builder as T

from tesa.schedules.cpu.arithmetic import Arithmetic, arithmetic
from tesa.schedules.cpu.cut import Cut, cut
from tesa.schedules.cpu.epilogue import Names
from tesa.schedules.cpu.loops import lanes, named, serial, span, unrolled
from tesa.schedules.cpu.nest import Builder, Tile
from tesa.schedules.cpu.operand import Operand, operand
from tesa.schedules.cpu.packing import Packing
from tesa.schedules.cpu.rowpanels import pack_rows, starts
from tesa.schedules.types import Code, Config, Core, FloatArray, Problem

MAX_UNROLLED = 64
"""A loop over k of at most this length takes its bounds from a table: LLVM would unroll it in full."""


@dataclass(frozen=True, eq=False)
class Layout:
    """The two parts of a weight that a fused kernel is made of.

    panels, scattered: float32 (m, k), disjoint; order: (m,), in which rows are taken.

    counted: what fused_space has counted, by type and rows of a panel: all configurations ask for the same few numbers.
    """

    panels: FloatArray
    scattered: FloatArray
    order: NDArray[np.int64]
    counted: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two sums. weight: in elements of its arithmetic; view: where those lie in X."""

    sums: Arithmetic
    weight: NDArray[Any]
    view: Operand

    @cached_property
    def live(self) -> NDArray[np.bool_]:
        """The columns of X that it reads."""
        return np.asarray(self.view.offsets >= 0)

    @cached_property
    def per_row(self) -> NDArray[np.int64]:
        """(m,): elements of each row: many configurations ask."""
        return np.asarray(np.count_nonzero(self.weight, axis=1), np.int64)


@lru_cache(maxsize=2)
def sides_of(problem: Problem, layout: Layout, core: Core) -> tuple[Side, Side]:
    """The blocks' side and the scattered side. Of one arithmetic they share a view, and so a packed tile."""
    if problem.dtype == "mixed":
        exact = arithmetic(replace(problem, dtype="int8"), core)
        codes = exact.matrix(layout.panels)
        left = Side(exact, codes, operand(problem, (codes != 0).any(axis=0), exact.group))
        right = Arithmetic("float32", 1)
        return left, Side(right, layout.scattered, operand(problem, (layout.scattered != 0).any(axis=0)))
    sums = arithmetic(problem, core)
    panels, scattered = sums.matrix(layout.panels), sums.matrix(layout.scattered)
    view = operand(problem, (panels != 0).any(axis=0) | (scattered != 0).any(axis=0), sums.group)
    return Side(sums, panels, view), Side(sums, scattered, view)


def set_sizes(side: Side, order: NDArray[np.int64], rows: int) -> NDArray[np.int64]:
    """The scattered elements of the longest row of each panel."""
    counts = side.per_row[order]
    return np.array([counts[start : start + rows].max() for start in starts(len(counts), rows)])


def _scatter(
    side: Side, order: NDArray[np.int64], rows: int, offsets: NDArray[np.int64]
) -> tuple[NDArray[Any], NDArray[np.int32], NDArray[np.int32]]:
    """(values, offsets, where each panel begins): of each panel [set][row], filled up with zeros."""
    lengths = set_sizes(side, order, rows)
    values = np.zeros((int(lengths.sum()), rows), side.weight.dtype)
    places = np.zeros(values.shape, np.int64)
    at = np.concatenate([[0], np.cumsum(lengths)])
    for first, start in zip(at, starts(len(side.weight), rows), strict=False):
        for r, row in enumerate(order[start : start + rows]):
            live = np.flatnonzero(side.weight[row])
            values[first : first + len(live), r] = side.weight[row, live]
            places[first : first + len(live), r] = offsets[live]
    return values.ravel(), places.ravel().astype(np.int32), at.astype(np.int32)


@dataclass(frozen=True)
class _Kernel:
    """Writes the statements of a tile; the numbers are indices of constants.

    step: distance of the rows of the blocks' operand where a panel has all of them, else the offset of each entry is in
    `table`. shift: what is missing in the sums of codes. at, sets: where a panel begins; None where all have k entries,
    or where there is nothing scattered.
    """

    problem: Problem
    sums: Arithmetic
    other: Arithmetic
    k: int
    rows: int
    packing: Packing | None
    codes: _Codes | None
    step: int | None
    values: int
    table: int | None
    at: int | None
    blocks: bool
    extra: tuple[int, int, int] | None
    order: int | None
    shift: int | None

    def tile(self, names: Names, tile: Tile) -> None:
        """All panels of the tile's share of the rows."""
        rows, (low, high) = self.rows, tile.rows
        near = _Read(tile.source, tile.base, tile.at)
        if self.packing:
            near = _Read(self.packing.allocate(tile.tiling), 0, lambda v: v * tile.tiling.lanes)
            self.packing.fill(names, tile, near.source)
        far = near if self.codes is None else self.codes.fill(names, tile)
        first, last = (0, -(-high // rows)) if isinstance(high, int) else (low // rows, T.ceildiv(high, rows))
        with span("panel", first, last) as panel:
            start = T.min(panel * rows, self.problem.m - rows) if self.problem.m % rows else panel * rows
            acc = self._numbers(names, tile, self._blocks(names, tile, near, panel), start)
            if self.extra is not None:
                self._scattered(names, tile, far, panel, acc, self.extra)
            tile.finish(acc, self._row(names, start), rows)

    def _row(self, names: Names, start: Any) -> Callable[[Any], Any]:
        if self.order is None:
            return lambda r: start + r
        table = names.constants[self.order]
        return lambda r: table[start + r]

    def _blocks(self, names: Names, tile: Tile, read: _Read, panel: Any) -> Any:
        t, k, rows = tile.tiling, self.k, self.rows
        acc = named("acc", T.alloc_buffer((rows, t.vectors, t.lanes), self.sums.dtype, scope="local"))
        with unrolled("r", rows) as r, unrolled("v", t.vectors) as v, lanes(t.lanes) as lane:
            T.buffer_store(acc, self.sums.zero, [r, v, lane])
        if not self.blocks:
            return acc
        at = None if self.at is None else names.constants[self.at]
        first, count = (panel * k, k) if at is None else (at[panel], at[panel + 1] - at[panel])
        with serial("i", count) as i:
            e = first + i
            offset = i * self.step if self.table is None else names.constants[self.table][e]
            self.sums.accumulate(
                acc,
                (rows, t.vectors, t.lanes),
                lambda r: names.constants[self.values][e * rows + r],
                lambda r, v, lane: (read.source, offset + read.base + read.at(v) + lane),
            )
        return acc

    def _numbers(self, names: Names, tile: Tile, acc: Any, start: Any) -> Any:
        """The sums of codes of the rows from start on as float32, to which outliers can be added."""
        if self.sums.dtype == self.other.dtype:
            return acc
        t, rows = tile.tiling, self.rows
        total = named("total", T.alloc_buffer((rows, t.vectors, t.lanes), self.other.dtype, scope="local"))
        with unrolled("r", rows) as r, unrolled("v", t.vectors) as v, lanes(t.lanes) as lane:
            value = acc[r, v, lane]
            if self.shift is not None:
                value = value + names.constants[self.shift][self._row(names, start)(r)]
            T.buffer_store(total, tirx.Cast(self.other.dtype, value), [r, v, lane])
        return total

    def _scattered(self, names: Names, tile: Tile, read: _Read, panel: Any, acc: Any, extra: Sequence[int]) -> None:
        t, rows = tile.tiling, self.rows
        values, places, sets = (names.constants[index] for index in extra)
        with serial("i", sets[panel + 1] - sets[panel]) as i:
            e = (sets[panel] + i) * rows

            def w(r: Any) -> Any:
                return values[e + r]

            def x(r: Any, v: Any, lane: Any) -> Any:
                return read.source, places[e + r] + read.base + read.at(v) + lane

            if self.codes is None:
                self.other.accumulate(acc, (rows, t.vectors, t.lanes), w, x)
                return
            with unrolled("r", rows) as r, unrolled("v", t.vectors) as v, lanes(t.lanes) as lane:
                source, index = x(r, v, lane)
                T.buffer_store(acc, acc[r, v, lane] + w(r) * tirx.Cast("float32", source[index]), [r, v, lane])


@dataclass(frozen=True)
class _Read:
    """The place where X is read: element (offset, vector v, lane) is source[offset + base + at(v) + lane]."""

    source: Any
    base: Any
    at: Callable[[Any], Any]


@dataclass(frozen=True)
class _Codes:
    """The packed tile of a mixed problem's outliers: the rows of X that they meet. table: where those are."""

    rows: int
    table: int

    def fill(self, names: Names, tile: Tile) -> _Read:
        """Allocate and fill it."""
        t = tile.tiling
        buffer = named("codes", T.alloc_buffer((max(self.rows, 1) * t.row,), "uint8", align=64))
        with serial("i", self.rows) as i, unrolled("v", t.vectors) as v, lanes(t.lanes) as lane:
            value = tile.source[names.constants[self.table][i] + tile.base + tile.at(v) + lane]
            T.buffer_store(buffer, value, [i * t.row + v * t.lanes + lane])
        return _Read(buffer, 0, lambda v: v * t.lanes)


def emit(problem: Problem, layout: Layout, core: Core, config: Config, symbol: str) -> Code:
    """The kernel. config: rows R of a panel, vectors V of a tile, pack 1 to copy each tile of X together first."""
    rows = min(config["rows"], problem.m)
    left, right = sides_of(problem, layout, core)
    order = layout.order
    made = Builder(
        problem,
        cut_of(problem, core, left, right, order, rows, config["vectors"]),
        maximum=core.maximum,
        rounds=core.rounds,
    )
    width = made.cut.tiling.width
    panels, k = pack_rows(left.weight[order], rows, dense=False), left.weight.shape[1]
    has_blocks = bool(left.live.any()) and bool(len(panels.columns))
    full = has_blocks and bool((np.diff(panels.at) == k).all())
    values = made.constant(panels.values) if has_blocks else 0
    shared = problem.dtype != "mixed"
    pack = bool(config["pack"]) and (has_blocks or shared)
    packing = Packing(made, left.view, left.sums) if pack else None
    offsets = _packed(left.live, width) if packing else left.view.offsets
    step = (width if packing else problem.n if problem.pointwise else None) if full else None
    table = None if step is not None or not has_blocks else made.constant(offsets[panels.columns].astype(np.int32))
    bounds = None if not has_blocks or (full and k > MAX_UNROLLED) else made.constant(panels.at.astype(np.int32))
    extra, codes = None, None
    if right.weight.any():
        if not shared:
            codes = _Codes(int(right.live.sum()), made.constant(right.view.offsets[right.live].astype(np.int32)))
            offsets = _packed(right.live, width)
        sets = _scatter(right, order, rows, offsets)
        extra = (made.constant(sets[0]), made.constant(sets[1]), made.constant(sets[2]))
    natural = np.array_equal(order, np.arange(problem.m))
    placed = None if natural else made.constant(order.astype(np.int32))
    shift = made.optional(left.sums.shift(layout.panels if not shared else layout.panels + layout.scattered))
    made.shift = shift if shared else None
    kernel = _Kernel(
        problem, left.sums, right.sums, k, rows, packing, codes, step, values, table, bounds, has_blocks, extra, placed,
        None if shared else shift,
    )  # fmt: skip
    return made.build(symbol, kernel.tile)


def _packed(live: NDArray[np.bool_], width: int) -> NDArray[np.int64]:
    """Offsets of the columns in a packed tile."""
    return np.asarray((np.cumsum(live) - 1) * width)


def cut_of(
    problem: Problem, core: Core, left: Side, right: Side, order: NDArray[np.int64], rows: int, vectors: int
) -> Cut:
    made = cut(problem, core, left.view, vectors, (left.per_row + right.per_row)[order], rows)
    if made.band and made.parts > 1:
        # a share of a band's rows compacts its own rows; taken in another order they are not neighbours
        return replace(made, bounds=(0, problem.m))
    return made
