"""The activations, each written once in terms of a few operations that scalar code and code on vectors spell apart.

gelu is the exact x (1 + erf(x / sqrt 2)) / 2, gelu_tanh x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, silu is
x sigmoid(x), hardswish is x relu6(x + 3) / 6. Not-a-number goes in and comes out.
"""

from collections.abc import Callable
from typing import Any, Protocol

from tvm import tirx

from tesa.schedules.cpu import math
from tesa.schedules.types import ACTIVATIONS

INLINE = (None, "relu", "relu6", "hardswish")
"""Activations of a few instructions; the others are tens, too many to write out for each accumulator of a tile."""


class Operations(Protocol):
    """The operations that an activation is made of, as some code spells them."""

    def name(self, value: Any) -> Any:
        """A name for a value that is used more than once."""

    def constant(self, value: float) -> Any:
        """A number, in all lanes."""

    def clamp(self, value: Any, low: float, high: float | None) -> Any:
        """The value limited to low ... high; without high only from below."""


class Scalar:
    """One float32 number, in expressions that a loop of kind "vectorized" turns into vectors. maximum: see Core."""

    def __init__(self, maximum: bool = False) -> None:
        self._steps, self._maximum = math.Steps(), maximum

    def name(self, value: Any) -> Any:
        return self._steps(value)

    def constant(self, value: float) -> Any:
        return math.f32(value)

    def clamp(self, value: Any, low: float, high: float | None) -> Any:
        if self._maximum:
            value = tirx.call_llvm_pure_intrin("float32", "llvm.maximum", value, math.f32(low))
            return (
                value if high is None else tirx.call_llvm_pure_intrin("float32", "llvm.minimum", value, math.f32(high))
            )
        return tirx.Max(math.f32(low), value) if high is None else math.clamp(value, low, high)

    def result(self, value: Any) -> Any:
        """The value with all the names in front of it."""
        return self._steps.result(value)


def activate(name: str | None, value: Any, maximum: bool = False, short: bool = False) -> Any:
    """An activation of types.ACTIVATIONS, or none, of one number. Raises ValueError for another one.

    maximum: see Core; short: by fewer instructions, where code that is measured already need not stay as it is.
    """
    scalar = Scalar(maximum)
    if short and name == "gelu":
        value = scalar.name(value)
        return scalar.result(value * math.normal_share(value))
    return scalar.result(apply(scalar, name, value))


def apply(operations: Operations, name: str | None, x: Any) -> Any:
    """An activation of types.ACTIVATIONS, or none, in these operations. Raises ValueError for another one."""
    if name is None:
        return x
    if name not in _FUNCTIONS:
        raise ValueError(f"no activation {name!r}; there are {', '.join(ACTIVATIONS)}")
    return _FUNCTIONS[name](operations, x)


def _hardswish(ops: Operations, x: Any) -> Any:
    x = ops.name(x)
    return x * ops.clamp(x + ops.constant(3.0), 0.0, 6.0) * ops.constant(1 / 6)


def _gelu(ops: Operations, x: Any) -> Any:
    x = ops.name(x)
    return x * ops.constant(0.5) * (ops.constant(1.0) + math.erf(x * ops.constant(0.7071067811865476)))


def _gelu_tanh(ops: Operations, x: Any) -> Any:
    x = ops.name(x)
    inner = x * (ops.constant(0.7978845608028654) + ops.constant(0.035677408136300125) * (x * x))
    return x * ops.constant(0.5) * (ops.constant(1.0) + math.tanh(inner))


def _silu(ops: Operations, x: Any) -> Any:
    x = ops.name(x)
    return x * math.sigmoid(x)


_FUNCTIONS: dict[str, Callable[[Operations, Any], Any]] = {
    "relu": lambda ops, x: ops.clamp(x, 0.0, None),
    "relu6": lambda ops, x: ops.clamp(x, 0.0, 6.0),
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "silu": _silu,
    "sigmoid": lambda _ops, x: math.sigmoid(x),
    "tanh": lambda _ops, x: math.tanh(x),
    "hardswish": _hardswish,
}
