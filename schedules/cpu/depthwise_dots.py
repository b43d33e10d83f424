"""Depthwise convolution of codes by products of bytes: the rows of X of a channel in the lane of its sum.

The loops are those of depthwise_codes.py, which chooses between this way and one instruction a tap.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.tirx.script import builder as T

from tesa.schedules.cpu.codes import UNIT, Ends, unpacked, whole
from tesa.schedules.cpu.epilogue import Names
from tesa.schedules.cpu.loops import loop, parallel, serial, span
from tesa.schedules.cpu.narrow import prefetch
from tesa.schedules.cpu.nest import Builder
from tesa.schedules.types import Config, Core, Problem, Window

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


def tasks(threads: int, units: int) -> Iterator[Any]:
    """A loop over units, in as many shares as there are threads for: `for unit in tasks(...)` writes its body once."""
    count = min(threads, units)
    if count <= 1:
        with loop("unit", units) as unit:
            yield unit
        return
    with parallel("task", count) as i, span("unit", i * units // count, (i + 1) * units // count) as unit:
        yield unit


def clamped(value: Any, size: int) -> Any:
    """The nearest of 0 ... size - 1."""
    return T.max(0, T.min(value, size - 1))


def _places(shape: Shape) -> NDArray[np.int64]:
    """(4, lanes) the channel of the block that each lane of the 4 sums belongs to."""
    lane = np.arange(shape.width)
    return np.stack([lane // 4 * UNIT + 4 * q + lane % 4 for q in range(4)])


class Dots:
    """Writes the statements of a kernel of that shape; its constants go to the builder."""

    def __init__(
        self, problem: Problem, weight: NDArray[np.int64], core: Core, shape: Shape, threads: int, builder: Builder
    ) -> None:
        assert problem.window is not None  # see depthwise_codes
        self.p, self.window, self.core, self.weight = problem, problem.window, core, weight
        self.shape, self.threads = shape, threads
        most, size = problem.m - shape.block, shape.block
        self.firsts = [*range(0, most, size), most]
        self.products = shape.products(self.window)
        self.weights = builder.constant(self._packed().reshape(-1))
        shift = -problem.x_zero * weight.sum(axis=1)
        if core.dot is not None and core.dot.signed:
            shift = shift + 128 * weight.sum(axis=1)
        places = np.array(self.firsts)[:, None, None] + _places(shape)
        self.shift = builder.constant(shift.astype(np.int32)[places].reshape(-1))
        self.bases = builder.constant(np.array(self.firsts, np.int32))

    def _packed(self) -> NDArray[Any]:
        """(blocks, products, 4, lanes, group) the weights as products meet them."""
        s = self.shape
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

    def write(self, names: Names) -> None:
        """All batch items and blocks of channels, shared by the threads, or all bands of rows where those are few."""
        p, w, s = self.p, self.window, self.shape
        bands = -(-w.out_height // s.rows)
        blocks = len(self.firsts)
        if p.batch * blocks >= self.threads:
            for unit in tasks(self.threads, p.batch * blocks):
                item, block = (unit // blocks, unit % blocks) if p.batch > 1 else (0, unit)
                ends = self._ends(names, block)
                with loop("band", bands) as band:
                    self._band(names, ends, item, block, band)
            return
        for unit in tasks(self.threads, p.batch * bands):
            item, band = (unit // bands, unit % bands) if p.batch > 1 else (0, unit)
            with loop("block", blocks) as block:
                self._band(names, self._ends(names, block), item, block, band)

    def _ends(self, names: Names, block: Any) -> Ends:
        """The constants of a block's channels in the order of its sums."""
        s = self.shape
        return Ends.of(self.p, names, T.Bind(names.constants[self.bases][block]), _places(s), self.core)

    def _band(self, names: Names, ends: Ends, item: Any, block: Any, band: Any) -> None:
        """R output rows of a block of channels; the last ones begin earlier where they do not fit evenly."""
        w, s = self.window, self.shape
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
        left = x * w.stride[1] - w.padding[1]
        # The last row that the next band reads. LLVM leaves loops with such a call alone: its elimination of loads
        # across iterations would take some 20 s for the loads of this one.
        below = top + s.rows * w.stride[0] + (w.kernel[0] - 1) * w.dilation[0]
        following = ((item * w.height + below) * w.width + left) * p.m + ends.base
        prefetch(names.x, clamped(following, p.batch * w.height * w.width * p.m))
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
        kind = f"int8x{s.block}"
        padding = tirx.Broadcast(tirx.IntImm("int8", (p.x_zero + 128) % 256 - 128), s.block)
        groups = []
        for rows in s.ins:
            vectors = []
            for row in rows:
                if column is None:
                    vectors.append(padding)
                    continue
                line = clamped(top + row, w.height) if edge else top + row
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
