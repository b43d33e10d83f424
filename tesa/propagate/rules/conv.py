"""2-D convolutions, grouped and depthwise ones too. Activations by channel, weights by element.

A channel is 0, or a constant, only if it is so at every pixel. A non-zero constant channel leaves a convolution as a
constant only without padding: at the border the padding's zeros take its place.
"""

from __future__ import annotations

import numpy as np

from tesa.attribute import Bools, TeSA, Values
from tesa.propagate.registry import Operator, rule
from tesa.propagate.rules.common import all_channels, all_needed, as_channels, facts, nothing, per_channel


def _supported(op: Operator) -> bool:
    layouts = (op.attrs.get("data_layout", "NCHW"), op.attrs.get("kernel_layout", "OIHW"))
    return layouts == ("NCHW", "OIHW") and op.attrs.get("out_layout") in ("NCHW", "", None) and len(op.inputs) == 2


def inside(op: Operator) -> Bools:
    """(kh, kw): which taps of the window ever read a pixel; the others read padding at every position."""
    reach = []
    pads = [int(p) for p in op.attrs["padding"]]
    for axis in (0, 1):
        size, taps, outs = op.inputs[0][2 + axis], op.inputs[1][2 + axis], op.outputs[0][2 + axis]
        stride, dilation = int(op.attrs["strides"][axis]), int(op.attrs["dilation"][axis])
        at = np.arange(outs)[:, None] * stride + np.arange(taps)[None, :] * dilation - pads[axis]
        reach.append(((at >= 0) & (at < size)).any(axis=0))
    return np.asarray(np.logical_and.outer(*reach))


def _by_group(op: Operator, channels: Values) -> Values:
    """(in,) as (out, in/groups): the channels that each output reads."""
    groups, outs = int(op.attrs["groups"]), op.inputs[1][0]
    return np.repeat(channels.reshape(groups, -1), outs // groups, axis=0)


def _backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    if not _supported(op):
        return all_needed(op, inputs, outputs)
    x, w = inputs
    groups, (outs, ins) = int(op.attrs["groups"]), op.inputs[1][:2]
    live = per_channel(outputs[0].live, outs)
    if op.constants[1] is None:
        return all_needed(op, inputs, outputs)
    nonzero = ~_by_group(op, all_channels(x.zero, op.inputs[0][1]))
    need_w = (live[:, None] & nonzero)[:, :, None, None] & inside(op)
    used = (~w.zero & need_w).any(axis=(2, 3))
    need_x = used.reshape(groups, outs // groups, ins).any(axis=1).reshape(-1)
    return as_channels(need_x, 4), need_w


@rule("relax.nn.conv2d", backward=_backward, weights=(1,))
def conv2d(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """An output channel is constant if each input channel it reads through a non-zero weight is 0, or a constant."""
    weight = op.constants[1]
    if not _supported(op) or weight is None:
        return nothing(op, inputs)
    x, channels = inputs[0], op.inputs[0][1]
    zero = all_channels(x.zero, channels)
    flat = all_channels(x.known, channels) & (x.value.shape[0] * x.value.shape[2] * x.value.shape[3] == 1)
    if any(op.attrs["padding"]):
        flat = np.zeros_like(flat)
    taps = np.where(inside(op), weight.astype(np.float64), 0.0)
    open_terms = ((taps != 0).any(axis=(2, 3)) & ~_by_group(op, zero | flat)).any(axis=1)
    value = np.broadcast_to(x.value.reshape(-1)[:channels] if flat.any() else 0.0, (channels,))
    constant = (taps.sum(axis=(2, 3)) * _by_group(op, np.where(flat & ~zero, value, 0.0))).sum(axis=1)
    return (facts(op.outputs[0], as_channels(~open_terms, 4), as_channels(constant, 4)),)
