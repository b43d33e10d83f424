"""Depthwise convolution of codes that lie channels last: channels in lanes, some rows of the window in each lane.

Before, for every output (y, x) and channel c:
    Y[y, x, c] = epilogue( sum over (i, j) of W[c, i, j] * (X[y*sh + i*dh - top, x*sw + j*dw - left, c] - x_zero) )

After, with B channels as a block, R output rows and T output columns as a tile, G bytes of a product's lane:
    for every block of channels, for every R output rows (parallel over both):
        for every T output columns:
            for every column of X that the tile touches, for every G of the rows of X that it touches:
                x = those G rows' B bytes each, interleaved: the G bytes of a channel in one lane     4 registers
            for every output of the tile:
                acc = shift[c];  acc += dot(x[column, rows], w[r, j, rows])     4 instructions a live column and G rows
                Y = epilogue(acc)
A group of rows serves all R output rows: those of the window that it does not see are weights of 0. Columns outside of
the image are known when code is made; rows outside are found by a test for each R rows, and are replaced by x_zero.
Interleaving is done within 128 bits, by the unpack instructions of x86, and undone by packing of the results.

G is 4 where the core has a dot product of bytes, 2 where of pairs of 16-bit words. A core with neither, and fewer
channels than a vector holds, take one instruction a tap, in 32 bits.

Registers: 4 sums, the columns of X that a window touches times 4, 4 to interleave.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.tirx.script import builder as T

from tesa.schedules.cpu import cost
from tesa.schedules.cpu.codes import UNIT, Ends, unpacked, whole
from tesa.schedules.cpu.cut import Cut, threads_for
from tesa.schedules.cpu.epilogue import Names, final
from tesa.schedules.cpu.loops import lanes, loop, named, parallel, serial, span
from tesa.schedules.cpu.narrow import prefetch
from tesa.schedules.cpu.nest import Builder
from tesa.schedules.cpu.operand import operand, tiling
from tesa.schedules.refusal import refuse, unsuited
from tesa.schedules.registry import family
from tesa.schedules.types import Code, Config, Core, FloatArray, Problem, Window

_MOST_DOTS = 900
"""Products of bytes that are written out for a tile, each some instructions of LLVM's time."""


@dataclass(frozen=True)
class Shape:
    """The form of a kernel: width, lanes of a sum; group, rows of X in one of them; rows, columns of a tile.

    live: the taps (i, j) that are computed. ins: the rows of X, from the first one of a tile, in groups.
    """

    width: int
    group: int
    rows: int
    columns: int
    live: tuple[tuple[int, int], ...]
    ins: tuple[tuple[int, ...], ...]

    @property
    def block(self) -> int:
        """Channels of a block."""
        return 4 * self.width

    def products(self, window: Window) -> list[tuple[int, int, int]]:
        """(output row, window column, group of rows) of every product of a column of outputs."""
        found = []
        for r in range(self.rows):
            for j in sorted({j for _, j in self.live}):
                own = {r * window.stride[0] + i * window.dilation[0] for i, column in self.live if column == j}
                found += [(r, j, g) for g, rows in enumerate(self.ins) if own & set(rows)]
        return found


def shape_of(problem: Problem, live: NDArray[np.bool_], core: Core, config: Config) -> Shape | None:
    """The form of the kernel, None where it takes one instruction a tap. live: (kernel area,)."""
    window, dot = problem.window, core.dot
    assert window is not None  # see _applies
    if dot is None or dot.group not in (2, 4) or (dot.signed and dot.group != 4):
        return None
    width = core.lanes
    while 4 * width > problem.m and width > 4:
        width //= 2
    if 4 * width > problem.m or dot.intrinsic(width) is None:
        return None
    taps = tuple((int(t) // window.kernel[1], int(t) % window.kernel[1]) for t in np.flatnonzero(live))
    rows = max(1, min(config["rows"], window.out_height))
    ins = sorted({r * window.stride[0] + i * window.dilation[0] for r in range(rows) for i, _ in taps})
    groups = tuple(tuple(ins[at : at + dot.group]) for at in range(0, len(ins), dot.group))
    shape = Shape(width, dot.group, rows, 1, taps, groups)
    dots = 4 * len(shape.products(window))
    if dots > _MOST_DOTS:
        return None
    columns = max(1, min(config["columns"], window.out_width, _MOST_DOTS // max(dots, 1)))
    return Shape(width, dot.group, rows, columns, taps, groups)


def _applies(problem: Problem) -> bool:
    return problem.op == "depthwise" and problem.dtype == "int8" and problem.features_last and bool(problem.window)


def _space(problem: Problem, weight: FloatArray, core: Core) -> Sequence[Config]:
    if why := unsuited(problem, ops=("depthwise",), dtypes=("int8",)):
        return refuse(why)
    if not _applies(problem) or problem.n < 1:
        return refuse("there is no output to compute")
    # two rows of seven columns take a tenth less time, and four times as long to compile
    return ({"rows": 1, "columns": 4},)


def _estimate(problem: Problem, weight: FloatArray, core: Core, config: Config) -> float:
    """A product for each column of live taps and group of rows, the interleaving, and the stores."""
    window, rates, live = problem.window, core.rates, (weight != 0).any(axis=0)
    assert window is not None
    shape = shape_of(problem, live, core, config)
    outputs = problem.batch * problem.n * problem.m
    if shape is None:
        cycles = outputs / core.lanes * (3.0 * float(live.sum()) + 6.0)
    else:
        reach = window.dilation[1] * (window.kernel[1] - 1) + 1
        columns = (shape.columns - 1) * window.stride[1] + reach
        products = 4 * len(shape.products(window)) * shape.columns
        turned = columns * len(shape.ins) * (8 + shape.group)
        stored = shape.rows * shape.columns * 16
        tiles = outputs / (shape.block * shape.rows * shape.columns)
        cycles = tiles * (products / rates.fmas * 2 + turned / 2 + stored / 2)
    threads = threads_for(problem, cycles)
    done = cost.finishing(problem.epilogue, 0.0)
    return float(rates.call + cycles / threads + done + (threads > 1) * 6 * rates.call) / rates.cycles_per_ms


def _places(shape: Shape) -> NDArray[np.int64]:
    """(4, lanes) the channel of the block that each lane of the 4 sums belongs to."""
    lane = np.arange(shape.width)
    return np.stack([lane // 4 * UNIT + 4 * q + lane % 4 for q in range(4)])


class _Kernel:
    """Writes one kernel. Make it, then emit()."""

    def __init__(self, problem: Problem, weight: FloatArray, core: Core, config: Config) -> None:
        assert problem.window is not None  # see emit
        self.p, self.window, self.core, self.weight = problem, problem.window, core, weight.astype(np.int64)
        live = (weight != 0).any(axis=0)
        self.shape = shape_of(problem, live, core, config)
        self.live = [int(t) for t in np.flatnonzero(live)]
        self.threads = threads_for(problem, float(problem.batch * problem.n * problem.m) * (len(self.live) + 2) / 64)
        if self.shape is not None:
            most, size = problem.m - self.shape.block, self.shape.block
            self.firsts = [*range(0, most, size), most]

    def emit(self, symbol: str) -> Code:
        p = self.p
        nothing = Problem("linear", p.m, p.k, p.n, (p.k, p.n), (p.m, p.n))
        view = operand(nothing, np.ones(p.k, np.bool_))
        builder = Builder(p, Cut(view, tiling(p.n, self.core.lanes, 1), (0, p.m), threads=self.threads))
        shift = -p.x_zero * self.weight.sum(axis=1)
        if self.shape is None:
            self.weights = builder.constant(np.ascontiguousarray(self.weight.T[self.live], np.int32).reshape(-1))
            builder.shift = builder.constant(shift.astype(np.int32))
            return builder.code(symbol, self._plain)
        self.products = self.shape.products(self.window)
        self.weights = builder.constant(self._packed(self.shape).reshape(-1))
        if self.core.dot is not None and self.core.dot.signed:
            shift = shift + 128 * self.weight.sum(axis=1)
        places = np.array(self.firsts)[:, None, None] + _places(self.shape)
        self.shift = builder.constant(shift.astype(np.int32)[places].reshape(-1))
        self.bases = builder.constant(np.array(self.firsts, np.int32))
        return replace(builder.code(symbol, self._blocks), pipeline="straight")

    def _packed(self, s: Shape) -> NDArray[Any]:
        """(blocks, products, 4, lanes, group) the weights as products meet them."""
        kind = np.int8 if s.group == 4 else np.int16
        found = np.zeros((len(self.firsts), len(self.products), 4, s.width, s.group), kind)
        window = self.weight.reshape(self.p.m, *self.window.kernel)
        for b, first in enumerate(self.firsts):
            channels = first + _places(s)
            for number, (r, j, g) in enumerate(self.products):
                for at, row in enumerate(s.ins[g]):
                    i, left = divmod(row - r * self.window.stride[0], self.window.dilation[0])
                    if left == 0 and 0 <= i < self.window.kernel[0]:
                        found[b, number, :, :, at] = window[channels, i, j]
        return found

    # One instruction a tap

    def _plain(self, names: Names) -> None:
        """Every output by itself, with all its channels in lanes."""
        p, w, m = self.p, self.window, self.p.m
        size = self.core.lanes
        whole, rest = divmod(m, size)
        units = p.batch * w.out_height
        for unit in self._tasks(units):
            item, y = unit // w.out_height, unit % w.out_height
            with serial("x", w.out_width) as x:
                at = (unit * w.out_width + x) * m
                if whole:
                    with serial("block", whole) as block:
                        self._plain_block(names, item, y, x, block * size, size, at)
                if rest:
                    self._plain_block(names, item, y, x, whole * size, rest, at)

    def _plain_block(self, names: Names, item: Any, y: Any, x: Any, c: Any, size: int, at: Any) -> None:
        p, w = self.p, self.window
        acc = named("acc", T.alloc_buffer((size,), "int32", scope="local"))
        with lanes(size) as lane:
            T.buffer_store(acc, T.int32(0), [lane])
        for number, tap in enumerate(self.live):
            i, j = divmod(tap, w.kernel[1])
            row = y * w.stride[0] + (i * w.dilation[0] - w.padding[0])
            column = x * w.stride[1] + (j * w.dilation[1] - w.padding[1])
            inside = T.And(T.And(row >= 0, row < w.height), T.And(column >= 0, column < w.width))
            start = ((item * w.height + _clamped(row, w.height)) * w.width + _clamped(column, w.width)) * p.m + c
            here = T.Bind(T.Select(inside, T.int32(1), T.int32(0)))
            with lanes(size) as lane:
                code = T.Cast("int32", names.x[start + lane]) - T.int32(p.x_zero)
                code = code * here + T.int32(p.x_zero)
                weight = names.constants[self.weights][number * p.m + c + lane]
                T.buffer_store(acc, acc[lane] + code * weight, [lane])
        with lanes(size) as lane:
            T.buffer_store(names.y, final(p, names, acc[lane], c + lane, at + c + lane), [at + c + lane])

    def _tasks(self, units: int) -> Any:
        tasks = min(self.threads, units)
        if tasks <= 1:
            with loop("unit", units) as unit:
                yield unit
            return
        with parallel("task", tasks) as i, span("unit", i * units // tasks, (i + 1) * units // tasks) as unit:
            yield unit

    # Products of groups of rows

    def _blocks(self, names: Names) -> None:
        p, w, s = self.p, self.window, self.shape
        assert s is not None
        bands = -(-w.out_height // s.rows)
        blocks = len(self.firsts)
        if p.batch * blocks >= self.threads:
            for unit in self._tasks(p.batch * blocks):
                item, block = (unit // blocks, unit % blocks) if p.batch > 1 else (0, unit)
                ends = self._ends(names, block)
                with loop("band", bands) as band:
                    self._band(names, ends, item, block, band)
            return
        for unit in self._tasks(p.batch * bands):
            item, band = (unit // bands, unit % bands) if p.batch > 1 else (0, unit)
            with loop("block", blocks) as block:
                self._band(names, self._ends(names, block), item, block, band)

    def _ends(self, names: Names, block: Any) -> Ends:
        """The constants of a block's channels in the order of its sums."""
        s = self.shape
        assert s is not None
        return Ends.of(self.p, names, T.Bind(names.constants[self.bases][block]), _places(s), self.core)

    def _band(self, names: Names, ends: Ends, item: Any, block: Any, band: Any) -> None:
        """R output rows of a block of channels; the last ones begin earlier where they do not fit evenly."""
        _p, w, s = self.p, self.window, self.shape
        assert s is not None
        y = band * s.rows
        if w.out_height % s.rows:
            y = T.min(y, w.out_height - s.rows)
        y = T.Bind(y)
        top = T.Bind(y * w.stride[0] - w.padding[0])
        rows = sorted({row for group in s.ins for row in group})
        if not rows:
            self._columns(names, ends, item, block, y, top, False)
            return
        low, high = rows[0], rows[-1]
        clear = low >= w.padding[0] and (w.out_height - s.rows) * w.stride[0] - w.padding[0] + high < w.height
        if clear:
            self._columns(names, ends, item, block, y, top, False)
            return
        with T.If(T.And(top + low >= 0, top + high < w.height)):
            with T.Then():
                self._columns(names, ends, item, block, y, top, False)
            with T.Else():
                self._columns(names, ends, item, block, y, top, True)

    def _columns(self, names: Names, ends: Ends, item: Any, block: Any, y: Any, top: Any, edge: bool) -> None:
        """All tiles of R rows. Those at the borders are code of their own, all others a loop."""
        w, s = self.window, self.shape
        assert s is not None
        count, last = -(-w.out_width // s.columns), w.out_width - s.columns
        starts = [min(t * s.columns, last) for t in range(count)]
        reach = max((j for _, j in s.live), default=0) * w.dilation[1]
        inner = [
            t for t, x in enumerate(starts)
            if x == t * s.columns and x * w.stride[1] >= w.padding[1]
            and (x + s.columns - 1) * w.stride[1] + reach - w.padding[1] < w.width
        ]  # fmt: skip
        t = 0
        while t < count:
            if len(inner) > 1 and t == inner[0]:
                with serial("tile", len(inner)) as tile:
                    self._tile(names, ends, item, block, y, top, edge, None, (tile + t) * s.columns)
                t += len(inner)
                continue
            self._tile(names, ends, item, block, y, top, edge, starts[t], starts[t])
            t += 1

    def _tile(
        self, names: Names, ends: Ends, item: Any, block: Any, y: Any, top: Any, edge: bool, at: int | None, x: Any
    ) -> None:
        """R rows by T columns from output column x on; at: that column where it is a number."""
        p, w, s = self.p, self.window, self.shape
        assert s is not None
        left = x * w.stride[1] - w.padding[1]
        # The last row that the next band reads. LLVM leaves loops with such a call alone: its elimination of loads
        # across iterations would take some 20 s for the loads of this one.
        below = top + s.rows * w.stride[0] + (w.kernel[0] - 1) * w.dilation[0]
        following = ((item * w.height + below) * w.width + left) * p.m + ends.base
        prefetch(names.x, _clamped(following, p.batch * w.height * w.width * p.m))
        found: dict[int, list[list[Any]]] = {}
        for t in range(s.columns):
            wanted = {j: t * w.stride[1] + j * w.dilation[1] for _, j in s.live}
            for column in sorted(wanted.values()):
                if column not in found:
                    outside = at is not None and not 0 <= at * w.stride[1] - w.padding[1] + column < w.width
                    place = None if outside else left + column
                    found[column] = self._column(names, item, ends.base, top, edge, place)
            for r in range(s.rows):
                sums = self._sums(names, block, r, found, wanted)
                place = ((item * w.out_height + y + r) * w.out_width + x + t) * p.m + ends.base
                ends.store(names, sums, T.Bind(place))
            gone = [column for column in found if column < (t + 1) * w.stride[1]]
            for column in gone:
                del found[column]

    def _column(self, names: Names, item: Any, base: Any, top: Any, edge: bool, column: Any) -> list[list[Any]]:
        """The groups of rows of a column of X, interleaved; column None: outside of the image."""
        p, w, s = self.p, self.window, self.shape
        assert s is not None
        kind = f"int8x{s.block}"
        padding = tirx.Broadcast(tirx.IntImm("int8", (p.x_zero + 128) % 256 - 128), s.block)
        groups = []
        for rows in s.ins:
            vectors = []
            for row in rows:
                if column is None:
                    vectors.append(padding)
                    continue
                line = _clamped(top + row, w.height) if edge else top + row
                start = ((item * w.height + line) * w.width + column) * p.m + base
                value = tirx.reinterpret(kind, whole(names.x[T.ramp(start, 1, s.block)]))
                if edge:
                    inside = T.And(top + row >= 0, top + row < w.height)
                    mask = tirx.Broadcast(T.Select(inside, tirx.IntImm("int8", -1), tirx.IntImm("int8", 0)), s.block)
                    mask = T.Bind(mask)
                    value = (value & mask) | (padding & ~mask)
                vectors.append(T.Bind(value))
            groups.append(self._interleaved(vectors))
        return groups

    def _interleaved(self, vectors: list[Any]) -> list[Any]:
        """4 vectors of the bytes of 1 ... G rows, those of a channel together."""
        s = self.shape
        assert s is not None
        assert self.core.dot is not None
        zero = tirx.Broadcast(tirx.IntImm("int8", 0), s.block)
        if self.core.dot.signed:
            vectors = [vector ^ tirx.Broadcast(tirx.IntImm("int8", -128), s.block) for vector in vectors]
        full = [*vectors, *[zero] * (s.group - len(vectors))]
        if s.group == 2:
            halves = unpacked(full[0], full[1], 1)
            return [part for half in halves for part in unpacked(half, zero, 1)]
        upper = unpacked(full[0], full[1], size=1)
        lower = unpacked(full[2], full[3], size=1) if len(vectors) > 2 else [zero, zero]
        return [part for pair in zip(upper, lower, strict=True) for part in unpacked(pair[0], pair[1], 2)]

    def _sums(
        self, names: Names, block: Any, r: int, found: dict[int, list[list[Any]]], wanted: dict[int, int]
    ) -> list[Any]:
        s, dot = self.shape, self.core.dot
        assert s is not None
        assert dot is not None
        name = dot.intrinsic(s.width)
        kind = f"int8x{s.block}" if s.group == 4 else f"int16x{s.block // 2}"
        size = s.width * s.group
        sums = []
        for q in range(4):
            acc = names.constants[self.shift][T.ramp((block * 4 + q) * s.width, 1, s.width)]
            for number, (row, j, g) in enumerate(self.products):
                if row != r:
                    continue
                start = ((block * len(self.products) + number) * 4 + q) * size
                weight = names.constants[self.weights][T.ramp(start, 1, size)]
                x = tirx.reinterpret(kind, found[wanted[j]][g][q])
                if dot.adds:
                    acc = tirx.call_llvm_pure_intrin(f"int32x{s.width}", name, acc, x, weight)
                else:
                    acc = acc + tirx.call_llvm_pure_intrin(f"int32x{s.width}", name, x, weight)
            sums.append(T.Bind(acc))
        return sums


def _clamped(value: Any, size: int) -> Any:
    return T.max(0, T.min(value, size - 1))


@family("depthwise_codes", kind="cpu", space=_space, estimate=_estimate, layouts=("features_last",))
def emit(problem: Problem, weight: FloatArray, core: Core, config: Config, symbol: str) -> Code:
    """Depthwise convolution of codes, channels last: products of a channel's bytes of some rows, channels in lanes.

    weight is (channels, kernel area). config: rows, columns of a tile of outputs. constants: the weights as products
    meet them, what is added to the sums for the zero of X, and where blocks of channels begin. Raises ValueError for a
    problem that space answers with ().

    Example:
        >>> window = Window(8, 8, (3, 3), padding=(1, 1, 1, 1))
        >>> p = Problem("depthwise", 64, 9, 64, (1, 8, 8, 64), (1, 8, 8, 64), window=window, dtype="int8",
        ...             layout="features_last")
        >>> code = emit(p, np.ones((64, 9), np.float32), Core("avx512", 16, 32), {"rows": 2, "columns": 7}, "dw")
        >>> len(code.main.params)
        4
    """
    if not _applies(problem):
        raise ValueError(f"family depthwise_codes cannot compute {problem.dtype} {problem.op!r} {problem.layout}")
    return _Kernel(problem, weight, core, config).emit(symbol)
