"""Operators on tensors that are not stored row by row, as images of integers are, with their channels last."""

from operator import attrgetter
from typing import Any

from tvm import relax, tirx

from tesa.layers.emitter import Emitter
from tesa.layers.expressions import constant_of, op_name, shape_of
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


@handles("take")
def take(emitter: Emitter, call: Any) -> Value | None:
    """Constant places along one axis."""
    value, indices = emitter.value(call.args[0]), constant_of(call.args[1])
    if value.perm == identity(len(value.shape)) or indices is None or indices.ndim != 1 or call.attrs.axis is None:
        return None
    axis = value.perm.index(int(call.attrs.axis) % len(value.shape))
    made = relax.op.take(value.expr, call.args[1], axis, str(call.attrs.mode))
    return emitter.emit(made, shape_of(call), value.perm)


@handles("strided_slice")
def strided_slice(emitter: Emitter, call: Any) -> Value | None:
    """Constant ranges along some axes."""
    value = emitter.value(call.args[0])
    if value.perm == identity(len(value.shape)) or not all(_whole(arg) for arg in call.args[1:]):
        return None
    axes, *ranges = ([int(field) for field in arg.fields] for arg in call.args[1:])
    places = [value.perm.index(axis % len(value.shape)) for axis in axes]
    made = relax.op.strided_slice(value.expr, places, *ranges, assume_inbound=bool(call.attrs.assume_inbound))
    return emitter.emit(made, shape_of(call), value.perm)


def _whole(arg: Any) -> bool:
    """True for a tuple of constant whole numbers."""
    return isinstance(arg, relax.Tuple) and all(isinstance(field, tirx.IntImm) for field in arg.fields)


def _layout(value: Value) -> str | None:
    """The layout of a tensor whose channels, axis 1, are innermost; None for any other."""
    rank = len(value.shape)
    return _LAST.get(rank) if value.perm == (0, *range(2, rank), 1) else None
