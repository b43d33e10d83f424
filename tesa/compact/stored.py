"""The integers that a dequantized weight is written as, where it is still on its grid and integers are smaller."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from tesa.attributes.attribute import Quantization, Values

SMALL_OPSET = 21
"""The first with integers of 4 and 16 bits, and with scales in blocks, in DequantizeLinear."""

CHANGED = ("DFT", "GridSample", "GroupNormalization")
"""Operators that a file of opset 18 has in another form than one of opset 21."""


@dataclass(frozen=True, eq=False)
class Stored:
    """The inputs of a DequantizeLinear, and its attributes."""

    integers: Values
    scale: Values
    zero: Values
    options: dict[str, int] = field(default_factory=dict)


def stored(array: Values, q: Quantization, opset: int) -> Stored | None:
    """Integers that give back the array exactly enough; None if there are none, or if they are no smaller."""
    if q.bits not in (2, 4, 8, 16) or (np.asarray(q.scale) <= 0).any():
        return None
    scale, zero = (np.asarray(v) for v in (q.scale, q.zero_point))
    options, (scale, zero) = _layout(array, scale, zero)
    if opset < SMALL_OPSET and (q.bits != 8 or "block_size" in options):
        return None
    integers = _integers(array, q)
    if integers is None:
        return None
    kind = f"{'INT' if q.signed else 'UINT'}{max(q.bits, 4)}"  # what reads files knows no two bits yet
    dtype = helper.tensor_dtype_to_np_dtype(TensorProto.DataType.Value(kind))
    found = Stored(integers.astype(dtype), scale.astype(np.float32), zero.astype(dtype), options)
    return found if _bytes(array.size, q.bits, scale) < array.nbytes or scale.ndim < 2 else None


def small_opset(
    opset: int, nodes: Sequence[Any], constants: Mapping[str, Values], grids: Iterable[Quantization]
) -> int:
    """The opset for a file with these nodes and grids of constants: one with the integers that they are in, if allowed.

    opset: of the nodes as they are.
    """
    wanted = any(q.bits != 8 or sum(n > 1 for n in np.shape(q.scale)) > 1 for q in grids)
    for node in nodes:  # codes of 16 bits were those of an operator of onnxruntime's own
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and not node.domain:
            zero = constants.get(node.input[2]) if len(node.input) > 2 else None
            wanted = wanted or (zero is not None and zero.dtype.itemsize == 2)
    changed = any(node.op_type in CHANGED and not node.domain for node in nodes)
    return max(opset, SMALL_OPSET) if wanted and not changed else opset


def _integers(array: Values, q: Quantization) -> Values | None:
    lowest = -(1 << (q.bits - 1)) if q.signed else 0
    integers = np.round(array.astype(np.float64) / q.scale) + q.zero_point
    back = (integers - q.zero_point) * q.scale
    if integers.min(initial=0) < lowest or integers.max(initial=0) >= lowest + (1 << q.bits):
        return None
    if not np.allclose(back, array, rtol=1e-5, atol=1e-7 * float(np.abs(array).max(initial=0))):
        return None
    return np.asarray(integers)


def _layout(array: Values, scale: Values, zero: Values) -> tuple[dict[str, int], tuple[Values, Values]]:
    """(attributes, (scale, zero point)): one number, one for each place of an axis, or one for each block of it."""
    wide = np.broadcast_shapes(scale.shape, zero.shape)
    scale, zero = (np.broadcast_to(v, wide) for v in (scale, zero))
    long = [axis for axis, n in enumerate(wide) if n > 1]
    if len(long) < 2:
        shape = (-1,) if long else ()
        return {"axis": long[0]} if long else {}, (scale.reshape(shape), zero.reshape(shape))
    scale, zero = (np.broadcast_to(v, array.shape) for v in (scale, zero))
    blocks = [math.gcd(_block(scale, axis), _block(zero, axis)) or n for axis, n in enumerate(array.shape)]
    axis = int(np.argmax(blocks))
    starts = range(0, array.shape[axis], blocks[axis])
    laid = np.take(scale, starts, axis), np.take(zero, starts, axis)
    return {"axis": axis, "block_size": blocks[axis]}, laid


def _block(array: Values, axis: int) -> int:
    """The largest length that divides all runs of equal slices along an axis but the last; 0 where all are equal."""
    moved = np.moveaxis(array, axis, 0)
    changes = np.flatnonzero((moved[1:] != moved[:-1]).reshape(len(moved) - 1, -1).any(axis=1)) + 1
    return int(np.gcd.reduce(changes))


def _bytes(count: int, bits: int, scale: Values) -> int:
    return count * max(bits, 4) // 8 + scale.size * (4 + max(bits // 8, 1))
