"""Operators that work element by element, as the one operator of Relax that says the same."""

import math
from typing import Any

import numpy as np
from tvm import relax

from tesa.frontend.expressions import at, constant, constant_value, like, static_shape
from tesa.frontend.registry import imports


@imports("Clip")
def clip(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """relax.clip with constant bounds, else the smaller of high and the larger of low and x; NaN as a bound is none.

    A bound that is left out is the largest finite number, so that no infinity remains, but from 0 on it is a ReLU.
    """
    x, kind = inputs[0], str(inputs[0].ty.dtype)
    if not kind.startswith("float"):
        return integer_clip(bb, inputs)
    most = float(np.finfo(kind).max)
    bounds = [at(inputs, 1), at(inputs, 2)]
    known = [_number(x, default) for x, default in zip(bounds, (-most, most), strict=True)]
    if None in known:
        limits = (like(sign * most, x) if b is None else b for sign, b in zip((-1, 1), bounds, strict=True))
        return _between(bb, x, *limits)
    if known[0] == 0 and known[1] in (most, math.inf):
        return relax.op.nn.relu(x)
    return relax.op.clip(x, *known)


def integer_clip(bb: Any, inputs: list[Any]) -> Any:
    """Clip of a tensor of integers; as relax.clip where both bounds are constants that TVM can hold.

    inputs: the tensor, and the bounds, None for one that is left out.
    """
    x, kind = inputs[0], str(inputs[0].ty.dtype)
    limits, bounds = np.iinfo(np.dtype(kind)), [at(inputs, 1), at(inputs, 2)]
    known = [_number(b, default) for b, default in zip(bounds, (limits.min, limits.max), strict=True)]
    if kind == "uint64" or None in known:
        return _between(bb, x, *bounds)
    return relax.op.clip(x, *(int(n) for n in known if n is not None))


def _number(bound: Any, default: float) -> float | None:
    """A bound as a number; None where it is no constant."""
    value = np.asarray(default) if bound is None else constant_value(bound)
    if value is None:
        return None
    number: float = value.reshape(()).item()
    return default if number != number else number


def _between(bb: Any, x: Any, low: Any, high: Any) -> Any:
    for bound, operator in ((low, relax.op.maximum), (high, relax.op.minimum)):
        if bound is not None:
            scalar = bound if not bound.ty.shape else bb.normalize(relax.op.reshape(bound, ()))
            x = bb.normalize(operator(x, scalar))
    return x


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


@imports("Equal")
def equal(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """relax.equal; of truth values the reverse of exclusive or, for which TVM has code."""
    if str(inputs[0].ty.dtype) != "bool":
        return relax.op.equal(*inputs)
    return relax.op.logical_not(bb.normalize(relax.op.logical_xor(*inputs)))


@imports("PRelu")
def prelu(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """TVM's own converter; of integers a choice between x and its product with the slope."""
    x, slope = inputs
    if str(x.ty.dtype).startswith("float"):
        return None
    below = bb.normalize(relax.op.less(x, constant(np.asarray(0, str(x.ty.dtype)))))
    return relax.op.where(below, bb.normalize(relax.op.multiply(x, slope)), x)


@imports("CastLike")
def cast_like(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """A cast to the type of the second input."""
    return relax.op.astype(inputs[0], str(inputs[1].ty.dtype))


@imports("Max")
def maximum(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """relax.maximum, one after the other; no number where one of them is none."""
    return _one_by_one(bb, relax.op.maximum, inputs)


@imports("Min")
def minimum(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """relax.minimum, one after the other; no number where one of them is none."""
    return _one_by_one(bb, relax.op.minimum, inputs)


def _one_by_one(bb: Any, operator: Any, inputs: Any) -> Any:
    result = inputs[0]
    for other in inputs[1:]:
        result = bb.normalize(operator(result, other))
    return result


@imports("Div")
def divide(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """A division by the number 0 as one by a tensor of it, for TVM takes the number for a mistake; else TVM's own."""
    x, value = inputs[0], constant_value(inputs[1])
    rank = len(static_shape(x))
    if value is None or value.dtype.kind != "f" or value.ndim or value.item() != 0 or not rank:
        return None
    return relax.op.divide(x, constant(value.reshape((1,) * rank)))
