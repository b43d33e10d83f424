"""The inputs of the examples: at run time reals, integers, truth values and indices; constants with zeros."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import relax


@dataclass(frozen=True, eq=False)
class Input:
    """content: of a constant. low, high: what a value at run time may be; index: it chooses elements."""

    shape: tuple[int, ...]
    dtype: str
    content: Any = None
    low: float = -3.0
    high: float = 3.0
    index: bool = False
    narrow: bool = False

    @property
    def type(self) -> Any:
        """The type of a Relax variable for it."""
        return relax.TensorType(self.shape, self.dtype)

    def random(self, rng: np.random.Generator) -> Any:
        """Values at run time; reals that need no narrow range are now and then much larger."""
        if self.dtype == "bool":
            return rng.random(self.shape) < 0.5
        if self.dtype.startswith("float"):
            factor = 1.0 if self.narrow else rng.choice([1.0, 1.0, 20.0])
            return (factor * rng.uniform(self.low, self.high, self.shape)).astype(self.dtype)
        return rng.integers(int(self.low), int(self.high) + 1, self.shape).astype(self.dtype)


def real(*shape: int, low: float = -3.0, high: float = 3.0) -> Input:
    """Reals at run time. With bounds of its own the range is kept."""
    return Input(shape, "float32", low=low, high=high, narrow=(low, high) != (-3.0, 3.0))


def ints(*shape: int, low: int = -4, high: int = 4, dtype: str = "int32") -> Input:
    """Integers at run time. Where none is negative they are divisors or shifts, and the range is kept."""
    return Input(shape, dtype, low=low, high=high, narrow=low >= 0)


def index(size: int, *shape: int, dtype: str = "int64") -> Input:
    """Indices at run time, 0 .. size - 1."""
    return Input(shape, dtype, low=0, high=size - 1, index=True)


def truth(*shape: int) -> Input:
    """Truth values at run time."""
    return Input(shape, "bool")


def fixed(array: Any) -> Input:
    """A constant."""
    content = np.asarray(array)
    return Input(content.shape, str(content.dtype), content)


def pruned(*shape: int) -> Input:
    """A constant of reals, some of them 0, also a whole slice of the first and of the last axis."""
    rng = np.random.default_rng(sum(shape) + len(shape))
    values = rng.normal(size=shape) * (rng.random(shape) < 0.7)
    for axis in {0, len(shape) - 1}:
        if shape[axis] > 1:
            values[(slice(None),) * axis + (shape[axis] // 2,)] = 0
    return fixed(values.astype(np.float32))
