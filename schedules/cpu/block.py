"""The block form: a dense micro-kernel for each panel of R rows, over the columns in which any of its rows is live.

Before:
    for m, n:  Y[m, n] = epilogue(sum_k W[m, k] * X[k, n])

After, for each tile of V vectors (see nest.py for the loops around it):
    for panel of R rows:
        acc[R][V] = 0
        for e in the panel's entries:            all k for "dense"; the live columns for "block"
            x[V] = S[offset(e) + position]
            for r in R:  acc[r][:] += W[e, r] * x[:]        W packed as [entries][R]
        Y = epilogue(acc)
A column that is live in one row of the panel is computed for all of them, zeros included: blocks r x c of any size
fit where R divides r. Vector registers: R V accumulators + 1 for the broadcast weight + V of x (none for R = 1: there x
is an operand of the multiplication).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm.tirx.script import builder as T

from tesa.schedules.cpu import cost
from tesa.schedules.cpu.arithmetic import Arithmetic, arithmetic
from tesa.schedules.cpu.cut import Cut, cut
from tesa.schedules.cpu.epilogue import Names
from tesa.schedules.cpu.loops import lanes, named, serial, span, unrolled
from tesa.schedules.cpu.nest import Builder, Tile
from tesa.schedules.cpu.operand import Operand, operand
from tesa.schedules.cpu.packing import Packing
from tesa.schedules.registry import schedule
from tesa.schedules.types import Code, Config, FloatArray, Isa, Problem

MAX_UNROLLED = 64
"""A loop over k of at most this length takes its bounds from a table."""

MAX_FILL = 0.9
"""Panels with more live columns than this are left to "dense"."""


@dataclass(frozen=True)
class _Panels:
    """The packed weight.

    values: (entries, rows) for each panel in turn; columns: the k of each entry; at: (panels + 1,) where each panel's
    entries start.
    """

    values: NDArray[Any]
    columns: NDArray[np.int64]
    at: NDArray[np.int64]


def _starts(m: int, rows: int) -> list[int]:
    """The first rows of the panels. The last panel overlaps the one before it where m is no multiple of its rows: code
    for a shorter panel would cost registers, and the rows met twice get the same values twice."""
    return [min(first, m - rows) for first in range(0, m, rows)]


def _pack(weight: NDArray[Any], rows: int, dense: bool) -> _Panels:
    values, columns, at = [], [], [0]
    for first in _starts(len(weight), rows):
        panel = weight[first : first + rows]
        live = np.arange(panel.shape[1]) if dense else np.flatnonzero((panel != 0).any(axis=0))
        values.append(np.ascontiguousarray(panel[:, live].T).ravel())
        columns.append(live)
        at.append(at[-1] + len(live))
    return _Panels(np.concatenate(values), np.concatenate(columns), np.array(at))


def _emit(problem: Problem, weight: FloatArray, isa: Isa, config: Config, symbol: str, dense: bool) -> Code:
    rows, sums = min(config["rows"], problem.m), arithmetic(problem, isa)
    weight = sums.matrix(weight)
    live, k = _live(weight, dense), weight.shape[1]
    panels, view = _pack(weight, rows, dense), operand(problem, live, sums.group)
    work = np.repeat(np.diff(panels.at), rows)[: problem.m]
    made = Builder(problem, cut(problem, isa, view, config["vectors"], work, rows))
    values = made.constant(panels.values)
    packing = Packing(made, view, sums) if config.get("pack") else None
    if packing:
        offsets = (np.cumsum(live) - 1) * made.cut.tiling.width
        step = made.cut.tiling.width if dense else None
    else:
        offsets = view.offsets
        step = problem.n if dense and problem.pointwise else None
    table = None if step is not None else made.constant(offsets[panels.columns].astype(np.int32))
    # a small number of iterations that LLVM knows would be unrolled in full, at seconds of compile time
    at = None if dense and k > MAX_UNROLLED else made.constant(panels.at.astype(np.int32))
    kernel = _Kernel(problem, sums, k, rows, packing, step, values, table, at)
    return made.build(symbol, kernel.tile)


@dataclass(frozen=True)
class _Kernel:
    """Writes the statements of a tile. k: columns of W, in elements of the arithmetic.

    step: distance of the rows of the operand where they are in order, else the
    offset of each entry is in the constant `table`. values, at: constants; at is None where all panels have k entries.
    """

    problem: Problem
    sums: Arithmetic
    k: int
    rows: int
    packing: Packing | None
    step: int | None
    values: int
    table: int | None
    at: int | None

    def tile(self, names: Names, tile: Tile) -> None:
        """All panels of the tile's share of the rows."""
        rows, (low, high) = self.rows, tile.rows
        source, base, at = tile.source, tile.base, tile.at
        if self.packing:
            source, base = self.packing.allocate(tile.tiling), 0
            self.packing.fill(names, tile, source)

            def at(v: Any) -> Any:
                return v * tile.tiling.lanes

        first, last = (0, -(-high // rows)) if isinstance(high, int) else (low // rows, T.ceildiv(high, rows))
        with span("panel", first, last) as panel:
            self._panel(tile, _Read(names, source, base, at), panel)

    def _panel(self, tile: Tile, read: _Read, panel: Any) -> None:
        t, k, rows = tile.tiling, self.k, self.rows
        acc = named("acc", T.alloc_buffer((rows, t.vectors, t.lanes), self.sums.dtype, scope="local"))
        with unrolled("r", rows) as r, unrolled("v", t.vectors) as v, lanes(t.lanes) as lane:
            T.buffer_store(acc, self.sums.zero, [r, v, lane])
        at = None if self.at is None else read.names.constants[self.at]
        first, count = (panel * k, k) if at is None else (at[panel], at[panel + 1] - at[panel])
        with serial("i", count) as i:
            e = first + i
            offset = i * self.step if self.table is None else read.names.constants[self.table][e]

            def w(r: Any) -> Any:
                return read.names.constants[self.values][e * rows + r]

            def x(r: Any, v: Any, lane: Any) -> Any:
                return read.source, offset + read.base + read.at(v) + lane

            self.sums.accumulate(acc, (rows, t.vectors, t.lanes), w, x)
        row = T.min(panel * rows, self.problem.m - rows) if self.problem.m % rows else panel * rows
        tile.finish(acc, lambda r: row + r, rows)


@dataclass(frozen=True)
class _Read:
    """Where X is read: the operand itself, or a packed tile of it."""

    names: Names
    source: Any
    base: Any
    at: Callable[[Any], Any]


def _candidates(isa: Isa) -> list[tuple[int, int]]:
    """Every (rows, vectors) that fills most of the registers, and the short panels for narrow blocks."""
    sizes = []
    for vectors in range(1, 13):
        most = (isa.registers - 1 - vectors) // vectors
        sizes += [(rows, vectors) for rows in {most, most // 8 * 8, most // 4 * 4, min(most, 2)} if rows > 1]
        if vectors <= isa.registers - 2:
            sizes.append((1, vectors))
    return sizes


def _space(problem: Problem, weight: FloatArray, isa: Isa, dense: bool) -> Sequence[Config]:
    """The eight that the estimate likes best; for "block" only panels with enough dead columns."""
    if problem.op == "depthwise" or problem.dtype not in ("float32", "int8"):
        return []
    if problem.dtype != "float32" and not problem.pointwise:
        return []
    found: dict[tuple[int, int, int], tuple[float, Config]] = {}
    sums = arithmetic(problem, isa)
    weight = sums.matrix(weight)
    view = operand(problem, _live(weight, dense), sums.group)
    sizes = {rows: _entries(weight, rows, dense) for rows in {min(r, problem.m) for r, _ in _candidates(isa)}}
    for rows, vectors in _candidates(isa):
        entries = sizes[min(rows, problem.m)]
        if not dense and entries > MAX_FILL * _entries(weight, min(rows, problem.m), True):
            continue
        for pack in (1,) if sums.integer else (0, 1):
            config = {"rows": rows, "vectors": vectors, "pack": pack}
            expected = _cost(problem, isa, config, view, entries)
            tiles = _cut(problem, isa, config, view).tiling
            key = (min(rows, problem.m), tiles.vectors, pack)
            if key not in found:
                found[key] = expected, config
    return [config for _, config in sorted(found.values(), key=lambda item: item[0])[:8]]


def _live(weight: NDArray[Any], dense: bool) -> NDArray[np.bool_]:
    return np.ones(weight.shape[1], bool) if dense else (weight != 0).any(axis=0)


def _entries(weight: NDArray[Any], rows: int, dense: bool) -> int:
    """Computed columns of all panels together."""
    if dense:
        return -(-len(weight) // rows) * int(weight.shape[1])
    mask = weight != 0
    return sum(int(np.count_nonzero(mask[first : first + rows].any(axis=0))) for first in _starts(len(mask), rows))


def _estimate(problem: Problem, weight: FloatArray, isa: Isa, config: Config, dense: bool) -> float:
    sums = arithmetic(problem, isa)
    weight = sums.matrix(weight)
    rows, view = min(config["rows"], problem.m), operand(problem, _live(weight, dense), sums.group)
    return _cost(problem, isa, config, view, _entries(weight, rows, dense))


def _cut(problem: Problem, isa: Isa, config: Config, view: Operand) -> Cut:
    return cut(problem, isa, view, config["vectors"], np.ones(problem.m, np.int64), min(config["rows"], problem.m))


def _cost(problem: Problem, isa: Isa, config: Config, view: Operand, entries: int) -> float:
    """entries x (the slowest of FMAs, loads, latency, bytes of X and W), + packing + stores; see cost.py."""
    made, rows = _cut(problem, isa, config, view), min(config["rows"], problem.m)
    panels, v = -(-problem.m // rows), made.tiling.vectors
    live = int(np.count_nonzero(view.offsets >= 0))
    read = cost.reads(problem, isa, made, bool(config["pack"]))
    far = read.cycles(live * made.tiling.width * 4, v * made.tiling.lanes * 4)
    stream = rows * 4 / cost.FAR_BYTES_PER_CYCLE if entries * rows * 4 > isa.l2_bytes / 2 else 0.0
    step = max(rows * v / 2, (rows + v * read.split) / 2, cost.FMA_LATENCY * 1.1)
    step = cost.together(step, far, stream)
    tile = entries * step + panels * 10.0 + cost.finishing(problem.epilogue, panels * rows * v)
    if config["pack"]:
        tile += cost.packing(made, cost.reads(problem, isa, made, False), live)
    return cost.total_ms(problem, made, tile)


def _dense_space(problem: Problem, weight: FloatArray, isa: Isa) -> Sequence[Config]:
    return _space(problem, weight, isa, dense=True)


def _dense_estimate(problem: Problem, weight: FloatArray, isa: Isa, config: Config) -> float:
    return _estimate(problem, weight, isa, config, dense=True)


@schedule("dense", arch="x86", space=_dense_space, estimate=_dense_estimate, dense=lambda weight, config: True)
def emit_dense(problem: Problem, weight: FloatArray, isa: Isa, config: Config, symbol: str) -> Code:
    """Every element of the weight, zeros included: the kernel that sparsity is measured against."""
    return _emit(problem, weight, isa, config, symbol, dense=True)


def _block_space(problem: Problem, weight: FloatArray, isa: Isa) -> Sequence[Config]:
    return _space(problem, weight, isa, dense=False)


def _block_estimate(problem: Problem, weight: FloatArray, isa: Isa, config: Config) -> float:
    return _estimate(problem, weight, isa, config, dense=False)


@schedule("block", arch="x86", space=_block_space, estimate=_block_estimate)
def emit_block(problem: Problem, weight: FloatArray, isa: Isa, config: Config, symbol: str) -> Code:
    """Panels of rows over the columns that are live in any of them."""
    return _emit(problem, weight, isa, config, symbol, dense=False)
