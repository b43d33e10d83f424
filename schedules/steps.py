"""The steps of a program: what a straight-line kernel does with a tile, on whole vectors.

Sums a0, a1, ... and vectors x0, x1, ... of X stay in registers, and so does one weight w; arrays are reached by
pointers. No x is used once results begin, and a bias in w serves all vectors of a row: their registers are free for
what a writer needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args


@dataclass(frozen=True, slots=True)
class LoadX:
    """x[vector] = elements of X from `at` on, counted from the tile's start."""

    vector: int
    at: int

    def __str__(self) -> str:
        return f"x{self.vector} = X[{self.at}]"


@dataclass(frozen=True, slots=True)
class Weight:
    """w = a number in all lanes."""

    value: float

    def __str__(self) -> str:
        return f"w = {self.value}"


@dataclass(frozen=True, slots=True)
class Multiply:
    """a[sum] = w * x[vector]."""

    sum: int
    vector: int

    def __str__(self) -> str:
        return f"a{self.sum} = w * x{self.vector}"


@dataclass(frozen=True, slots=True)
class MultiplyAdd:
    """a[sum] += w * x[vector]."""

    sum: int
    vector: int

    def __str__(self) -> str:
        return f"a{self.sum} += w * x{self.vector}"


@dataclass(frozen=True, slots=True)
class Zero:
    """a[sum] = 0."""

    sum: int

    def __str__(self) -> str:
        return f"a{self.sum} = 0"


@dataclass(frozen=True, slots=True)
class LoadSum:
    """a[sum] = elements of the scratch from `at` on, counted from the tile's part of it."""

    sum: int
    at: int

    def __str__(self) -> str:
        return f"a{self.sum} = scratch[{self.at}]"


@dataclass(frozen=True, slots=True)
class StoreSum:
    """The opposite of LoadSum."""

    sum: int
    at: int

    def __str__(self) -> str:
        return f"scratch[{self.at}] = a{self.sum}"


@dataclass(frozen=True, slots=True)
class Bias:
    """w = bias[row] in all lanes."""

    row: int

    def __str__(self) -> str:
        return f"w = bias[{self.row}]"


@dataclass(frozen=True, slots=True)
class AddBias:
    """a[sum] += w."""

    sum: int

    def __str__(self) -> str:
        return f"a{self.sum} += w"


@dataclass(frozen=True, slots=True)
class AddResidual:
    """a[sum] += elements of the residual from `at` on, counted as those of Y."""

    sum: int
    at: int

    def __str__(self) -> str:
        return f"a{self.sum} += residual[{self.at}]"


@dataclass(frozen=True, slots=True)
class Activate:
    """a[sum] = name(a[sum]), one of cpu/activations.py's INLINE."""

    sum: int
    name: str

    def __str__(self) -> str:
        return f"a{self.sum} = {self.name}(a{self.sum})"


@dataclass(frozen=True, slots=True)
class Store:
    """Elements of Y from `at` on, counted from the tile's start, = a[sum]."""

    sum: int
    at: int

    def __str__(self) -> str:
        return f"Y[{self.at}] = a{self.sum}"


SumStep = LoadX | Weight | Multiply | MultiplyAdd | Zero | LoadSum
ResultStep = Bias | AddBias | AddResidual | Activate | Store | StoreSum
STEPS = (*get_args(SumStep), *get_args(ResultStep))
"""The kinds of steps, each of which a writer has to spell."""
