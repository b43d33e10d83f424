"""Clip: the bounds are numbers of the program."""

import numpy as np

from tesa.attributes.attribute import Bools, TeSA
from tesa.propagate.bits.grids import same_grid
from tesa.propagate.registry import Operator, rule
from tesa.propagate.rules.annihilate import is_float
from tesa.propagate.rules.common import facts


def _bounds(op: Operator) -> tuple[float, float]:
    low, high = (float(bound) for bound in op.static)
    return low, high


def _backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    low, high = _bounds(op)
    return (outputs[0].live & (low != high),)


@rule("relax.clip", backward=_backward, precision=same_grid)
def clip(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """A constant is clipped like any value; 0 stays 0 if the bounds enclose it; equal bounds decide alone."""
    (low, high), x, dtype = _bounds(op), inputs[0], op.dtypes[0]
    known = np.ones((1,) * len(x.shape), bool) if low == high else x.known
    value = np.clip(x.value.astype(np.float64) if is_float(dtype) else x.value, low, high)
    return (facts(op.outputs[0], known, value if is_float(dtype) else value.astype(dtype)),)
