"""Operators that only move elements: the facts move with them, and back. Short arrays stay short where they can."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tesa.attribute import Bools, Shape, TeSA, Values, reduce_to, unknown
from tesa.propagate.registry import Operator, rule
from tesa.propagate.rules.common import all_needed, facts, nothing, pad_axes, unbroadcast

Move = Callable[[Values], Values]


def _moved(t: TeSA, shape: Shape, move: Move) -> TeSA:
    """All facts of the tensor, moved. The quantization goes along if one scale serves all elements."""
    scales = t.quantization is None or t.quantization.scale.size == 1
    bits = move(t.bits) if scales else unknown(shape).bits
    q = t.quantization if scales else None
    if q is not None:
        view = (1,) * len(shape)
        q = replace(q, scale=q.scale.reshape(view), zero_point=q.zero_point.reshape(view))
    return replace(unknown(shape), known=move(t.known), value=move(t.value), bits=bits, quantization=q)


def reshape_short(array: Values, old: Shape, new: Shape) -> Values:
    """Reshape an array that broadcasts to `old` so that it broadcasts to `new`.

    The axes are cut into the smallest groups with equal numbers of elements; only a group in which the array varies
    along some axis but not along all is spread out.

    >>> reshape_short(np.zeros((1, 1, 6)), (1, 128, 6), (1, 128, 2, 3)).shape
    (1, 1, 2, 3)
    """
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


def _reshape_backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    if 0 in op.inputs[0]:
        return all_needed(op, inputs, outputs)
    return (reshape_short(outputs[0].live, op.outputs[0], op.inputs[0]),)


@rule("relax.reshape", "relax.flatten", "relax.squeeze", "relax.expand_dims", backward=_reshape_backward)
def reshape(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """The same elements in the same order."""
    if 0 in op.inputs[0]:
        return nothing(op, inputs)
    return (_moved(inputs[0], op.outputs[0], lambda a: reshape_short(a, op.inputs[0], op.outputs[0])),)


def _permutation(op: Operator) -> list[int]:
    axes, rank = op.attrs.get("axes"), len(op.inputs[0])
    return list(range(rank))[::-1] if axes is None else [int(a) % rank for a in axes]


def _permute_backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    return (outputs[0].live.transpose(np.argsort(_permutation(op))),)


@rule("relax.permute_dims", backward=_permute_backward)
def permute_dims(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """The axes change places."""
    return (_moved(inputs[0], op.outputs[0], lambda a: a.transpose(_permutation(op))),)


def _broadcast_backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    return (unbroadcast(outputs[0].live, op.outputs[0], op.inputs[0]),)


@rule("relax.broadcast_to", backward=_broadcast_backward)
def broadcast_to(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """Each copy knows what the element knows."""
    return (_moved(inputs[0], op.outputs[0], lambda a: pad_axes(a, len(op.outputs[0]))),)


def _concat_backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    axis = int(op.attrs["axis"] or 0) % len(op.outputs[0])
    ends = np.cumsum([shape[axis] for shape in op.inputs])
    return tuple(_cut(outputs[0].live, axis, end - s[axis], end) for end, s in zip(ends, op.inputs, strict=True))


def _cut(array: Values, axis: int, begin: int, end: int, step: int = 1) -> Values:
    if array.shape[axis] == 1:
        return array
    return array[(slice(None),) * axis + (slice(begin, end, step),)]


@rule("relax.concat", backward=_concat_backward)
def concat(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """One after the other along the axis."""
    axis = int(op.attrs["axis"] or 0) % len(op.outputs[0])
    known, value = (_join([getattr(t, name) for t in inputs], op.inputs, axis) for name in ("known", "value"))
    same = all(t.quantization == inputs[0].quantization for t in inputs) and inputs[0].quantization is not None
    return (facts(op.outputs[0], known, value, inputs[0] if same else None),)


def _join(arrays: Sequence[Values], shapes: Sequence[Shape], axis: int) -> Values:
    common = np.broadcast_shapes(*((*a.shape[:axis], 1, *a.shape[axis + 1 :]) for a in arrays))
    before, after = common[:axis], common[axis + 1 :]
    wide = [np.broadcast_to(a, (*before, s[axis], *after)) for a, s in zip(arrays, shapes, strict=True)]
    return np.concatenate(wide, axis=axis)


def _bounds(op: Operator) -> list[tuple[int, int]]:
    """Where each output of a split lies on its axis."""
    axis, bounds, at = int(op.attrs["axis"]) % len(op.inputs[0]), [], 0
    for shape in op.outputs:
        bounds.append((at, at + shape[axis]))
        at += shape[axis]
    return bounds


def _split_backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    axis = int(op.attrs["axis"]) % len(op.inputs[0])
    return (_join([t.live for t in outputs], op.outputs, axis),)


@rule("relax.split", backward=_split_backward)
def split(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """Each part knows what its share of the tensor knows."""
    axis = int(op.attrs["axis"]) % len(op.inputs[0])
    return tuple(
        _moved(inputs[0], shape, lambda a, b=bounds: _cut(a, axis, *b))  # type: ignore[misc]
        for shape, bounds in zip(op.outputs, _bounds(op), strict=True)
    )


def _slices(op: Operator) -> dict[int, slice] | None:
    """axis -> slice of a strided_slice whose bounds are static, None otherwise."""
    if len(op.static) < 3 or any(not isinstance(a, tuple) for a in op.static):
        return None
    axes, begins, ends = op.static[:3]
    steps = op.static[3] if len(op.static) > 3 else (1,) * len(axes)
    result = {}
    for axis, begin, end, step in zip(axes, begins, ends, steps, strict=True):
        result[int(axis) % len(op.inputs[0])] = slice(begin, None if step < 0 and end < 0 else end, step)
    axes_sizes = {a: len(range(op.inputs[0][a])[s]) for a, s in result.items()}
    return result if all(op.outputs[0][a] == n for a, n in axes_sizes.items()) else None


def _slice_backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    slices = _slices(op)
    if slices is None:
        return all_needed(op, inputs, outputs)
    live = outputs[0].live
    need = np.zeros([op.inputs[0][i] if i in slices else n for i, n in enumerate(live.shape)], bool)
    need[tuple(slices.get(i, slice(None)) for i in range(live.ndim))] = live
    return (need,)


@rule("relax.strided_slice", backward=_slice_backward)
def strided_slice(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """The part knows what the tensor knows there; what is cut away is dead."""
    slices = _slices(op)
    if slices is None:
        return nothing(op, inputs)

    def move(array: Values) -> Values:
        return array[tuple(slices.get(i, slice(None)) if n > 1 else slice(None) for i, n in enumerate(array.shape))]

    return (_moved(inputs[0], op.outputs[0], move),)


def _take_parts(op: Operator) -> tuple[int, Any]:
    """(axis, constant indices in range or None)."""
    axis = int(op.attrs["axis"] or 0) % len(op.inputs[0])
    indices = op.constants[1]
    inside = indices is not None and bool(((indices >= 0) & (indices < op.inputs[0][axis])).all())
    return axis, indices if inside else None


def _take_backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    axis, indices = _take_parts(op)
    rank, live = len(op.inputs[1]), outputs[0].live
    places = tuple(range(axis, axis + rank))
    others = tuple(i for i in range(live.ndim) if i not in places)
    index_need = np.asarray(live.any(axis=others)).reshape([live.shape[i] for i in places])
    if indices is None:
        table = live.any(axis=places)
        return np.expand_dims(table, axis), index_need
    wide = np.broadcast_to(live, [n if i in places else live.shape[i] for i, n in enumerate(op.outputs[0])])
    rows = np.moveaxis(wide, places, range(rank)).reshape(indices.size, *[live.shape[i] for i in others])
    need = np.zeros((op.inputs[0][axis], *rows.shape[1:]), bool)
    np.logical_or.at(need, indices.reshape(-1), rows)
    return np.moveaxis(need, 0, axis), index_need


@rule("relax.take", backward=_take_backward, weights=(0,))
def take(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """Rows of a table. With indices that are known at run time only, what all rows have in common is known."""
    axis, indices = _take_parts(op)
    table, rank = inputs[0], len(op.inputs[1])
    shape = op.outputs[0]

    def pick(array: Values) -> Values:
        if array.shape[axis] > 1:
            return np.asarray(np.take(array, indices, axis=axis))
        return array.reshape(array.shape[:axis] + (1,) * rank + array.shape[axis + 1 :])

    if indices is not None:
        return (_moved(table, shape, pick),)
    first = np.take(table.value, [0], axis=axis)
    same = (table.known & (table.value == first)).all(axis=axis, keepdims=True)
    return (facts(shape, pick(same), pick(first)),)


def _pad_width(op: Operator) -> list[tuple[int, int]] | None:
    width = op.attrs.get("pad_width")
    if width is None or op.attrs.get("pad_mode", "constant") != "constant":
        return None
    flat = [int(n) for n in width]
    return list(zip(flat[::2], flat[1::2], strict=True))


def _pad_backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    width = _pad_width(op)
    if width is None:
        return all_needed(op, inputs, outputs)
    need = outputs[0].live
    for axis, (before, _) in enumerate(width):
        need = _cut(need, axis, before, before + op.inputs[0][axis])
    return (reduce_to(need, need.shape),)


@rule("relax.nn.pad", backward=_pad_backward)
def pad(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """Known inside where the input is. Of the border, that it is 0 is used where the input is 0 as well."""
    width = _pad_width(op)
    if width is None or float(op.attrs.get("pad_value", 0.0)) != 0.0:
        return nothing(op, inputs)
    zero = inputs[0].zero
    for axis, (before, after) in enumerate(width):
        if zero.shape[axis] > 1 and before + after:
            edges = [(before, after) if i == axis else (0, 0) for i in range(zero.ndim)]
            zero = np.pad(zero, edges, constant_values=True)
    return (facts(op.outputs[0], zero, np.zeros((1,) * zero.ndim)),)
