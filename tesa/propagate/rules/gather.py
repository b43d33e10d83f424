"""Picking elements by index. Constant indices move facts like any movement; of others any element may be picked."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from tesa.attributes.attribute import Bools, TeSA, Values, unknown
from tesa.propagate.registry import Operator, rule
from tesa.propagate.rules.common import as_channels, nothing
from tesa.propagate.rules.movement import Chain, Pick, Places, Reshape, grid_before, moved, needed, one_scale
from tesa.propagate.rules.mover import indices, table_facts, whole

Steps = Callable[[Operator, tuple[TeSA, ...]], Chain | None]


def _inside(index: Values, size: int) -> bool:
    return bool(((index >= 0) & (index < size)).all())


def _common(t: TeSA, axes: tuple[int, ...]) -> tuple[Bools, Values]:
    """(mask, values) where all elements along the axes are one known constant; both of length 1 there."""
    first = t.value[tuple(slice(0, 1) if i in axes else slice(None) for i in range(t.value.ndim))]
    return np.asarray((t.known & (t.value == first)).all(axis=axes, keepdims=True)), first


def _bits(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[TeSA | None, ...]:
    """The data need the grid of what is picked; with runtime indices only one scale for all can be passed on."""
    steps, out, shape = _STEPS[op.op](op, inputs), outputs[0], op.inputs[0]
    data = one_scale(out, shape) if steps is None else grid_before(out, shape, steps)
    return (data, *(None,) * (len(inputs) - 1))


def _picked(
    op: Operator, inputs: tuple[TeSA, ...], steps: Chain | None, axes: tuple[int, ...], lay: Callable[[Values], Values]
) -> tuple[TeSA, ...]:
    """The facts about what is picked; where the indices are not known, what all along the axes have in common.

    lay: takes what they have in common to the axes of the output.
    """
    if steps is None:
        known, value = (lay(a) for a in _common(inputs[0], axes))
        return (replace(unknown(op.outputs[0]), known=known, value=value),)
    every = all(indices(op, inputs, i) is not None for i in range(1, len(inputs)))
    return (moved(table_facts(op, inputs) if every else inputs[0], op.outputs[0], steps),)


def _take_axis(op: Operator) -> int:
    return int(op.attrs.get("axis") or 0) % len(op.inputs[0])


def _take_steps(op: Operator, inputs: tuple[TeSA, ...]) -> Chain | None:
    axis, index, mode = _take_axis(op), indices(op, inputs, 1), op.attrs.get("mode", "fast")
    size = op.inputs[0][axis]
    if index is not None and mode == "clip":
        index = np.clip(index, 0, size - 1)
    if index is not None and mode == "wrap":
        index = index % size
    if index is None or not _inside(index, size):
        return None
    flat = (*op.inputs[0][:axis], index.size, *op.inputs[0][axis + 1 :])
    return (Pick(axis, size, index.reshape(-1)), Reshape(flat, op.outputs[0]))


def _take_backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    axis, steps, live = _take_axis(op), _take_steps(op, inputs), outputs[0].live
    places = tuple(range(axis, axis + len(op.inputs[1])))
    need = _index_need(op, live, places)
    if steps is None:
        return np.expand_dims(np.asarray(live.any(axis=places)), axis), need
    return needed(steps, live), need


def _index_need(op: Operator, live: Bools, places: tuple[int, ...]) -> Bools:
    """An index is needed where what it picks is; where nothing guards the bounds, even a dead one must be in range."""
    if op.attrs.get("mode", "fast") not in ("clip", "wrap"):
        return whole(op, 1, bool(live.any()))
    others = tuple(i for i in range(live.ndim) if i not in places)
    return np.asarray(live.any(axis=others)).reshape([live.shape[i] for i in places])


@rule("relax.take", backward=_take_backward, weights=(0,), precision=_bits)
def take(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """Rows of a table. With indices that are known at run time only, what all rows have in common is known."""
    axis, steps, rank = _take_axis(op), _take_steps(op, inputs), len(op.inputs[1])
    if steps is None and op.attrs.get("mode", "fast") == "nan":
        return nothing(op, inputs)
    return _picked(op, inputs, steps, (axis,), lambda a: a.reshape(a.shape[:axis] + (1,) * rank + a.shape[axis + 1 :]))


def _along_steps(op: Operator, inputs: tuple[TeSA, ...]) -> Chain | None:
    index, axis, shape = indices(op, inputs, 1), int(op.attrs["axis"]) % len(op.inputs[0]), op.inputs[0]
    if index is None or not _inside(index, shape[axis]):
        return None
    return (Places(shape, along(index, shape, axis)),)


def along(index: Values, shape: tuple[int, ...], axis: int) -> Values:
    """The places in the flattened tensor that indices along one axis mean; the other coordinates are their own."""
    at: list[Any] = list(np.indices(index.shape, sparse=True))
    at[axis] = index
    return np.asarray(np.ravel_multi_index(at, shape), np.int64)


def _along_backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    steps, live, axis = _along_steps(op, inputs), outputs[0].live, int(op.attrs["axis"]) % len(op.inputs[0])
    index = whole(op, 1, bool(live.any()))
    if steps is not None:
        return needed(steps, live), index
    return _widen(np.asarray(live.any(axis=axis, keepdims=True)), op.outputs[0], op.inputs[0], axis), index


def _widen(mask: Bools, out: tuple[int, ...], data: tuple[int, ...], axis: int) -> Bools:
    """A mask over a corner of the data (all of `axis`) as one over the data: what lies outside is never picked."""
    short = [i for i in range(len(data)) if i != axis and out[i] != data[i]]
    if not short:
        return mask
    need = np.zeros([data[i] if i in short else n for i, n in enumerate(mask.shape)], bool)
    need[tuple(slice(0, out[i]) if i in short else slice(None) for i in range(len(data)))] = mask
    return need


@rule("relax.gather_elements", backward=_along_backward, weights=(0,), precision=_bits)
def gather_elements(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """One index for each output element, along one axis; what all elements along it have in common is known."""
    steps, axis = _along_steps(op, inputs), int(op.attrs["axis"]) % len(op.inputs[0])
    corner = tuple(slice(0, n) if n != m and i != axis else slice(None)
                   for i, (n, m) in enumerate(zip(op.outputs[0], op.inputs[0], strict=True)))  # fmt: skip
    return _picked(op, inputs, steps, (axis,), lambda a: a[corner])


def _nd_steps(op: Operator, inputs: tuple[TeSA, ...]) -> Chain | None:
    index = indices(op, inputs, 1)
    places = None if index is None else tuples(index, op.inputs[0], int(op.attrs.get("batch_dims", 0)))
    return None if places is None else (Places(op.inputs[0], places),)


def tuples(index: Values, shape: tuple[int, ...], batch: int = 0) -> Values | None:
    """The places that index tuples (along the last axis) mean, whole slices where a tuple is short; None if outside."""
    depth = index.shape[-1]
    if any(not _inside(index[..., i], shape[batch + i]) for i in range(depth)):
        return None
    whole_tensor = np.arange(math.prod(shape)).reshape(shape)
    lead = np.indices(index.shape[:-1], sparse=True)[:batch]
    return np.asarray(whole_tensor[(*lead, *(index[..., i] for i in range(depth)))])


def _nd_backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    steps, live = _nd_steps(op, inputs), outputs[0].live
    index = whole(op, 1, bool(live.any()))
    if steps is not None:
        return needed(steps, live), index
    batch, depth = int(op.attrs.get("batch_dims", 0)), op.inputs[1][-1]
    lead = len(op.inputs[1]) - 1
    some = np.asarray(live.any(axis=tuple(range(batch, lead))))
    return some.reshape(some.shape[:batch] + (1,) * depth + some.shape[batch:]), index


@rule("relax.gather_nd", backward=_nd_backward, weights=(0,), precision=_bits)
def gather_nd(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """Slices by index tuples; what all that could be picked have in common is known."""
    batch, depth, lead = int(op.attrs.get("batch_dims", 0)), op.inputs[1][-1], len(op.inputs[1]) - 1

    def lay(a: Values) -> Values:
        return a.reshape(a.shape[:batch] + (1,) * (lead - batch) + a.shape[batch + depth :])

    return _picked(op, inputs, _nd_steps(op, inputs), tuple(range(batch, batch + depth)), lay)


def _tensor_steps(op: Operator, inputs: tuple[TeSA, ...]) -> Chain | None:
    """index_tensor: one index tensor for each leading axis, broadcast against each other."""
    found = [indices(op, inputs, i) for i in range(1, len(inputs))]
    shape = op.inputs[0]
    known = [i for i in found if i is not None]
    if len(known) < len(found) or any(not _inside(i, n) for i, n in zip(known, shape, strict=False)):
        return None
    return (Places(shape, np.arange(math.prod(shape)).reshape(shape)[tuple(known)]),)


def _tensor_backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    steps, live = _tensor_steps(op, inputs), outputs[0].live
    index = tuple(whole(op, i, bool(live.any())) for i in range(1, len(inputs)))
    if steps is not None:
        return needed(steps, live), *index
    axes = len(inputs) - 1
    lead = live.ndim - (len(op.inputs[0]) - axes)
    some = np.asarray(live.any(axis=tuple(range(lead))))
    return some.reshape((1,) * axes + some.shape), *index


@rule("relax.index_tensor", backward=_tensor_backward, weights=(0,), precision=_bits)
def index_tensor(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """As NumPy's x[i, j]; what all slices that could be picked have in common is known."""
    axes = len(inputs) - 1
    front = (1,) * (len(op.outputs[0]) - (len(op.inputs[0]) - axes))
    steps = _tensor_steps(op, inputs)
    return _picked(op, inputs, steps, tuple(range(axes)), lambda a: a.reshape(front + a.shape[axes:]))


def _reverse_steps(op: Operator, inputs: tuple[TeSA, ...]) -> Chain | None:
    lengths, shape = indices(op, inputs, 1), op.inputs[0]
    axis, batch = (int(op.attrs[name]) % len(shape) for name in ("seq_axis", "batch_axis"))
    if lengths is None or not bool(((lengths >= 0) & (lengths <= shape[axis])).all()):
        return None
    at = list(np.indices(shape, sparse=True))
    length = as_channels(lengths, len(shape), batch)
    at[axis] = np.where(at[axis] < length, length - 1 - at[axis], at[axis])
    return (Places(shape, np.asarray(np.ravel_multi_index(at, shape), np.int64)),)


def _reverse_backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    steps, live = _reverse_steps(op, inputs), outputs[0].live
    index = whole(op, 1, bool(live.any()))
    if steps is not None:
        return needed(steps, live), index
    return np.asarray(live.any(axis=int(op.attrs["seq_axis"]) % len(op.inputs[0]), keepdims=True)), index


@rule("relax.reverse_sequence", backward=_reverse_backward, precision=_bits)
def reverse_sequence(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """The first elements along an axis turn around, as many as the lengths say; equal constants stay."""
    axis = int(op.attrs["seq_axis"]) % len(op.inputs[0])
    return _picked(op, inputs, _reverse_steps(op, inputs), (axis,), lambda a: a)


_STEPS: dict[str, Steps] = {
    "relax.take": _take_steps, "relax.gather_elements": _along_steps, "relax.gather_nd": _nd_steps,
    "relax.index_tensor": _tensor_steps, "relax.reverse_sequence": _reverse_steps,
}  # fmt: skip
