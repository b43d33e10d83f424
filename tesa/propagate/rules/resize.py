"""Resizing and sampling of images: each channel for itself, from many pixels to many.

The weights of an interpolated pixel sum to 1, so a channel that is one constant stays it, unless pixels from outside
the image take part with a value of their own.
"""

import numpy as np

from tesa.attributes.attribute import Bools, TeSA
from tesa.propagate.registry import Operator, rule
from tesa.propagate.rules.common import all_channels, all_needed, as_channels, facts, nothing, per_channel


def _channel_axis(op: Operator) -> int | None:
    """The axis of the channels; None for a layout that splits them."""
    layout = str(op.attrs["layout"])
    whole = layout.isalpha() and layout.isupper() and len(layout) == len(op.inputs[0])
    return layout.index("C") if whole and "C" in layout else None


def _outside(op: Operator) -> float | None:
    """The value that pixels from outside the image may have, None if there are none."""
    if op.op == "relax.image.grid_sample":
        return 0.0 if str(op.attrs["padding_mode"]) == "zeros" else None
    crops = str(op.attrs["coordinate_transformation_mode"]) == "tf_crop_and_resize"
    return float(op.attrs["extrapolation_value"]) if crops else None


def _backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    axis, live = _channel_axis(op), outputs[0].live
    if axis is None:
        return all_needed(op, inputs, outputs)
    data = as_channels(per_channel(live, op.inputs[0][axis], axis), live.ndim, axis)
    return (data, *(np.full((1,) * len(shape), bool(live.any())) for shape in op.inputs[1:]))


@rule("relax.image.resize2d", "relax.image.resize3d", "relax.image.grid_sample", backward=_backward)
def resample(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """A channel that is one constant everywhere stays it; one that is 0 does if pixels from outside are 0 too."""
    axis, x = _channel_axis(op), inputs[0]
    if axis is None:
        return nothing(op, inputs)
    rank, channels = len(x.shape), x.shape[axis]
    flat = np.moveaxis(x.value, axis, 0).reshape(x.value.shape[axis], -1)
    same = all_channels(x.known, channels, axis) & (flat == flat[:, :1]).all(axis=1) & np.isfinite(flat[:, 0])
    value, outside = np.broadcast_to(flat[:, 0], (channels,)), _outside(op)
    if outside is not None:
        same = same & (value == outside)
    nearest = str(op.attrs["method"]) in ("nearest_neighbor", "nearest")
    single = x.quantization is None or x.quantization.scale.size == x.quantization.zero_point.size == 1
    grid = x if nearest and outside is None and x.bits.size == 1 and single else None
    known = as_channels(same, rank, axis)
    return (facts(op.outputs[0], known, as_channels(np.where(same, value, 0.0), rank, axis), grid),)
