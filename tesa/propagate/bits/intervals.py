"""The interval of numbers that an operator's result lies in, from those of its inputs: one function for each."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tesa.attributes.attribute import Values
from tesa.attributes.quantization import codes_between
from tesa.propagate.registry import Operator

Range = tuple[float, float]
Interval = Callable[[Operator, list[Range]], Range]
EVERYTHING: Range = (-math.inf, math.inf)
SLACK = 1e-5  # relative: what float arithmetic may add to a computed bound


def type_range(dtype: str) -> Range:
    """The numbers that a type can hold: finite for integers and bool.

    >>> type_range("int4"), type_range("float32")
    ((-8.0, 7.0), (-inf, inf))
    """
    if dtype == "bool":
        return (0.0, 1.0)
    kind = dtype.rstrip("0123456789")
    if kind not in ("int", "uint"):
        return EVERYTHING
    bits = int(dtype.removeprefix(kind))
    return (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if kind == "int" else (0.0, 2.0**bits - 1)


def _hull(*several: Range) -> Range:
    return min(low for low, _ in several), max(high for _, high in several)


def _monotone(function: Callable[[float], float]) -> Interval:
    def apply(op: Operator, inputs: list[Range]) -> Range:
        low, high = (_safe(function, bound) for bound in inputs[0])
        return low - SLACK * abs(low), high + SLACK * abs(high)

    return apply


def _safe(function: Callable[[float], float], x: float) -> float:
    try:
        return function(x)
    except OverflowError:
        return math.inf


def _negated(x: Range) -> Range:
    return -x[1], -x[0]


def _clipped(x: Range, low: float, high: float) -> Range:
    return min(max(x[0], low), high), min(max(x[1], low), high)


def _abs(op: Operator, inputs: list[Range]) -> Range:
    low, high = inputs[0]
    return max(low, -high, 0.0), max(-low, high)


def _padded_mean(op: Operator, inputs: list[Range]) -> Range:
    low, high = _hull(inputs[0], (0.0, 0.0))
    return low - SLACK * abs(low), high + SLACK * abs(high)


def _pad(op: Operator, inputs: list[Range]) -> Range:
    if op.attrs.get("pad_mode", "constant") != "constant":
        return inputs[0]
    value = float(op.attrs.get("pad_value", 0.0) or 0.0)
    return _hull(inputs[0], (value, value))


def _rounding_slack(op: Operator, found: Range) -> Range:
    if not op.dtypes[0].startswith("float"):
        return found
    width = SLACK * max(abs(found[0]), abs(found[1]))
    return found[0] - width, found[1] + width


def _add(op: Operator, inputs: list[Range]) -> Range:
    (a, b), (c, d) = inputs
    return _rounding_slack(op, (a + c, b + d))


def _times(x: float, y: float) -> float:
    return 0.0 if x == 0 or y == 0 else x * y


def _product(a: Range, b: Range) -> Range:
    corners = [_times(x, y) for x in a for y in b]
    return min(corners), max(corners)


def _cast(op: Operator, inputs: list[Range]) -> Range:
    (low, high), limits = inputs[0], type_range(op.dtypes[0])
    if math.isinf(limits[0]):
        return _rounding_slack(op, (low, high))
    inside = limits[0] <= math.trunc(low) and math.trunc(high) <= limits[1] if math.isfinite(high - low) else False
    return (float(math.trunc(low)), float(math.trunc(high))) if inside else limits


def _parameter(op: Operator, position: int) -> Values | None:
    array = op.constants[position] if position < len(op.constants) else None
    return None if array is None else np.asarray(array, np.float64).reshape(-1)


def _quantize(op: Operator, inputs: list[Range]) -> Range:
    """The codes between those of both ends, rounded outwards by a breath: a tie may fall to either side."""
    scale, zero = _parameter(op, 1), _parameter(op, 2)
    limits = type_range(op.dtypes[0])
    if scale is None or zero is None or (scale <= 0).any():
        return limits
    first, last = codes_between(*inputs[0], scale, zero)
    return float(np.clip(first, *limits).min()), float(np.clip(last, *limits).max())


def _dequantize(op: Operator, inputs: list[Range]) -> Range:
    scale, zero = _parameter(op, 1), _parameter(op, 2)
    if scale is None or zero is None:
        return EVERYTHING
    ends = [(bound - zero) * scale for bound in inputs[0]]
    return float(np.min(ends)), float(np.max(ends))


def _dot(op: Operator, inputs: list[Range]) -> Range:
    """A matmul: with a constant side by the sums of its rows, else the length of the sum times the largest product."""
    for side, axis in ((1, -2), (0, -1)):
        weight = op.constants[side]
        if weight is not None and weight.ndim >= 2 and weight.size:
            return _rounding_slack(op, _weighted(weight, axis, inputs[1 - side]))
    return _rounding_slack(op, _repeated(_product(*inputs), op.inputs[0][-1]))


def _convolve(op: Operator, inputs: list[Range]) -> Range:
    """A convolution; where it pads, zeros are among its inputs."""
    weight, x = op.constants[1], inputs[0]
    x = _hull(x, (0.0, 0.0)) if any(op.attrs.get("padding", ())) else x
    layout = str(op.attrs.get("kernel_layout", "OI"))
    if weight is not None and weight.size and layout.startswith("OI"):
        return _rounding_slack(op, _weighted(weight.reshape(len(weight), -1), -1, x))
    count = int(np.prod(op.inputs[1])) // max(op.inputs[1][layout.index("O")], 1)
    return _rounding_slack(op, _repeated(_product(x, inputs[1]), count))


def _weighted(weight: Any, axis: int, x: Range) -> Range:
    real = np.asarray(weight, np.float64)
    plus, minus = np.maximum(real, 0).sum(axis=axis), np.minimum(real, 0).sum(axis=axis)
    with np.errstate(invalid="ignore"):
        lows = _scaled(plus, x[0]) + _scaled(minus, x[1])
        highs = _scaled(plus, x[1]) + _scaled(minus, x[0])
    return float(np.min(lows)), float(np.max(highs))


def _scaled(sums: Values, bound: float) -> Values:
    return np.where(sums == 0, 0.0, sums * bound)


def _repeated(one: Range, count: int) -> Range:
    return _times(one[0], count), _times(one[1], count)


def _sum(op: Operator, inputs: list[Range]) -> Range:
    count = int(np.prod(op.inputs[0])) // max(int(np.prod(op.outputs[0])), 1)
    return _rounding_slack(op, _repeated(inputs[0], count))


INTERVALS: dict[str, Interval] = {
    **dict.fromkeys(
        ("relax.reshape", "relax.flatten", "relax.squeeze", "relax.expand_dims", "relax.permute_dims",
         "relax.broadcast_to", "relax.take", "relax.strided_slice", "relax.split", "relax.tile", "relax.repeat",
         "relax.flip",
         "relax.nn.max_pool1d", "relax.nn.max_pool2d", "relax.nn.max_pool3d", "relax.max", "relax.min",
         "relax.nn.adaptive_max_pool2d"), lambda op, inputs: inputs[0]
    ),
    **dict.fromkeys(("relax.nn.avg_pool2d", "relax.nn.adaptive_avg_pool2d", "relax.mean"), _padded_mean),
    **dict.fromkeys(("relax.concat", "relax.stack"), lambda op, inputs: _hull(*inputs)),
    "relax.where": lambda op, inputs: _hull(*inputs[1:]),
    "relax.nn.pad": _pad,
    "relax.nn.relu": lambda op, inputs: _clipped(inputs[0], 0.0, math.inf),
    "relax.nn.relu6": lambda op, inputs: _clipped(inputs[0], 0.0, 6.0),
    "relax.negative": lambda op, inputs: _negated(inputs[0]),
    "relax.abs": _abs,
    "relax.round": lambda op, inputs: (float(np.rint(inputs[0][0])), float(np.rint(inputs[0][1]))),
    "relax.sigmoid": _monotone(lambda x: 0.5 * (1 + math.tanh(0.5 * x))),
    "relax.tanh": _monotone(math.tanh),
    "relax.exp": _monotone(math.exp),
    "relax.nn.softmax": lambda op, inputs: (0.0, 1.0 + SLACK),
    "relax.clip": lambda op, inputs: _clipped(inputs[0], *map(float, op.static)),
    "relax.add": _add,
    "relax.subtract": lambda op, inputs: _add(op, [inputs[0], _negated(inputs[1])]),
    "relax.multiply": lambda op, inputs: _rounding_slack(op, _product(*inputs)),
    "relax.maximum": lambda op, inputs: (max(inputs[0][0], inputs[1][0]), max(inputs[0][1], inputs[1][1])),
    "relax.minimum": lambda op, inputs: (min(inputs[0][0], inputs[1][0]), min(inputs[0][1], inputs[1][1])),
    "relax.astype": _cast,
    "relax.quantize": _quantize,
    "relax.dequantize": _dequantize,
    "relax.matmul": _dot,
    **dict.fromkeys(("relax.nn.conv1d", "relax.nn.conv2d", "relax.nn.conv3d"), _convolve),
    "relax.sum": _sum,
}  # fmt: skip
