"""A NumPy interpreter of the networks that propagation runs over: the reference of its tests, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from tesa.propagate.network import Network
from tesa.propagate.registry import Operator

Arrays = dict[str, Any]
Change = Callable[[str, Any], Any]

ERF = np.vectorize(math.erf, otypes=[float])
ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "relax.add": lambda a, b: a + b,
    "relax.subtract": lambda a, b: a - b,
    "relax.multiply": lambda a, b: a * b,
    "relax.divide": lambda a, b: a / b,
    "relax.maximum": np.maximum,
    "relax.less": np.less,
    "relax.where": np.where,
    "relax.nn.relu": lambda x: np.maximum(x, 0),
    "relax.nn.gelu": lambda x: x * 0.5 * (1 + ERF(x / math.sqrt(2))),
    "relax.sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "relax.tanh": np.tanh,
    "relax.exp": lambda x: np.exp(np.minimum(x, 50)),
    "relax.sqrt": lambda x: np.sqrt(np.abs(x)),
    "relax.negative": np.negative,
    "relax.abs": np.abs,
}


def run(net: Network, inputs: Mapping[str, Any], change: Change = lambda name, value: value) -> Arrays:
    """All tensors of the network. change(name, value) may replace a tensor as soon as it is there."""
    values: Arrays = {}
    for name, array in inputs.items():
        values[name] = change(name, np.asarray(array, float) if np.asarray(array).dtype.kind == "f" else array)
    for name, array in net.constants.items():
        values[name] = change(name, array.astype(float) if array.dtype.kind == "f" else array)
    for node in net.nodes:
        results = evaluate(node.operator, [values[n] for n in node.inputs])
        for name, result in zip(node.outputs, results, strict=True):
            assert result.shape == net.shapes[name], (node.operator.op, result.shape, net.shapes[name])
            values[name] = change(name, result)
    return values


def evaluate(op: Operator, args: list[Any]) -> list[Any]:
    """The outputs of one operator."""
    if op.op in ELEMENTWISE:
        return [np.asarray(ELEMENTWISE[op.op](*args))]
    name = "op_" + op.op.removeprefix("relax.").replace("nn.", "")
    result = globals()[name](op, *args)
    return result if isinstance(result, list) else [result]


def op_clip(op: Operator, x: Any) -> Any:
    return np.clip(x, *op.static)


def op_leakyrelu(op: Operator, x: Any) -> Any:
    return np.where(x > 0, x, op.attrs["alpha"] * x)


def op_astype(op: Operator, x: Any) -> Any:
    return x.astype(op.dtypes[0])


def op_matmul(op: Operator, a: Any, b: Any) -> Any:
    return a @ b


def op_conv2d(op: Operator, x: Any, w: Any) -> Any:
    top, left, bottom, right = op.attrs["padding"]
    (sy, sx), (dy, dx), groups = op.attrs["strides"], op.attrs["dilation"], op.attrs["groups"]
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    reach = (dy * (w.shape[2] - 1) + 1, dx * (w.shape[3] - 1) + 1)
    windows = sliding_window_view(x, reach, (2, 3))[:, :, ::sy, ::sx, ::dy, ::dx]
    outs = w.shape[0] // groups
    parts = [
        np.einsum("nchwij,ocij->nohw", windows[:, g * w.shape[1] : (g + 1) * w.shape[1]], w[g * outs : (g + 1) * outs])
        for g in range(groups)
    ]
    return np.concatenate(parts, axis=1)


def _windows(op: Operator, x: Any, fill: float) -> Any:
    top, left, bottom, right = op.attrs["padding"]
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)
    sy, sx = op.attrs["strides"]
    return sliding_window_view(x, op.attrs["pool_size"], (2, 3))[:, :, ::sy, ::sx]


def op_max_pool2d(op: Operator, x: Any) -> Any:
    return _windows(op, x, -np.inf).max(axis=(4, 5))


def op_avg_pool2d(op: Operator, x: Any) -> Any:
    total = _windows(op, x, 0.0).sum(axis=(4, 5))
    counted = np.ones_like(x)
    weight = np.full_like(total, np.prod(op.attrs["pool_size"]))
    return total / (weight if op.attrs["count_include_pad"] else _windows(op, counted, 0.0).sum(axis=(4, 5)))


def op_layer_norm(op: Operator, x: Any, gamma: Any, beta: Any) -> Any:
    axes = tuple(op.attrs["axes"])
    middle = x - x.mean(axis=axes, keepdims=True)
    return middle / np.sqrt((middle**2).mean(axis=axes, keepdims=True) + op.attrs["epsilon"]) * gamma + beta


def op_softmax(op: Operator, x: Any) -> Any:
    e = np.exp(x - x.max(axis=op.attrs["axis"], keepdims=True))
    return e / e.sum(axis=op.attrs["axis"], keepdims=True)


def op_reshape(op: Operator, x: Any) -> Any:
    return x.reshape(op.outputs[0])


op_expand_dims = op_squeeze = op_flatten = op_reshape


def op_permute_dims(op: Operator, x: Any) -> Any:
    return np.transpose(x, op.attrs["axes"])


def op_broadcast_to(op: Operator, x: Any) -> Any:
    return np.broadcast_to(x, op.outputs[0])


def op_concat(op: Operator, *xs: Any) -> Any:
    return np.concatenate(xs, axis=op.attrs["axis"])


def op_split(op: Operator, x: Any) -> Any:
    axis = op.attrs["axis"]
    return np.split(x, np.cumsum([s[axis] for s in op.outputs])[:-1], axis=axis)


def op_strided_slice(op: Operator, x: Any) -> Any:
    index = [slice(None)] * x.ndim
    for axis, begin, end, step in zip(*op.static, strict=True):
        index[axis] = slice(begin, end, step)
    return x[tuple(index)]


def op_take(op: Operator, table: Any, index: Any) -> Any:
    return np.take(table, index, axis=op.attrs["axis"], mode="clip")


def _reduction(function: Callable[..., Any]) -> Callable[..., Any]:
    def reduce(op: Operator, x: Any) -> Any:
        axis = op.attrs["axis"]
        axes = None if axis is None else tuple(axis)
        return np.asarray(function(x, axis=axes, keepdims=op.attrs["keepdims"]))

    return reduce


op_sum, op_mean, op_max, op_min = (_reduction(f) for f in (np.sum, np.mean, np.max, np.min))


def op_quantize(op: Operator, x: Any, scale: Any, zero: Any) -> Any:
    info = np.iinfo(op.dtypes[0])
    return np.clip(np.rint(x / scale) + zero, info.min, info.max)


def op_dequantize(op: Operator, q: Any, scale: Any, zero: Any) -> Any:
    return (q - zero) * scale
