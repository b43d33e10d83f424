"""Convolutions of one to three axes, plain and transposed, grouped and depthwise. Weights by element.

What is known of an activation counts by channel, and by position along an axis whose window is a single tap. A channel
that is one constant up to the border meets the padding's zeros there: the result is then a constant that differs from
position to position. A weight that is computed by the model is an activation, and the law for two of them holds: only
what is not known may lean on the zeros of the other (see engine.py).
"""

import numpy as np

from tesa.attributes.attribute import Bools, TeSA, Values, compact
from tesa.propagate.registry import Operator, rule
from tesa.propagate.rules.common import all_needed, facts, nothing
from tesa.propagate.rules.conv_view import ConvView, carried, conv_view, convolve, inside, meets, pairs

PLAIN = ("relax.nn.conv1d", "relax.nn.conv2d", "relax.nn.conv3d")
TRANSPOSED = tuple(f"{name}_transpose" for name in PLAIN)


def _infinite(known: Bools, value: Values) -> Bools:
    return np.asarray(known & np.isinf(value))


def _weight(op: Operator, w: TeSA, view: ConvView) -> tuple[Bools, Values]:
    """(mask of the known weights, their values). Of a constant every element is known."""
    array = op.constants[1]
    known = w.known if array is None else np.ones((1,) * len(w.shape), bool)
    value = w.value if array is None else np.where(w.known, w.value, array)
    shape = op.inputs[1]
    return view.weight(np.broadcast_to(known, shape)), view.weight(np.broadcast_to(value, shape)).astype(np.float64)


def _backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    view = conv_view(op)
    if view is None:
        return all_needed(op, inputs, outputs)
    x, w = inputs
    live, reached = view.result(outputs[0].live), inside(view)
    nonzero_x = view.data(~x.zero)
    nonzero_w = view.weight(np.broadcast_to(~w.zero, op.inputs[1]))
    need_w = pairs(view, live, nonzero_x)
    if op.constants[1] is not None:  # a weight that is dead becomes 0, so both may lean on each other
        need_x = carried(view, live, nonzero_w & need_w)
    else:
        every = np.broadcast_to(reached, nonzero_w.shape)
        need_x = np.where(view.data(x.known), carried(view, live, every), carried(view, live, nonzero_w & reached))
        known_w = view.weight(np.broadcast_to(w.known, op.inputs[1]))
        need_w = np.where(known_w, pairs(view, live, np.ones_like(nonzero_x)), need_w)
    poison = view.data(_infinite(x.known, x.value))
    if poison.any():  # 0 * inf is no 0
        need_x = need_x | (poison & carried(view, live, np.broadcast_to(reached, nonzero_w.shape)))
    return compact(view.as_data(need_x)), view.as_weight(need_w)


@rule(*PLAIN, *TRANSPOSED, backward=_backward, weights=(1,))
def convolution(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """An output channel is known if each input channel it reads through a non-zero weight is."""
    view = conv_view(op)
    if view is None:
        return nothing(op, inputs)
    x, w = inputs
    known_x, value_x = view.data(x.known), view.data(x.value).astype(np.float64)
    known_w, value_w = _weight(op, w, view)
    bad_x, bad_w = _infinite(known_x, value_x), _infinite(known_w, value_w)
    unknown = meets(view, ~known_x, ~known_w | (value_w != 0))
    if not known_w.all():
        unknown = unknown | meets(view, ~known_x | (value_x != 0), ~known_w)
    if bad_x.any():
        unknown = unknown | meets(view, bad_x, np.ones_like(known_w))
    if bad_w.any():
        unknown = unknown | meets(view, np.ones_like(known_x), bad_w)
    if unknown.all():
        return nothing(op, inputs)
    value_x, value_w = (np.where(np.isinf(v), 0.0, v) for v in (value_x, value_w))  # they reach no known output
    value = _constant(view, value_x, value_w, ~unknown)
    return (facts(op.outputs[0], view.as_result(~unknown), view.as_result(value)),)


def _constant(view: ConvView, x: Values, w: Values, known: Bools) -> Values:
    """The value of the outputs that are known; only groups and channels that take part are computed."""
    x = np.broadcast_to(x, (x.shape[0], view.groups, view.ins, *x.shape[3:]))
    wanted: Bools = np.asarray(known.any(axis=(0, *range(3, known.ndim))))
    given: Bools = np.asarray((x != 0).any(axis=(0, *range(3, x.ndim))))
    groups = np.flatnonzero(wanted.any(axis=1) & given.any(axis=1))
    if not groups.size:
        return np.zeros((1,) * known.ndim)
    outs, ins = (np.flatnonzero(m[groups].any(axis=0)) for m in (wanted, given))
    part = convolve(view, x[:, groups][:, :, ins], w[groups][:, outs][:, :, ins])
    full = np.zeros((x.shape[0], view.groups, view.outs, *part.shape[3:]))
    full[:, groups[:, None], outs[None, :]] = part
    return np.where(known, full, 0.0)


def constant_part(op: Operator, x: TeSA, weight: Values) -> tuple[Values, Values] | None:
    """(weight, shift): the input channels that are known and finite at every place taken out of a convolution.

    Those channels get the weight 0; shift broadcasts to the output, and convolution plus shift is what it was. None if
    there are no such channels, or all are 0.
    """
    view = conv_view(op)
    if view is None:
        return None
    others = (0, *range(3, 3 + len(view.axes)))
    known, value = view.data(x.known), view.data(x.value).astype(np.float64)
    fixed = (known & np.isfinite(value)).all(axis=others, keepdims=True)
    fixed = fixed & (value != 0).any(axis=others, keepdims=True)
    if not fixed.any():
        return None
    parts = view.weight(weight).astype(np.float64)
    channels = np.broadcast_to(fixed, (1, view.groups, view.ins, *fixed.shape[3:]))[0]
    of_weight = channels.reshape(view.groups, 1, view.ins, *(1 for _ in view.axes))
    every = np.ones((1, view.groups, view.outs, *(1 for _ in view.axes)), bool)
    shift = _constant(view, np.where(fixed, value, 0.0), np.where(of_weight, parts, 0.0), every)
    left = view.as_weight(np.where(of_weight, 0.0, parts))
    return left.astype(weight.dtype), compact(view.as_result(shift)).astype(weight.dtype)
