"""What happens to an accumulator before it is stored, as one expression that vectorizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from tesa.schedules.cpu import math
from tesa.schedules.types import ACTIVATIONS, Epilogue, Output, Problem


@dataclass(frozen=True)
class Names:
    """The arrays of a kernel as flat buffers. constants are in the order of Code.constants."""

    x: Any
    y: Any
    constants: tuple[Any, ...]
    bias: Any = None
    residual: Any = None
    scale: Any = None


def finish(epilogue: Epilogue, value: Any, bias: Any = None, residual: Any = None, scale: Any = None) -> Any:
    """act(value * scale + bias + residual), scalars, float32 but for an int32 value that has a scale.

    scale, bias, residual: where the epilogue has them.
    """
    if epilogue.scale:
        value = tirx.Cast("float32", value) * scale
    if epilogue.bias:
        value = value + bias
    if epilogue.residual:
        value = value + residual
    return activate(epilogue.activation, value)


def final(problem: Problem, names: Names, value: Any, m: Any, at: Any) -> Any:
    """The epilogue of the sum of row m that goes to element `at` of Y."""
    bias = names.bias[m] if names.bias is not None else None
    residual = names.residual[at] if names.residual is not None else None
    scale = names.scale[m] if names.scale is not None else None
    return quantize(problem.output, finish(problem.epilogue, value, bias, residual, scale))


def quantize(output: Output, value: Any) -> Any:
    """A finished element as Y stores it."""
    if not output.quantized:
        return value
    low, high = output.range
    steps = math.Steps()
    value = steps(value * math.f32(1 / output.scale) + math.f32(output.zero))
    code = math.clamp(tirx.nearbyint(value), float(low), float(high))
    return tirx.Cast(output.dtype, tirx.Cast("int32", steps.result(code)))


def heavy(epilogue: Epilogue) -> bool:
    """True where the activation is tens of instructions, too many to write out for each accumulator of a tile."""
    return epilogue.activation in ("gelu", "silu", "sigmoid", "tanh")


def activate(name: str | None, value: Any) -> Any:
    """An activation of types.ACTIVATIONS, or none. Not-a-number stays what it is.

    gelu is the exact x (1 + erf(x / sqrt 2)) / 2, silu is x sigmoid(x), hardswish is x relu6(x + 3) / 6.
    """
    if name is None:
        return value
    if name not in _FUNCTIONS:
        raise ValueError(f"no activation {name!r}; there are {', '.join(ACTIVATIONS)}")
    return _FUNCTIONS[name](value)


def _relu(x: Any) -> Any:
    return tirx.Max(math.f32(0), x)


def _relu6(x: Any) -> Any:
    return math.clamp(x, 0.0, 6.0)


def _gelu(x: Any) -> Any:
    steps = math.Steps()
    x = steps(x)
    return steps.result(x * math.f32(0.5) * (math.f32(1) + math.erf(x * math.f32(0.7071067811865476))))


def _silu(x: Any) -> Any:
    steps = math.Steps()
    x = steps(x)
    return steps.result(x * math.sigmoid(x))


def _hardswish(x: Any) -> Any:
    steps = math.Steps()
    x = steps(x)
    return steps.result(x * math.clamp(x + math.f32(3), 0.0, 6.0) * math.f32(1 / 6))


_FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "relu": _relu,
    "relu6": _relu6,
    "gelu": _gelu,
    "silu": _silu,
    "sigmoid": math.sigmoid,
    "tanh": math.tanh,
    "hardswish": _hardswish,
}
