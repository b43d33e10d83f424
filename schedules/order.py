"""An order of a panel's loads and multiply-adds for a core that starts instructions in the order in which they stand.

Before, as the program has it:                 After, with room for two columns and two registers of weights:
    x0 = X[0]     a0 += 1 * x0                     X[0] X[40] weights, and the next ones wherever room is
    x0 = X[40]    a0 += 2 * x0                     a0 += 1 * slot 0
                  a1 += 3 * x0                     a1 += 3 * slot 1      a0 is still busy
                                                   a0 += 2 * slot 1
A column is read as soon as a slot for it is free, long before its first use, and a sum is added to that has rested
longest. Of one sum the multiply-adds keep their order, so that no number changes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tesa.schedules import steps
from tesa.schedules.program import Program

_WINDOW = 8
"""Columns among whose multiply-adds the next one is looked for."""

_REST = 6
"""Multiply-adds after which a sum is as good as one that has rested longer."""


@dataclass(frozen=True)
class Column:
    """A column of a panel: places of its vectors in X, or in what is packed, and (row, weight) of each non-zero.

    packed: places of its vectors in the packed tile, where the panel packs it.
    """

    places: tuple[int, ...]
    weights: tuple[tuple[int, float], ...]
    packed: tuple[int, ...] = ()


@dataclass(frozen=True)
class ReadX:
    """Read columns into slots: one, or two whose only vectors are neighbours in X. columns: (slot, places) of each."""

    columns: tuple[tuple[int, tuple[int, ...]], ...]


@dataclass(frozen=True)
class PackX:
    """Store columns from their slots to the packed tile. columns: (slot, places) of each."""

    columns: tuple[tuple[int, tuple[int, ...]], ...]


@dataclass(frozen=True)
class ReadWeights:
    """Read the weights from `first` on that fill so many registers, in their order of use."""

    first: int
    registers: int


@dataclass(frozen=True)
class Add:
    """To the sums of a row add a weight, by its number in the order of use, times the column in a slot."""

    row: int
    slot: int
    weight: int


Ordered = ReadX | PackX | ReadWeights | Add


@dataclass(frozen=True)
class Means:
    """The means of a machine.

    slots: columns that registers have room for; lanes: of a vector; pairs: one instruction reads two registers. group:
    so many multiply-adds, or a multiple, stand between loads where that can be: a core that starts as many operations
    in a cycle, and a load of two registers with no other one, has no gap then.
    """

    slots: int
    lanes: int
    pairs: bool
    group: int = 1


WEIGHT_REGISTERS = 2


@dataclass
class _Order:
    columns: Sequence[Column]
    means: Means
    steps: list[Ordered] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    # (slot, non-zeros that are left) of the columns that wait in slots
    waiting: list[tuple[int, list[tuple[int, float]]]] = field(default_factory=list)
    following: int = 0
    read: int = 0
    last: int = 0
    unpacked: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.free = list(range(self.means.slots))
        self.total = sum(len(column.weights) for column in self.columns)
        self.turn = [-_REST] * (1 + max((row for column in self.columns for row, _ in column.weights), default=0))

    def run(self) -> None:
        self._fill()
        while self.waiting:
            at, item = self._next()
            slot, left = self.waiting[at]
            left.remove(item)
            self.turn[item[0]] = len(self.values)
            self.steps.append(Add(item[0], slot, len(self.values)))
            self.values.append(item[1])
            if not left:
                del self.waiting[at]
                self.free.append(slot)
            self._fill()
        self._pack()

    def _next(self) -> tuple[int, tuple[int, float]]:
        """The oldest of those whose sums are ready; else the one whose sum will be first."""
        now, best, found = len(self.values), -1, None
        for at, (_, left) in enumerate(self.waiting[:_WINDOW]):
            for item in left:
                rest = now - self.turn[item[0]]
                if rest >= _REST:
                    return at, item
                if rest > best:
                    best, found = rest, (at, item)
        assert found is not None
        return found

    def _fill(self) -> None:
        """Read what there is room for."""
        lanes, registers = self.means.lanes, 2 if self.means.pairs else 1
        while self.read < self.total and self.read + (registers - WEIGHT_REGISTERS) * lanes <= len(self.values):
            self.steps.append(ReadWeights(self.read, registers))
            self.last = len(self.values)
            self.read += registers * lanes
        while self.free and self.following < len(self.columns):
            if self.waiting and (len(self.values) - self.last) % self.means.group:
                return
            count = 2 if self._neighbours() else 1
            if count > len(self.free):
                return
            new = self.columns[self.following : self.following + count]
            self._pack()  # before others take the place of what is to be packed
            self.last = len(self.values)
            slots, self.free = self.free[:count], self.free[count:]
            found = list(zip(slots, new, strict=True))
            self.steps.append(ReadX(tuple((slot, column.places) for slot, column in found)))
            self.unpacked = [(slot, column.packed) for slot, column in found if column.packed]
            self.waiting += [(slot, list(column.weights)) for slot, column in found if column.weights]
            self.free += [slot for slot, column in found if not column.weights]
            self.following += count

    def _pack(self) -> None:
        """Store what was read last: as late as can be, for it has just been read."""
        if self.unpacked:
            self.steps.append(PackX(tuple(self.unpacked)))
            self.unpacked = []

    def _neighbours(self) -> bool:
        """The next two columns can be read, or else packed, at once."""
        two = self.columns[self.following : self.following + 2]
        if self.means.slots < 2 or len(two) < 2:
            return False
        first, second = (column.packed or column.places for column in two)
        together = len(first) == 1 and second == (first[0] + self.means.lanes,)
        return together and (self.means.pairs or bool(two[0].packed))


def order(one: Program, means: Means) -> tuple[list[Ordered], list[float]]:
    """Loads and multiply-adds of a program, and its weights in the order in which they are used."""
    made = _Order(columns(one), means)
    made.run()
    return made.steps, made.values


def columns(one: Program) -> list[Column]:
    """The columns of a program."""
    found: list[tuple[list[int], list[tuple[int, float]], list[int]]] = []
    vectors, weight = one.frame.vectors, 0.0
    for step in one.sums:
        match step:
            case steps.LoadX(vector, at) | steps.LoadSource(vector, at):
                if vector == 0:
                    found.append(([], [], []))
                found[-1][0].append(at)
            case steps.Pack(_, at):
                found[-1][2].append(at)
            case steps.Weight(value):
                weight = value
            case steps.Multiply(a, vector) | steps.MultiplyAdd(a, vector) if vector == 0:
                found[-1][1].append((a // vectors, weight))
    return [Column(tuple(places), tuple(weights), tuple(packed)) for places, weights, packed in found]
