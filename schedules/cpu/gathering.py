"""The ways in which a core gathers four bytes for each lane from a window of X, and multiplies them by their weights.

Where any byte of a register may be taken, a window is 64 bytes, and what is gathered one instruction:
    seen = X[base ... base + 63];              found = permute(seen, place)
Where bytes are permuted within each 16, all parts of the register see the same 16 bytes, or the same 32 in two turns:
    seen = X[base ... base + 15] in each part; found = permute(seen, place)
    low, high = 2 of them;                     found = permute(low, place) or permute(high, place)
A short window fills fewer of the lanes, but may begin at any byte. Where registers are short, some vectors of rows
share a window, which is then read into registers once for all of them:
    seen = 2 or 4 registers;                   for u:  found[u] = table(seen, place[u])
The products are one instruction where the core has a dot product of bytes. Else pairs of them are added up to int16,
which saturates: weights are put into lanes so that no pair of them can, see windows.py. So the sums are exact:
    acc += words(pairs(found, w), 1)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from tesa.schedules.cpu import cost
from tesa.schedules.cpu.arithmetic import Arithmetic
from tesa.schedules.cpu.windows import GROUP
from tesa.schedules.types import Core, Permute, Problem

LINE = 64

_SHARING = 4
"""Vectors of rows that share a window where registers are short."""

_MOST = 20  # columns of a tile
_TABLE = {1: 1.0, 2: 1.0, 4: 3.0}  # vector instructions that a look-up in so many registers is worth


@dataclass(frozen=True)
class Gathering:
    """A way to gather. permute: the instruction; registers: of a window, as it takes them; units: vectors of rows that
    share a window; parts: how often a window of 16 bytes is permuted, 0 where a window is whole registers."""

    core: Core
    permute: Permute
    registers: int
    units: int = 1
    parts: int = 0

    @property
    def window(self) -> int:
        """Bytes of a window."""
        return self.parts * self.permute.part or self.registers * GROUP * self.core.lanes

    @property
    def width(self) -> int:
        """Rows of a slice."""
        return self.units * self.core.lanes

    @property
    def sums(self) -> Arithmetic:
        """The bytes of X as the products take them."""
        return Arithmetic("int32", GROUP, self.core.dot if self._adds else None)

    @property
    def limited(self) -> bool:
        """True where pairs of weights have to be small, see windows.pack()."""
        return not self._adds

    @property
    def reorders(self) -> str:
        """LLVM's name of the permutation by which 64 rows come back to their order, "" where that is done by bytes."""
        return (self.permute.intrinsic(1) or "") if self.window == GROUP * self.core.lanes == LINE else ""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Columns of a tile that are worth trying: their sums stay in registers."""
        if self.reorders:
            return (_MOST, 14, 8)
        if not self.parts:  # compilers put the permutations of some columns in front of their products
            most = (self.core.registers // 2 - 2 * (self.registers - 2)) // self.units
            return (most, most - 1)
        held = 3 + (0 if self._adds else 1) + (3 if self.parts > 1 else 0)
        most = min(self.core.registers - held, _MOST)
        return (most, most * 2 // 3)

    @property
    def _adds(self) -> bool:
        return self.core.dot is not None and self.core.dot.adds

    @property
    def _size(self) -> int:
        return GROUP * self.core.lanes

    def places(self, value: Any) -> tuple[Any, ...]:
        """The places of a unit's step, a vector of bytes, as found() takes them."""
        if self.parts < 2:
            return (value,)
        part = self.permute.part
        if self.core.masks:  # what lies in the upper part comes by a permutation of some lanes only
            return (value, T.Bind(tirx.reinterpret(f"uint8x{self._size}", value)))
        # the top bit of a place gives 0
        low = value + tirx.Broadcast(tirx.IntImm("int8", 128 - part), self._size)
        return T.Bind(low), T.Bind(value - tirx.Broadcast(tirx.IntImm("int8", part), self._size))

    def seen(self, source: Any, start: Any) -> list[Any]:
        """The window of a column that begins at an element, in registers."""
        if not self.parts:
            size = self._size
            return [_bytes(source[T.ramp(start + i * size, 1, size)], size) for i in range(self.registers)]
        part, found = self.permute.part, []
        for i in range(self.parts):
            value = _bytes(source[T.ramp(start + i * part, 1, part)], part)
            copies = [value] * (self._size // part)
            found.append(T.Shuffle(copies, list(range(self._size))) if len(copies) > 1 else value)
        return found

    def found(self, seen: Sequence[Any], places: tuple[Any, ...]) -> Any:
        """The bytes that a unit's weights meet."""
        if not self.parts:
            at = self.permute.place if self.permute.place is not None else len(seen)
            return self._permuted(*seen[:at], places[0], *seen[at:])
        if self.parts == 1:
            return self._permuted(seen[0], places[0])
        if self.core.masks:
            low, high = (self._permuted(value, places[0]) for value in seen)
            upper = places[1] >= tirx.Broadcast(tirx.IntImm("uint8", self.permute.part), self._size)
            return tirx.Select(upper, high, low)
        low, high = (self._permuted(*pair) for pair in zip(seen, places, strict=True))
        return low | high

    def plus(self, acc: Any, found: Any, w: Any) -> Any:
        """A vector of sums and the products of bytes and weights."""
        dot, lanes = self.core.dot, self.core.lanes
        assert dot is not None  # see gatherings
        kind, name = f"int32x{lanes}", dot.intrinsic(lanes)
        if self._adds:
            return tirx.call_llvm_pure_intrin(kind, name, acc, found, w)
        words = tirx.call_llvm_pure_intrin(f"int16x{2 * lanes}", self.core.byte_pairs, found, w)
        one = tirx.Broadcast(tirx.IntImm("int16", 1), 2 * lanes)
        return acc + tirx.call_llvm_pure_intrin(kind, name, words, one)

    def cycles(self, problem: Problem, columns: int) -> float:
        """The cycles of a step of all its units with so many columns."""
        core, rates = self.core, self.core.rates
        read = 2 * GROUP * self.width / cost.weight_rate(problem, core)
        if self.reorders:
            return cost.together(columns / rates.permutes, read) + 2.0
        if core.steps > 1:  # bound by instructions of any kind, and by the units of vectors
            each = self.units * (_TABLE[self.registers] + 1.0) / rates.fmas
            counted = (columns * (2.0 * self.units + self.registers / 2) + 2.0 * self.units + 6.0) / rates.issue
            waits = columns * self.registers / rates.loads if core.in_order else 0.0
            return cost.together(columns * each, counted, read) + 0.25 * waits
        gathered = self.parts if self.parts < 2 or core.masks else self.parts + 1
        products = 1 if self._adds else 3
        # a product that does not add is two instructions, of which rates.fmas are the pairs
        each = (gathered + products) / rates.fmas / (1 if self._adds else 2)
        if core.masks:  # one of two units permutes registers of 64 bytes; measured, with what does not overlap
            each = max(each, float(self.parts)) * 1.12
        return cost.together(columns * each, columns * self.parts / rates.loads, read) + 2.0

    def _permuted(self, *arguments: Any) -> Any:
        name = self.permute.intrinsic(1 if self.parts else self.registers)
        return T.Bind(tirx.call_llvm_pure_intrin(f"int8x{self._size}", name, *arguments))


def gatherings(core: Core, m: int = 256) -> tuple[Gathering, ...]:
    """The ways of a core to gather for m rows, the widest window first; none where it has no such instructions.

    >>> from tesa.targets.target import parse_target
    >>> [(way.window, way.width) for way in gatherings(parse_target("x86:haswell").core)]
    [(32, 8), (16, 8)]
    """
    dot = core.dot
    if dot is None or dot.intrinsic(core.lanes) is None or not ((dot.adds and dot.group == GROUP) or core.byte_pairs):
        return ()
    whole, parts = core.permute_bytes, core.permute_parts
    if whole is not None and GROUP * core.lanes == LINE and whole.intrinsic(1) and dot.adds:
        return (Gathering(core, whole, 1),)
    if parts is not None:
        return tuple(Gathering(core, parts, 1, parts=count) for count in (2, 1))
    if core.permute is None or not core.permute.in_bytes or not dot.adds:
        return ()
    counts = [count for count, _ in core.permute.intrinsics if count > 1]
    units = min(_SHARING, -(-m // core.lanes))
    return tuple(Gathering(core, core.permute, count, units) for count in sorted(counts, reverse=True))


def gathering(core: Core, window: int, m: int = 256) -> Gathering:
    """The way whose window has so many bytes, 0 for the only one. ValueError where there is none."""
    found = [way for way in gatherings(core, m) if window in (0, way.window)]
    if not found:
        raise ValueError(f"core {core.name} gathers no bytes from windows of {window}")
    return found[0]


def _bytes(value: Any, size: int) -> Any:
    return T.Bind(tirx.reinterpret(f"int8x{size}", value))
