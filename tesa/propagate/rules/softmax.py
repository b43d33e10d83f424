"""Softmax and log-softmax mix their row, but for what a mask takes out of it.

A logit that is -inf, or so far below its row that its exponential is 0, has the result 0, whatever the others are. An
unknown logit is taken as finite. So a mask of the lowest finite number counts where the row has a known logit above it,
and one of -inf everywhere. The only logit that a mask leaves in a row has the result 1, whatever it is. Otherwise an
output needs its whole row. The mask itself is needed: the other outputs would not be right without it.
"""

from dataclasses import dataclass

import numpy as np

from tesa.attributes.attribute import Bools, TeSA, Values, compact, unknown
from tesa.propagate.registry import Operator, rule
from tesa.propagate.rules.annihilate import absorbs, largest_unknown
from tesa.propagate.rules.common import axes_of, facts, full_along

GONE = 1000.0  # exp(-1000) is 0 in float64 too


@dataclass(frozen=True, eq=False)
class Row:
    """The logits along one axis, spread out. masked: their exponential is 0. only: the one that is left."""

    axis: int
    known: Bools
    value: Values
    masked: Bools
    only: Bools


def read_row(x: TeSA, axis: int, dtype: str) -> Row | None:
    """The facts along the axis, None if they have no effect on the result."""
    length = x.shape[axis]
    if not length or (not x.known.any() and length > 1):
        return None
    known, value = (full_along(a, axis, length) for a in (x.known, x.value.astype(np.float64)))
    bound = largest_unknown(dtype)  # no less: a mask applied at run time may have put the lowest number there
    with np.errstate(invalid="ignore"):
        floor = np.where(known, value, -bound).max(axis=axis, keepdims=True)
        overflow = (known & (value == np.inf)).any(axis=axis, keepdims=True)
        masked = known & (value < floor - GONE) & ~overflow
    only = ~masked & ((~masked).sum(axis=axis, keepdims=True) == 1) & ~(known & ~np.isfinite(value))
    return Row(axis, known, value, masked, only)


def softmax_forward(x: TeSA, axis: int, dtype: str) -> TeSA:
    """0 where masked, 1 where nothing else is left, and all of a row that is wholly known."""
    row = read_row(x, axis, dtype)
    if row is None:
        return unknown(x.shape)
    whole = row.known.all(axis=axis, keepdims=True)
    with np.errstate(invalid="ignore"):
        power = np.exp(row.value - row.value.max(axis=axis, keepdims=True))
        value = np.where(whole, power / power.sum(axis=axis, keepdims=True), row.only)
    return facts(x.shape, whole | row.masked | row.only, np.where(row.masked, 0.0, value))


def log_softmax_forward(x: TeSA, axis: int, dtype: str) -> TeSA:
    """-inf where that was masked, 0 where nothing else is left, and all of a row that is wholly known."""
    row = read_row(x, axis, dtype)
    if row is None:
        return unknown(x.shape)
    whole = row.known.all(axis=axis, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        top = row.value.max(axis=axis, keepdims=True)
        total = top + np.log(np.exp(row.value - top).sum(axis=axis, keepdims=True))
        value = np.where(whole, row.value - total, np.where(row.masked, row.value, 0.0))
    return facts(x.shape, whole | (row.masked & absorbs(row.value, dtype)) | row.only, value)


def softmax_backward(x: TeSA, axis: int, dtype: str, live: Bools, log: bool = False) -> Bools:
    """The elements that the live outputs of each row need.

    A masked output is the same whatever the unknown logits are, so that it needs those that are known only.
    """
    row = read_row(x, axis, dtype)
    any_live = np.asarray(live.any(axis=axis, keepdims=True))
    if row is None or not (row.masked.any() or row.only.any()):
        return any_live
    free = row.only | (row.masked & absorbs(row.value, dtype) if log else row.masked)
    return compact(np.asarray((live & ~free).any(axis=axis, keepdims=True) | (row.known & any_live)))


def _axis(op: Operator) -> int:
    return axes_of(op.attrs.get("axis", -1), len(op.inputs[0]))[0]


def _backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    log = op.op == "relax.nn.log_softmax"
    return (softmax_backward(inputs[0], _axis(op), op.dtypes[0], outputs[0].live, log),)


@rule("relax.nn.softmax", backward=_backward)
def softmax(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """Mixes its row; 0 where a mask of -inf lies, all of the row is needed if any of the rest is."""
    return (softmax_forward(inputs[0], _axis(op), op.dtypes[0]),)


@rule("relax.nn.log_softmax", backward=_backward)
def log_softmax(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """Mixes its row; -inf where a mask of -inf lies, all of the row is needed if any of it is."""
    return (log_softmax_forward(inputs[0], _axis(op), op.dtypes[0]),)
