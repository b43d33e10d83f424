"""The statements of a permuted kernel for tokens x features, see permuted_last.py: blocks of rows times tiles."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from tesa.schedules.cpu.epilogue import Names, final, heavy
from tesa.schedules.cpu.gathering import Gathering
from tesa.schedules.cpu.loops import lanes, loop, named, parallel, serial, span, unrolled
from tesa.schedules.cpu.narrow import prefetch
from tesa.schedules.cpu.permuted_order import BLOCK, LINE, Blocks, reorder
from tesa.schedules.cpu.permuted_shared import Shared
from tesa.schedules.cpu.places import Places
from tesa.schedules.cpu.requantize import Codes, codes, makes_codes
from tesa.schedules.types import Core, Problem

_AHEAD = 2048
"""Bytes from the weights that are read to those that are asked for."""


@dataclass(frozen=True)
class Tiles:
    """count tiles of neighbouring columns, one behind the other from column `first` on, in each of `lines` rows of
    columns; offsets: of the columns of a tile, from where its first one lies in X."""

    first: int
    lines: int
    count: int
    offsets: tuple[int, ...]


@dataclass(frozen=True)
class Kernel:
    """Writes the statements of a kernel. own, rows, begun, back: constants.

    own: codes and places, bases and starts, of steps in which each lane has four weights of its own; shared: the sums
    of slices whose rows share their columns. One of them is None.
    begun: what the sums of each lane begin with; rows: of each lane; go, back: see permuted_order.going and returning;
    order: see requantize.low_bytes; None where there is no such thing.
    """

    problem: Problem
    core: Core
    way: Gathering
    view: Places
    blocks: Blocks
    kinds: tuple[Tiles, ...]
    threads: int
    sorted: int
    own: tuple[int, int, int] | None
    shared: Shared | None
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
            slices = -(-p.m // self.way.width)
            count = slices * self.way.width if self.sorted else max(p.m, self.way.width)
            made = codes(p, names, count, rows, self.core, self.order)
        with loop("item", view.items) as item:
            base: Any = item * view.item
            if view.copied:
                view.copy(names, item, source, self.way.sums, p.x_zero, self.threads)
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
        p, width, columns, size = self.problem, self.way.width, len(kind.offsets), self.blocks.size
        start = T.Bind(base + self.view.place(first))
        place = T.Bind(item * (p.m * p.n) + first * p.m)
        self._ask(source, start, kind)
        rows, aside = T.min(p.m - block * size, size), self._aside(names, columns, place, block)
        near = None if self.shared is None else self.shared.buffer(columns)
        if aside is not None:  # the codes of a block are stored all at once
            with serial("q", columns) as q:
                for r in range(self.blocks.registers):
                    prefetch(names.y, place + block * size + q * p.m + r * LINE, write=True)
        with serial("slice", T.truncdiv(rows + (width - 1), width)) as index:
            number = T.Bind(block * (size // width) + index)
            acc = self._sums(names, source, start, kind, number, near)
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

    def _sums(self, names: Names, source: Any, start: Any, kind: Tiles, number: Any, near: Any) -> Any:
        way, columns = self.way, len(kind.offsets)
        if self.shared is not None:
            self.shared.gather(names, near, source, start, kind.offsets, number)
        width = way.width
        acc = named("acc", T.alloc_buffer((columns, width), "int32", scope="local", align=64))
        for lane in self._units():
            value = tirx.Broadcast(T.int32(0), self.core.lanes)
            if self.begun is not None:
                value = T.Bind(names.constants[self.begun][T.ramp(number * width + lane.base, 1, self.core.lanes)])
            with unrolled("q", columns) as q:
                T.buffer_store(acc, value, [q, lane])
        if self.shared is not None:
            self.shared.add(names, near, acc, columns, number)
        elif self.own is not None:
            self._add(names, self.own, source, start, kind, number, acc)
        return acc

    def _add(
        self, names: Names, own: tuple[int, int, int], source: Any, start: Any, kind: Tiles, number: Any, acc: Any
    ) -> None:
        """acc[q] += the products of a slice."""
        way, size = self.way, 4 * self.way.width
        data, bases, starts = (names.constants[index] for index in own)
        with span("step", starts[number], starts[number + 1]) as step:
            at = step * (2 * size)
            for line in range(0, 2 * size, LINE):
                prefetch(data, at + _AHEAD + line)
            each = 4 * self.core.lanes
            w = [T.Bind(data[T.ramp(at + i, 1, each)]) for i in range(0, size, each)]
            where = [way.places(T.Bind(data[T.ramp(at + size + i, 1, each)])) for i in range(0, size, each)]
            window = T.Bind(start + bases[step])
            for q, offset in enumerate(kind.offsets):
                seen = way.seen(source, window + offset)
                for lane, weights, at_ in zip(self._units(), w, where, strict=True):
                    T.buffer_store(acc, way.plus(acc[q, lane], way.found(seen, at_), weights), [q, lane])

    def _units(self) -> list[Any]:
        """The lanes of each vector of rows of a slice."""
        lanes_ = self.core.lanes
        return [T.ramp(unit * lanes_, 1, lanes_) for unit in range(self.way.units)]

    def _whole(self, acc: Any, q: Any) -> Any:
        """The sums of a column, all its vectors as one: each is read as it was written, so that it stays a register."""
        parts = [acc[q, lane] for lane in self._units()]
        return parts[0] if len(parts) == 1 else T.Shuffle(parts, list(range(self.way.width)))

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
        p, width, (columns, pitch), (y, place) = self.problem, self.way.width, shape, target
        first, start = T.Bind(row[0] + T.int32(0)), T.Bind(place + row[1])
        if made is not None and p.m >= width:
            for q in range(columns):
                at = T.ramp(start + q * pitch, 1, width)
                residual = names.residual[at] if names.residual is not None else None
                T.buffer_store(y, made.vector(self._whole(acc, q), first, residual), [at])
            return
        sums, many = acc, unrolled
        if heavy(p.epilogue):  # tens of instructions: not to be written out for each column, so through memory
            many = serial
            sums = named("sums", T.alloc_buffer((columns, width), "int32", scope="local", align=64))
            for lane in self._units():
                with unrolled("q", columns) as q:
                    T.buffer_store(sums, acc[q, lane], [q, lane])
        for unit in range(0, min(width, p.m), self.core.lanes):
            with many("q", columns) as q, lanes(min(self.core.lanes, p.m - unit)) as each:
                at = start + q * pitch + unit + each
                T.buffer_store(y, final(p, names, sums[q, unit + each], first + unit + each, at), [at])

    def _sorted(self, names: Names) -> Names:
        """The scale and the bias in the order of the lanes, where the epilogue takes them from there."""
        if not self.sorted or makes_codes(self.problem):
            return names
        rows, found = names.constants[self.rows], []
        count = -(-self.problem.m // self.way.width) * self.way.width
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

            def move(q: Any, at: Any, row: Any) -> None:
                T.buffer_store(rest, names.residual[place + block * size + q * p.m + row], [q * BLOCK + at])

            if self.way.reorders:
                self._reorder(names, self.go, columns, block, rows, read, write)
            else:
                self._by_bytes(names, columns, block, rows, move)
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

        def move(q: Any, at: Any, row: Any) -> None:
            T.buffer_store(names.y, aside[q * BLOCK + at], [place + block * self.blocks.size + q * p.m + row])

        if self.way.reorders:
            self._reorder(names, self.back, columns, block, rows, read, write)
        else:
            self._by_bytes(names, columns, block, rows, move)

    def _by_bytes(
        self, names: Names, columns: int, block: Any, rows: Any, move: Callable[[Any, Any, Any], None]
    ) -> None:
        """move(q, place, row) for all places of a block, of all columns."""
        assert self.back is not None  # there is one where rows are sorted
        with serial("at", rows) as at:
            row = T.Bind(tirx.Cast("int32", names.constants[self.back][block * BLOCK + at]))
            with unrolled("q", columns) as q:
                move(q, at, row)

    def _reorder(
        self, names: Names, table: int | None, columns: int, block: Any, rows: Any, read: Any, write: Any
    ) -> None:
        assert table is not None  # there is one where rows are sorted
        places = names.constants[table]

        def where(chunk: Any) -> Any:
            return places[T.ramp((block * (BLOCK // LINE) + chunk) * LINE, 1, LINE)]

        registers = 1 if self.sorted == LINE else self.blocks.registers
        extent = T.truncdiv(rows + (LINE - 1), LINE), columns, registers
        reorder(self.way.reorders, where, extent, read, write)
