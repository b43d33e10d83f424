"""Operators that move elements, as the plain operators of Relax whose facts move along."""

from typing import Any

import numpy as np
import tvm
from tvm import relax

from tesa.errors import UnsupportedError
from tesa.frontend.expressions import at, constant, constant_value, static_shape
from tesa.frontend.registry import imports

PAD_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


@imports("Pad", "com.microsoft::Pad")
def pad(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """relax.nn.pad; a negative width cuts. pads and value are attributes (opset 2) or inputs, axes from opset 18."""
    x, mode = inputs[0], attrs.get("mode", b"constant").decode()
    given = attrs.get("pads") if "pads" in attrs else constant_value(at(inputs, 1))
    value = constant_value(inputs[2]) if at(inputs, 2) is not None else np.asarray(attrs.get("value", 0.0))
    axes = constant_value(inputs[3]) if at(inputs, 3) is not None else np.arange(len(static_shape(x)))
    if given is None or value is None or axes is None or mode not in PAD_MODES:
        return None
    rank = len(static_shape(x))
    width = np.zeros((rank, 2), np.int64)
    width[np.asarray(axes) % rank] = np.asarray(given).reshape(2, -1).T
    cut = np.minimum(width, 0)
    if cut.any():
        ends = [n + int(c) for n, c in zip(static_shape(x), cut[:, 1], strict=True)]
        x = bb.normalize(relax.op.strided_slice(x, list(range(rank)), [-int(c) for c in cut[:, 0]], ends))
    plain = [int(n) for n in np.maximum(width, 0).reshape(-1)]
    return relax.op.nn.pad(x, plain, PAD_MODES[mode], float(value.reshape(-1)[0]) if mode == "constant" else 0.0)


@imports("Tile")
def tile(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """relax.tile, if the numbers of copies are constant."""
    times = constant_value(at(inputs, 1))
    return None if times is None else relax.op.tile(inputs[0], [int(n) for n in times.reshape(-1)])


@imports("CumSum")
def cumsum(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """relax.cumsum along one axis."""
    return _cumulative(relax.op.cumsum, bb, inputs, attrs)


@imports("CumProd")
def cumprod(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """relax.cumprod along one axis."""
    return _cumulative(relax.op.cumprod, bb, inputs, attrs)


def _cumulative(operator: Any, bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """relax.cumsum or cumprod; "reverse" turns the tensor around before and after."""
    given = constant_value(inputs[1])
    if given is None:
        return None
    axis = int(given.reshape(())) % len(static_shape(inputs[0]))
    x = bb.normalize(relax.op.flip(inputs[0], axis)) if attrs.get("reverse", 0) else inputs[0]
    total = bb.normalize(operator(x, axis, exclusive=bool(attrs.get("exclusive", 0))))
    return relax.op.flip(total, axis) if attrs.get("reverse", 0) else total


@imports("Gather")
def gather(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """relax.take, with negative indices counted from the end. An index out of range takes the nearest element."""
    data, indices = inputs[0], inputs[1]
    if not isinstance(getattr(data, "ty", None), relax.TensorType) or isinstance(indices, relax.ShapeExpr):
        return None
    axis = int(attrs.get("axis", 0)) % len(static_shape(data))
    length = static_shape(data)[axis]
    known = constant_value(indices)
    if known is not None:
        fixed = constant(np.clip(np.where(known < 0, known + length, known), 0, length - 1).astype(known.dtype))
        return relax.op.take(data, fixed, axis, mode="fast")
    dtype = indices.ty.dtype
    wrapped = relax.op.add(indices, relax.const(length, dtype))
    positive = relax.op.where(relax.op.less(indices, relax.const(0, dtype)), wrapped, indices)
    return relax.op.take(data, positive, axis, mode="clip")


@imports("Shape")
def shape_of(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """The shape as a constant: all shapes are static."""
    shape = static_shape(inputs[0])
    return constant(np.asarray(shape[attrs.get("start", 0) : attrs.get("end", len(shape))], np.int64))


@imports("OneHot")
def one_hot(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """relax.one_hot with negative indices counted from the end; depth and the two values are constants."""
    depth, values = constant_value(inputs[1]), constant_value(inputs[2])
    if depth is None or values is None:
        return None
    index = inputs[0] if "int" in str(inputs[0].ty.dtype) else bb.normalize(relax.op.astype(inputs[0], "int64"))
    kind, size = str(index.ty.dtype), int(depth.reshape(()))
    wrapped = bb.normalize(relax.op.add(index, relax.const(size, kind)))
    index = bb.normalize(relax.op.where(bb.normalize(relax.op.less(index, relax.const(0, kind))), wrapped, index))
    make = tvm.tirx.FloatImm if values.dtype.kind == "f" else tvm.tirx.IntImm
    off, on = (relax.prim_value(make(str(values.dtype), v)) for v in values.tolist())
    axis = int(attrs.get("axis", -1)) % (len(static_shape(index)) + 1)
    return relax.op.one_hot(index, on, off, size, axis)


@imports("SpaceToDepth")
def space_to_depth(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """Blocks of pixels become channels: the pixel in the block is the slower index (DCR) or the faster one (CRD)."""
    n, c, h, w = static_shape(inputs[0])
    r = int(attrs["blocksize"])
    apart = bb.normalize(relax.op.reshape(inputs[0], (n, c, h // r, r, w // r, r)))
    order = [0, 1, 3, 5, 2, 4] if attrs.get("mode", b"DCR") == b"CRD" else [0, 3, 5, 1, 2, 4]
    turned = bb.normalize(relax.op.permute_dims(apart, order))
    return relax.op.reshape(turned, (n, c * r * r, h // r, w // r))


@imports("ReverseSequence")
def reverse_sequence(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """relax.reverse_sequence."""
    return relax.op.reverse_sequence(inputs[0], inputs[1], attrs.get("time_axis", 0), attrs.get("batch_axis", 1))


@imports("Resize")
def resize(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """TVM's own converter; UnsupportedError for the modes that it would compute differently."""
    mode = attrs.get("coordinate_transformation_mode", b"half_pixel").decode()
    if attrs.get("antialias", 0) or mode == "half_pixel_symmetric":
        raise UnsupportedError(f"Resize with antialias or half-pixel-symmetric coordinates is not supported ({mode})")
    scales = constant_value(inputs[2]) if at(inputs, 2) is not None else None
    if scales is None or not scales.size or attrs.get("mode", b"nearest") == b"nearest":
        return None
    sizes = static_shape(inputs[0])[-len(scales) :]
    if any(abs(n * float(s) - round(n * float(s))) > 1e-5 for n, s in zip(sizes, scales, strict=True)):
        raise UnsupportedError(
            f"Resize of {sizes} by the scales {scales.tolist()} makes no whole size; give the sizes instead of scales"
        )
    return None


@imports("RoiAlign")
def roi_align(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """TVM's own converter, for the mode that it has."""
    if attrs.get("mode", b"avg") != b"avg":
        raise UnsupportedError("RoiAlign with mode max is not supported, only avg is")
    return None


@imports("NonMaxSuppression", "AllClassNMS", "NonZero", "Unique", "Compress", "com.microsoft::Unique")
def depends_on_data(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """Raise an UnsupportedError: the result has another shape for other data."""
    raise UnsupportedError(
        "the shape of its result depends on data; tesa compiles for fixed sizes. Cut the model off before this operator"
    )
