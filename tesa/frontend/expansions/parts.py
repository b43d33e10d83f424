"""Short ways to write the nodes that expansions are made of."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import helper

from tesa.frontend.writer import Writer


def number(writer: Writer, value: Any, like: str) -> str:
    """A constant of the element type of the tensor `like`."""
    return writer.constant(value, writer.dtype(like))


def integers(writer: Writer, values: Any) -> str:
    """A constant of int64, as shapes and axes are given."""
    return writer.constant(values, np.int64)


def reshape(writer: Writer, x: str, shape: Sequence[int]) -> str:
    """x with another shape."""
    return str(writer.add("Reshape", x, integers(writer, list(shape))))


def transpose(writer: Writer, x: str, axes: Sequence[int]) -> str:
    """x with its axes in another order."""
    return x if list(axes) == list(range(len(axes))) else str(writer.add("Transpose", x, perm=list(axes)))


def unsqueeze(writer: Writer, x: str, *axes: int) -> str:
    """x with axes of size 1."""
    return str(writer.add("Unsqueeze", x, integers(writer, axes)))


def squeeze(writer: Writer, x: str, *axes: int) -> str:
    """x without axes of size 1."""
    return str(writer.add("Squeeze", x, integers(writer, axes)))


def cut(writer: Writer, x: str, axis: int, start: int, end: int, step: int = 1) -> str:
    """x[start:end:step] along an axis."""
    return str(writer.add("Slice", x, *(integers(writer, [n]) for n in (start, end, axis, step))))


def split(writer: Writer, x: str, sizes: Sequence[int], axis: int) -> list[str]:
    """The parts of x along an axis."""
    if len(sizes) == 1:
        return [x]
    return list(writer.add("Split", x, integers(writer, list(sizes)), outputs=len(sizes), axis=axis))


def concat(writer: Writer, parts: Sequence[str], axis: int) -> str:
    """The parts one after the other along an axis."""
    return parts[0] if len(parts) == 1 else str(writer.add("Concat", *parts, axis=axis))


def cast(writer: Writer, x: str, dtype: Any) -> str:
    """x with another element type."""
    return str(writer.add("Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype))))


def reduce(writer: Writer, op: str, x: str, axes: Sequence[int], keepdims: int = 1) -> str:
    """ReduceSum, ReduceMax, ... along axes; opset 18 takes them all as an input."""
    return str(writer.add(op, x, integers(writer, list(axes)), keepdims=keepdims))


def optional(options: dict[str, Any], *names: str, **others: Any) -> dict[str, Any]:
    """The attributes of these names that are given, and others."""
    return {name: options[name] for name in names if name in options} | others


def text(value: Any, default: str = "") -> str:
    """An attribute of text."""
    return default if value is None else value.decode() if isinstance(value, bytes) else str(value)
