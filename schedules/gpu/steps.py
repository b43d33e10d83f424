"""The steps of a panel's program on a GPU: what each thread does for its columns of Y, one after the other.

Sums a0, a1, ... and elements x0, x1, ... of X are registers of a thread. A thread has one column or, where sums are
pairs of 16 bits, two: then x and a are pairs, and what follows the sums is done for values v: two of each sum.
"""

from dataclasses import dataclass
from typing import ClassVar, get_args

Tap = tuple[int, int] | None
"""A row and a column of a convolution's window that may lie beyond the border; None for inside."""


class TextStep:
    """A step, as text: a format of its fields."""

    __slots__ = ()
    text: ClassVar[str]

    def __str__(self) -> str:
        return self.text.format(self)


@dataclass(frozen=True, slots=True)
class Load(TextStep):
    """x[slot] = the element of X that lies `at` behind where the thread's column begins, 0 beyond the border."""

    slot: int
    at: int
    tap: Tap = None
    text = "x{0.slot} = X[{0.at}]"


@dataclass(frozen=True, slots=True)
class Copy(TextStep):
    """stage[row], of the thread's own column = the same, without waiting for it."""

    row: int
    at: int
    tap: Tap = None
    text = "stage[{0.row}] <- X[{0.at}]"


@dataclass(frozen=True, slots=True)
class CopyRows(TextStep):
    """stage[row ...] = so many rows of X from `first` on, for all columns of the threads that share the stage.

    Each thread copies 16 bytes at a time of some of them, without waiting for it.
    """

    row: int
    first: int
    count: int
    text = "stage[{0.row}:+{0.count}] <- rows {0.first}:+{0.count} of X"


@dataclass(frozen=True, slots=True)
class Commit(TextStep):
    """The copies since the last one are a group."""

    text = "commit"


@dataclass(frozen=True, slots=True)
class Arrive(TextStep):
    """Wait until all but `pending` groups of copies of this thread have come."""

    pending: int
    text = "wait for all groups but {0.pending}"


@dataclass(frozen=True, slots=True)
class Together(TextStep):
    """Wait for the threads that share the stage."""

    text = "together"


@dataclass(frozen=True, slots=True)
class Read(TextStep):
    """x[slot] = stage[row], of the thread's own column."""

    slot: int
    row: int
    text = "x{0.slot} = stage[{0.row}]"


@dataclass(frozen=True, slots=True)
class Multiply(TextStep):
    """a[sum] = weight * x[slot]."""

    sum: int
    slot: int
    weight: float
    text = "a{0.sum} = {0.weight} * x{0.slot}"


@dataclass(frozen=True, slots=True)
class MultiplyAdd(TextStep):
    """a[sum] += weight * x[slot]."""

    sum: int
    slot: int
    weight: float
    text = "a{0.sum} += {0.weight} * x{0.slot}"


@dataclass(frozen=True, slots=True)
class Zero(TextStep):
    """a[sum] = 0."""

    sum: int
    text = "a{0.sum} = 0"


@dataclass(frozen=True, slots=True)
class Widen(TextStep):
    """The values of a sum: itself, or both halves of a pair as float32."""

    sum: int
    text = "values of a{0.sum}"


@dataclass(frozen=True, slots=True)
class Give(TextStep):
    """exchange[place], of the thread's own column = the values of a sum."""

    sum: int
    place: int
    text = "exchange[{0.place}] = a{0.sum}"


@dataclass(frozen=True, slots=True)
class Meet(TextStep):
    """Wait for all threads of the block."""

    text = "meet"


@dataclass(frozen=True, slots=True)
class Take(TextStep):
    """The values of a sum += exchange[place]."""

    sum: int
    place: int
    text = "a{0.sum} += exchange[{0.place}]"


@dataclass(frozen=True, slots=True)
class Bias(TextStep):
    """The values of a sum += bias[row]."""

    sum: int
    row: int
    text = "a{0.sum} += bias[{0.row}]"


@dataclass(frozen=True, slots=True)
class Residual(TextStep):
    """The values of a sum += the residual's row."""

    sum: int
    row: int
    text = "a{0.sum} += residual[{0.row}]"


@dataclass(frozen=True, slots=True)
class Activate(TextStep):
    """The values of a sum = name(them), one of activations.py."""

    sum: int
    name: str
    text = "a{0.sum} = {0.name}(a{0.sum})"


@dataclass(frozen=True, slots=True)
class Store(TextStep):
    """Row `row` of Y = the values of a sum."""

    sum: int
    row: int
    text = "Y[{0.row}] = a{0.sum}"


Step = (
    Load | Copy | CopyRows | Commit | Arrive | Together | Read | Multiply | MultiplyAdd | Zero | Widen | Give | Meet
    | Take | Bias | Residual | Activate | Store
)  # fmt: skip
STEPS = get_args(Step)
"""The kinds of steps, each of which a writer spells or refuses."""
