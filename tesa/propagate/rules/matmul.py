"""Matrix products: Y[m, n] = sum over k of A[m, k] * B[k, n].

Liveness is the product in the boolean semiring (SparTA's pruning algebra): A[m, k] matters if for some n both B[k, n]
is not 0 and Y[m, n] matters. A weight's dead elements are set to 0, so an activation may lean on a dead weight and the
weight on a zero activation at once: both are gone. Of two activations the known one never leans (see engine.py).
"""

from __future__ import annotations

import numpy as np

from tesa.attribute import Bools, TeSA, Values, reduce_to
from tesa.propagate.registry import Operator, rule
from tesa.propagate.rules.common import all_needed, facts, nothing


def _wide(array: Values, axis: int, length: int) -> Values:
    shape = list(array.shape)
    shape[axis] = length
    return np.broadcast_to(array, shape)


def _hits(a: Bools, b: Bools) -> Bools:
    """OR over k of a[.., m, k] AND b[.., k, n]: the product in the boolean semiring."""
    return np.asarray(np.matmul(a.astype(np.float32), b.astype(np.float32)) > 0)


def _turn(array: Values) -> Values:
    return np.swapaxes(array, -1, -2)


def _plain(op: Operator) -> bool:
    return all(len(shape) >= 2 for shape in op.inputs)


def _unleaning(mine: TeSA, other_zero: Bools, live: Bools, k_axis: int) -> Bools:
    """What is needed of an activation, as (.., m, k): known elements ignore the zeros of their partner."""
    free = _hits(live, other_zero)
    known = mine.known if k_axis == -1 else _turn(mine.known)
    return np.where(known, live.any(axis=-1, keepdims=True), free)


def _backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    if not _plain(op):
        return all_needed(op, inputs, outputs)
    (a, b), k, n, m = inputs, op.inputs[0][-1], op.inputs[1][-1], op.inputs[0][-2]
    live = _wide(outputs[0].live, -1, n)
    nonzero_a, nonzero_b = _wide(~a.zero, -1, k), _wide(_wide(~b.zero, -2, k), -1, n)
    live_m = _wide(_wide(live, -2, m), -1, n) if _rows_differ(a, live) else live
    nonzero_am = _wide(nonzero_a, -2, m) if _rows_differ(a, live) else nonzero_a
    if op.constants[1] is not None:
        need_b = _collapse(_hits(_turn(nonzero_am), live_m), op.inputs[1])
        need_a = _hits(live, _turn(nonzero_b & need_b))
    elif op.constants[0] is not None:
        need_a = _collapse(_hits(live_m, _turn(nonzero_b)), op.inputs[0])
        need_b = _hits(_turn(_wide(~a.zero & need_a, -2, m)), _wide(live, -2, m))
    else:
        need_a = _unleaning(a, _turn(nonzero_b), live, -1)
        need_b = _turn(_unleaning(b, nonzero_am, _turn(live_m), -2))
    return _collapse(need_a, op.inputs[0]), _collapse(need_b, op.inputs[1])


def _rows_differ(a: TeSA, live: Bools) -> bool:
    return bool(a.zero.shape[-2] > 1 or live.shape[-2] > 1)


def _collapse(mask: Bools, shape: tuple[int, ...]) -> Bools:
    """Any over broadcast batch axes."""
    extra = mask.ndim - len(shape)
    mask = np.asarray(mask.any(axis=tuple(range(extra)))) if extra > 0 else mask
    return reduce_to(mask.reshape((1,) * (len(shape) - mask.ndim) + mask.shape), shape)


@rule("relax.matmul", backward=_backward, weights=(0, 1))
def matmul(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """Known where every product of the sum is: a factor is 0, or both are constants."""
    if not _plain(op):
        return nothing(op, inputs)
    (a, b), k = inputs, op.inputs[0][-1]
    known_a, value_a = _operand(op, a, 0)
    known_b, value_b = _operand(op, b, 1)
    known_a, value_a = _wide(known_a, -1, k), _wide(value_a, -1, k)
    known_b, value_b = _wide(known_b, -2, k), _wide(value_b, -2, k)
    nonzero_a, nonzero_b = ~(known_a & (value_a == 0)), ~(known_b & (value_b == 0))
    open_terms = _hits(~known_a, nonzero_b)
    if not known_b.all():
        open_terms = open_terms | _hits(nonzero_a, ~known_b)
    value = np.matmul(np.where(known_a, value_a, 0.0), np.where(known_b, value_b, 0.0)) if not open_terms.all() else 0.0
    return (facts(op.outputs[0], ~open_terms, np.where(open_terms, 0.0, value)),)


def _operand(op: Operator, t: TeSA, index: int) -> tuple[Bools, Values]:
    """Where the operand is known, and its value. Of a weight every element is: its content is at hand."""
    content = op.constants[index]
    if content is None:
        return t.known, t.value.astype(np.float64)
    return np.ones((1,) * content.ndim, bool), content.astype(np.float64)
