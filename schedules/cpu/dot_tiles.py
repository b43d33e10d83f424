"""The ways of bytes into tiles of groups and back: X is regrouped before panels of int8 run, Y is put in order after.

A tile of X is (groups, positions) of int32, each the four bytes of neighbouring k of a position. Where features are
last, such a group lies in X as it is, and 16 x 16 of them are turned in registers at a time (turn.py); else four rows
of X are interleaved. A tile of codes is (rows / 4, positions) of int32, each the codes of four rows; where features are
first, its rows of four times as many bytes are instead (4, positions) of bytes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from tesa.schedules.cpu.epilogue import Names, final
from tesa.schedules.cpu.loops import lanes, loop, named, serial
from tesa.schedules.cpu.narrow import prefetch
from tesa.schedules.cpu.places import Places
from tesa.schedules.cpu.requantize import Codes
from tesa.schedules.cpu.turn import turned
from tesa.schedules.dots import GROUP, DotFrame
from tesa.schedules.tiles import Tiles
from tesa.schedules.types import Problem


@dataclass(frozen=True)
class Chunk:
    """The tiles low ... high of a batch item, which are made at a time."""

    item: Any
    low: Any
    high: Any


@dataclass(frozen=True)
class Place:
    """The place of a tile: of a batch item, its number in the chunk of tiles, and its first position."""

    item: Any
    number: Any
    start: Any


@dataclass(frozen=True)
class DotTiles:
    """Writes both ways for one kernel.

    view: where X lies that has its features last; source: X, or the copy of an item that the view asks for; made: what
    makes codes of sums that have their features last, or of the codes that panels store where those are rounded on the
    way, None where panels store Y's, or sums become something else; ahead: lines of Y are asked for before they are
    written.
    """

    problem: Problem
    frame: DotFrame
    tiles: Tiles
    names: Names
    view: Places | None
    source: Any
    made: Codes | None = None
    ahead: bool = False

    def _places(self, chunk: Chunk) -> Iterator[Place]:
        """The loop over the tiles of a chunk; its body is written once."""
        with serial("t", chunk.high - chunk.low) as number:
            start, _ = self.tiles.start(chunk.low + number)
            yield Place(chunk.item, number, T.Bind(start) if not isinstance(start, int) else start)

    def _vectors(self, chunk: Chunk) -> Iterator[tuple[Place, int, int]]:
        """(place, vector, its first position from the tile's) of all vectors of a chunk."""
        for place in self._places(chunk):
            for v, at in enumerate(self.tiles.reads):
                yield place, v, at

    # X -> tiles

    def pack(self, chunk: Chunk, packed: Any) -> None:
        """Regroup what the tiles of a chunk need of X."""
        if self.view is not None:
            for place in self._places(chunk):
                for v, at in enumerate(self.tiles.reads):
                    self._ask(place, at, 0)
                    self._pack_turned(self.view, place, packed, v, at)
            return
        whole = self.problem.k // GROUP if self.tiles.lanes == self.frame.lanes else 0
        if whole:
            self._pack_interleaved(chunk, packed, whole)
        if whole < self.frame.groups:
            for place in self._places(chunk):
                self._pack_single(place, packed, whole)

    def _pack_turned(self, view: Places, place: Place, packed: Any, v: int, at: int) -> None:
        """A vector of positions, run by run of their k."""
        f = self.frame
        base = 0 if view.copied else place.item * view.item
        starts = [T.Bind(base + view.place(self._position(place, at + c))) for c in range(f.lanes)]
        whole, rest = divmod(view.run, GROUP)
        groups, size = whole + (rest > 0), _block(whole, f.lanes)
        to = place.number * f.packed + v * f.lanes
        with loop("row", view.rows) as row, loop("tap", view.taps) as tap:
            offset, first = row * view.down + tap * view.across, (row * view.taps + tap) * groups
            if size:
                with loop("block", -(-whole // size)) as block:
                    g = T.min(block * size, whole - size) if whole % size else block * size
                    bytes_ = [
                        _wide(self.source[T.ramp(start + offset + GROUP * g, 1, GROUP * size)], size, f.lanes)
                        for start in starts
                    ]
                    for i, vector in enumerate(turned(bytes_)[:size]):
                        T.buffer_store(packed, vector, [T.ramp(to + (first + g + i) * f.width, 1, f.lanes)])
            for g in range(whole if size else 0, groups):
                byte = view.run - GROUP if g == whole and whole else GROUP * g  # see places.grouped
                for c, start in enumerate(starts):
                    word = tirx.reinterpret("int32", self.source[T.ramp(start + offset + byte, 1, GROUP)])
                    T.buffer_store(packed, word, [to + (first + g) * f.width + c])

    def _pack_interleaved(self, chunk: Chunk, packed: Any, whole: int) -> None:
        """Group by group: a line of X is read once for all tiles."""
        p, f = self.problem, self.frame
        with serial("g", whole) as g:
            for place, v, at in self._vectors(chunk):
                start = place.item * (p.n * p.k) + place.start + at
                rows = [self.source[T.ramp(start + (GROUP * g + j) * p.n, 1, f.lanes)] for j in range(GROUP)]
                to = place.number * f.packed + g * f.width + v * f.lanes
                T.buffer_store(packed, _groups(rows, f.lanes), [T.ramp(to, 1, f.lanes)])

    def _pack_single(self, place: Place, packed: Any, first: int) -> None:
        """Byte by byte, from group `first` on. What there is no more of is read twice: it meets zeros of W."""
        p, f = self.problem, self.frame
        with serial("g", f.groups - first) as i:
            for v, at in enumerate(self.tiles.reads):
                with lanes(f.lanes) as lane:
                    value, position = None, self._position(place, at + lane)
                    for j in range(GROUP):
                        k = T.min((first + i) * GROUP + j, p.k - 1)
                        byte = tirx.Cast("int32", self.source[place.item * (p.n * p.k) + k * p.n + position])
                        value = byte if value is None else value | (byte << (8 * j))
                    to = place.number * f.packed + (first + i) * f.width + v * f.lanes + lane
                    T.buffer_store(packed, value, [to])

    def _position(self, place: Place, at: Any) -> Any:
        position = place.start + at
        return position if self.tiles.lanes == self.frame.lanes else T.min(position, self.problem.n - 1)

    def _blocks(self, count: int, size: int, origin: int = 0) -> Iterator[tuple[Any, int, int]]:
        """(first, vector, its first position) of blocks of so many rows of a tile; the last one may begin earlier."""
        with loop("block", -(-count // size)) as block:
            first = T.min(block * size, count - size) if count % size else block * size
            for v, at in enumerate(self.tiles.reads):
                yield origin + first, v, at

    # tiles -> Y

    def deliver(self, chunk: Chunk, source: Any, rows: tuple[int, int]) -> None:
        """Store the rows low ... high of a chunk's codes, or sums, from the array where panels leave them."""
        if not self.problem.features_last:
            (self._codes if self.frame.codes else self._sums)(chunk, source, rows)
            return
        for place in self._places(chunk):
            (self._codes_turned if self.frame.codes else self._sums_turned)(place, source, rows)

    def _at(self, place: Place, position: Any, row: Any) -> Any:
        p = self.problem
        inside = position * p.m + row if p.features_last else row * p.n + position
        return place.item * (p.m * p.n) + inside

    def _code(self, value: Any, byte: Any) -> Any:
        return tirx.Cast(self._dtype, value >> (8 * byte))

    @property
    def _dtype(self) -> str:
        """Of the codes that panels store."""
        assert self.frame.codes is not None  # see deliver
        return self.frame.codes.dtype

    def _codes(self, chunk: Chunk, source: Any, rows: tuple[int, int]) -> None:
        """Row by row: a line of Y is written once for all tiles."""
        low, high = rows
        end = high // GROUP * GROUP
        with serial("quad", (end - low) // GROUP) as quad:
            self._quad(chunk, source, low + quad * GROUP, GROUP)
        if end < high:
            self._quad(chunk, source, end, high - end)

    def _quad(self, chunk: Chunk, source: Any, row: Any, count: int) -> None:
        """The codes of `count` rows, all of a vector's next to each other."""
        f, kind, size = self.frame, self.problem.output.dtype, self.tiles.lanes
        for place, v, at in self._vectors(chunk):
            start = place.number * f.out + row // GROUP * f.width + v * f.lanes
            every = tirx.reinterpret(f"{kind}x{GROUP * f.lanes}", source[T.ramp(start, 1, f.lanes)])
            every = T.Bind(every)
            for j in range(count):
                part = T.Shuffle([every], list(range(j * f.lanes, j * f.lanes + size)))
                to = self._at(place, place.start + at, row + j)
                T.buffer_store(self.names.y, part, [T.ramp(to, 1, size) if size > 1 else to])

    def _codes_turned(self, place: Place, source: Any, rows: tuple[int, int]) -> None:
        f, (low, high) = self.frame, rows
        first, end = low // GROUP, high // GROUP  # of the rows of codes that are whole
        size = _block(end - first, f.lanes)
        if size:
            for row, v, at in self._blocks(end - first, size, first):
                start = place.number * f.out + row * f.width + v * f.lanes
                self._ask(place, at, GROUP * (row + size))
                for c, vector in self._turned(source, start, size):
                    codes = tirx.reinterpret(f"{self._dtype}x{GROUP * size}", vector)
                    self._store(codes, GROUP * size, self._at(place, place.start + at + c, GROUP * row), GROUP * row)
        done = GROUP * end if size else low
        if done == high:
            return
        with serial("row", high - done) as i, serial("c", self.tiles.lanes) as c:
            row = done + i
            for v, at in enumerate(self.tiles.reads):
                value = source[place.number * f.out + row // GROUP * f.width + v * f.lanes + c]
                to = self._at(place, place.start + at + c, row)
                self._store(self._code(value, row % GROUP), 1, to, row)

    def _store(self, codes: Any, count: int, to: Any, row: Any) -> None:
        """Codes that panels made, of rows from `row` on, to Y from `to` on; first the rest of the epilogue, if any."""
        if self.made is None:
            T.buffer_store(self.names.y, codes, [T.ramp(to, 1, count) if count > 1 else to])
            return
        codes, width = T.Bind(codes), min(count, self.frame.lanes)
        for first in range(0, count, width):
            part = T.Shuffle([codes], list(range(first, first + width))) if count > width else codes
            here = T.ramp(to + first, 1, width) if width > 1 else to
            rest = None if self.names.residual is None else self.names.residual[here]
            T.buffer_store(self.names.y, self.made.onward(part, row + first, rest), [here])

    def _ask(self, place: Place, at: int, row: Any) -> None:
        """Ask for where codes from a row on will be written, some time before: lines of Y lie in a far cache."""
        if self.view is not None and self.ahead:
            for c in range(self.tiles.lanes):
                prefetch(self.names.y, self._at(place, place.start + at + c, row), write=True)

    def _turned(self, source: Any, start: Any, size: int) -> list[tuple[int, Any]]:
        """(c, the elements of column c) of `size` rows of a tile that begin at `start`."""
        f = self.frame
        zero = tirx.Broadcast(T.int32(0), f.lanes)
        vectors = [source[T.ramp(start + i * f.width, 1, f.lanes)] for i in range(size)]
        columns = turned([*vectors, *[zero] * (f.lanes - size)])[: self.tiles.lanes]
        return [(c, v if size == f.lanes else T.Shuffle([v], list(range(size)))) for c, v in enumerate(columns)]

    def _sums(self, chunk: Chunk, source: Any, rows: tuple[int, int]) -> None:
        f, (low, high) = self.frame, rows
        with serial("row", high - low) as i:
            row = low + i
            for place, v, at in self._vectors(chunk):
                with lanes(self.tiles.lanes) as lane:
                    value = source[place.number * f.scratch + row * f.width + v * f.lanes + lane]
                    to = self._at(place, place.start + at + lane, row)
                    T.buffer_store(self.names.y, final(self.problem, self.names, value, row, to), [to])

    def _sums_turned(self, place: Place, source: Any, rows: tuple[int, int]) -> None:
        f, (low, high) = self.frame, rows
        size = _block(high - low, f.lanes) or 1
        sums = named("sums", T.alloc_buffer((f.lanes, size), "int32", scope="local", align=64))
        for row, v, at in self._blocks(high - low, size, low):
            start = place.number * f.scratch + row * f.width + v * f.lanes
            self._ask(place, at, row + size)
            if size > 1:
                for c, vector in self._turned(source, start, size):
                    if self.made is not None and size == f.lanes:
                        to = T.ramp(self._at(place, place.start + at + c, row), 1, size)
                        rest = None if self.names.residual is None else self.names.residual[to]
                        T.buffer_store(self.names.y, self.made.vector(vector, row, rest), [to])
                    else:
                        T.buffer_store(sums, vector, [c, T.ramp(0, 1, size)])
                if self.made is not None and size == f.lanes:
                    continue
            with serial("c", self.tiles.lanes) as c, lanes(size) as lane:
                to = self._at(place, place.start + at + c, row + lane)
                value = sums[c, lane] if size > 1 else source[start + c]
                T.buffer_store(self.names.y, final(self.problem, self.names, value, row + lane, to), [to])


def _block(count: int, most: int) -> int:
    """The largest power of two up to count and most; 0 for less than two."""
    size = 1 << min(count, most).bit_length() - 1 if count > 0 else 0
    return size if size > 1 else 0


def _groups(rows: list[Any], count: int) -> Any:
    """The groups of `count` columns of four rows of bytes: words of four columns next to each other, then turned."""
    words, size = count // GROUP, GROUP * count
    parts = [tirx.reinterpret(f"int32x{words}", row) for row in rows]
    mixed = T.Shuffle(parts, [r * words + i for i in range(words) for r in range(GROUP)])
    order = [i // 16 * 16 + i % GROUP * GROUP + i % 16 // GROUP for i in range(size)]
    codes = T.Shuffle([tirx.reinterpret(f"uint8x{size}", mixed)], order)
    return tirx.reinterpret(f"int32x{count}", codes)


def _wide(vector: Any, size: int, width: int) -> Any:
    """Bytes as `size` int32, in a vector of more lanes, in which the others may be anything."""
    found = tirx.reinterpret(f"int32x{size}", vector)
    return found if size == width else T.Shuffle([found] * (width // size), list(range(width)))
