"""Copies around the kernel of a convolution: taps along the depth into channels, phases of the output into places."""

from typing import Any

from tvm import relax, te, tirx

from tesa.layers.anchor import Stack
from tesa.layers.emitter import Emitter
from tesa.layers.expressions import shape_of
from tesa.layers.layout import Perm, Value, identity

_DEPTH_FIRST: Perm = (0, 2, 1, 3, 4)
DEPTH_CHANNELS: Perm = (0, 2, 3, 4, 1)

_OPAQUE = 8  # TVM's operator kind that fusion leaves alone


def stack_last(emitter: Emitter, x: Value, how: Stack, zero: int) -> Any:
    """(n, out, height, width, taps * channels) of codes (n, channels, depth, height, width); zero: the code of 0."""
    n, channels, depth, height, width = x.shape
    x = emitter.to(x, DEPTH_CHANNELS)

    def compute(data: Any) -> Any:
        def element(b: Any, d: Any, y: Any, z: Any, t: Any, c: Any) -> Any:
            at = d * how.stride + t * how.dilation - how.before
            inside = tirx.all(at >= 0, at < depth)
            return tirx.if_then_else(inside, data[b, at, y, z, c], tirx.const(zero, "uint8"))

        return te.compute((n, how.out, height, width, how.taps, channels), element, name="stack")

    named: dict[str, Any] = {"primfunc_name_hint": "layout", "primfunc_attrs": {"op_pattern": _OPAQUE}}
    made = emitter.builder.emit_te(compute, x.expr, **named)
    return emitter.builder.emit(relax.op.reshape(made, (n, how.out, height, width, how.taps * channels)))


def stack(emitter: Emitter, x: Value, how: Stack, zero: int = 0) -> Any:
    """(n, out, taps * channels, height, width) of a tensor (n, channels, depth, height, width), see Stack. zero: what
    stands outside, the code of 0 of codes."""
    n, channels, depth, height, width = x.shape
    if x.perm not in (_DEPTH_FIRST, identity(5)):
        x = emitter.to(x, identity(5))
    moved = x.perm == _DEPTH_FIRST
    after = (how.out - 1) * how.stride + (how.taps - 1) * how.dilation - how.before - (depth - 1)
    padded = how.before > 0 or after > 0

    def compute(data: Any) -> Any:
        def element(b: Any, d: Any, t: Any, c: Any, y: Any, z: Any) -> Any:
            at = d * how.stride + t * how.dilation - how.before
            value = data[b, at, c, y, z] if moved else data[b, c, at, y, z]
            if not padded:
                return value
            return tirx.if_then_else(tirx.all(at >= 0, at < depth), value, tirx.const(zero, str(data.dtype)))

        return te.compute((n, how.out, how.taps, channels, height, width), element, name="stack")

    # as a copy of its own: fused with what makes x, each element would be computed once for each tap
    named: dict[str, Any] = {"primfunc_name_hint": "layout", "primfunc_attrs": {"op_pattern": _OPAQUE}}
    made = emitter.builder.emit_te(compute, x.expr, **named)
    return emitter.builder.emit(relax.op.reshape(made, (n, how.out, how.taps * channels, height, width)))


def stored_layout(phases: tuple[int, ...], depth_first: bool) -> Perm:
    """The logical axis that each axis of an upsampling layer's stored result holds; ~axis for the phases of one.

    >>> stored_layout((2, 3), False)
    (0, -3, -4, 1, 2, 3)
    """
    spatial = range(2, 2 + len(phases))
    outer = [2] if depth_first else []
    return (0, *outer, *(~axis for axis in spatial), 1, *(axis for axis in spatial if axis not in outer))


def stored_shape(shape: tuple[int, ...], phases: tuple[int, ...], layout: Perm) -> tuple[int, ...]:
    """The shape in which a kernel stores the result of an upsampling layer of that logical shape.

    >>> stored_shape((1, 8, 5, 6), (2, 3), (0, -3, -4, 1, 2, 3))
    (1, 2, 3, 8, 3, 2)
    """
    each = (1, 1, *phases)
    return tuple(each[~axis] if axis < 0 else -(-shape[axis] // each[axis]) for axis in layout)


def shuffle(emitter: Emitter, stored: Any, shape: tuple[int, ...], layout: Perm, perm: Perm) -> Value:
    """The result of an upsampling layer in the layout perm: y[n, c, q s + r] = z[n, r, c, q], so along each axis."""
    sizes = shape_of(stored)

    def compute(data: Any) -> Any:
        def element(*places: Any) -> Any:
            at = dict(zip(perm, places, strict=True))
            step = {axis: sizes[layout.index(~axis)] for axis in range(len(shape)) if ~axis in layout}
            found = (at[~a] % step[~a] if a < 0 else at[a] // step[a] if a in step else at[a] for a in layout)
            return data[tuple(found)]

        return te.compute(tuple(shape[axis] for axis in perm), element, name="shuffle")

    named: dict[str, Any] = {"primfunc_name_hint": "layout", "primfunc_attrs": {"op_pattern": _OPAQUE}}
    made = emitter.builder.emit_te(compute, stored, **named)
    return Value(made, shape, str(made.ty.dtype), perm)
