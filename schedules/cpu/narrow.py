"""A matrix of bytes times a few columns: what kernels share that read each weight once and keep its sums in registers.

The right-hand sides (image, column) are few enough for all of them to be met by a weight while it is in a register.
They are read with k innermost, from a copy that has room behind its end and whose rows fall into different sets of the
cache. Sums are kept aside in the order of Y, and finished in a second pass, which is vectorized whatever the order in
which rows were computed.

Before:
    for m: for k: for side:  Y[side, m] += W[m, k] * X[side, k]
After:
    T[side] = X[side], k innermost
    for a group of slices of L rows (parallel over shares of about equal work):
        acc[slice, side] = 0
        for the weights of the slices, in reading order:  acc[slice, side] += ...           what a family writes
        S[side, rows] = acc
    Y = epilogue(S)
The slices of a group lie far apart in memory. Hardware fetches some lines ahead of what is read, from each place where
something is read in order, so that several such streams come faster from memory than one (on an Intel core that reads
15 GB/s from one place, 20 from four).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.tirx.script import builder as T

from tesa.schedules.cpu.cut import Cut
from tesa.schedules.cpu.epilogue import Names, final
from tesa.schedules.cpu.loops import lanes, loop, named, parallel, serial, span, unrolled
from tesa.schedules.cpu.nest import Builder
from tesa.schedules.cpu.operand import operand, tiling
from tesa.schedules.cpu.turn import BLOCK, turn, turned
from tesa.schedules.refusal import NO_DOT, unsuited
from tesa.schedules.types import Core, Problem

MAX_SIDES = 16
"""Right-hand sides (batch * n) up to which these families compete."""

LINE = 64
HALF = 4
"""Bits of a small code: two of them are a byte. Their products count 16 times, so that a code is the upper half of its
byte and no sign is extended."""

_CHAINS = 4
"""Sums that products are added to in turn, each some cycles after the one before."""

_MOST_SUMS = 16

SLOWER = {1: 1.2, 2: 1.03, 4: 1.0}
"""Times as long as memory takes for so many streams at once, over four of them."""

Found = list[tuple[Any, list[Any]]]
"""The number of each slice of a group, and its sums, a vector for each side."""

_LARGEST = 2**31 // (16 * 8 * 255)
"""Columns up to which the sums of small codes, 16 times, fit into 32 bits."""


def unfit(problem: Problem, core: Core) -> str:
    """The reason why a problem is no product of bytes with a few columns, on a core that adds up four of them at a
    time; "" where it is."""
    if why := unsuited(problem, dtypes=("int8",), pointwise=True):
        return why
    if not (0 < sides_of(problem) <= MAX_SIDES and problem.m > 0 and problem.k > 0):
        return f"it computes 1 to {MAX_SIDES} columns, and this has {sides_of(problem)}"
    dot = core.dot
    adds = dot is not None and dot.group == 4 and dot.adds and dot.intrinsic(core.lanes) is not None
    return "" if adds else NO_DOT


def fits(problem: Problem, core: Core) -> bool:
    """True where a problem is a product of bytes with a few columns, and the core adds up four of them at a time."""
    return not unfit(problem, core)


def sides_of(problem: Problem) -> int:
    """The number of right-hand sides."""
    return problem.batch * problem.n


def streams_of(problem: Problem, core: Core, most: int = 4) -> list[int]:
    """Slices of a group that are worth trying: their sums fit into registers, and there is a group for each thread."""
    slices, sides = -(-problem.m // core.lanes), sides_of(problem)
    room = min(_MOST_SUMS, core.registers // 2)
    return [p for p in (4, 2, 1) if p <= most and (p == 1 or (p * sides <= room and slices >= p * problem.threads))]


def small(problem: Problem, weight: NDArray[Any]) -> bool:
    """True where every code fits into 4 bits."""
    return problem.k < _LARGEST and weight.min(initial=0) >= -8 and weight.max(initial=0) <= 7


def halves(values: NDArray[np.int8], axis: int) -> NDArray[np.uint8]:
    """Small codes two a byte: along the axis, which is of 2, the first ones are the lower halves."""
    low, high = (np.take(values, i, axis=axis).astype(np.uint8) & np.uint8(15) for i in range(2))
    found: NDArray[np.uint8] = low | (high << np.uint8(4))
    return found


def half(pair: Any, number: int) -> Any:
    """16 times the codes in the lower (0) or upper (1) halves of a vector of uint8."""
    width = int(pair.ty.dtype.lanes)
    shifted = pair if number else pair << tirx.Broadcast(tirx.IntImm("uint8", HALF), width)
    return tirx.bitwise_and(shifted, tirx.Broadcast(tirx.IntImm("uint8", 0xF0), width))


@dataclass(frozen=True)
class Narrow:
    """Writes what surrounds the loop over the weights of a slice.

    bits: 8 or 4, of a code; slices: of rows, a multiple of those of a group; order: (slices, lanes), the row of each
    lane, -1 for none; None for rows as they are. bounds: groups in shares, one for each task; beyond: bytes that may be
    read behind a row of X.
    """

    problem: Problem
    core: Core
    bits: int
    slices: int
    order: NDArray[np.int32] | None
    bounds: tuple[int, ...]
    beyond: int

    @property
    def sides(self) -> int:
        """The number of right-hand sides."""
        return sides_of(self.problem)

    @property
    def row(self) -> int:
        """Bytes from a side to the next: an odd number of lines."""
        return (-(-(self.problem.k + self.beyond) // LINE) | 1) * LINE

    @property
    def strided(self) -> bool:
        """True where the columns of an image are neighbours in X and in Y."""
        return self.problem.n > 1 and not self.problem.features_last

    @property
    def pitch(self) -> int:
        """Sums from a side to the next, where the rows of a side are neighbours: whole slices."""
        return self.slices * self.core.lanes

    def builder(self, weight: NDArray[Any]) -> tuple[Builder, int | None, int | None]:
        """The kernel's builder, and its constants: the place of each lane's row among the sums, and shares' bounds."""
        p, core = self.problem, self.core
        view = operand(p, np.ones(p.k, np.bool_))
        made = Builder(p, Cut(view, tiling(p.n, core.lanes, 1), (0, p.m)), maximum=core.maximum)
        zero = p.x_zero - (128 if core.dot is not None and core.dot.signed else 0)
        if zero:
            made.shift = made.constant((-zero * weight.astype(np.int64).sum(axis=1)).astype(np.int32))
        rows = None
        if self.order is not None:
            rows_ = self.order.astype(np.int64)
            none = self.sides * p.m if self.strided else p.m  # behind all others
            places = np.where(self.order < 0, none, rows_ * (p.n if self.strided else 1)).reshape(-1)
            rows = made.constant(places.astype(np.uint16 if places.max() < 1 << 16 else np.int32))
        limits = made.constant(np.array(self.bounds, np.int32)) if len(self.bounds) > 2 else None
        return made, rows, limits

    def write(self, names: Names, rows: int | None, limits: int | None, sums: Callable[[Any, Any], Found]) -> None:
        """The kernel. sums(copy, group) writes the loop over the weights of a group of slices."""
        copy = named("across", T.alloc_buffer((self.sides * self.row,), "uint8", align=LINE))
        # lanes without a row store behind the rows of a side, or behind all
        kept = named("kept", T.alloc_buffer((2 * self.sides * self.pitch,), "int32", align=LINE))
        self._placed(names.x, copy)
        table = None if rows is None else names.constants[rows]
        for group in self._each(None if limits is None else names.constants[limits]):
            for number, found in sums(copy, group):
                self._keep(kept, found, number, table)
        self._finished(names, kept)

    def vector(self, copy: Any, side: int, start: Any, size: int) -> Any:
        """size bytes of a side."""
        return copy[T.ramp(side * self.row + start, 1, size)]

    def _each(self, limits: Any) -> Iterator[Any]:
        """The loop over the groups of slices."""
        if limits is None:
            with serial("group", self.bounds[-1]) as group:
                yield group
            return
        tasks = len(self.bounds) - 1
        with parallel("share", tasks) as share, span("group", limits[share], limits[share + 1]) as group:
            yield group

    def _placed(self, x: Any, copy: Any) -> None:
        """The sides with k innermost."""
        p, dot = self.problem, self.core.dot
        signed = dot is not None and dot.signed
        if not self.strided:
            with loop("side", self.sides) as side:
                self._moved(x, side * p.k, 1, copy, side * self.row, signed)
            return
        if self.sides == p.n == BLOCK and not signed and p.k >= BLOCK:
            turn(x, 0, copy, (p.k, p.n, self.row))
            return
        with loop("item", p.batch) as item, serial("j", p.n) as j:
            self._moved(x, item * (p.k * p.n) + j, p.n, copy, (item * p.n + j) * self.row, signed)

    def _moved(self, x: Any, first: Any, step: int, copy: Any, target: Any, signed: bool) -> None:
        """One side: k bytes that lie step apart."""
        size = LINE if step == 1 else BLOCK
        whole, left = divmod(self.problem.k, size)
        for count, width, begin in ((whole, size, 0), (left, 1, whole * size)):
            if not count:
                continue
            with serial("i", count) as i, lanes(width) as lane:
                at = begin + i * width + lane
                value = x[first + at * step]
                flipped = value ^ tirx.IntImm("uint8", 128) if signed else value
                T.buffer_store(copy, flipped, [target + at])

    def _keep(self, kept: Any, sums: list[Any], number: Any, table: Any) -> None:
        """Put the sums of a slice, a vector for each side, where Y has them."""
        p, width = self.problem, self.core.lanes
        if self.bits == HALF:
            four = tirx.Broadcast(T.int32(HALF), width)
            sums = [value >> four for value in sums]
        if not self.strided and table is None:
            for side, value in enumerate(sums):
                T.buffer_store(kept, value, [T.ramp(side * self.pitch + number * width, 1, width)])
            return
        columns = p.n if self.strided else 1
        parts = named("parts", T.alloc_buffer((width, width), "int32", scope="local", align=LINE))
        for first in range(0, len(sums), columns):
            for low in range(0, columns, width):
                count = min(width, columns - low)
                self._scattered(kept, sums[first + low : first + low + count], parts, number, table, first, low)

    def _scattered(self, kept: Any, sums: list[Any], parts: Any, number: Any, table: Any, first: int, low: int) -> None:
        """Sums of neighbouring columns, row by row."""
        p, width, count = self.problem, self.core.lanes, len(sums)
        zero = tirx.Broadcast(T.int32(0), width)
        rows = turned([*sums, *[zero] * (width - count)]) if count > 1 else sums
        for r, vector in enumerate(rows):
            T.buffer_store(parts, vector, [r, T.ramp(0, 1, width)])
        base = first // p.n * (p.m * p.n) + low if self.strided else first * self.pitch
        with serial("r", width) as r:
            lane = number * width + r
            if table is None:
                place = T.Bind(tirx.Select(lane < p.m, lane * p.n, T.int32(self.sides * p.m)))
            else:
                place = T.Bind(tirx.Cast("int32", table[lane]))
            with lanes(count) as q:
                value = parts[r, q] if count > 1 else parts[0, r]
                T.buffer_store(kept, value, [place + base + q])

    def _finished(self, names: Names, kept: Any) -> None:
        """Y from the sums."""
        p = self.problem
        if self.strided:
            with loop("item", p.batch) as item, serial("m", p.m) as m, lanes(p.n) as q:
                at = item * (p.m * p.n) + m * p.n + q
                T.buffer_store(names.y, final(p, names, kept[at], m, at), [at])
            return
        width = self.core.lanes
        whole, left = divmod(p.m, width)
        with loop("side", self.sides) as side:
            for count, size, begin in ((whole, width, 0), (left, 1, whole * width)):
                if count:
                    with serial("i", count) as i, lanes(size) as lane:
                        m = begin + i * size + lane
                        at = side * p.m + m
                        T.buffer_store(names.y, final(p, names, kept[side * self.pitch + m], m, at), [at])


@dataclass(frozen=True)
class Sums:
    """The sums of a group of slices, in registers: for each slice and side some chains, so that products need not wait
    for each other."""

    acc: Any
    slices: int
    sides: int
    chains: int
    core: Core

    @staticmethod
    def zero(slices: int, sides: int, core: Core) -> "Sums":
        """New ones, as many as the latency of a product asks for."""
        chains = max(_CHAINS // (slices * sides), 1)
        count = slices * sides * chains
        acc = named("acc", T.alloc_buffer((count, core.lanes), "int32", scope="local", align=LINE))
        lane = T.ramp(0, 1, core.lanes)
        with unrolled("q", count) as q:
            T.buffer_store(acc, tirx.Broadcast(T.int32(0), core.lanes), [q, lane])
        return Sums(acc, slices, sides, chains, core)

    def add(self, which: int, side: int, number: int, x: Any, w: Any) -> None:
        """The dot products of the lanes of x and w, to the chain of a step with that number. which: of the slices."""
        dot, width = self.core.dot, self.core.lanes
        assert dot is not None  # see fits
        q = (which * self.sides + side) * self.chains + number % self.chains
        lane, kind = T.ramp(0, 1, width), f"int8x{4 * width}"
        bytes_ = [tirx.reinterpret(kind, value) for value in (x, w)]
        total = tirx.call_llvm_pure_intrin(f"int32x{width}", dot.intrinsic(width), self.acc[q, lane], *bytes_)
        T.buffer_store(self.acc, total, [q, lane])

    def total(self, which: int) -> list[Any]:
        """The finished sums of each side, of one of the slices."""
        lane, found = T.ramp(0, 1, self.core.lanes), []
        for side in range(self.sides):
            first = (which * self.sides + side) * self.chains
            value = self.acc[first, lane]
            for chain in range(1, self.chains):
                value = value + self.acc[first + chain, lane]
            found.append(T.Bind(value))
        return found


def prefetch(buffer: Any, index: Any, write: bool = False) -> None:
    """Ask for the line of an element, which may lie behind the end of the buffer: nothing is read.

    write: it is going to be written.
    """
    hint = (T.int32(int(write)), T.int32(3), T.int32(1))  # to read or write, into every level of cache, data
    T.evaluate(tirx.call_llvm_intrin("", "llvm.prefetch", tirx.address_of(buffer[index]), *hint))
