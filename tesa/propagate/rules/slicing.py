"""Operators that cut along axes, put together, turn around and repeat."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from tesa.attributes.attribute import Bools, Shape, TeSA, Values
from tesa.propagate.bits.grids import claimed, joined_grid, moved_grid
from tesa.propagate.registry import Operator, rule
from tesa.propagate.rules.common import all_needed, nothing
from tesa.propagate.rules.movement import Chain, Pick, Reshape, grid_before, move, moved, needed
from tesa.propagate.rules.mover import mover


def _cut(shape: Shape, axis: int, begin: int, end: int, step: int = 1) -> Pick:
    return Pick(axis, shape[axis], np.arange(begin, end, step, dtype=np.int64))


def _axis(op: Operator) -> int:
    return int(op.attrs.get("axis") or 0) % len(op.outputs[0])


def _parts(op: Operator) -> list[Chain]:
    """For each input of a concat or stack the steps that lead from the output back to it."""
    whole, axis = op.outputs[0], _axis(op)
    if op.op == "relax.stack":
        return [(_cut(whole, axis, i, i + 1), Reshape((*whole[:axis], 1, *whole[axis + 1 :]), shape))
                for i, shape in enumerate(op.inputs)]  # fmt: skip
    ends = np.cumsum([0] + [shape[axis] for shape in op.inputs])
    return [(_cut(whole, axis, int(a), int(b)),) for a, b in pairwise(ends)]


def _concat_backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    return tuple(move(part, outputs[0].live) for part in _parts(op))


def _concat_bits(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[TeSA | None, ...]:
    parts = [
        moved_grid(outputs[0], shape, lambda array, part=part: move(part, array))  # type: ignore[misc]
        for shape, part in zip(op.inputs, _parts(op), strict=True)
    ]
    return tuple(part if claimed(part) else None for part in parts)


@rule("relax.concat", "relax.stack", backward=_concat_backward, precision=_concat_bits)
def concat(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """One after the other along the axis; each input is needed where its part of the result is."""
    axis, out = _axis(op), op.outputs[0]
    if op.op == "relax.stack":
        wide = tuple((*out[:axis], 1, *out[axis + 1 :]) for _ in inputs)
        inputs = tuple(moved(t, s, (Reshape(t.shape, s),), gaps=False) for t, s in zip(inputs, wide, strict=True))
    shapes = [t.shape for t in inputs]
    grid = joined_grid(inputs, axis, out)
    known = _join([t.known for t in inputs], shapes, axis)
    value = _join([_typed(t, op.dtypes[0]) for t in inputs], shapes, axis)
    return (replace(grid, known=known, value=value),)


def _typed(t: TeSA, dtype: str) -> Values:
    """The values; zeros of the output's own type where nothing is known, so that integers stay integers."""
    whole = dtype.startswith(("int", "uint", "bool"))
    return t.value if t.known.any() or not whole else np.zeros(t.value.shape, dtype)


def _join(arrays: Sequence[Values], shapes: Sequence[Shape], axis: int) -> Values:
    common = np.broadcast_shapes(*((*a.shape[:axis], 1, *a.shape[axis + 1 :]) for a in arrays))
    if all(a.shape[axis] == 1 and a.size == 1 and a.reshape(()) == arrays[0].reshape(()) for a in arrays):
        return arrays[0]
    pieces = [
        np.broadcast_to(a, (*common[:axis], shape[axis], *common[axis + 1 :]))
        for a, shape in zip(arrays, shapes, strict=True)
    ]
    return np.concatenate(pieces, axis=axis)


def _split_chains(op: Operator) -> list[Chain]:
    axis, at, chains = int(op.attrs["axis"]) % len(op.inputs[0]), 0, []
    for shape in op.outputs:
        chains.append((_cut(op.inputs[0], axis, at, at + shape[axis]),))
        at += shape[axis]
    return list(chains)


def _split_backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    axis = int(op.attrs["axis"]) % len(op.inputs[0])
    if sum(shape[axis] for shape in op.outputs) == op.inputs[0][axis]:
        return (_join([t.live for t in outputs], op.outputs, axis),)
    need: Bools = np.zeros((1,) * len(op.inputs[0]), bool)
    for chain, out in zip(_split_chains(op), outputs, strict=True):
        need = need | needed(chain, out.live)
    return (need,)


def _split_bits(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[TeSA | None, ...]:
    """The common grid of all parts; a part that nobody needs has no say."""
    pairs = [(c, t) for c, t in zip(_split_chains(op), outputs, strict=True) if t.live.any()]
    grids = [grid_before(t, op.inputs[0], chain) for chain, t in pairs]
    first = grids[0] if grids else None
    if first is None or first.quantization is None or first.quantization.scale.size > 1:
        return (None,)
    return (first if all(g == first for g in grids) else None,)


@rule("relax.split", backward=_split_backward, precision=_split_bits)
def split(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """Each part knows what its share of the tensor knows."""
    pairs = zip(op.outputs, _split_chains(op), strict=True)
    return tuple(moved(inputs[0], shape, chain, gaps=False) for shape, chain in pairs)


def _slices(shape: Shape, out: Shape, axes: Any, begins: Any, ends: Any, steps: Any) -> Chain | None:
    """One Pick for each axis that is cut; None if the result would not have the operator's shape."""
    picks: list[Pick] = []
    if len(out) != len(shape):
        return None
    for axis, begin, end, step in zip(axes, begins, ends, steps, strict=True):
        if any(not isinstance(v, int) for v in (axis, begin, end, step)) or step == 0:
            return None
        where = np.arange(shape[axis % len(shape)])[slice(begin, end, step)]
        if len(where) != out[axis % len(shape)]:
            return None
        picks.append(Pick(axis % len(shape), shape[axis % len(shape)], where.astype(np.int64)))
    return tuple(picks)


@mover("relax.strided_slice")
def strided_slice(op: Operator) -> Chain | None:
    """The part knows what the tensor knows there; what is cut away is dead."""
    if len(op.static) < 3 or any(not isinstance(a, tuple) for a in op.static):
        return None
    axes, begins, ends = op.static[:3]
    steps = op.static[3] if len(op.static) > 3 else (1,) * len(axes)
    return _slices(op.inputs[0], op.outputs[0], axes, begins, ends, steps)


def _dynamic_chain(op: Operator) -> Chain | None:
    bounds = [b.tolist() for b in op.constants[1:4] if b is not None]
    return _slices(op.inputs[0], op.outputs[0], range(len(op.inputs[0])), *bounds) if len(bounds) == 3 else None


def _dynamic_backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    chain = _dynamic_chain(op)
    if chain is None:
        return all_needed(op, inputs, outputs)
    bounds = [np.ones((1,) * len(shape), bool) for shape in op.inputs[1:]]
    return (needed(chain, outputs[0].live), *bounds)


@rule("relax.dynamic_strided_slice", backward=_dynamic_backward)
def dynamic_strided_slice(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """As strided_slice where the bounds are constants; else nothing is known."""
    chain = _dynamic_chain(op)
    return nothing(op, inputs) if chain is None else (moved(inputs[0], op.outputs[0], chain, gaps=False),)


@mover("relax.flip")
def flip(op: Operator) -> Chain:
    """The order along one axis is turned around."""
    axis, shape = int(op.attrs["axis"]) % len(op.inputs[0]), op.inputs[0]
    return (Pick(axis, shape[axis], np.arange(shape[axis])[::-1]),)


@mover("relax.tile")
def tile(op: Operator) -> Chain:
    """The tensor several times side by side; an element is needed if any of its copies is."""
    out = op.outputs[0]
    wide = (1,) * (len(out) - len(op.inputs[0])) + op.inputs[0]
    axes = [(i, m, n) for i, (m, n) in enumerate(zip(wide, out, strict=True)) if m != n]
    picks = [Pick(i, m, np.tile(np.arange(m), n // m)) for i, m, n in axes]
    return (Reshape(op.inputs[0], wide), *picks)


@mover("relax.repeat")
def repeat(op: Operator) -> Chain:
    """Each element several times in a row; it is needed if any of its copies is."""
    axis, shape, times = op.attrs.get("axis"), op.inputs[0], int(op.attrs["repeats"])
    if axis is None:
        flat = (int(np.prod(shape)),)
        return (Reshape(shape, flat), Pick(0, flat[0], np.repeat(np.arange(flat[0]), times)))
    axis = int(axis) % len(shape)
    return (Pick(axis, shape[axis], np.repeat(np.arange(shape[axis]), times)),)
