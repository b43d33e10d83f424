"""Operators on images that stand with their channels last, as layers of integers leave them."""

from operator import attrgetter
from typing import Any

from tvm import relax

from tesa.layers.emitter import Emitter
from tesa.layers.expressions import op_name, shape_of
from tesa.layers.layout import Value, identity
from tesa.layers.operators import handles

_LAST = {3: "NWC", 4: "NHWC", 5: "NDHWC"}
_POOLS = [f"nn.{kind}_pool{n}d" for kind in ("max", "avg", "adaptive_avg") for n in (1, 2, 3)]


@handles(*_POOLS)
def pool(emitter: Emitter, call: Any) -> Value | None:
    """The same windows over the places, each channel alone."""
    value = emitter.value(call.args[0])
    layout = _layout(value)
    if layout is None or str(call.attrs.layout) != "NC" + layout[1:-1]:
        return None
    attrs, name = call.attrs, op_name(call)
    make = attrgetter(name.removeprefix("relax."))(relax.op)
    if "adaptive" in name:
        made = make(value.expr, [int(n) for n in attrs.output_size], layout=layout)
    else:
        sizes = [[int(n) for n in values] for values in (attrs.pool_size, attrs.strides, attrs.padding, attrs.dilation)]
        made = make(value.expr, *sizes, bool(attrs.ceil_mode), bool(attrs.count_include_pad), layout)
    return emitter.emit(made, shape_of(call), value.perm)


@handles("image.resize2d")
def resize(emitter: Emitter, call: Any) -> Value | None:
    """The same places for each channel."""
    value, attrs = emitter.value(call.args[0]), call.attrs
    if _layout(value) != "NHWC" or str(attrs.layout) != "NCHW":
        return None
    made = relax.op.image.resize2d(
        value.expr, call.args[1], [float(x) for x in attrs.roi], "NHWC", str(attrs.method),
        str(attrs.coordinate_transformation_mode), str(attrs.rounding_method), float(attrs.cubic_alpha),
        int(attrs.cubic_exclude), float(attrs.extrapolation_value), attrs.out_dtype or None,
    )  # fmt: skip
    return emitter.emit(made, shape_of(call), value.perm)


@handles("nn.pad")
def pad(emitter: Emitter, call: Any) -> Value | None:
    """The widths follow the axes."""
    value, attrs = emitter.value(call.args[0]), call.attrs
    if value.perm == identity(len(value.shape)):
        return None
    widths = [int(width) for axis in value.perm for width in attrs.pad_width[2 * axis : 2 * axis + 2]]
    made = relax.op.nn.pad(value.expr, widths, str(attrs.pad_mode), float(attrs.pad_value))
    return emitter.emit(made, shape_of(call), value.perm)


def _layout(value: Value) -> str | None:
    """The layout of a tensor whose channels, axis 1, are innermost; None for any other."""
    rank = len(value.shape)
    return _LAST.get(rank) if value.perm == (0, *range(2, rank), 1) else None
