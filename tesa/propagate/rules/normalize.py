"""Operators that mix their row: softmax, layer norm. A zero in the row is no zero in the result."""

from __future__ import annotations

import numpy as np

from tesa.attribute import Bools, TeSA
from tesa.propagate.registry import Operator, rule
from tesa.propagate.rules.common import axes_of, facts, nothing, unbroadcast


def _row(live: Bools, axes: tuple[int, ...]) -> Bools:
    return np.asarray(live.any(axis=axes, keepdims=True))


def _softmax_backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    return (_row(outputs[0].live, axes_of(op.attrs.get("axis", -1), len(op.inputs[0]))),)


@rule("relax.nn.softmax", "relax.nn.log_softmax", backward=_softmax_backward)
def softmax(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """Mixes its row: nothing is known of it, and all of it is needed if any of it is."""
    return nothing(op, inputs)


def _shaped(t: TeSA, shape: tuple[int, ...], axes: tuple[int, ...], what: str) -> Bools:
    """A mask over gamma or beta, laid along the normalised axes of the data."""
    mask = t.zero if what == "zero" else t.known if what == "known" else t.value
    view = [1] * len(shape)
    for axis, length in zip(axes, mask.shape, strict=True):
        view[axis] = length
    return mask.reshape(view)


def _norm_backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    shape = op.inputs[0]
    axes = axes_of(op.attrs["axes"], len(shape))
    live = outputs[0].live
    data = _row(live & ~_shaped(inputs[1], shape, axes, "zero"), axes)
    others = []
    for size in op.inputs[1:]:
        along = live.any(axis=tuple(i for i in range(live.ndim) if i not in axes))
        others.append(unbroadcast(np.asarray(along), size, size))
    return (data, *others)


@rule("relax.nn.layer_norm", "relax.nn.rms_norm", backward=_norm_backward)
def layer_norm(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """Mixes its row; where gamma is 0 the result is beta (layer norm) or 0 (rms norm)."""
    shape = op.outputs[0]
    axes = axes_of(op.attrs["axes"], len(shape))
    known = _shaped(inputs[1], shape, axes, "zero")
    if len(inputs) < 3:
        return (facts(shape, known, np.zeros((1,) * len(shape))),)
    beta = inputs[2]
    return (facts(shape, known & _shaped(beta, shape, axes, "known"), _shaped(beta, shape, axes, "value")),)
