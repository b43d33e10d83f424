"""The interpreter's operators that move elements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tesa.propagate.registry import Operator


def _reshape(op: Operator, x: Any) -> Any:
    return x.reshape(op.outputs[0])


def _split(op: Operator, x: Any) -> Any:
    axis = op.attrs["axis"]
    return np.split(x, np.cumsum([s[axis] for s in op.outputs])[:-1], axis=axis)


def _slice(op: Operator, x: Any) -> Any:
    """Bounds as in Python, but an end below -size of a backward slice means: up to the first element."""
    index = [slice(None)] * x.ndim
    axes, begins, ends, *rest = op.static
    for axis, begin, end, step in zip(axes, begins, ends, rest[0] if rest else (1,) * len(axes), strict=True):
        index[axis] = slice(begin, None if step < 0 and end < -x.shape[axis] else end, step)
    return x[tuple(index)]


def _take(op: Operator, table: Any, index: Any) -> Any:
    axis = op.attrs["axis"]
    return np.take(table, index, axis=0 if axis is None else axis, mode="clip")


def _pad(op: Operator, x: Any, *value: Any) -> Any:
    flat = [int(n) for n in op.attrs["pad_width"]]
    width = list(zip(flat[::2], flat[1::2], strict=True))
    mode = op.attrs.get("pad_mode", "constant")
    if mode == "constant":
        return np.pad(x, width, constant_values=op.attrs.get("pad_value", 0.0))
    return np.pad(x, width, mode={"reflect": "reflect", "replicate": "edge", "edge": "edge", "circular": "wrap"}[mode])


def _gather_elements(op: Operator, x: Any, index: Any) -> Any:
    axis = op.attrs["axis"]
    index = np.where(index < 0, index + x.shape[axis], index)
    return np.take_along_axis(x, np.clip(index, 0, x.shape[axis] - 1), axis=axis)


MOVES: dict[str, Callable[..., Any]] = {
    "reshape": _reshape,
    "flatten": _reshape,
    "squeeze": _reshape,
    "expand_dims": _reshape,
    "permute_dims": lambda op, x: np.transpose(x, op.attrs["axes"]),
    "broadcast_to": lambda op, x: np.broadcast_to(x, op.outputs[0]),
    "concat": lambda op, *xs: np.concatenate(xs, axis=op.attrs["axis"]),
    "stack": lambda op, *xs: np.stack(xs, axis=op.attrs["axis"]),
    "split": _split,
    "strided_slice": _slice,
    "take": _take,
    "nn.pad": _pad,
    "gather_elements": _gather_elements,
    "tile": lambda op, x: np.tile(x, op.attrs["repeats"]),
    "flip": lambda op, x: np.flip(x, op.attrs["axis"]),
    "tril": lambda op, x: np.tril(x, op.static[0]),
    "triu": lambda op, x: np.triu(x, op.static[0]),
}
