"""Element by element: one output element comes from the elements in the same place, after broadcasting.

The product is the one operator here whose result can be known although one factor is not: 0 * x = 0 for every finite x.
That makes the other factor dead. Both factors known to be 0 must not make each other dead, so a known element never
leans on its partner (see engine.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tesa.attribute import Bools, TeSA, Values
from tesa.propagate.registry import Operator, rule
from tesa.propagate.rules.common import facts, pad_axes, same_place, unbroadcast

Evaluate = Callable[..., Any]


_ERF = np.vectorize(math.erf, otypes=[np.float64])


def _erf(x: Values) -> Values:
    return np.asarray(_ERF(x))


def _sigmoid(x: Values) -> Values:
    return 0.5 * (1 + np.tanh(0.5 * x))


def _gelu_tanh(x: Values) -> Values:
    return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))


def _selu(x: Values) -> Values:
    return 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0)))


UNARY: dict[str, Evaluate] = {
    "abs": np.abs, "negative": np.negative, "sqrt": np.sqrt, "rsqrt": lambda x: 1 / np.sqrt(x), "square": np.square,
    "exp": np.exp, "log": np.log, "sin": np.sin, "cos": np.cos, "tan": np.tan, "tanh": np.tanh, "atan": np.arctan,
    "sinh": np.sinh, "cosh": np.cosh, "floor": np.floor, "ceil": np.ceil, "round": np.rint, "sign": np.sign,
    "erf": _erf, "sigmoid": _sigmoid, "logical_not": np.logical_not, "isnan": np.isnan, "isfinite": np.isfinite,
    "isinf": np.isinf, "nn.relu": lambda x: np.maximum(x, 0), "nn.relu6": lambda x: np.clip(x, 0, 6),
    "nn.silu": lambda x: x * _sigmoid(x), "nn.gelu": lambda x: 0.5 * x * (1 + _erf(x * math.sqrt(0.5))),
    "nn.gelu_tanh": _gelu_tanh, "nn.selu": _selu, "nn.softplus": lambda x: np.logaddexp(x, 0),
}  # fmt: skip
BINARY: dict[str, Evaluate] = {
    "add": np.add, "subtract": np.subtract, "power": np.power, "maximum": np.maximum, "minimum": np.minimum,
    "floor_divide": np.floor_divide, "mod": np.fmod, "floor_mod": np.mod, "less": np.less, "greater": np.greater,
    "less_equal": np.less_equal, "greater_equal": np.greater_equal, "equal": np.equal, "not_equal": np.not_equal,
    "logical_and": np.logical_and, "logical_or": np.logical_or, "logical_xor": np.logical_xor,
}  # fmt: skip
ON_GRID = "relax.nn.relu"  # of a quantized tensor: max(q, zero point) is on the same grid


def _number(t: TeSA) -> Values:
    return t.value.astype(np.float64) if t.value.dtype.kind == "f" else t.value


def _typed(value: Any, dtype: str) -> Values:
    array = np.asarray(value)
    return array if dtype.startswith("float") else array.astype(dtype, copy=False)


@rule(*(f"relax.{name}" for name in UNARY), backward=same_place)
def unary(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """f(constant) is a constant: relu(0) = 0, sigmoid(0) = 0.5."""
    return (_map(op, inputs[0], UNARY[op.op.removeprefix("relax.")]),)


@rule("relax.clip", backward=same_place)
def clip(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """A constant is clipped like any value; 0 stays 0 if the bounds enclose it."""
    low, high = (float(bound) for bound in op.static)
    return (_map(op, inputs[0], lambda x: np.clip(x, low, high)),)


@rule("relax.nn.leakyrelu", backward=same_place)
def leaky_relu(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """x for x > 0, else alpha * x."""
    alpha = float(op.attrs.get("alpha", 0.01))
    return (_map(op, inputs[0], lambda x: np.where(x > 0, x, alpha * x)),)


@rule("relax.astype", backward=same_place)
def astype(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """The constant in another type."""
    return (_map(op, inputs[0], np.asarray),)


def _map(op: Operator, x: TeSA, function: Evaluate) -> TeSA:
    with np.errstate(all="ignore"):
        value = _typed(function(_number(x)), op.dtypes[0]) if x.known.any() else np.zeros((1,) * len(x.shape))
    return facts(op.outputs[0], x.known, value, x if op.op == ON_GRID else None)


@rule(*(f"relax.{name}" for name in BINARY), backward=same_place)
def binary(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """Known where both operands are."""
    rank = len(op.outputs[0])
    a, b = inputs
    known = pad_axes(a.known, rank) & pad_axes(b.known, rank)
    if not known.any():
        return (facts(op.outputs[0], known, np.zeros((1,) * rank)),)
    with np.errstate(all="ignore"):
        value = BINARY[op.op.removeprefix("relax.")](pad_axes(_number(a), rank), pad_axes(_number(b), rank))
    return (facts(op.outputs[0], known, _typed(value, op.dtypes[0])),)


def _multiply_backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    rank, live = len(op.outputs[0]), outputs[0].live
    needs = []
    for mine, other in (inputs, inputs[::-1]):
        idle = pad_axes(other.zero, rank) & ~pad_axes(mine.known, rank)
        needs.append(unbroadcast(live & ~idle, op.outputs[0], mine.shape))
    return tuple(needs)


@rule("relax.multiply", backward=_multiply_backward)
def multiply(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """Known where both factors are, and 0 where one factor is 0; then the other factor is dead there."""
    rank = len(op.outputs[0])
    a, b = inputs
    zero = pad_axes(a.zero, rank) | pad_axes(b.zero, rank)
    known = zero | (pad_axes(a.known, rank) & pad_axes(b.known, rank))
    with np.errstate(all="ignore"):
        value = np.where(zero, 0, pad_axes(_number(a), rank) * pad_axes(_number(b), rank))
    return (facts(op.outputs[0], known, _typed(value, op.dtypes[0])),)


@rule("relax.divide", backward=same_place)
def divide(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """Known where both are, and 0 where the numerator is 0. A denominator of 0 is an error of the model."""
    rank = len(op.outputs[0])
    a, b = inputs
    zero = pad_axes(a.zero, rank) & ~pad_axes(b.zero, rank)
    known = zero | (pad_axes(a.known, rank) & pad_axes(b.known, rank))
    if not op.dtypes[0].startswith("float"):
        known = np.zeros_like(known)
    with np.errstate(all="ignore"):
        value = np.where(zero, 0.0, pad_axes(_number(a), rank) / pad_axes(_number(b), rank))
    return (facts(op.outputs[0], known & np.isfinite(value), np.nan_to_num(value)),)


def _where_backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    rank, live, condition = len(op.outputs[0]), outputs[0].live, inputs[0]
    known, value = pad_axes(condition.known, rank), pad_axes(condition.value, rank).astype(bool)
    masks = (live, live & ~(known & ~value), live & ~(known & value))
    return tuple(unbroadcast(m, op.outputs[0], shape) for m, shape in zip(masks, op.inputs, strict=True))


@rule("relax.where", backward=_where_backward)
def where(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """Known where the chosen side is; where the condition is not known, only if both sides are equal constants."""
    rank = len(op.outputs[0])
    choice, left, right = inputs
    sure, take = pad_axes(choice.known, rank), pad_axes(choice.value, rank).astype(bool)
    known = [pad_axes(t.known, rank) for t in (left, right)]
    value = [pad_axes(t.value, rank) for t in (left, right)]
    equal = known[0] & known[1] & (value[0] == value[1])
    known_here = np.where(sure, np.where(take, *known), equal)
    return (facts(op.outputs[0], known_here, np.where(sure & ~take, value[1], value[0])),)
