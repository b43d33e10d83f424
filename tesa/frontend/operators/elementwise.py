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
    bounds = []
    for index, (name, default) in enumerate((("min", -math.inf), ("max", math.inf)), start=1):
        given = at(inputs, index)
        value = constant_value(given) if given is not None else np.asarray(attrs.get(name, default))
        if value is None:
            return None
        number = float(value.reshape(()))
        bounds.append(default if math.isnan(number) else number)
    if bounds == [0.0, math.inf]:
        return relax.op.nn.relu(inputs[0])
    return relax.op.clip(inputs[0], *bounds)


def integer_clip(inputs: list[Any], attrs: dict[str, Any]) -> Any:
    """Clip of a tensor of integers as relax.clip; None where a bound is no constant.

    inputs: the tensor, and the bounds where they are inputs (opset 11 on); attrs: "min" and "max" before.
    """
    limits = np.iinfo(np.dtype(str(inputs[0].ty.dtype)))
    bounds = []
    for index, (name, default) in enumerate((("min", limits.min), ("max", limits.max)), start=1):
        given = at(inputs, index)
        value = constant_value(given) if given is not None else np.asarray(attrs.get(name, default))
        if value is None:
            return None
        number = value.reshape(()).item()
        bounds.append(int(number) if math.isfinite(number) else int(default))
    return relax.op.clip(inputs[0], *bounds)


@imports("Gelu", "com.microsoft::Gelu")
def gelu(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """relax.nn.gelu, by erf or by tanh."""
    if attrs.get("approximate", b"none") == b"none":
        return relax.op.nn.gelu(inputs[0])
    return relax.op.nn.gelu_tanh(inputs[0])


@imports("com.microsoft::QuickGelu")
def quick_gelu(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """x * sigmoid(alpha * x), alpha 1.702 if it is not given."""
    return _times_sigmoid(bb, inputs[0], float(attrs.get("alpha", 1.702)))


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
