"""Operators of several tensors, element by element: an output element comes from those in the same place.

Which constants combine to a constant, and which one decides the result alone, is asked of the operator's algebra, see
annihilate.py. Where one operand decides, the other one is dead, if it is not known: 0 * 0 must not remove both (see
engine.py). A known element may still lean on a constant of the program, which in its turn leans on nothing.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from tesa.attributes.attribute import Bools, Shape, TeSA, Values, from_constant
from tesa.propagate.bits.grids import claimed, same_grid, with_grid
from tesa.propagate.registry import Operator, rule
from tesa.propagate.rules.annihilate import BINARY, Algebra, is_float, largest_unknown
from tesa.propagate.rules.common import as_channels, facts, pad_axes, same_place, unbroadcast
from tesa.propagate.rules.products import typed_facts


def binary_forward(algebra: Algebra, dtype: str, shape: Shape, inputs: tuple[TeSA, ...]) -> TeSA:
    """Known where both operands are and the result is certain, and where one operand decides it alone."""
    rank = len(shape)
    known = [pad_axes(t.known, rank) for t in inputs]
    if not known[0].any() and not known[1].any():
        return facts(shape, np.zeros((1,) * rank, bool), np.zeros((1,) * rank))
    a, b = _numbers(algebra, inputs, dtype, rank)
    with np.errstate(all="ignore"):
        found = known[0] & known[1]
        value = np.asarray(algebra.evaluate(a, b)) if found.any() else np.zeros((1,) * rank, a.dtype)
        if algebra.sure is not None and found.any():
            found = found & algebra.sure(a, b)
        for mine, other, number, decides in ((0, 1, a, algebra.left), (1, 0, b, algebra.right)):
            if decides is not None and known[mine].any():
                alone, result = decides(number, dtype)
                alone = alone & known[mine] & ~known[other]
                found, value = found | alone, np.where(alone, result, value)
    return typed_facts(shape, found, value, dtype)


def binary_backward(algebra: Algebra, op: Operator, inputs: tuple[TeSA, ...], live: Bools) -> tuple[Bools, ...]:
    """An operand is needed where the output is and the other operand does not decide it alone."""
    rank, dtype = len(op.outputs[0]), op.dtypes[0]
    numbers = _numbers(algebra, inputs, dtype, rank)
    needs = []
    for mine, decides in ((0, algebra.right), (1, algebra.left)):
        other, need = 1 - mine, live
        known = pad_axes(inputs[other].known, rank)
        if decides is not None and known.any() and not (mine == 1 and algebra.keeps_right):
            alone = known & decides(numbers[other], dtype)[0]
            need = live & ~(alone & _may_lean(op, inputs, mine, other))
        needs.append(unbroadcast(need, op.outputs[0], op.inputs[mine]))
    return tuple(needs)


def _may_lean(op: Operator, inputs: tuple[TeSA, ...], mine: int, other: int) -> Bools:
    t, rank = inputs[mine], len(op.outputs[0])
    free: Bools = ~t.known
    if op.constants[other] is not None and op.constants[mine] is None:
        free = free | (np.abs(t.value) < largest_unknown(op.dtypes[0]))
    return np.asarray(pad_axes(free, rank))


def _numbers(algebra: Algebra, inputs: tuple[TeSA, ...], dtype: str, rank: int) -> list[Values]:
    """The values of both operands in one type to compute in: bool, int64 or float64."""
    kind: Any = np.float64 if is_float(dtype) else np.int64
    if algebra.compares and any(t.known.any() and t.value.dtype.kind == "f" for t in inputs):
        kind = np.float64
    elif dtype == "bool" and not algebra.compares:
        kind = np.bool_
    return [pad_axes(t.value, rank).astype(kind) for t in inputs]


def _binary_backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    return binary_backward(BINARY[op.op.removeprefix("relax.")], op, inputs, outputs[0].live)


def _on_shared_grid(found: TeSA, inputs: tuple[TeSA, ...]) -> TeSA:
    """The facts of an operator that picks one of its inputs: on their grid, if all are on the same one."""
    first = inputs[0]
    same = all(t.quantization == first.quantization and np.array_equal(t.bits, first.bits) for t in inputs)
    return with_grid(found, first.bits, first.quantization) if same and claimed(first) else found


@rule(*(f"relax.{name}" for name in BINARY if name not in ("maximum", "minimum")), backward=_binary_backward)
def binary(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """Known where both operands are, or where one decides alone: 0 * x, inf + x, False & x, x ** 0."""
    return (binary_forward(BINARY[op.op.removeprefix("relax.")], op.dtypes[0], op.outputs[0], inputs),)


@rule("relax.maximum", "relax.minimum", backward=_binary_backward, precision=same_grid)
def extreme(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """Known where both operands are, or where one is a bound of the type."""
    found = binary_forward(BINARY[op.op.removeprefix("relax.")], op.dtypes[0], op.outputs[0], inputs)
    return (_on_shared_grid(found, inputs),)


def _where_backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    rank, live, condition = len(op.outputs[0]), outputs[0].live, inputs[0]
    known, value = pad_axes(condition.known, rank), pad_axes(condition.value, rank).astype(bool)
    masks = (live & (known | ~_equal(inputs, rank)), live & ~(known & ~value), live & ~(known & value))
    return tuple(unbroadcast(m, op.outputs[0], shape) for m, shape in zip(masks, op.inputs, strict=True))


def _equal(inputs: tuple[TeSA, ...], rank: int) -> Bools:
    """A mask of the elements whose two sides are known to be the same."""
    left, right = inputs[1:]
    known = pad_axes(left.known, rank) & pad_axes(right.known, rank)
    return np.asarray(known & (pad_axes(left.value, rank) == pad_axes(right.value, rank)))


def _where_precision(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[TeSA | None, ...]:
    return None, *same_grid(op, inputs, outputs)[1:]


@rule("relax.where", backward=_where_backward, precision=_where_precision)
def where(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """Known where the chosen side is; where the condition is not known, only if both sides are equal constants."""
    rank = len(op.outputs[0])
    choice, left, right = inputs
    sure, take = pad_axes(choice.known, rank), pad_axes(choice.value, rank).astype(bool)
    known = [pad_axes(t.known, rank) for t in (left, right)]
    value = [pad_axes(t.value, rank) for t in (left, right)]
    known_here = np.where(sure, np.where(take, *known), _equal(inputs, rank))
    found = facts(op.outputs[0], known_here, np.where(sure & ~take, value[1], value[0]))
    return (_on_shared_grid(found, inputs[1:]),)


def _fma_parts(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[Operator, Operator, TeSA]:
    """x1 * x2 + x3 as its product, its sum and the facts about the product."""
    shape = op.outputs[0]
    product = replace(op, inputs=op.inputs[:2], constants=op.constants[:2])
    total = replace(op, inputs=(shape, op.inputs[2]), constants=(None, op.constants[2]))
    return product, total, binary_forward(BINARY["multiply"], op.dtypes[0], shape, inputs[:2])


def _fma_backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    product, total, middle = _fma_parts(op, inputs)
    live, third = binary_backward(BINARY["add"], total, (middle, inputs[2]), outputs[0].live)
    return (*binary_backward(BINARY["multiply"], product, inputs[:2], live), third)


@rule("relax.ewise_fma", backward=_fma_backward)
def fused_multiply_add(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """A product and a sum, by their rules."""
    middle = _fma_parts(op, inputs)[2]
    return (binary_forward(BINARY["add"], op.dtypes[0], op.outputs[0], (middle, inputs[2])),)


def _laid(op: Operator, array: Values) -> Any:
    """The slope of each channel along the channel axis of the data."""
    return as_channels(array, len(op.inputs[0]), int(op.attrs["axis"]))


def _prelu_backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    x, slope = inputs
    live = outputs[0].live
    unused = x.known & (x.value >= 0) & ~_laid(op, slope.known)
    axis = int(op.attrs["axis"]) % len(op.inputs[0])
    need = np.asarray((live & ~unused).any(axis=tuple(i for i in range(live.ndim) if i != axis)))
    return live, need if op.inputs[1] != (1,) else np.asarray(need.any(keepdims=True))


@rule("relax.nn.prelu", backward=_prelu_backward)
def prelu(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """x for x > 0, else slope * x: known where x is, if it is not negative or the slope is known."""
    x, slope = inputs
    known = x.known & ((x.value >= 0) | _laid(op, slope.known))
    with np.errstate(invalid="ignore"):
        below = x.value * _laid(op, slope.value)
    return (facts(op.outputs[0], known, np.where(x.value >= 0, x.value, below)),)


@rule("relax.nn.dropout", backward=same_place, precision=same_grid)
def dropout(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """At inference the identity, with a mask of ones."""
    x = inputs[0]
    ones = from_constant(np.broadcast_to(np.ones((), op.dtypes[1]), op.outputs[1]))
    return facts(op.outputs[0], x.known, x.value, x), ones
