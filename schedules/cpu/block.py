"""The block form: a dense micro-kernel for each panel of R rows, over the columns in which any of its rows is live.

Before:
    for m, n:  Y[m, n] = epilogue(sum_k W[m, k] * X[k, n])

After, for each tile of V vectors (see nest.py for the loops around it):
    for block of live k, all of them by default:
        for panel of R rows:
            acc[R][V] = 0, or what the blocks before have left
            for e in the panel's entries:        all k for "dense"; the live columns for "block"
                x[V] = S[offset(e) + position]
                for r in R:  acc[r][:] += W[e, r] * x[:]    W packed as [entries][R]
            partial sums = acc, or in the last block  Y = epilogue(acc)
Blocks are for a k so long that a tile's X does not stay in the first-level cache.
A column that is live in one row of the panel is computed for all of them, zeros included: blocks r x c of any size
fit where R divides r. Vector registers: R V accumulators + 1 for the broadcast weight + V of x (none for R = 1: there x
is an operand of the multiplication); with a tail one sum for each of its columns, the panel's weights and one x more.

Where n is no multiple of a vector and fewer than R columns are left, these are the last tile's tail: their sums have
the panel's rows in the lanes, last[q][:] += W[e, :] * x[q], so that no lane is wasted on them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm.tirx.script import builder as T

from tesa.schedules.cpu import cost
from tesa.schedules.cpu.arithmetic import Arithmetic, half_sums, halves
from tesa.schedules.cpu.cut import Cut, cut
from tesa.schedules.cpu.epilogue import Names
from tesa.schedules.cpu.loops import lanes, loop, named, serial, span, turns, unrolled
from tesa.schedules.cpu.matrices import fits, forms, sums_of
from tesa.schedules.cpu.nest import Builder, Tile
from tesa.schedules.cpu.operand import Operand, operand, tiling
from tesa.schedules.cpu.packing import Packing
from tesa.schedules.cpu.rowpanels import entries, live_columns, pack_rows
from tesa.schedules.refusal import refuse, unsuited
from tesa.schedules.registry import family
from tesa.schedules.types import Code, Config, Core, FloatArray, Problem

MAX_UNROLLED = 64
"""A loop over so short a k takes its bounds from a table: LLVM would write it out."""

MOST = 16
"""Configurations that are offered: a compile measures the first few, tuning all of them."""

_AHEAD = 3
"""Registers that a core wants free that runs in order: LLVM writes more turns of its loops out, and reads ahead."""

MAX_FILL = 0.9
"""Panels with more live columns than this are left to "dense"."""


def _blocks(live: NDArray[np.bool_], size: int) -> list[NDArray[np.int64]]:
    """The live columns in equal blocks of at most `size`, or in one for 0."""
    columns = np.flatnonzero(live)
    step = -(-len(columns) // -(-len(columns) // size)) if size and len(columns) else max(len(columns), 1)
    return [columns[first : first + step] for first in range(0, max(len(columns), 1), step)]


def _emit(problem: Problem, weight: FloatArray, core: Core, config: Config, symbol: str, dense: bool) -> Code:
    core = _wide(problem, core)
    rows, sums = min(config["rows"], problem.m), _sums(problem, core, config)
    if (sums.integer and not problem.pointwise) or ((sums.integer or sums.half) and not config["pack"]):
        raise ValueError(f"family block cannot compute {problem.dtype} {problem.op} with {dict(config)}")
    if config.get("matrix") and not fits(problem, core, rows, tiling(problem.n, core.lanes, 1).lanes):
        raise ValueError(f"family block cannot compute {problem.m} rows of {problem.n} columns with {dict(config)}")
    shift, weight = sums.shift(weight), sums.matrix(weight)
    live, k = live_columns(weight, dense), weight.shape[1]
    blocks = _blocks(live, config.get("depth", 0))
    panels, view = pack_rows(weight, rows, dense, blocks), operand(problem, live, sums.group)
    work = np.repeat(np.diff(panels.at).reshape(len(blocks), -1).sum(axis=0), rows)[: problem.m]
    tail = _tailed(problem, core, view, rows, config)
    made = Builder(
        problem, cut(problem, core, view, config["vectors"], work, rows, tail), maximum=core.maximum, rounds=core.rounds
    )
    made.begun = core.steps > 1 and problem.epilogue.bias and sums.dtype == "float32" and len(blocks) == 1
    values, made.shift = made.constant(panels.values), made.optional(shift)
    packing = Packing(made, view, sums) if config.get("pack") else None
    if packing:
        offsets = np.zeros(len(live), np.int64)
        for block in blocks:
            offsets[block] = np.arange(len(block)) * made.cut.tiling.row
        step = made.cut.tiling.row if dense else None
    else:
        offsets = view.offsets
        step = problem.n if dense and problem.pointwise else None
    table = None if step is not None else made.constant(offsets[panels.columns].astype(np.int32))
    # a small number of iterations that LLVM knows would be unrolled in full, at seconds of compile time
    at = None if dense and k > MAX_UNROLLED else made.constant(panels.at.astype(np.int32))
    kernel = _Kernel(problem, sums, tuple(map(len, blocks)), rows, core.steps, packing, step, values, table, at)
    return made.build(symbol, kernel.tile)


@dataclass(frozen=True)
class _Kernel:
    """Writes the statements of a tile. sizes: columns of each block, in elements of the arithmetic; steps: of Core.

    step: distance of the rows of the operand where they are in order, else the
    offset of each entry is in the constant `table`. values, at: constants; at is None where all panels of a block have
    as many entries as it has columns.
    """

    problem: Problem
    sums: Arithmetic
    sizes: tuple[int, ...]
    rows: int
    steps: int
    packing: Packing | None
    step: int | None
    values: int
    table: int | None
    at: int | None

    def tile(self, names: Names, tile: Tile) -> None:
        """All blocks of the tile, and in each all panels of the tile's share of the rows."""
        t, rows, (low, high), blocks = tile.tiling, self.rows, tile.rows, len(self.sizes)
        buffer = self.packing.allocate(t, max(self.sizes)) if self.packing else None
        first, last = (0, -(-high // rows)) if isinstance(high, int) else (low // rows, T.ceildiv(high, rows))
        partial = None
        if blocks > 1:
            size = rows * (t.vectors * t.lanes + t.tail)
            partial = named("partial", T.alloc_buffer((self._panels * size,), self.sums.dtype, align=64))
            with span("panel", first, last) as panel, serial("i", size) as i:
                T.buffer_store(partial, self.sums.zero, [panel * size + i])
            with loop("block", blocks - 1) as block:
                read = self._read(names, tile, buffer, block, self.sizes[0])
                with span("panel", first, last) as panel:
                    self._panel(tile, read, panel, partial, False)
        read = self._read(names, tile, buffer, blocks - 1, self.sizes[-1])
        with span("panel", first, last) as panel:
            self._panel(tile, read, panel, partial, True)

    @property
    def _panels(self) -> int:
        return -(-self.problem.m // self.rows)

    def _read(self, names: Names, tile: Tile, buffer: Any, block: Any, size: int) -> _Read:
        """A block of X: of the operand, or packed now."""
        if self.packing is None:
            return _Read(names, tile.source, tile.base, tile.at, block, size, block * self.sizes[0])
        self.packing.fill(names, tile, buffer, block * self.sizes[0], size)
        return _Read(names, buffer, 0, lambda v: v * tile.tiling.lanes, block, size, 0)

    def _panel(self, tile: Tile, read: _Read, panel: Any, partial: Any, final: bool) -> None:
        """The block's entries of a panel. partial: sums between blocks, None for one block."""
        t, rows, size = tile.tiling, self.rows, read.size
        acc = named("acc", T.alloc_buffer((rows, t.vectors, t.lanes), self.sums.dtype, scope="local"))
        last = named("last", T.alloc_buffer((t.tail, 1, rows), self.sums.dtype, scope="local")) if t.tail else None
        start = panel * (rows * (t.vectors * t.lanes + t.tail))

        def each(body: Callable[[Any, list[Any], Any], None]) -> None:
            """Call body(buffer, indices, place among the partial sums) for every vector of the sums."""
            with unrolled("r", rows) as r, unrolled("v", t.vectors) as v, lanes(t.lanes) as lane:
                body(acc, [r, v, lane], start + (r * t.vectors + v) * t.lanes + lane)
            if last is not None:
                with unrolled("q", t.tail) as q, lanes(rows) as lane:
                    body(last, [q, 0, lane], start + rows * t.vectors * t.lanes + q * rows + lane)

        names = read.names
        row = T.min(panel * rows, self.problem.m - rows) if self.problem.m % rows else panel * rows

        def begin(sums: Any, at: list[Any], place: Any) -> None:
            zero = names.bias[row + at[2 if sums is last else 0]] if names.begun else self.sums.zero
            T.buffer_store(sums, zero if partial is None else partial[place], at)

        each(begin)
        at = None if self.at is None else names.constants[self.at]
        if at is None:
            first, count = read.block * (self._panels * self.sizes[0]) + panel * size, size
        else:
            index = read.block * self._panels + panel
            first, count = at[index], at[index + 1] - at[index]

        def entry(i: Any) -> None:
            e, values = first + i, names.constants[self.values]
            offset = (read.first + i) * self.step if self.table is None else names.constants[self.table][e]
            self.sums.accumulate(
                acc,
                (rows, t.vectors, t.lanes),
                lambda r: values[e * rows + r],
                lambda r, v, lane: (read.source, offset + read.base + read.at(v) + lane),
            )
            if last is not None:
                behind = offset + read.base + t.width
                self.sums.accumulate_rows(
                    last, (t.tail, 1, rows), lambda v: (values, e * rows), lambda q: read.source[behind + q]
                )

        turns("i", count, self.steps, entry)
        if not final:
            each(lambda sums, at, place: T.buffer_store(partial, sums[tuple(at)], [place]))
            return
        self.sums.settle(acc, (rows, t.vectors, t.lanes))
        tile.finish(self.sums.real(acc, (rows, t.vectors, t.lanes)), lambda r: row + r, rows)
        if last is not None:
            tile.finish_tail(last, row, rows)


@dataclass(frozen=True)
class _Read:
    """The place where a block of X is read: the operand itself, or a packed tile of it.

    first: the k that its offsets count from, where they are in order.
    """

    names: Names
    source: Any
    base: Any
    at: Callable[[Any], Any]
    block: Any
    size: int
    first: Any


def _wide(problem: Problem, core: Core) -> Core:
    """The core with the lanes that its vectors have of the numbers that are added up."""
    return replace(core, lanes=2 * core.lanes) if halves(problem, core) else core


def _sums(problem: Problem, core: Core, config: Config) -> Arithmetic:
    return half_sums(core) if halves(problem, core) else sums_of(problem, core, config)


def _candidates(core: Core, real: bool) -> list[tuple[int, int]]:
    """Every (rows, vectors) that fills most of the registers, and the short panels for narrow blocks.

    real: of float32. Four rows take a vector of weights where products are by element, and one of X at a time.
    """
    sizes = []
    for vectors in range(1, 13):
        most = (core.registers - 1 - vectors) // vectors
        while core.in_order and most * (vectors + 1 / core.lanes) + vectors > core.registers - _AHEAD:
            most -= 1
        if core.loads_first:  # each weight holds a register too
            most = max((core.registers - vectors) // (vectors + 1), 0)
        sizes += [(rows, vectors) for rows in {most, most // 8 * 8, most // 4 * 4, min(most, 2)} if rows > 1]
        if vectors <= core.registers - 2 and core.holds(vectors, vectors + 1):
            sizes.append((1, vectors))
        if real and core.by_element and not core.in_order and 4 * vectors <= core.registers - 4:
            sizes.append((4, vectors))
    return sizes


def _space(problem: Problem, weight: FloatArray, core: Core, dense: bool) -> Sequence[Config]:
    """The MOST that the estimate likes best; for "block" only panels with enough dead columns."""
    if why := unsuited(problem, dtypes=("float32", "int8"), pointwise=problem.dtype != "float32"):
        return refuse(why)
    core, found = _wide(problem, core), {}
    for form in forms(problem, core):
        for key, config, view, computed in _configs(problem, weight, core, dense, form):
            if key not in found:
                found[key] = _cost(problem, core, config, view, computed), config
    ranked = [config for _, config in sorted(found.values(), key=lambda item: item[0])]
    # should the estimate be wrong about blocks of k: two without are always there
    first, more = ranked[:MOST], [config for config in ranked[MOST:] if "depth" not in config]
    lacking = max(0, min(2 - sum("depth" not in config for config in first), len(more)))
    return [*first[: MOST - lacking], *more[:lacking]] or refuse("no panel of its rows has enough dead columns")


def _configs(
    problem: Problem, weight: FloatArray, core: Core, dense: bool, form: Config
) -> Iterator[tuple[tuple[int, ...], Config, Operand, int]]:
    """Every configuration of one form of the sums: what tells it apart, itself, its operand and computed columns."""
    sums = _sums(problem, core, form)
    matrix = sums.matrix(weight)
    view = operand(problem, live_columns(matrix, dense), sums.group)
    live = int(np.count_nonzero(view.offsets >= 0))
    candidates = _candidates(core, not sums.integer and not sums.half)
    filled = {rows: entries(matrix, rows, dense) for rows in {min(r, problem.m) for r, _ in candidates}}
    for wanted, vectors in candidates:
        rows = min(wanted, problem.m)
        computed = filled[rows]
        if not dense and computed > MAX_FILL * entries(matrix, rows, True):
            continue
        for pack in (1,) if sums.integer or sums.half else (0, 1):
            config = {"rows": wanted, "vectors": vectors, "pack": pack, **form}
            tiles = _cut(problem, core, config, view, computed).tiling
            if form and not fits(problem, core, rows, tiles.lanes):
                continue
            # the taps of a convolution are neighbours: what a dense tile reads of X is far less than k rows
            sizes = (
                [0] if sums.half or (dense and not problem.pointwise) else _sizes(core, tiles.row * sums.nbytes, live)
            )
            for size in sizes:
                one = {**config, "depth": size} if size else config
                yield (rows, tiles.vectors, pack, size, len(form)), one, view, computed


def _sizes(core: Core, line: int, live: int) -> list[int]:
    """Lengths of blocks of k, of which a tile has `line` bytes each: all of it; where that does not fit the first-level
    cache, two thirds and half of what does (the weights want their share: with all of it 768x768x128 of 4x4 blocks
    takes 0.25 ms and not 0.19)."""
    sizes = {core.l1_bytes * share // 6 // line // 16 * 16 for share in (4, 3)}
    return [0, *sorted(size for size in sizes if 16 <= size <= live // 2 and live * line > core.l1_bytes)]


def _estimate(problem: Problem, weight: FloatArray, core: Core, config: Config, dense: bool) -> float:
    core = _wide(problem, core)
    sums = _sums(problem, core, config)
    weight = sums.matrix(weight)
    rows, view = min(config["rows"], problem.m), operand(problem, live_columns(weight, dense), sums.group)
    return _cost(problem, core, config, view, entries(weight, rows, dense))


def _cut(problem: Problem, core: Core, config: Config, view: Operand, computed: int) -> Cut:
    rows, vectors = min(config["rows"], problem.m), config["vectors"]
    work = np.full(problem.m, max(computed // -(-problem.m // rows), 1))
    return cut(problem, core, view, vectors, work, rows, _tailed(problem, core, view, rows, config))


def _tailed(problem: Problem, core: Core, view: Operand, rows: int, config: Config) -> bool:
    """True where a tail, with the rows in the lanes, is less work than one more vector, and its sums find registers."""
    if config.get("matrix") or halves(problem, core):
        return False
    tiles = tiling(problem.n, core.lanes, config["vectors"], tail=True)
    # with products by element the rows may take two vectors
    most = core.lanes * (2 if core.by_element and problem.dtype == "float32" else 1)
    real = core.by_element and not core.in_order and problem.dtype == "float32"
    read = min(tiles.vectors, 2) if real else tiles.vectors
    used = rows * tiles.vectors + read + tiles.tail * -(-rows // core.lanes) + 2
    free = core.registers - (_AHEAD if core.in_order else 0)
    return view.direct and rows in (4, 8, 16) and rows <= most and 0 < tiles.tail < rows and used <= free


def _cost(problem: Problem, core: Core, config: Config, view: Operand, computed: int) -> float:
    """computed columns x (the slowest of FMAs, loads, latency, bytes of X and W), + packing + stores; see cost.py."""
    made, rows = _cut(problem, core, config, view, computed), min(config["rows"], problem.m)
    panels, v, rates = -(-problem.m // rows), made.tiling.vectors, core.rates
    live = int(np.count_nonzero(view.offsets >= 0))
    read, size = cost.reads(problem, core, made, bool(config["pack"])), config.get("depth", 0) or live
    blocks = -(-live // max(size, 1)) or 1
    nbytes = _sums(problem, core, config).nbytes
    far = read.cycles(size * made.tiling.width * nbytes, v * made.tiling.lanes * nbytes, in_order=True)
    far_off = computed * rows * nbytes > core.l2_bytes / 2 or cost.cold(problem, core)
    stream = rows * nbytes / rates.far_bytes if far_off else 0.0
    weights = -(-rows // core.lanes) if core.by_element else rows
    step = cost.step(core, rows * v, weights, v * read.split, 3.0, rates.fma_latency * 1.1)
    step = cost.together(step, far, stream)
    tile = computed * step + blocks * panels * 10.0 + cost.finishing(problem.epilogue, panels * rows * v)
    if config["pack"]:
        tile += cost.packing(made, cost.reads(problem, core, made, False), live)
    if blocks > 1:
        tile += panels * rows * v * (blocks * 1.5 + 1.0)
    tail = made.tiling.tail * (computed / rates.fmas + panels * rows * 4.0) / made.tiling.whole
    return cost.total_ms(problem, core, made, tile + tail)


_dense_space, _dense_estimate = partial(_space, dense=True), partial(_estimate, dense=True)
_block_space, _block_estimate = partial(_space, dense=False), partial(_estimate, dense=False)


@family(
    "dense", kind="cpu", quantizes=True, space=_dense_space, estimate=_dense_estimate, dense=lambda weight, config: True
)
def emit_dense(problem: Problem, weight: FloatArray, core: Core, config: Config, symbol: str) -> Code:
    """Every element of the weight, zeros included: the kernel that sparsity is measured against."""
    return _emit(problem, weight, core, config, symbol, dense=True)


@family("block", kind="cpu", quantizes=True, space=_block_space, estimate=_block_estimate)
def emit_block(problem: Problem, weight: FloatArray, core: Core, config: Config, symbol: str) -> Code:
    """Panels of rows over the columns that are live in any of them."""
    return _emit(problem, weight, core, config, symbol, dense=False)
