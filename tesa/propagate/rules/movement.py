"""Moving elements without touching them: four kinds of step, and how facts pass a chain of them.

A step knows three ways: `move` an array that broadcasts to its input forward; what of the input is `needed` for a mask
over its output; and `undo`, which takes for each input element the content of one of its copies. Short arrays stay
short: an axis along which nothing varies is not spread out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tesa.attributes.attribute import FULL_BITS, Bools, Quantization, Shape, TeSA, Values, unknown
from tesa.propagate.bits.grids import claimed, lead, only_bits, with_grid
from tesa.propagate.rules.common import as_channels

Index = NDArray[np.int64]
NOWHERE = -1  # in an index: this output element comes from no input element


class Step(Protocol):
    """One movement of elements."""

    def move(self, array: Values, fill: Any) -> Values:
        """An array over the input as one over the output; `fill` where an element comes from nowhere."""

    def needed(self, mask: Bools) -> Bools:
        """True for each input element of which any copy is True in a mask over the output."""

    def undo(self, array: Values) -> Values:
        """For each input element the content of one of its copies; anything where it has none."""


@dataclass(frozen=True)
class Reshape:
    """The same elements in the same order."""

    old: Shape
    new: Shape

    def move(self, array: Values, fill: Any) -> Values:
        return reshape_short(array, self.old, self.new)

    def needed(self, mask: Bools) -> Bools:
        return reshape_short(mask, self.new, self.old)

    undo = needed


@dataclass(frozen=True)
class Permute:
    """Output axis i is input axis axes[i]."""

    axes: tuple[int, ...]

    def move(self, array: Values, fill: Any) -> Values:
        return array.transpose(self.axes)

    def needed(self, mask: Bools) -> Bools:
        return mask.transpose(np.argsort(self.axes))

    undo = needed


@dataclass(frozen=True, eq=False)
class Pick:
    """Along one axis of `size` elements, output j is input index[j], or comes from nowhere."""

    axis: int
    size: int
    index: Index

    def move(self, array: Values, fill: Any) -> Values:
        outside = self.index == NOWHERE
        if array.shape[self.axis] > 1:
            array = np.take(array, np.where(outside, 0, self.index), axis=self.axis)
        if fill is None or not outside.any():
            return array
        return np.where(as_channels(outside, array.ndim, self.axis), np.asarray(fill), array)

    def needed(self, mask: Bools) -> Bools:
        copied = np.zeros(self.size, bool)
        copied[self.index[self.index != NOWHERE]] = True
        if mask.shape[self.axis] == 1:
            return mask if copied.all() else mask & as_channels(copied, mask.ndim, self.axis)
        front = np.moveaxis(mask, self.axis, 0)[self.index != NOWHERE]
        result = np.zeros((self.size, *front.shape[1:]), bool)
        np.logical_or.at(result, self.index[self.index != NOWHERE], front)
        return np.moveaxis(result, 0, self.axis)

    def undo(self, array: Values) -> Values:
        if array.shape[self.axis] == 1:
            return array
        return np.take(array, _first(self.index, self.size), axis=self.axis)


@dataclass(frozen=True, eq=False)
class Places:
    """Any movement at all: the output has the shape of `index`, each entry a place in the flattened input."""

    shape: Shape
    index: Index

    def move(self, array: Values, fill: Any) -> Values:
        outside = self.index == NOWHERE
        if array.size == 1:
            moved = array.reshape((1,) * self.index.ndim)
        else:
            moved = np.broadcast_to(array, self.shape).reshape(-1)[np.where(outside, 0, self.index)]
        return moved if fill is None or not outside.any() else np.where(outside, np.asarray(fill), moved)

    def needed(self, mask: Bools) -> Bools:
        result = np.zeros(math.prod(self.shape), bool)
        live = np.broadcast_to(mask, self.index.shape) & (self.index != NOWHERE)
        result[self.index[live]] = True
        return result.reshape(self.shape)

    def undo(self, array: Values) -> Values:
        if array.size == 1:
            return array.reshape((1,) * len(self.shape))
        places = _first(self.index.reshape(-1), math.prod(self.shape))
        return np.broadcast_to(array, self.index.shape).reshape(-1)[places].reshape(self.shape)


def _first(index: Index, size: int) -> Index:
    """For each input element a place where it went, 0 where it went nowhere."""
    result = np.zeros(size, np.int64)
    there = np.flatnonzero(index != NOWHERE)[::-1]
    result[index[there]] = there
    return result


Chain = Sequence[Step]


def broadcast_steps(old: Shape, new: Shape) -> tuple[Step, ...]:
    """The steps that broadcast a tensor by NumPy's rules."""
    wide = (1,) * (len(new) - len(old)) + tuple(old)
    spread = [Pick(i, 1, np.zeros(n, np.int64)) for i, (m, n) in enumerate(zip(wide, new, strict=True)) if m != n]
    return (Reshape(tuple(old), wide), *spread)


def move(steps: Chain, array: Values, fill: Any = None) -> Values:
    """An array that broadcasts to the input of the first step, as one that broadcasts to the output of the last."""
    for step in steps:
        array = step.move(array, fill)
    return array


def needed(steps: Chain, mask: Bools) -> Bools:
    """The input elements of which any copy is True in a mask over the output."""
    for step in reversed(steps):
        mask = step.needed(mask)
    return mask


def _undo(steps: Chain, array: Values) -> Values:
    for step in reversed(steps):
        array = step.undo(array)
    return array


def moved(t: TeSA, shape: Shape, steps: Chain, fill: Any = None, gaps: bool = True) -> TeSA:
    """All facts of a tensor at the other end of the steps, an output of the given shape.

    fill: the known value of elements that come from nowhere, None if it is not known. gaps: False where no element
    comes from nowhere, which saves the work.
    """
    if t.trivial and (fill is None or not gaps):
        return unknown(shape)
    known = move(steps, t.known, (fill is not None) if gaps else None)
    value = t.value if t.known.any() or fill is None else np.zeros(t.value.shape, np.asarray(fill).dtype)
    value = move(steps, value, (0 if fill is None else fill) if gaps else None)
    result = replace(unknown(shape), known=known, value=value)
    return _with_grid(result, t, steps, fill, gaps) if claimed(t) else result


def _with_grid(result: TeSA, t: TeSA, steps: Chain, fill: Any, gaps: bool) -> TeSA:
    """The quantization moves like the values; an element from nowhere needs all bits unless it is on the grid."""
    q = t.quantization
    if q is None:
        return result
    scale, zero = (move(steps, lead(v, len(t.shape))) for v in (q.scale, q.zero_point))
    bits, grid = move(steps, t.bits, FULL_BITS if gaps else None), Quantization(q.bits, q.signed, scale, zero)
    if gaps and fill is not None:
        outside = move(steps, np.zeros((1,) * len(t.shape), bool), True)
        fits = grid.rounded(np.asarray(fill, np.float64)) == fill
        bits = np.where(outside & fits, q.bits, bits)
    return with_grid(result, bits, grid)


def grid_before(out: TeSA, shape: Shape, steps: Chain) -> TeSA | None:
    """The grid that suffices for an input of the given shape so that the output is right to its own grid.

    None where the output needs all bits, or where copies of one element need different grids.
    """
    q = out.quantization
    if q is None or not claimed(out):
        return None
    laid = [lead(v, len(out.shape)) for v in (q.scale, q.zero_point, out.bits)]
    found = [_undo(steps, v) for v in laid]
    same = [not bool((move(steps, a) != b).any()) for a, b in zip(found, laid, strict=True)]
    if not same[0] or not same[1]:
        return None
    return only_bits(shape, found[2] if same[2] else laid[2].max(), Quantization(q.bits, q.signed, found[0], found[1]))


def one_scale(out: TeSA, shape: Shape) -> TeSA | None:
    """The grid of an output for an input of another shape whose elements may come anywhere: only with one scale."""
    q = out.quantization
    if q is None or not claimed(out) or q.scale.size > 1 or q.zero_point.size > 1:
        return None
    return only_bits(shape, out.bits.max(), q)


def reshape_short(array: Values, old: Shape, new: Shape) -> Values:
    """Reshape an array that broadcasts to `old` so that it broadcasts to `new`.

    The axes are cut into the smallest groups with equal numbers of elements; only a group in which the array varies
    along some axis but not along all is spread out.

    >>> reshape_short(np.zeros((1, 1, 6)), (1, 128, 6), (1, 128, 2, 3)).shape
    (1, 1, 2, 3)
    """
    if 0 in old:
        return array.reshape(-1)[:1].reshape((1,) * len(new)) if array.size else np.zeros((1,) * len(new), array.dtype)
    pieces: list[int] = []
    result: list[int] = []
    for olds, news in _axis_groups(old, new):
        mine = [array.shape[i] for i in olds]
        if all(n == 1 for n in mine):
            pieces += mine
            result += [1] * len(news)
        else:
            pieces += [old[i] for i in olds]
            result += [new[i] for i in news]
    return np.broadcast_to(array, pieces).reshape(result)


def _axis_groups(old: Shape, new: Shape) -> list[tuple[list[int], list[int]]]:
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        mine, theirs = [i] if i < len(old) else [], [j] if j < len(new) else []
        i, j = i + len(mine), j + len(theirs)
        while math.prod(old[a] for a in mine) != math.prod(new[b] for b in theirs):
            if (math.prod(old[a] for a in mine) < math.prod(new[b] for b in theirs) or j == len(new)) and i < len(old):
                mine.append(i)
                i += 1
            else:
                theirs.append(j)
                j += 1
        groups.append((mine, theirs))
    return groups
