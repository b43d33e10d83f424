"""Helpers that the rules are written with."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tesa.attributes.attribute import FULL_BITS, Bools, Quantization, Shape, TeSA, Values, reduce_to, unknown
from tesa.propagate.registry import Operator

LARGEST = float(np.finfo(np.float32).max)


def facts(shape: Shape, known: Bools, value: Values, like: TeSA | None = None) -> TeSA:
    """A TeSA with this knowledge; NaN, and a number that float32 cannot hold, count as unknown; infinity may be known.

    Bits are those of `like`.
    """
    known, value = pad_axes(np.asarray(known), len(shape)), pad_axes(np.asarray(value), len(shape))
    if value.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            good = np.isinf(value) | (np.abs(value) <= LARGEST)
        known, value = known & good, np.where(good, value, 0.0)
    top = replace(unknown(shape), known=known, value=value)
    return top if like is None else replace(top, bits=pad_axes(like.bits, len(shape)), quantization=like.quantization)


def pad_axes(array: Any, rank: int) -> Any:
    """The array with axes of length 1 put in front until it has `rank` axes."""
    return array.reshape((1,) * (rank - array.ndim) + array.shape)


def nothing(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """The forward answer that nothing is known of the outputs."""
    return tuple(unknown(shape) for shape in op.outputs)


def all_needed(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    """Every element of every input is needed, if any of any output is."""
    any_live = any(bool(out.live.any()) for out in outputs)
    return tuple(np.full((1,) * len(shape), any_live) for shape in op.inputs)


def same_place(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    """An element is needed where the output in the same place is; where it was broadcast, if any copy is."""
    return tuple(unbroadcast(outputs[0].live, outputs[0].shape, shape) for shape in op.inputs)


def unbroadcast(mask: Bools, full: Shape, shape: Shape) -> Bools:
    """A mask over the tensor `full` as one over the input `shape` that was broadcast to it."""
    extra = len(full) - len(shape)
    inner = mask.any(axis=tuple(range(extra))) if extra else mask
    return reduce_to(np.asarray(inner), shape)


def per_channel(mask: Bools, channels: int, axis: int = 1) -> Bools:
    """Any over all other axes: (channels,)."""
    others = tuple(i for i in range(mask.ndim) if i != axis)
    return np.broadcast_to(np.asarray(mask.any(axis=others)), (channels,))


def all_channels(mask: Bools, channels: int, axis: int = 1) -> Bools:
    """All over all other axes: (channels,)."""
    return ~per_channel(~mask, channels, axis)


def as_channels(mask: Any, rank: int, axis: int = 1) -> Any:
    """(channels,) as an array of `rank` axes."""
    view = [1] * rank
    view[axis] = -1
    return np.asarray(mask).reshape(view)


def full_along(array: Values, axis: int, length: int) -> Values:
    """The array at its full length along one axis."""
    return np.broadcast_to(array, [length if i == axis else n for i, n in enumerate(array.shape)])


def axes_of(axis: Any, rank: int) -> tuple[int, ...]:
    """An axis attribute (None: all, an int, or several) as sorted non-negative ints."""
    if axis is None:
        return tuple(range(rank))
    several = axis if isinstance(axis, Sequence) else (axis,)
    return tuple(sorted(int(a) % rank for a in several))


def widest(inputs: Sequence[TeSA]) -> tuple[int, Quantization | None]:
    """The bits that hold an element of any of the inputs, and their quantization if they share one."""
    bits = max((int(t.bits.max(initial=0)) for t in inputs), default=FULL_BITS)
    first = inputs[0].quantization if inputs else None
    shared = all(t.quantization == first for t in inputs) if first is not None else False
    return bits, first if shared else None
