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
A group's trip counts are all the same, which the branch predictor needs: blocks leave a handful of non-zeros to a row.
To make sets of U rows, rows are sorted by their count and the shorter ones filled up with zero weights; a last odd row
goes alone. Vector registers: U V accumulators + U for the weights; X is an operand of the multiplication.

A weight takes 4 bytes and its offset 2, in cache lines, where all rows of S start at a line's distance and none of
them more than 65535 lines away; else 4.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm.tirx.script import builder as T

from tesa.schedules.cpu import cost
from tesa.schedules.cpu.arithmetic import Arithmetic, arithmetic
from tesa.schedules.cpu.cut import cut
from tesa.schedules.cpu.epilogue import Names
from tesa.schedules.cpu.loops import lanes, loop, named, serial, span, unrolled
from tesa.schedules.cpu.nest import Builder, Tile, vector_start
from tesa.schedules.cpu.operand import LINE, Operand, Tiling, operand
from tesa.schedules.cpu.packing import Packing
from tesa.schedules.cpu.stream import stream
from tesa.schedules.refusal import refuse, too_full, unsuited
from tesa.schedules.registry import family
from tesa.schedules.types import Code, Config, Core, FloatArray, Problem

MOST = 16
"""Configurations that are offered: a compile measures the first few, tuning all of them."""

MAX_DENSITY = 0.6
"""With more non-zeros than this share, "dense" is faster: it reads X once for many rows."""


@dataclass(frozen=True)
class _Kernel:
    """Writes the statements of a tile. sizes: live k of each block. odd: some rows go alone. packing and the
    fields behind it: the packed tile, if any, and the constants. step: elements that an offset counts."""

    problem: Problem
    sums: Arithmetic
    unit: int
    odd: bool
    sizes: tuple[int, ...]
    packing: Packing | None
    step: int
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
            stride, (low, high) = _stride(tile.tiling), tile.rows
            partial = named("partial", T.alloc_buffer((self.problem.m * stride,), self.sums.dtype, align=64))
            with serial("i", (high - low) * (stride // LINE)) as i, lanes(LINE) as lane:
                T.buffer_store(partial, self.sums.zero, [low * stride + i * LINE + lane])
            with loop("block", blocks - 1) as block:
                self._block(names, tile, buffer, partial, block, False)
        self._block(names, tile, buffer, partial, blocks - 1, True)

    def _block(self, names: Names, tile: Tile, buffer: Any, partial: Any, block: Any, last: bool) -> None:
        if self.packing:
            size = self.sizes[-1] if last else self.sizes[0]
            self.packing.fill(names, tile, buffer, block * self.sizes[0], size)
        step = _Step(self, names, tile, buffer, partial, last)
        at = (tile.share * len(self.sizes) + block) * 3
        limits = names.constants[self.at]
        step.groups(limits[at], limits[at + 1], self.unit)
        if self.odd:
            step.groups(limits[at + 1], limits[at + 2], 1)


@dataclass(frozen=True)
class _Step:
    """Writes one block of a tile."""

    kernel: _Kernel
    names: Names
    tile: Tile
    buffer: Any
    partial: Any
    last: bool

    def groups(self, low: Any, high: Any, unit: int) -> None:
        """The groups low ... high - 1, whose rows go `unit` at a time."""
        table = self.names.constants[self.kernel.groups]
        with span("g", low, high) as g:
            length, start, row = (
                named(name, T.bind(table[g * 4 + i])) for i, name in enumerate(("length", "start", "row"), 1)
            )
            with serial("r", table[g * 4]) as r:
                self._rows(row + r * unit, start + r * length * unit, length, unit)

    def _rows(self, row: Any, start: Any, length: Any, unit: int) -> None:
        t = self.tile.tiling
        constants, kernel = self.names.constants, self.kernel
        sums = kernel.sums
        acc = named("acc", T.alloc_buffer((unit, t.vectors, t.lanes), sums.dtype, scope="local"))

        def each(body: Callable[[Any, Any, Any], None]) -> None:
            with unrolled("u", unit) as u, unrolled("v", t.vectors) as v, lanes(t.lanes) as lane:
                body(u, v, lane)

        def place(u: Any, v: Any, lane: Any) -> Any:
            return constants[kernel.rows][row + u] * _stride(t) + v * t.lanes + lane

        def begin(u: Any, v: Any, lane: Any) -> None:
            T.buffer_store(acc, sums.zero if self.partial is None else self.partial[place(u, v, lane)], [u, v, lane])

        each(begin)
        with serial("i", length) as i:

            def x(u: Any, v: Any, lane: Any) -> Any:
                offset = constants[kernel.offsets][start + i * unit + u]
                return self._x(offset if kernel.step == 1 else T.Cast("int32", offset) * kernel.step, v, lane)

            shape, values = (unit, t.vectors, t.lanes), constants[kernel.values]
            sums.accumulate(acc, shape, lambda u: values[start + i * unit + u], x)
        if self.last:
            self.tile.finish(acc, lambda u: constants[kernel.rows][row + u], unit)
        else:
            each(lambda u, v, lane: T.buffer_store(self.partial, acc[u, v, lane], [place(u, v, lane)]))

    def _x(self, offset: Any, v: Any, lane: Any) -> Any:
        t = self.tile.tiling
        if self.buffer is not None:
            return self.buffer, offset + v * t.lanes + lane
        return self.tile.source, offset + self.tile.base + vector_start(t, v) + lane


def _stride(tiling: Tiling) -> int:
    """Elements of a row of partial sums."""
    return -(-tiling.width // LINE) * LINE


def _sizes(core: Core, live: int) -> list[Config]:
    """Tiles of 4 to 16 vectors, of 24 of short ones, and blocks of k that fill the cache half, once and twice."""
    configs: list[Config] = []
    # of two or three vectors there are not enough accumulators to hide an FMA's latency, so rows go together
    tall = ((24, 1),) if core.steps > 1 else ()
    for vectors, rows in ((4, 1), (4, 2), (6, 1), (6, 2), (7, 1), (8, 1), (12, 1), (16, 1), (2, 4), (1, 8), *tall):
        if rows * (vectors + 1) > core.registers - 2 or not core.holds(rows * vectors, rows * (vectors + 1)):
            continue
        line = vectors * core.lanes * 4
        sizes = {max(core.l1_bytes * part // 4 // line, 16) for part in (2, 4, 8)}
        for size in sorted({s for s in sizes if s < live} | {0}):
            configs += [{"vectors": vectors, "rows": rows, "kblock": size, "pack": pack} for pack in (0, 1)]
    return configs


@dataclass(frozen=True)
class _Facts:
    """The facts of a weight that an estimate needs: its view of X, the non-zeros of each row, the live columns."""

    view: Operand
    counts: NDArray[np.int64]
    live: int


def _facts(problem: Problem, weight: NDArray[Any], sums: Arithmetic) -> _Facts:
    """weight: in elements of the arithmetic."""
    live = (weight != 0).any(axis=0)
    return _Facts(operand(problem, live, sums.group), np.count_nonzero(weight, axis=1), int(np.count_nonzero(live)))


def _space(problem: Problem, weight: FloatArray, core: Core) -> Sequence[Config]:
    """The MOST that the estimate likes best; none for a weight that is all but full."""
    sums = arithmetic(problem, core)
    if why := unsuited(problem, dtypes=("float32", "int8"), pointwise=sums.integer):
        return refuse(why)
    weight = sums.matrix(weight)
    if why := too_full(int(np.count_nonzero(weight)), weight.size, MAX_DENSITY):
        return refuse(why)
    facts = _facts(problem, weight, sums)
    found: dict[tuple[int, ...], tuple[float, Config]] = {}
    for config in _sizes(core, facts.live):
        if sums.integer and not config["pack"]:
            continue
        tiles = cut(problem, core, facts.view, config["vectors"], facts.counts).tiling
        key = (tiles.vectors, config["rows"], config["kblock"], config["pack"])
        if key not in found:
            found[key] = _cost(problem, core, config, facts), config
    return [config for _, config in sorted(found.values(), key=lambda item: item[0])[:MOST]]


def _estimate(problem: Problem, weight: FloatArray, core: Core, config: Config) -> float:
    sums = arithmetic(problem, core)
    return _cost(problem, core, config, _facts(problem, sums.matrix(weight), sums))


def _cost(problem: Problem, core: Core, config: Config, facts: _Facts) -> float:
    """non-zeros x (the slowest of FMAs, loads, latency, bytes of X and W) + row sets x their overhead; see cost.py."""
    made, unit = cut(problem, core, facts.view, config["vectors"], facts.counts), config["rows"]
    v, nonzeros, live = made.tiling.vectors, int(facts.counts.sum()), facts.live
    size = min(config["kblock"] or live, max(live, 1))
    blocks = -(-live // max(size, 1)) or 1
    read, rates = cost.reads(problem, core, made, bool(config["pack"])), core.rates
    far = read.cycles(size * made.tiling.width * 4, v * made.tiling.lanes * 4)
    far_off = nonzeros * 6 > core.l2_bytes / 2 or cost.cold(problem, core)
    stream = 6 / rates.far_bytes if far_off else 0.0
    # a row's chain of additions overlaps with the next row's about half
    # 1.55 of 2 loads a cycle were measured, where the addresses are loaded too
    loads = (v * read.split + 2) / (0.775 * rates.loads)
    step = max(v / rates.fmas, loads, (v + 6) / rates.issue, rates.fma_latency / 2 / unit)
    if core.steps > 1 or core.loads_first:
        step = cost.step(core, v, 2, v * read.split, 5.0, rates.fma_latency / 2 / unit)
    step = cost.together(step, far, stream)
    sets = problem.m * blocks / unit
    moved = 0.0 if blocks == 1 else blocks * problem.m * v * 2.5
    misses = min(sets, 12.0 * blocks) * rates.misprediction
    tile = nonzeros * step + sets * (8.0 + 3 * unit) + moved + misses
    tile += cost.finishing(problem.epilogue, problem.m * v)
    if config["pack"]:
        tile += cost.packing(made, cost.reads(problem, core, made, False), live)
    return cost.total_ms(problem, core, made, tile)


@family("indexed", kind="cpu", quantizes=True, space=_space, estimate=_estimate, block_of_k="kblock")
def emit_indexed(problem: Problem, weight: FloatArray, core: Core, config: Config, symbol: str) -> Code:
    """The non-zeros as a list of values and offsets, blocked over k."""
    sums = arithmetic(problem, core)
    shift, weight = sums.shift(weight), sums.matrix(weight)
    facts, unit = _facts(problem, weight, sums), config["rows"]
    view, columns = facts.view, np.flatnonzero(facts.view.offsets >= 0)
    made = Builder(
        problem, cut(problem, core, view, config["vectors"], facts.counts), maximum=core.maximum, rounds=core.rounds
    )
    if sums.integer and (not problem.pointwise or not config["pack"]):
        raise ValueError(f"family indexed cannot compute {problem.dtype} {problem.op} with {dict(config)}")
    size = min(config["kblock"] or weight.shape[1], max(len(columns), 1))
    size = -(-max(len(columns), 1) // -(-max(len(columns), 1) // size))  # blocks as equal as can be
    blocks = []
    for first in range(0, max(len(columns), 1), size):
        block = columns[first : first + size]
        packed = np.arange(len(block)) * made.cut.tiling.width
        blocks.append((block, packed if config["pack"] else view.offsets[block]))
    packing = Packing(made, view, sums) if config["pack"] else None
    data = stream(weight, blocks, made.cut.bounds, unit)
    step, offsets = _short(data.offsets)
    constants = [made.constant(a) for a in (data.values, offsets, data.rows, data.groups, data.at)]
    made.shift, limits = made.optional(shift), data.at.reshape(-1, 3)
    odd = bool((limits[:, 2] > limits[:, 1]).any())
    kernel = _Kernel(problem, sums, unit, odd, tuple(len(b) for b, _ in blocks), packing, step, *constants)
    return made.build(symbol, kernel.tile)


def _short(offsets: NDArray[np.int32]) -> tuple[int, NDArray[Any]]:
    """Offsets as they are, or in lines and 16 bits: a third less to read where weights come from memory."""
    lines, rest = np.divmod(offsets, LINE)
    if rest.any() or lines.max(initial=0) > np.iinfo(np.uint16).max:
        return 1, offsets
    return LINE, lines.astype(np.uint16)
