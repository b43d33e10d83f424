"""The loops around a tile that all looped kernels share: batch, staging, bands of output rows, tiles, threads.

Before:
    for b, m, p:  Y[b, m, p] = epilogue(sum_k W[m, k] * X[b, offset(k) + p])

After, for a direct operand (see operand.py):
    for task (parallel):  for its tiles (or for its share of the rows):  tile(...) stores to Y
and for a convolution:
    for b:
        S = padded planes of X[b]                                      (parallel over channels)
        for band of output rows (parallel):
            for tile of the band:  tile(...) stores raw sums to a scratch [m][positions]
            for m, row of the band:  Y[b, m, row] = epilogue(scratch without its garbage columns)
A tile is what the family writes: its statements see where to read and where to store, and which share of the rows.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm.tirx.script import builder as T

from tesa.schedules.cpu.cut import Cut
from tesa.schedules.cpu.epilogue import Names, final, heavy
from tesa.schedules.cpu.loops import flat, function, lanes, loop, named, parallel, parameter, serial, span, unrolled
from tesa.schedules.cpu.operand import Tiling
from tesa.schedules.cpu.staging import compact, first_of_copy, first_of_y, stage
from tesa.schedules.types import Code, Problem

MAX_ELEMENTS = 2**31 - 2**16
"""Elements of one array, with room for what is added to an index on the way."""

Store = Callable[[Any, Any, Any, Any], None]
Put = Callable[[Any, Any, Any], None]


@dataclass(frozen=True)
class Tile:
    """One tile in the making. Element (k, vector v, lane l) is source[offsets[k] + base + at(v) + l].

    share: which share of the rows is wanted, rows: its bounds. store(m, v, l, value) writes a finished sum; call it
    inside of a vectorized loop over l. heavy: its epilogue is so long that it must not be written out for each vector.
    put(m, q, value) writes a finished sum of the tail.
    """

    tiling: Tiling
    source: Any
    base: Any
    share: Any
    rows: tuple[Any, Any]
    store: Store
    heavy: bool = False
    put: Put | None = None

    def at(self, v: Any) -> Any:
        """The start of vector v, from the tile's start."""
        return vector_start(self.tiling, v)

    def finish(self, acc: Any, row: Callable[[Any], Any], rows: int) -> None:
        """Store the sums acc[rows][vectors][lanes] with the epilogue; row(i) is the row of Y that acc[i] belongs to."""
        t = self.tiling
        if not self.heavy:
            with unrolled("r", rows) as r, unrolled("v", t.vectors) as v, lanes(t.lanes) as lane:
                self.store(row(r), v, lane, acc[r, v, lane])
            return
        # through memory: acc itself must not be indexed by a loop variable, or it would leave the registers
        sums = named("sums", T.alloc_buffer((rows, t.vectors, t.lanes), str(acc.dtype), scope="local"))
        with unrolled("r", rows) as r, unrolled("v", t.vectors) as v, lanes(t.lanes) as lane:
            T.buffer_store(sums, acc[r, v, lane], [r, v, lane])
        with serial("r", rows) as r, serial("v", t.vectors) as v, lanes(t.lanes) as lane:
            self.store(row(r), v, lane, sums[r, v, lane])

    def finish_tail(self, acc: Any, row: Any, rows: int) -> None:
        """Store the sums acc[tail][1][rows] of rows row, row + 1, ... with the epilogue."""
        tail, put = self.tiling.tail, self.put
        assert put is not None  # a tiling with a tail is a direct one
        sums = named("sums", T.alloc_buffer((tail, rows), str(acc.dtype), scope="local", align=64))
        with unrolled("q", tail) as q, lanes(rows) as lane:
            T.buffer_store(sums, acc[q, 0, lane], [q, lane])
        with serial("r", rows) as r, serial("q", tail) as q:
            put(row + r, q, sums[q, r])


@dataclass
class Builder:
    """Collects the constants of a kernel, then writes its loops around what `tile` writes.

    shift: the constant that is added to the sums of each row, None for nothing; begun: the kernel's sums begin with the
    bias; maximum, rounds: see Core.
    """

    problem: Problem
    cut: Cut
    constants: list[NDArray[Any]] = field(default_factory=list)
    shift: int | None = None
    begun: bool = False
    maximum: bool = False
    rounds: str = ""

    def constant(self, array: NDArray[Any]) -> int:
        """Add an array that the kernel takes as a parameter; its index in Names.constants."""
        self.constants.append(np.ascontiguousarray(array if array.size else np.zeros(1, array.dtype)))
        return len(self.constants) - 1

    def optional(self, array: NDArray[Any] | None) -> int | None:
        """The same of an array that there may be none of."""
        return None if array is None else self.constant(array)

    def build(self, symbol: str, tile: Callable[[Names, Tile], None]) -> Code:
        """The kernel: the loops of this file around what tile writes."""
        p, channels, bounds = self.problem, self.chosen(), self.cut.bounds
        limits = self.constant(np.array(bounds, np.int32)) if len(bounds) > 2 else None

        def write(names: Names) -> None:
            tables = [None if table is None else names.constants[table] for table in (channels, limits)]
            loops = _Loops(p, self.cut, names, tile, *tables)
            loops.staged() if self.cut.operand.staged else loops.unstaged()

        return self.code(symbol, write)

    def chosen(self) -> int | None:
        """The constant that lists the live channels of a convolution, None where it is all of them."""
        channels = self.cut.operand.channels
        if channels and channels != tuple(range(len(channels))):
            return self.constant(np.array(channels, np.int32))
        return None

    def code(self, symbol: str, write: Callable[[Names], None]) -> Code:
        """The kernel whose body is what write writes; all constants are there by now."""
        p = self.problem
        sizes = (prod(p.x_shape), prod(p.y_shape), self.cut.operand.staged, *(c.size for c in self.constants))
        if max(sizes) > MAX_ELEMENTS:
            raise ValueError(f"{symbol}: an array of more than {MAX_ELEMENTS} elements; indices are 32-bit integers")
        with function(symbol) as builder:
            write(self._params())
        return Code(builder.get(), tuple(self.constants))

    def _params(self) -> Names:
        p = self.problem
        x = parameter("X", p.x_shape, p.x_dtype)
        constants = [parameter(f"C{i}", c.shape, str(c.dtype)) for i, c in enumerate(self.constants)]
        scale = parameter("Scale", (p.m,)) if p.epilogue.scale else None
        bias = parameter("Bias", (p.m,)) if p.epilogue.bias else None
        residual = parameter("Residual", p.y_shape, p.residual.dtype) if p.epilogue.residual else None
        y = parameter("Y", p.y_shape, p.output.dtype)
        flats = tuple(_flat(c) for c in constants)
        shift = None if self.shift is None else flats[self.shift]
        x, y = _flat(x), _flat(y)
        rest = None if residual is None else _flat(residual)  # behind X and Y: recorded kernels are known by their code
        return Names(x, y, flats, bias, rest, scale, shift, self.begun, self.maximum, self.rounds)


@dataclass(frozen=True)
class _Loops:
    """Writes the loops of one kernel. channels, limits: the tables of live channels and of shares, where they exist."""

    problem: Problem
    cut: Cut
    names: Names
    tile: Callable[[Names, Tile], None]
    channels: Any
    limits: Any

    def unstaged(self) -> None:
        """All tiles of all batch items are one range."""
        p, tiles = self.problem, self.cut.tiling
        for unit, share in self._tasks(p.batch * tiles.count):
            item, t = (unit // tiles.count, unit % tiles.count) if p.batch > 1 else (0, unit)
            self._direct(self.names.x, item * (p.k * p.n), item, t, share)

    def staged(self) -> None:
        """Batch items one after the other: the tasks share the staged copy."""
        p, view = self.problem, self.cut.operand
        copy = named("staged", T.alloc_buffer((view.staged,), "float32", align=64))
        with loop("item", p.batch) as item:
            stage(p, view, self.names.x, item, copy, self.channels, self.cut.threads)
            start = first_of_copy(p, view, item)
            if view.direct:
                for t, share in self._tasks(self.cut.tiling.count):
                    self._direct(copy, start, item, t, share)
            else:
                for b, share in self._tasks(self.cut.bands):
                    self._band(copy, start, item, b, share)

    def _direct(self, source: Any, base: Any, item: Any, t: Any, share: Any) -> None:
        tiles = self.cut.tiling
        rest = tiles.rest
        if rest is None:
            self._one(source, base, item, tiles, _tile_start(tiles, t), share)
            return
        with T.If(t == tiles.count - 1):
            with T.Then():
                self._one(source, base, item, rest, tiles.last_start, share)
            with T.Else():
                self._one(source, base, item, replace(tiles, pitch=tiles.row, tail=0), t * tiles.width, share)

    def _one(self, source: Any, base: Any, item: Any, tiles: Tiling, start: Any, share: Any) -> None:
        """The tile of that tiling whose first output is start."""
        p, names = self.problem, self.names

        def store(m: Any, v: Any, lane: Any, value: Any) -> None:
            at = first_of_y(p, item) + m * p.pitch + start + vector_start(tiles, v) + lane
            T.buffer_store(names.y, final(p, names, value, m, at), [at])

        def put(m: Any, q: Any, value: Any) -> None:
            at = first_of_y(p, item) + m * p.pitch + start + tiles.width + q
            T.buffer_store(names.y, final(p, names, value, m, at), [at])

        self.tile(names, Tile(tiles, source, base + start, share, self._rows(share), store, heavy(p.epilogue), put))

    def _band(self, copy: Any, first: Any, item: Any, b: Any, share: Any) -> None:
        p, cut, names = self.problem, self.cut, self.names
        scratch = named("scratch", T.alloc_buffer((p.m * cut.stride,), "float32", align=64))
        row = T.min(b * cut.band, cut.operand.height - cut.band) if cut.bands > 1 else 0
        with loop("t", cut.tiling.count) as t:
            start = t * cut.tiling.width

            def store(m: Any, v: Any, lane: Any, value: Any) -> None:
                T.buffer_store(scratch, value, [m * cut.stride + start + v * cut.tiling.lanes + lane])

            base = first + row * cut.operand.row + start
            self.tile(names, Tile(cut.tiling, copy, base, share, self._rows(share), store))
        compact(p, cut, names, scratch, item, row, self._rows(share))

    def _rows(self, share: Any) -> tuple[Any, Any]:
        if self.limits is None:
            return 0, self.problem.m
        return self.limits[share], self.limits[share + 1]

    def _tasks(self, units: int) -> Iterator[tuple[Any, Any]]:
        """The loops over (unit, share of the rows), for use as `for unit, share in ...:`; the body is written once."""
        threads, parts = self.cut.threads, self.cut.parts
        if threads == 1:
            with loop("unit", units) as unit:
                yield unit, 0
        elif parts > 1:
            with parallel("share", parts) as share, loop("unit", units) as unit:
                yield unit, share
        else:
            tasks = min(threads, units)
            with parallel("task", tasks) as i, span("unit", i * units // tasks, (i + 1) * units // tasks) as unit:
                yield unit, 0


def vector_start(tiles: Tiling, v: Any) -> Any:
    """The start of vector v of a tile, from the tile's start."""
    if tiles.last_vector == (tiles.vectors - 1) * tiles.lanes:
        return v * tiles.lanes
    return T.min(v * tiles.lanes, tiles.last_vector)


def _tile_start(tiles: Tiling, t: Any) -> Any:
    if tiles.count == 1:
        return 0
    if tiles.last_start == (tiles.count - 1) * tiles.width:
        return t * tiles.width
    return T.min(t * tiles.width, tiles.last_start)


def _flat(buffer: Any) -> Any:
    return named(f"{buffer.name}_flat", flat(buffer))
