"""Sliding windows: the one form in which convolutions, transposed ones and poolings are the same.

Along each spatial axis a window has taps, and each output reads one input position through each tap, or nothing (the
padding, or a gap of a strided transposed convolution). Windows are products of axes, so one table for each axis says
it all; the rules ask nothing else of padding, strides and dilations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.attributes.attribute import Bools, Values, compact
from tesa.propagate.registry import Operator
from tesa.propagate.rules.common import as_channels

Table = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Axis:
    """A spatial axis. size: of the input.

    reads: (outputs, taps), the position that an output reads through a tap, -1 for none.
    """

    reads: Table
    size: int

    @property
    def pointwise(self) -> bool:
        """True if output i reads input i and nothing else: facts may then differ from position to position."""
        places = np.arange(self.size)
        return self.reads.shape == (self.size, 1) and bool((self.reads[:, 0] == places).all())

    @property
    def inside(self) -> Bools:
        """(taps,): which taps ever read an element; the others meet padding at every position."""
        return np.asarray((self.reads >= 0).any(axis=0))

    @property
    def skipped(self) -> Bools | None:
        """(size,): True where an element is read at all, if the stride leaves elements out between others."""
        read = np.zeros(self.size, bool)
        read[self.reads[self.reads >= 0]] = True
        places = np.flatnonzero(read)
        gaps = bool(places.size) and not read[places[0] : places[-1]].all()
        return read if gaps else None

    def seen(self, mask: Bools, axis: int, tap: int) -> Bools | None:
        """Any over the elements that a tap reads, kept by position where the axis is pointwise. None: it reads none."""
        if not self.inside[tap]:
            return None
        if mask.shape[axis] == 1 or self.pointwise:
            return mask
        places = np.unique(self.reads[:, tap])
        return np.asarray(mask.take(places[places >= 0], axis=axis).any(axis=axis, keepdims=True))

    def read(self, array: Values, axis: int, tap: int, fill: Any = 0) -> Values:
        """The elements that every output reads through a tap, `fill` where it reads nothing."""
        places = self.reads[:, tap]
        wide = array if array.shape[axis] == 1 else array.take(np.maximum(places, 0), axis=axis)
        if (places >= 0).all():
            return wide
        return np.where(as_channels(places >= 0, array.ndim, axis), wide, fill)

    def distinct(self) -> tuple[Axis, NDArray[np.intp]]:
        """An axis with one output for each kind of output there is if all elements are alike, and the kind of each."""
        rows, kinds = np.unique(np.minimum(self.reads, 0), axis=0, return_inverse=True)
        return Axis(rows, 1), kinds.reshape(-1)


def convolution_axes(
    op: Operator, sizes: Sequence[int], taps: Sequence[int], outs: Sequence[int], transposed: bool = False
) -> tuple[Axis, ...]:
    """The spatial axes of a convolution or pooling with the attributes strides, dilation and padding.

    transposed: element i reaches output i * stride + tap * dilation - padding.
    """
    result = []
    for d, (size, tap, out) in enumerate(zip(sizes, taps, outs, strict=True)):
        stride, dilation, before, _ = steps(op, d, len(sizes))
        at, reach = np.arange(out)[:, None], np.arange(tap)[None, :] * dilation - before
        places = at - reach if transposed else (at * stride + reach) * stride  # in strides of an element
        good = (places % stride == 0) & (places >= 0) & (places < size * stride)
        result.append(Axis(np.where(good, places // stride, -1), size))
    return tuple(result)


def adaptive_axes(sizes: Sequence[int], outs: Sequence[int]) -> tuple[Axis, ...]:
    """The axes of an adaptive pooling: output i reads from floor(i * size / out) up to ceil((i + 1) * size / out)."""
    result = []
    for size, out in zip(sizes, outs, strict=True):
        spans = [(i * size // out, -(-(i + 1) * size // out)) for i in range(out)]
        reads = np.full((out, max((b - a for a, b in spans), default=0)), -1, np.int64)
        for i, (a, b) in enumerate(spans):
            reads[i, : b - a] = np.arange(a, b)
        result.append(Axis(reads, size))
    return tuple(result)


def steps(op: Operator, axis: int, rank: int) -> tuple[int, int, int, int]:
    """(stride, dilation, padding before, padding after) along a spatial axis; one number stands for all axes."""
    pads = [int(p) for p in op.attrs["padding"]]
    pads = pads * (2 * rank) if len(pads) == 1 else pads * 2 if len(pads) == rank else pads
    strides, dilations = ([int(n) for n in op.attrs[name]] for name in ("strides", "dilation"))
    return strides[axis % len(strides)], dilations[axis % len(dilations)], pads[axis], pads[rank + axis]


def over_windows(array: Values, axes: Sequence[Axis], first: int, join: Callable[[Any, Any], Any], fill: Any) -> Values:
    """Join what each window reads. The axes of `array` from `first` on are the spatial ones; short stays short."""
    for d, axis in enumerate(axes, start=first):
        kinds = None
        if array.shape[d] == 1:
            axis, kinds = axis.distinct()
        taps = range(axis.reads.shape[1])
        array = reduce(join, [axis.read(array, d, t, fill) for t in taps])
        array = array if kinds is None else spread(array, d, kinds)
    return array


def spread(array: Values, axis: int, kinds: NDArray[np.intp]) -> Values:
    """From one entry for each kind of output to one for each output, unless all entries are alike."""
    if array.shape[axis] > 1:
        array = compact(array)
    return array if array.shape[axis] == 1 else array.take(kinds, axis=axis)


def onto_elements(need: Bools, axes: Sequence[Axis], first: int) -> Bools:
    """A mask of the elements read by any output in `need`. Axes along which `need` is short stay short."""
    for d, axis in enumerate(axes, start=first):
        if need.shape[d] == 1:
            need = need if axis.skipped is None else need & as_channels(axis.skipped, need.ndim, d)
            continue
        wide = np.zeros((*need.shape[:d], axis.size, *need.shape[d + 1 :]), bool)
        moved, target = np.moveaxis(need, d, 0), np.moveaxis(wide, d, 0)
        for tap in range(axis.reads.shape[1]):
            outs = np.flatnonzero(axis.reads[:, tap] >= 0)
            np.logical_or.at(target, axis.reads[outs, tap], moved[outs])
        need = wide
    return need


def tap_indices(axes: Iterable[Axis]) -> Iterable[tuple[int, ...]]:
    """Every tap of the window."""
    return np.ndindex(*(axis.reads.shape[1] for axis in axes))


def letters(layout: str, shape: Sequence[int], first: str) -> tuple[int, ...] | None:
    """The order of axes that brings a tensor of a layout to `first` and then its spatial axes, None if it cannot be.

    >>> letters("NHWC", (1, 8, 9, 3), "NC")
    (0, 3, 1, 2)
    """
    spatial = [c for c in "DHW" if c in layout]
    if sorted(layout) != sorted([*first, *spatial]) or len(layout) != len(shape):
        return None
    return tuple(layout.index(c) for c in (*first, *spatial))
