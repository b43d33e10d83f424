"""The interpreter's layers: convolutions, pooling, normalisation, each for any number of spatial axes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from tesa.propagate.registry import Operator


def _pads(op: Operator, axes: int) -> list[tuple[int, int]]:
    flat = [int(n) for n in op.attrs["padding"]]
    return list(zip(flat[:axes], flat[axes:], strict=True))


def _view(x: Any, size: Any, op: Operator, fill: float) -> Any:
    """(n, c, *outputs, *taps): the windows over a padded tensor."""
    spatial = tuple(range(2, x.ndim))
    x = np.pad(x, [(0, 0), (0, 0), *_pads(op, len(spatial))], constant_values=fill)
    dilation = op.attrs["dilation"]
    reach = tuple(d * (k - 1) + 1 for k, d in zip(size, dilation, strict=True))
    windows = sliding_window_view(x, reach, spatial)
    steps = [slice(None, None, s) for s in op.attrs["strides"]]
    return windows[(slice(None), slice(None), *steps, *(slice(None, None, d) for d in dilation))]


def _conv(op: Operator, x: Any, w: Any) -> Any:
    groups, rank = op.attrs["groups"], x.ndim - 2
    windows, ins, outs = _view(x, w.shape[2:], op, 0.0), w.shape[1], w.shape[0] // groups
    taps = list(range(-rank, 0))
    parts = []
    for g in range(groups):
        mine, weight = windows[:, g * ins : (g + 1) * ins], w[g * outs : (g + 1) * outs]
        result = np.tensordot(mine, weight, axes=([1, *taps], [1, *range(2, 2 + rank)]))
        parts.append(np.moveaxis(result, -1, 1))
    return np.concatenate(parts, axis=1)


def _conv_transpose(op: Operator, x: Any, w: Any) -> Any:
    """Each input pixel adds its weights to a window of the output; then the padding is cut off."""
    groups, rank = op.attrs["groups"], x.ndim - 2
    ins, outs = x.shape[1] // groups, w.shape[1]
    strides, dilation, pads = op.attrs["strides"], op.attrs["dilation"], _pads(op, rank)
    full = [s + before + after for s, (before, after) in zip(op.outputs[0][2:], pads, strict=True)]
    need = [
        (n - 1) * s + d * (k - 1) + 1 for n, s, d, k in zip(x.shape[2:], strides, dilation, w.shape[2:], strict=True)
    ]
    result = np.zeros((x.shape[0], groups * outs, *np.maximum(full, need)))
    for tap in product(*(range(k) for k in w.shape[2:])):
        place = tuple(
            slice(t * d, t * d + (n - 1) * s + 1, s)
            for t, d, n, s in zip(tap, dilation, x.shape[2:], strides, strict=True)
        )
        for g in range(groups):
            mine = x[:, g * ins : (g + 1) * ins]
            weight = w[(slice(g * ins, (g + 1) * ins), slice(None), *tap)]
            here = (slice(None), slice(g * outs, (g + 1) * outs), *place)
            result[here] += np.moveaxis(np.tensordot(mine, weight, axes=([1], [0])), -1, 1)
    cut = [slice(before, before + n) for (before, _), n in zip(pads, op.outputs[0][2:], strict=True)]
    return result[(slice(None), slice(None), *cut)]


def _windows(op: Operator, x: Any, fill: float) -> Any:
    """Windows of a pooling; with ceil_mode there may be room behind the padding for one more."""
    rank = x.ndim - 2
    extra = []
    for size, (before, after), k, s, d, n in zip(
        x.shape[2:], _pads(op, rank), op.attrs["pool_size"], op.attrs["strides"], op.attrs["dilation"],
        op.outputs[0][2:], strict=True
    ):  # fmt: skip
        extra.append((0, max(0, (n - 1) * s + d * (k - 1) + 1 - size - before - after)))
    x = np.pad(x, [(0, 0), (0, 0), *extra], constant_values=fill) if any(map(any, extra)) else x
    return _view(x, op.attrs["pool_size"], op, fill)


def _max_pool(op: Operator, x: Any) -> Any:
    return _windows(op, x, -np.inf).max(axis=tuple(range(x.ndim, 2 * x.ndim - 2)))


def _avg_pool(op: Operator, x: Any) -> Any:
    axes = tuple(range(x.ndim, 2 * x.ndim - 2))
    total = _windows(op, x, 0.0).sum(axis=axes)
    counted = np.ones_like(x)
    if op.attrs["count_include_pad"]:
        counted = np.pad(counted, [(0, 0), (0, 0), *_pads(op, x.ndim - 2)], constant_values=1.0)
        flat = Operator(op.op, op.layer, op.inputs, op.outputs, op.constants, op.dtypes,
                        {**op.attrs, "padding": (0,) * (2 * (x.ndim - 2))})  # fmt: skip
        return total / _windows(flat, counted, 0.0).sum(axis=axes)
    return total / _windows(op, counted, 0.0).sum(axis=axes)


def _normal(x: Any, axes: tuple[int, ...], epsilon: float) -> Any:
    middle = x - x.mean(axis=axes, keepdims=True)
    return middle / np.sqrt((middle**2).mean(axis=axes, keepdims=True) + epsilon)


def _layer_norm(op: Operator, x: Any, gamma: Any, beta: Any) -> Any:
    return _normal(x, tuple(op.attrs["axes"]), op.attrs["epsilon"]) * gamma + beta


def _rms_norm(op: Operator, x: Any, gamma: Any) -> Any:
    axes = tuple(op.attrs["axes"])
    return x / np.sqrt((x**2).mean(axis=axes, keepdims=True) + op.attrs["epsilon"]) * gamma


def _group_norm(op: Operator, x: Any, gamma: Any, beta: Any) -> Any:
    groups, shape = op.attrs["num_groups"], x.shape
    parts = x.reshape(shape[0], groups, -1)
    result = _normal(parts, (2,), op.attrs["epsilon"]).reshape(shape)
    view = (1, -1, *([1] * (x.ndim - 2)))
    result = result * gamma.reshape(view) if op.attrs["scale"] else result
    return result + beta.reshape(view) if op.attrs["center"] else result


def _batch_norm(op: Operator, x: Any, gamma: Any, beta: Any, mean: Any, variance: Any) -> Any:
    view = [-1 if i == op.attrs["axis"] % x.ndim else 1 for i in range(x.ndim)]
    gamma, beta, mean, variance = (v.reshape(view) for v in (gamma, beta, mean, variance))
    result = (x - mean) / np.sqrt(variance + op.attrs["epsilon"])
    result = result * gamma if op.attrs["scale"] else result
    return [result + beta if op.attrs["center"] else result, mean.reshape(-1), variance.reshape(-1)]


def _softmax(op: Operator, x: Any) -> Any:
    e = np.exp(x - x.max(axis=op.attrs["axis"], keepdims=True))
    return e / e.sum(axis=op.attrs["axis"], keepdims=True)


def _log_softmax(op: Operator, x: Any) -> Any:
    middle = x - x.max(axis=op.attrs["axis"], keepdims=True)
    return middle - np.log(np.exp(middle).sum(axis=op.attrs["axis"], keepdims=True))


LAYERS: dict[str, Callable[..., Any]] = {
    **{f"nn.conv{n}d": _conv for n in (1, 2, 3)},
    **{f"nn.conv{n}d_transpose": _conv_transpose for n in (1, 2, 3)},
    **{f"nn.max_pool{n}d": _max_pool for n in (1, 2, 3)},
    **{f"nn.avg_pool{n}d": _avg_pool for n in (1, 2, 3)},
    "nn.adaptive_avg_pool2d": lambda op, x: x.mean(axis=(2, 3), keepdims=True),
    "nn.layer_norm": _layer_norm,
    "nn.rms_norm": _rms_norm,
    "nn.group_norm": _group_norm,
    "nn.batch_norm": _batch_norm,
    "nn.softmax": _softmax,
    "nn.log_softmax": _log_softmax,
}
