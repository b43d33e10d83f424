"""Tensors out of nothing, triangles and one-hot rows: known constants."""

from typing import Any

import numpy as np

from tesa.attributes.attribute import FULL_BITS, Bools, TeSA
from tesa.propagate.bits.grids import claimed, with_grid
from tesa.propagate.registry import Operator, rule
from tesa.propagate.rules.common import as_channels, facts, nothing, pad_axes, unbroadcast
from tesa.propagate.rules.movement import grid_before
from tesa.propagate.rules.mover import unneeded


def _nothing_needed(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    return unneeded(op, 0)


def _constant(op: Operator, value: Any) -> tuple[TeSA, ...]:
    """The output is this array, which broadcasts to it."""
    array = pad_axes(np.asarray(value).astype(op.dtypes[0]), len(op.outputs[0]))
    return (facts(op.outputs[0], np.ones((1,) * array.ndim, bool), array),)


@rule("relax.zeros", "relax.zeros_like", backward=_nothing_needed)
def zeros(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """All 0; nothing is needed of a tensor that only lends its shape."""
    return _constant(op, 0)


@rule("relax.ones", "relax.ones_like", backward=_nothing_needed)
def ones(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """All 1; nothing is needed of a tensor that only lends its shape."""
    return _constant(op, 1)


@rule("relax.size", backward=_nothing_needed)
def size(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """The number of elements: nothing is needed of them."""
    return _constant(op, int(np.prod(op.inputs[0])))


@rule("relax.shape_of", backward=_nothing_needed)
def shape_of(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """A shape is no tensor and has no facts; nothing is needed of the tensor."""
    return nothing(op, inputs)


def _full_backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    return (*unneeded(op, 0)[:-1], unbroadcast(outputs[0].live, op.outputs[0], op.inputs[-1]))


@rule("relax.full", "relax.full_like", backward=_full_backward)
def full(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """Copies of one number, known if it is."""
    return _constant(op, inputs[-1].value) if inputs[-1].known.all() else nothing(op, inputs)


@rule("relax.arange", backward=_nothing_needed)
def arange(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """begin, begin + step, ...: known."""
    begin, _, step = op.static
    return _constant(op, begin + step * np.arange(op.outputs[0][0]))


@rule("relax.eye", "relax.eye_like", backward=_nothing_needed)
def eye(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """1 on a diagonal, 0 elsewhere."""
    rows, columns = op.outputs[0]
    return _constant(op, np.eye(rows, columns, int(op.static[-1])))


@rule("relax.hamming_window", backward=_nothing_needed)
def hamming_window(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """alpha - beta * cos(2 pi n / N): known. N is one less where the window is not periodic."""
    count, periodic, alpha, beta = op.static
    length = int(count) if periodic else int(count) - 1
    angle = 2 * np.pi * np.arange(int(count)) / max(length, 1)
    return _constant(op, alpha - beta * np.cos(angle))


def _triangle(op: Operator) -> Bools:
    """(rows, columns) with axes in front: True where the element stays."""
    rows, columns = op.outputs[0][-2:]
    every = np.ones((1,) * (len(op.outputs[0]) - 2) + (rows, columns), bool)
    diagonal = int(op.static[0]) if op.static else 0
    return np.tril(every, diagonal) if op.op == "relax.tril" else np.triu(every, diagonal)


def _triangle_backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    return (outputs[0].live & _triangle(op), *unneeded(op, 1))


def _triangle_bits(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[TeSA | None, ...]:
    return (grid_before(outputs[0], op.inputs[0], ()), *(None,) * (len(inputs) - 1))


@rule("relax.tril", "relax.triu", backward=_triangle_backward, precision=_triangle_bits)
def triangle(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """Outside the triangle 0, and what stood there is dead."""
    x, inside = inputs[0], _triangle(op)
    value = np.where(inside, x.value, np.zeros((), x.value.dtype))
    result = facts(op.outputs[0], x.known | ~inside, value)
    q = x.quantization
    if q is None or not claimed(x):
        return (result,)
    on_grid = q.rounded(np.zeros((1,) * value.ndim)) == 0
    return (with_grid(result, np.where(inside | on_grid, x.bits, FULL_BITS), q),)


def _one_hot_backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    return (np.asarray(outputs[0].live.any(axis=_new_axis(op))),)


def _new_axis(op: Operator) -> int:
    return int(op.attrs["axis"]) % len(op.outputs[0])


@rule("relax.one_hot", backward=_one_hot_backward)
def one_hot(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """Known where the index is: the value "on" at its place, "off" elsewhere, and everywhere if it is out of range."""
    x, axis, (on, off) = inputs[0], _new_axis(op), op.static
    at = as_channels(np.arange(int(op.attrs["depth"])), len(op.outputs[0]), axis)
    known = np.expand_dims(x.known, axis) | np.bool_(on == off)
    value = np.where(np.expand_dims(x.value, axis) == at, on, off).astype(op.dtypes[0])
    return (facts(op.outputs[0], known, value),)
