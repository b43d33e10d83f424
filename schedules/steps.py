"""The steps of a program: what a straight-line kernel does with a tile, on whole vectors.

Sums a0, a1, ... and vectors x0, x1, ... of X stay in registers, and so does one weight w; arrays are reached by
pointers. No x is used once results begin, and a bias in w serves all vectors of a row: their registers are free for
what a writer needs.
"""

from dataclasses import dataclass
from typing import ClassVar, get_args


class TextStep:
    """A step, as text: a format of its fields."""

    __slots__ = ()
    text: ClassVar[str]

    def __str__(self) -> str:
        return self.text.format(self)


@dataclass(frozen=True, slots=True)
class LoadX(TextStep):
    """x[vector] = elements of X from `at` on, counted from the tile's start."""

    vector: int
    at: int
    text = "x{0.vector} = X[{0.at}]"


@dataclass(frozen=True, slots=True)
class LoadSource(TextStep):
    """x[vector] = elements of the array that tiles are packed from, from `at` on, counted from the tile's start."""

    vector: int
    at: int
    text = "x{0.vector} = source[{0.at}]"


@dataclass(frozen=True, slots=True)
class Pack(TextStep):
    """Elements of the packed tile X from `at` on = x[vector]."""

    vector: int
    at: int
    text = "X[{0.at}] = x{0.vector}"


@dataclass(frozen=True, slots=True)
class Weight(TextStep):
    """w = a number in all lanes."""

    value: float
    text = "w = {0.value}"


@dataclass(frozen=True, slots=True)
class Multiply(TextStep):
    """a[sum] = w * x[vector]."""

    sum: int
    vector: int
    text = "a{0.sum} = w * x{0.vector}"


@dataclass(frozen=True, slots=True)
class MultiplyAdd(TextStep):
    """a[sum] += w * x[vector]."""

    sum: int
    vector: int
    text = "a{0.sum} += w * x{0.vector}"


@dataclass(frozen=True, slots=True)
class Zero(TextStep):
    """a[sum] = 0."""

    sum: int
    text = "a{0.sum} = 0"


@dataclass(frozen=True, slots=True)
class LoadSum(TextStep):
    """a[sum] = elements of the scratch from `at` on, counted from the tile's part of it."""

    sum: int
    at: int
    text = "a{0.sum} = scratch[{0.at}]"


@dataclass(frozen=True, slots=True)
class StoreSum(TextStep):
    """The opposite of LoadSum."""

    sum: int
    at: int
    text = "scratch[{0.at}] = a{0.sum}"


@dataclass(frozen=True, slots=True)
class Bias(TextStep):
    """w = bias[row] in all lanes."""

    row: int
    text = "w = bias[{0.row}]"


@dataclass(frozen=True, slots=True)
class AddBias(TextStep):
    """a[sum] += w."""

    sum: int
    text = "a{0.sum} += w"


@dataclass(frozen=True, slots=True)
class AddResidual(TextStep):
    """a[sum] += elements of the residual from `at` on, counted as those of Y."""

    sum: int
    at: int
    text = "a{0.sum} += residual[{0.at}]"


@dataclass(frozen=True, slots=True)
class Activate(TextStep):
    """a[sum] = name(a[sum]), one of cpu/activations.py's INLINE."""

    sum: int
    name: str
    text = "a{0.sum} = {0.name}(a{0.sum})"


@dataclass(frozen=True, slots=True)
class Store(TextStep):
    """Elements of Y from `at` on, counted from the tile's start, = a[sum]."""

    sum: int
    at: int
    text = "Y[{0.at}] = a{0.sum}"


SumStep = LoadX | LoadSource | Pack | Weight | Multiply | MultiplyAdd | Zero | LoadSum
ResultStep = Bias | AddBias | AddResidual | Activate | Store | StoreSum
STEPS = (*get_args(SumStep), *get_args(ResultStep))
"""The kinds of steps, each of which a writer has to spell."""
