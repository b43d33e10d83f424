"""The way of an accumulator to Y: scale, bias, residual, activation and quantization as one expression."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from tvm import tirx

from tesa.schedules.cpu import math
from tesa.schedules.cpu.activations import INLINE, activate
from tesa.schedules.types import Epilogue, Output, Problem


@dataclass(frozen=True)
class Names:
    """The arrays of a kernel as flat buffers. constants are in the order of Code.constants.

    shift: (m,) int32, what is added to the sums of a row, None for nothing; it is one of the constants. begun: the sums
    hold the bias already. maximum, rounds: see Core.
    """

    x: Any
    y: Any
    constants: tuple[Any, ...]
    bias: Any = None
    residual: Any = None
    scale: Any = None
    shift: Any = None
    begun: bool = False
    maximum: bool = False
    rounds: str = ""


def finish(
    epilogue: Epilogue,
    value: Any,
    bias: Any = None,
    residual: Any = None,
    scale: Any = None,
    maximum: bool = False,
    after: Callable[[str, Any], Any] = lambda step, value: value,
    short: bool = False,
) -> Any:
    """act(value * scale + bias + residual), scalars, float32 but for an int32 value that has a scale.

    scale, bias, residual: where the epilogue has them; maximum: see Core; after: what becomes of the value behind a
    step, by its name; short: see activate.
    """
    if epilogue.scale:
        value = tirx.Cast("float32", value) * scale
    value = after("scale", value)
    if epilogue.bias:
        value = value + bias
    value = after("bias", value)
    if epilogue.residual:
        value = value + residual
    value = after("residual", value)
    return activate(epilogue.activation, value, maximum, short)


def final(problem: Problem, names: Names, value: Any, m: Any, at: Any) -> Any:
    """The epilogue of the sum of row m that goes to element `at` of Y."""
    bias = names.bias[m] if names.bias is not None else None
    residual = real(problem.residual, names.residual[at]) if names.residual is not None else None
    scale = names.scale[m] if names.scale is not None else None
    value = value + names.shift[m] if names.shift is not None else value
    epilogue = replace(problem.epilogue, bias=False) if names.begun else problem.epilogue

    def rounded(step: str, number: Any) -> Any:
        return inner(problem, step, number)

    short = problem.dtype != "float32"
    value = finish(epilogue, value, bias, residual, scale, names.maximum, rounded, short)
    positive = epilogue.activation in ("relu", "relu6", "sigmoid")
    if names.maximum:
        return _quantize(problem.output, value, positive, names.rounds)
    return quantize(problem.output, value)


def inner(problem: Problem, step: str, number: Any) -> Any:
    """The number behind a step of the epilogue, as its code stands for it where it is rounded to one there, scalars."""
    for at, kind in problem.inner:
        number = _on_grid(kind, number) if at == step else number
    return number


def real(kind: Output, value: Any) -> Any:
    """The number that a stored element, scalar or vector, stands for."""
    if not kind.quantized:
        return value
    wide = "float32" if value.ty.dtype.lanes == 1 else f"float32x{value.ty.dtype.lanes}"
    number = tirx.Cast(wide, value)
    scale, zero = math.f32(kind.scale), math.f32(-kind.zero * kind.scale)
    if value.ty.dtype.lanes > 1:
        scale, zero = (tirx.Broadcast(x, value.ty.dtype.lanes) for x in (scale, zero))
    return number * scale + zero


def _on_grid(kind: Output, value: Any) -> Any:
    """The number that the code of a number stands for, scalars."""
    low, high = kind.range
    steps = tirx.nearbyint(value * math.f32(1 / kind.scale) + math.f32(kind.zero))
    return (math.clamp(steps, float(low), float(high)) - math.f32(kind.zero)) * math.f32(kind.scale)


def quantize(output: Output, value: Any) -> Any:
    """A finished element as Y stores it."""
    if not output.quantized:
        return value
    low, high = output.range
    steps = math.Steps()
    value = steps(value * math.f32(1 / output.scale) + math.f32(output.zero))
    code = math.clamp(tirx.nearbyint(value), float(low), float(high))
    return tirx.Cast(output.dtype, tirx.Cast("int32", steps.result(code)))


def _quantize(output: Output, value: Any, positive: bool, rounds: str) -> Any:
    """The same where maxima are one instruction each. positive: the element is at least 0; rounds: see Core."""
    if not output.quantized:
        return value
    low, high = output.range
    value = value * math.f32(1 / output.scale) + math.f32(output.zero)
    if not positive or output.zero < low:
        value = tirx.call_llvm_pure_intrin("float32", "llvm.maximum", value, math.f32(low))
    value = tirx.call_llvm_pure_intrin("float32", "llvm.minimum", value, math.f32(high))
    code = tirx.call_llvm_pure_intrin("int32", rounds, value) if rounds else tirx.Cast("int32", tirx.nearbyint(value))
    return tirx.Cast(output.dtype, code)


def heavy(epilogue: Epilogue) -> bool:
    """True where the activation is tens of instructions, too many to write out for each accumulator of a tile."""
    return epilogue.activation not in INLINE
