"""A rule out of a chain of steps: forward, backward and bits of an operator that only moves elements."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tesa.attributes.attribute import Bools, TeSA, Values, unknown
from tesa.propagate.registry import Operator, rule
from tesa.propagate.rules.common import all_needed, nothing
from tesa.propagate.rules.movement import Chain, grid_before, moved, needed

Describe = Callable[[Operator], Chain | None]


def mover(*operators: str, fill: Callable[[Operator], Any] | None = None) -> Callable[[Describe], Describe]:
    """Register the rule of operators with one input and one output, out of the steps that the function describes.

    The decorated function answers None where it cannot tell: then nothing is known and everything needed. fill: the
    value of elements that come from nowhere.
    """

    def register(describe: Describe) -> Describe:
        def forward(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
            steps = describe(op)
            if steps is None:
                return nothing(op, inputs)
            return (moved(inputs[0], op.outputs[0], steps, None if fill is None else fill(op), gaps=fill is not None),)

        def backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
            steps = describe(op)
            if steps is None:
                return all_needed(op, inputs, outputs)
            return (needed(steps, outputs[0].live), *unneeded(op, 1))

        def precision(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[TeSA | None, ...]:
            steps = describe(op)
            first = None if steps is None else grid_before(outputs[0], op.inputs[0], steps)
            return (first, *(None,) * (len(inputs) - 1))

        forward.__doc__ = describe.__doc__
        rule(*operators, backward=backward, precision=precision)(forward)
        return describe

    return register


def unneeded(op: Operator, begin: int) -> tuple[Bools, ...]:
    """For the inputs from position `begin` on: nothing of them is needed."""
    return tuple(np.zeros((1,) * len(shape), bool) for shape in op.inputs[begin:])


def whole(op: Operator, position: int, needed_at_all: bool) -> Bools:
    """All of one input or nothing of it."""
    return np.full((1,) * len(op.inputs[position]), needed_at_all)


def indices(op: Operator, inputs: tuple[TeSA, ...], position: int) -> Values | None:
    """The array of an index input as int64: of a constant, or of what is known of it; None if it is not known."""
    array = op.constants[position]
    if array is None:
        facts = inputs[position]
        if not facts.known.all() or facts.value.dtype.kind not in "iu":
            return None
        array = np.broadcast_to(facts.value, facts.shape)
    return array.astype(np.int64) if array.dtype.kind in "iu" else None


def table_facts(op: Operator, inputs: tuple[TeSA, ...], position: int = 0) -> TeSA:
    """The facts about a tensor that elements are picked from; all of it is known if it is a constant.

    As a weight only its zeros are facts, because elements that nobody picks shall be found dead.
    """
    array, facts = op.constants[position], inputs[position]
    if array is None or array.size == 0 or (array.dtype.kind == "f" and not np.isfinite(array).all()):
        return facts
    top = unknown(facts.shape)
    return type(top)(facts.shape, np.ones_like(top.live), array, top.live, facts.bits, facts.quantization)
