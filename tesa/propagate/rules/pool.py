"""Pooling over a window of pixels: each channel for itself."""

from __future__ import annotations

import numpy as np

from tesa.attribute import Bools, TeSA
from tesa.propagate.registry import Operator, rule
from tesa.propagate.rules.common import all_channels, all_needed, as_channels, facts, nothing, per_channel


def _by_channel(op: Operator) -> bool:
    return bool(op.attrs.get("layout", "NCHW") == "NCHW")


def _backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    if not _by_channel(op):
        return all_needed(op, inputs, outputs)
    return (as_channels(per_channel(outputs[0].live, op.inputs[0][1]), 4),)


@rule("relax.nn.max_pool2d", "relax.nn.avg_pool2d", "relax.nn.adaptive_avg_pool2d", backward=_backward)
def pool2d(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """A channel that is one constant at every pixel stays it; an average that counts the padding keeps only 0."""
    if not _by_channel(op):
        return nothing(op, inputs)
    x, channels = inputs[0], op.inputs[0][1]
    keep = all_channels(x.zero, channels)
    padded = any(op.attrs.get("padding", ())) or bool(op.attrs.get("ceil_mode", False))
    diluted = op.op == "relax.nn.avg_pool2d" and padded and bool(op.attrs.get("count_include_pad", True))
    flat = x.value.shape[0] * x.value.shape[2] * x.value.shape[3] == 1
    if flat and not diluted:
        keep = keep | all_channels(x.known, channels)
    value = np.broadcast_to(x.value.reshape(-1)[:channels] if flat else 0.0, (channels,))
    grid = x if op.op == "relax.nn.max_pool2d" and x.bits.size == 1 else None
    return (facts(op.outputs[0], as_channels(keep, 4), as_channels(np.where(keep, value, 0.0), 4), grid),)
