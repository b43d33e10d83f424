"""The way of a sum to Y in a kernel for a GPU: scale, bias, residual, activation and the kind of Y as one expression.

The functions are those of CPU kernels, so that numbers agree, with one difference: a GPU's minimum and maximum give the
other number where one is not a number, so limits are comparisons here, and longer activations let one through.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tvm import tirx

from tesa.schedules.cpu import activations, math
from tesa.schedules.cpu.epilogue import finish as linear_part
from tesa.schedules.cpu.epilogue import inner, quantize, real
from tesa.schedules.gpu.arrays import Arrays
from tesa.schedules.types import Problem


class _Compared(activations.Scalar):
    """One float32 number, limited by comparisons."""

    def clamp(self, value: Any, low: float, high: float | None) -> Any:
        value = self.name(value)
        value = tirx.Select(value < math.f32(low), math.f32(low), value)
        if high is None:
            return value
        value = self.name(value)
        return tirx.Select(math.f32(high) < value, math.f32(high), value)


def activate(name: str | None, value: Any) -> Any:
    """An activation of types.ACTIVATIONS, or none, of one number; not-a-number goes in and comes out."""
    scalar = _Compared()
    x = scalar.name(value)
    found = activations.apply(scalar, name, x)
    if name not in activations.INLINE:
        found = tirx.Select(tirx.isnan(x), x, found)
    return scalar.result(found)


def finish(problem: Problem, arrays: Arrays, value: Any, m: Any, at: Any) -> Any:
    """The number that Y stores for the sum of row m, whose place in Y is `at`."""
    e = problem.epilogue
    bias = arrays.bias[m] if e.bias else None
    residual = real(problem.residual, arrays.residual[at]) if e.residual else None
    if residual is not None and problem.residual.dtype == "float16":
        residual = tirx.Cast("float32", residual)
    scale = arrays.scale[m] if e.scale else None

    def rounded(step: str, number: Any) -> Any:
        return inner(problem, step, number)

    value = linear_part(replace(e, activation=None), value, bias, residual, scale, after=rounded)
    value = quantize(problem.output, activate(e.activation, value))
    return tirx.Cast(problem.output.dtype, value) if problem.output.dtype == "float16" else value
