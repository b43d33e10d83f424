"""Operators that work element by element, as the one operator of Relax that says the same."""

import math
from typing import Any

import numpy as np
from tvm import relax

from tesa.frontend.expressions import at, constant, constant_value
from tesa.frontend.registry import imports


@imports("Clip")
def clip(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """relax.clip. min and max are attributes (opset 6) or inputs; NaN as a bound means none."""
    if not str(inputs[0].ty.dtype).startswith("float"):
        return integer_clip(inputs, attrs)
    given = _bounds(inputs, attrs, -math.inf, math.inf)
    if given is None:
        return None
    bounds = [default if math.isnan(n) else float(n) for n, default in zip(given, (-math.inf, math.inf), strict=True)]
    if bounds == [0.0, math.inf]:
        return relax.op.nn.relu(inputs[0])
    return relax.op.clip(inputs[0], *bounds)


def integer_clip(inputs: list[Any], attrs: dict[str, Any]) -> Any:
    """Clip of a tensor of integers as relax.clip; None where a bound is no constant.

    inputs: the tensor, and the bounds where they are inputs (opset 11 on); attrs: "min" and "max" before.
    """
    limits = np.iinfo(np.dtype(str(inputs[0].ty.dtype)))
    given = _bounds(inputs, attrs, limits.min, limits.max)
    if given is None:
        return None
    pairs = zip(given, (limits.min, limits.max), strict=True)
    return relax.op.clip(inputs[0], *(int(n) if math.isfinite(n) else int(default) for n, default in pairs))


def _bounds(inputs: Any, attrs: dict[str, Any], low: float, high: float) -> list[Any] | None:
    """The bounds of a Clip, inputs or attributes, low and high where they are left out; None if one is no constant."""
    given = [at(inputs, 1), at(inputs, 2)]
    missing = [np.asarray(attrs.get(name, default)) for name, default in (("min", low), ("max", high))]
    found = [value if x is None else constant_value(x) for x, value in zip(given, missing, strict=True)]
    return None if any(value is None for value in found) else [value.reshape(()).item() for value in found]


@imports("Gelu")
def gelu(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """relax.nn.gelu, by erf or by tanh."""
    if attrs.get("approximate", b"none") == b"none":
        return relax.op.nn.gelu(inputs[0])
    return relax.op.nn.gelu_tanh(inputs[0])


@imports("Swish")
def swish(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """x * sigmoid(alpha * x), alpha 1 if it is not given."""
    alpha = float(attrs.get("alpha", 1.0))
    return relax.op.nn.silu(inputs[0]) if alpha == 1.0 else _times_sigmoid(bb, inputs[0], alpha)


def _times_sigmoid(bb: Any, x: Any, alpha: float) -> Any:
    scaled = bb.normalize(relax.op.multiply(x, relax.const(alpha, str(x.ty.dtype))))
    return relax.op.multiply(x, bb.normalize(relax.op.sigmoid(scaled)))


@imports("Pow")
def power(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """relax.power in the type of the base, which is the type of the result; of integers by way of float64."""
    base, exponent = inputs
    kind, work = str(base.ty.dtype), str(base.ty.dtype)
    if "int" in kind:
        work, base = "float64", bb.normalize(relax.op.astype(base, "float64"))
    if str(exponent.ty.dtype) != work:
        values = constant_value(exponent)
        exponent = constant(values.astype(work)) if values is not None else relax.op.astype(exponent, work)
    power = bb.normalize(relax.op.power(base, bb.normalize(exponent)))
    if work == kind:
        return power
    whole = "int" in str(inputs[1].ty.dtype)
    return relax.op.astype(bb.normalize(relax.op.round(power)) if whole else power, kind)


@imports("CastLike")
def cast_like(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """A cast to the type of the second input."""
    return relax.op.astype(inputs[0], str(inputs[1].ty.dtype))
