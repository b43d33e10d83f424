"""An unstructured matrix of int8 times tokens x features or NHWC: the permuted family where rows lie in the lanes of Y.

Before:
    for n, m: for k with W[m, k] != 0:  Y[n, m] += W[m, k] * X[n, k]

After, with L rows as a slice, one in each lane, B of them as a block, and Q columns as a tile:
    for every block, for every tile (parallel over tiles):
        for every slice of the block:
            acc[q] = -x_zero sum_k W
            for every step of the slice:
                w, place = the next 4 L codes, and where in the window the bytes lie that they meet
                for q:  acc[q] += dot(permute(X[q][base .. base + window], place), w)       2 instructions
            T[q][slice] = codes of acc[q]                                                   requantize.py
        for q:  Y[q][rows of the block] = T[q] in the order of the rows
X is read as it is, a convolution without im2col: a window lies in one run of k, see places.py, and the last one of a
run ends with it. Rows are sorted by their number of weights within a block, which fills the lanes; an output byte comes
back to its row by a permutation of each register of T, 64 rows at a time. Results that are no codes, and blocks of few
rows, are in order and stored as they are. The weights are one stream of codes and places, asked for some time ahead.

Registers: Q sums, the codes, their places, and what is permuted.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.tirx.script import builder as T

from tesa.schedules.cpu import cost
from tesa.schedules.cpu.arithmetic import arithmetic
from tesa.schedules.cpu.cut import Cut, threads_for
from tesa.schedules.cpu.epilogue import Names, final, heavy
from tesa.schedules.cpu.loops import lanes, loop, named, parallel, serial, span, unrolled
from tesa.schedules.cpu.narrow import prefetch
from tesa.schedules.cpu.nest import Builder
from tesa.schedules.cpu.operand import operand, tiling
from tesa.schedules.cpu.permuted_order import (
    BLOCK,
    LINE,
    Blocks,
    blocks_of,
    going,
    order_of,
    reorder,
    returning,
    sorts,
)  # fmt: skip
from tesa.schedules.cpu.places import Places, in_runs, places
from tesa.schedules.cpu.requantize import Codes, codes, low_bytes, makes_codes
from tesa.schedules.cpu.rowlanes import groups
from tesa.schedules.cpu.windows import Steps, pack
from tesa.schedules.types import Code, Config, Core, FloatArray, Permute, Problem

COLUMNS = (20, 14, 8)
"""Columns of a tile, at most: two loads for each step are shared by them."""

_AHEAD = 2048
"""Bytes from the weights that are read to those that are asked for."""

_SAMPLED = 4  # slices from which an estimate learns how many steps there are


@dataclass(frozen=True)
class Tiles:
    """count tiles of neighbouring columns, one behind the other from column `first` on, in each of `lines` rows of
    columns; offsets: of the columns of a tile, from where its first one lies in X."""

    first: int
    lines: int
    count: int
    offsets: tuple[int, ...]


def tiles_of(view: Places, most: int) -> tuple[Tiles, ...]:
    """The columns of an item in tiles as equal as can be, in each of which all offsets are known: neighbours in a row
    of columns, or some whole rows."""
    width, height = view.width, view.columns // view.width
    found = []
    if height > 1 and 2 * width <= most:
        for group in groups(height, most // width):
            offsets = tuple(y * view.step_y + x * view.step_x for y in range(group.size) for x in range(width))
            found.append(Tiles(group.first * width, 1, group.count, offsets))
        return tuple(found)
    for group in groups(width, most):
        offsets = tuple(x * view.step_x for x in range(group.size))
        found.append(Tiles(group.first, height, group.count, offsets))
    return tuple(found)


def view_of(problem: Problem, core: Core) -> Places:
    """Where X lies: a copy where a run is shorter than a window, or where columns would share sets of the cache."""
    return places(problem, arithmetic(problem, core), least=LINE, spread=True)


def steps_of(
    problem: Problem, weight: FloatArray, view: Places, rows: NDArray[np.int32], width: int, align: int
) -> Steps:
    """The steps of slices of these rows, with the bases in bytes from a column's place."""
    runs = view.rows * view.taps
    pitch = -(-view.run // LINE) * LINE + LINE  # a window ends before the next run begins
    wide = np.zeros((problem.m, runs, pitch), np.float32)
    wide[..., : view.run] = in_runs(weight, problem.window, runs)
    last = np.full(runs * pitch, np.iinfo(np.int32).max, np.int64)
    if not view.copied:
        last = np.repeat(np.arange(runs) * pitch + view.run - LINE, pitch)
    made = pack(wide.reshape(problem.m, -1), width, LINE, align, rows, last)
    run, byte = np.divmod(made.bases, pitch)
    bases = run // view.taps * view.down + run % view.taps * view.across + byte
    return Steps(made.values, made.places, bases.astype(np.int32), made.starts, made.rows)


def streamed(steps: Steps) -> NDArray[np.int8]:
    """(steps, 2, 4 lanes): codes, and places, of each step."""
    count = len(steps.bases)
    both = [steps.values.reshape(count, -1), steps.places.reshape(count, -1).view(np.int8)]
    return np.ascontiguousarray(np.stack(both, axis=1))


@dataclass(frozen=True)
class Kernel:
    """Writes the statements of a kernel. data, bases, starts, rows, begun, back: constants.

    begun: what the sums of each lane begin with; rows: of each lane; go, back: see permuted_order.going and returning;
    order: see requantize.low_bytes; None where there is no such thing.
    """

    problem: Problem
    core: Core
    permute: Permute
    view: Places
    blocks: Blocks
    kinds: tuple[Tiles, ...]
    threads: int
    sorted: int
    data: int
    bases: int
    starts: int
    rows: int
    begun: int | None
    go: int | None
    back: int | None
    order: int | None

    def write(self, names: Names) -> None:
        """All batch items, one after the other."""
        p, view = self.problem, self.view
        source = view.source(names)
        made, names = None, self._sorted(names)
        if makes_codes(p):
            rows = names.constants[self.rows] if self.sorted else None
            slices = -(-p.m // self.core.lanes)
            count = slices * self.core.lanes if self.sorted else max(p.m, self.core.lanes)
            made = codes(p, names, count, rows, self.core, self.order)
        with loop("item", view.items) as item:
            base: Any = item * view.item
            if view.copied:
                view.copy(names, item, source, arithmetic(p, self.core), p.x_zero, self.threads)
                base = 0
            for kind in self.kinds:
                self._kind(names, made, source, base, item, kind)

    def _kind(self, names: Names, made: Codes | None, source: Any, base: Any, item: Any, kind: Tiles) -> None:
        """All tiles of a kind, shared by the threads, with all blocks of rows: those are what is read once."""
        total = kind.lines * kind.count
        tasks = min(self.threads, total)
        with parallel("task", tasks) if tasks > 1 else nullcontext(0) as i:
            bounds = (i * total // tasks, (i + 1) * total // tasks) if tasks > 1 else (0, total)
            with loop("block", self.blocks.count) as block, span("t", *bounds) as t:
                line, number = (t // kind.count, t % kind.count) if kind.lines > 1 else (0, t)
                first = kind.first + line * self.view.width + number * len(kind.offsets)
                self._tile(names, made, source, base, item, kind, first, block)

    def _tile(
        self,
        names: Names,
        made: Codes | None,
        source: Any,
        base: Any,
        item: Any,
        kind: Tiles,
        first: Any,
        block: Any,
    ) -> None:
        """A block of rows times a tile."""
        p, width, columns, size = self.problem, self.core.lanes, len(kind.offsets), self.blocks.size
        start = T.Bind(base + self.view.place(first))
        place = T.Bind(item * (p.m * p.n) + first * p.m)
        self._ask(source, start, kind)
        rows, aside = T.min(p.m - block * size, size), self._aside(names, columns, place, block)
        if aside is not None:  # the codes of a block are stored all at once
            with serial("q", columns) as q:
                for r in range(self.blocks.registers):
                    prefetch(names.y, place + block * size + q * p.m + r * LINE, write=True)
        with serial("slice", T.truncdiv(rows + (width - 1), width)) as index:
            number = T.Bind(block * (size // width) + index)
            acc = self._sums(names, source, start, kind, number)
            if aside is None:
                row: Any = 0
                if p.m > width:
                    row = T.min(number * width, p.m - width) if p.m % width else number * width
                self._finish(names, made, acc, (columns, p.m), (row, row), (names.y, place))
            else:
                self._finish(aside, made, acc, (columns, BLOCK), (number * width, index * width), (aside.y, 0))
        if aside is not None:
            self._back(names, aside.y, columns, place, block, rows)

    def _ask(self, source: Any, start: Any, kind: Tiles) -> None:
        """Ask for what the next tile reads, where that and what this one reads fit into the nearest cache."""
        view, size = self.view, len(kind.offsets) * self.view.step_x
        if 2 * view.rows * size > self.core.l1_bytes:
            return
        behind = kind.offsets[-1] + view.run + (view.taps - 1) * view.across
        with loop("row", view.rows) as row, serial("i", -(-size // LINE)) as i:
            prefetch(source, start + row * view.down + behind + i * LINE)

    def _sums(self, names: Names, source: Any, start: Any, kind: Tiles, number: Any) -> Any:
        width, columns, size = self.core.lanes, len(kind.offsets), 4 * self.core.lanes
        lane = T.ramp(0, 1, width)
        acc = named("acc", T.alloc_buffer((columns, width), "int32", scope="local", align=64))
        value = tirx.Broadcast(T.int32(0), width)
        if self.begun is not None:
            value = T.Bind(names.constants[self.begun][T.ramp(number * width, 1, width)])
        with unrolled("q", columns) as q:
            T.buffer_store(acc, value, [q, lane])
        starts, data = names.constants[self.starts], names.constants[self.data]
        name, dot = self.permute.intrinsic(1), self.core.dot
        assert dot is not None  # the family applies
        with span("step", starts[number], starts[number + 1]) as step:
            at = step * (2 * size)
            prefetch(data, at + _AHEAD)
            prefetch(data, at + _AHEAD + LINE)
            w = T.Bind(data[T.ramp(at, 1, size)])
            where = T.Bind(data[T.ramp(at + size, 1, size)])
            window = T.Bind(start + names.constants[self.bases][step])
            for q, offset in enumerate(kind.offsets):
                seen = tirx.reinterpret(f"int8x{size}", source[T.ramp(window + offset, 1, size)])
                found = tirx.call_llvm_pure_intrin(f"int8x{size}", name, seen, where)
                total = tirx.call_llvm_pure_intrin(f"int32x{width}", dot.intrinsic(width), acc[q, lane], found, w)
                T.buffer_store(acc, total, [q, lane])
        return acc

    def _finish(
        self,
        names: Names,
        made: Codes | None,
        acc: Any,
        shape: tuple[int, int],
        row: tuple[Any, Any],
        target: tuple[Any, Any],
    ) -> None:
        """Store the sums of a slice. shape: columns, and elements from one to the next where they are stored; row: of
        the first lane, among the scales and where it is stored; target: a buffer, and where a column of it begins."""
        p, width, (columns, pitch), (y, place) = self.problem, self.core.lanes, shape, target
        lane, first, start = T.ramp(0, 1, width), T.Bind(row[0] + T.int32(0)), T.Bind(place + row[1])
        if made is not None and p.m >= width:
            for q in range(columns):
                at = T.ramp(start + q * pitch, 1, width)
                residual = names.residual[at] if names.residual is not None else None
                T.buffer_store(y, made.vector(acc[q, lane], first, residual), [at])
            return
        sums, many = acc, unrolled
        if heavy(p.epilogue):  # tens of instructions: not to be written out for each column, so through memory
            many = serial
            sums = named("sums", T.alloc_buffer((columns, width), "int32", scope="local", align=64))
            with unrolled("q", columns) as q:
                T.buffer_store(sums, acc[q, lane], [q, lane])
        with many("q", columns) as q, lanes(min(width, p.m)) as each:
            at = start + q * pitch + each
            T.buffer_store(y, final(p, names, sums[q, each], first + each, at), [at])

    def _sorted(self, names: Names) -> Names:
        """The scale and the bias in the order of the lanes, where the epilogue takes them from there."""
        if not self.sorted or makes_codes(self.problem):
            return names
        rows, found = names.constants[self.rows], []
        count = -(-self.problem.m // self.core.lanes) * self.core.lanes
        for source in (names.scale, names.bias):
            made = None
            if source is not None:
                made = named("inorder", T.alloc_buffer((count,), "float32", align=64))
                with serial("i", count) as i:
                    T.buffer_store(made, source[T.max(rows[i], 0)], [i])
            found.append(made)
        return replace(names, scale=found[0], bias=found[1])

    def _aside(self, names: Names, columns: int, place: Any, block: Any) -> Names | None:
        """Buffers for a block's codes, and for its residuals, which come in the order of the lanes; None for none."""
        p, size = self.problem, self.blocks.size
        if not self.sorted:
            return None
        rest = None
        if p.epilogue.residual:
            rest = named("rest", T.alloc_buffer((columns * BLOCK,), p.residual.dtype, scope="local", align=64))
            rows = T.min(p.m - block * size, size)

            def read(q: Any, r: Any) -> Any:
                start = place + block * size + T.min(r * LINE, rows - LINE)
                return names.residual[T.ramp(start + q * p.m, 1, LINE)]

            def write(chunk: Any, q: Any, value: Any) -> None:
                at = T.ramp(q * BLOCK + chunk * LINE, 1, LINE)
                T.buffer_store(rest, tirx.reinterpret(f"{p.residual.dtype}x{LINE}", value), [at])

            self._reorder(names, self.go, columns, block, rows, read, write)
        codes_ = named("aside", T.alloc_buffer((columns * BLOCK,), p.output.dtype, scope="local", align=64))
        return replace(names, y=codes_, residual=rest)

    def _back(self, names: Names, aside: Any, columns: int, place: Any, block: Any, rows: Any) -> None:
        """The codes of a block in the order of its rows, 64 at a time; the last 64 end with the last row."""
        p = self.problem

        def read(q: Any, r: Any) -> Any:
            return aside[T.ramp(q * BLOCK + r * LINE, 1, LINE)]

        def write(chunk: Any, q: Any, value: Any) -> None:
            start = place + block * self.blocks.size + T.min(chunk * LINE, rows - LINE)
            kind = f"{p.output.dtype}x{LINE}"
            T.buffer_store(names.y, tirx.reinterpret(kind, value), [T.ramp(start + q * p.m, 1, LINE)])

        self._reorder(names, self.back, columns, block, rows, read, write)

    def _reorder(
        self, names: Names, table: int | None, columns: int, block: Any, rows: Any, read: Any, write: Any
    ) -> None:
        assert table is not None  # there is one where rows are sorted
        places = names.constants[table]

        def where(chunk: Any) -> Any:
            return places[T.ramp((block * (BLOCK // LINE) + chunk) * LINE, 1, LINE)]

        registers = 1 if self.sorted == LINE else self.blocks.registers
        extent = T.truncdiv(rows + (LINE - 1), LINE), columns, registers
        reorder(self.permute.intrinsic(1) or "", where, extent, read, write)


def emit_last(problem: Problem, weight: FloatArray, core: Core, permute: Permute, config: Config, symbol: str) -> Code:
    """The kernel of a configuration: columns of a tile; align of the windows; sort, the rows that are sorted together.

    Raises ValueError where rows cannot be sorted so.
    """
    width, view, sort = core.lanes, view_of(problem, core), config["sort"]
    if sort not in sorts(problem):
        raise ValueError(f"family permuted cannot sort {problem.m} rows of {problem.output.dtype} with {dict(config)}")
    rows = order_of(problem, weight, width, sort)
    steps = steps_of(problem, weight, view, rows, width, config["align"])
    made = Builder(problem, Cut(operand(problem, np.ones(problem.k, np.bool_)), tiling(problem.n, width, 1),
                                (0, problem.m)), maximum=core.maximum)  # fmt: skip
    begun = None
    if problem.x_zero:
        sums = -problem.x_zero * weight.astype(np.int64).sum(axis=1)
        begun = made.constant(np.where(rows >= 0, sums[rows], 0).astype(np.int32))

    def table(of: Callable[..., NDArray[np.uint8]]) -> int | None:
        return made.constant(of(problem, rows, width, sort).reshape(-1)) if sort else None

    kernel = Kernel(
        problem=problem,
        core=core,
        permute=permute,
        view=view,
        blocks=blocks_of(problem.m, width),
        kinds=tiles_of(view, config["columns"]),
        threads=_threads(problem, len(steps.bases)),
        sorted=sort,
        data=made.constant(streamed(steps).reshape(-1)),
        bases=made.constant(steps.bases),
        starts=made.constant(steps.starts),
        rows=made.constant(rows),
        begun=begun,
        order=made.optional(low_bytes(problem, core)),
        go=table(going) if problem.epilogue.residual else None,
        back=table(returning),
    )
    return made.code(symbol, kernel.write)


def _threads(problem: Problem, steps: float) -> int:
    return threads_for(problem, steps * problem.n * problem.batch)


def space_last(problem: Problem, weight: FloatArray, core: Core) -> Sequence[Config]:
    """The three that the estimate likes best: tiles of 14 to 20 columns, and rows in order or sorted among 64 or among
    256, which is worth the more the less alike they are."""
    view = view_of(problem, core)
    sizes: dict[tuple[Tiles, ...], int] = {}
    for most in COLUMNS:
        sizes.setdefault(tiles_of(view, most), most)
    found: list[Config] = [
        {"columns": q, "align": 32, "sort": sort} for q in list(sizes.values())[:2] for sort in sorts(problem)
    ]
    return sorted(found, key=lambda config: estimate_last(problem, weight, core, config))[:3]


def _sampled(problem: Problem, weight: FloatArray, core: Core, config: Config) -> float:
    """Steps of all slices, from a sample of them."""
    width, view = core.lanes, view_of(problem, core)
    rows = order_of(problem, weight, width, config["sort"]).reshape(-1, width)
    sample = np.unique(np.linspace(0, len(rows) - 1, _SAMPLED).astype(np.int64))
    chosen = rows[sample].reshape(-1)
    part, few = np.where(chosen[:, None] >= 0, weight[chosen], 0), replace(problem, m=len(chosen))
    steps = steps_of(few, part, view, np.arange(len(chosen), dtype=np.int32), width, config["align"])
    return len(steps.bases) * len(rows) / len(sample)


def estimate_last(problem: Problem, weight: FloatArray, core: Core, config: Config) -> float:
    """A permutation and a dot product for each step and column, a copy of X where there is one, and the stores."""
    view, rates = view_of(problem, core), core.rates
    steps, sort = _sampled(problem, weight, core, config), config["sort"]
    slices, work, computed = -(-problem.m // core.lanes), 0.0, 0
    for kind in tiles_of(view, config["columns"]):
        columns, count = len(kind.offsets), kind.count * kind.lines
        each = cost.together(columns / rates.permutes, 8 * core.lanes / cost.weight_rate(problem, core)) + 2.0
        work += count * (steps * each + slices * (30.0 + (3.5 + cost.on_the_way(problem)) * columns))
        computed += count * columns
    work *= view.items
    if sort:
        registers = min(sort, problem.m) / LINE
        turns = 1.0 + 0.7 * problem.epilogue.residual  # which comes in the order of the lanes
        work += view.items * computed * -(-problem.m // LINE) * (4.5 + 1.2 * registers) * turns
    else:
        work += cost.finishing(problem.epilogue, 0.0 if makes_codes(problem) else view.items * computed * slices)
    copied = view.items * view.item / 16 * view.copied
    threads = _threads(problem, steps)
    cycles = rates.call + (work + copied) / threads + (threads > 1) * 6 * rates.call
    return float(cycles) / rates.cycles_per_ms
