"""Operators that move elements, as the plain operators of Relax whose facts move along."""

from typing import Any

import numpy as np
import tvm
from onnx import helper
from tvm import relax

from tesa.errors import UnsupportedError
from tesa.frontend.expressions import at, constant, constant_value, static_shape
from tesa.frontend.registry import imports

PAD_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


@imports("Pad", "com.microsoft::Pad")
def pad(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """relax.nn.pad; a negative width cuts. (x, widths, value, axes), of which the value may be computed."""
    x, mode = inputs[0], attrs.get("mode", b"constant").decode()
    rank = len(static_shape(x))
    given = constant_value(at(inputs, 1))
    axes = constant_value(inputs[3]) if at(inputs, 3) is not None else np.arange(rank)
    if given is None or axes is None or mode not in PAD_MODES:
        return None
    width = np.zeros((rank, 2), np.int64)
    width[np.asarray(axes) % rank] = np.asarray(given).reshape(2, -1).T
    cut = np.minimum(width, 0)
    if cut.any():
        ends = [n + int(c) for n, c in zip(static_shape(x), cut[:, 1], strict=True)]
        x = bb.normalize(relax.op.strided_slice(x, list(range(rank)), [-int(c) for c in cut[:, 0]], ends))
    width = np.maximum(width, 0)
    if mode != "constant" or at(inputs, 2) is None:
        return _padded(x, width, PAD_MODES[mode], 0.0)
    value = constant_value(inputs[2])
    if value is not None:
        return _padded(x, width, "constant", float(value.reshape(-1)[0]))
    inside = np.pad(np.ones(static_shape(x), bool), width)
    border = bb.normalize(relax.op.reshape(inputs[2], ()))
    return relax.op.where(constant(inside), bb.normalize(_padded(x, width, "constant", 0.0)), border)


def _padded(x: Any, width: Any, mode: str, value: float) -> Any:
    return relax.op.nn.pad(x, [int(n) for n in width.reshape(-1)], mode, value)


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
    """relax.one_hot with negative indices counted from the end; a choice where the two values are computed."""
    depth, values = constant_value(inputs[1]), constant_value(inputs[2])
    if depth is None:
        raise UnsupportedError("its depth depends on the model's inputs; tesa compiles for fixed sizes")
    index = inputs[0] if "int" in str(inputs[0].ty.dtype) else bb.normalize(relax.op.astype(inputs[0], "int64"))
    kind, size = str(index.ty.dtype), int(depth.reshape(()))
    wrapped = bb.normalize(relax.op.add(index, relax.const(size, kind)))
    index = bb.normalize(relax.op.where(bb.normalize(relax.op.less(index, relax.const(0, kind))), wrapped, index))
    axis = int(attrs.get("axis", -1)) % (len(static_shape(index)) + 1)
    if values is None:
        return _choice(bb, index, np.arange(size, dtype=kind), axis, inputs[2])
    make = tvm.tirx.FloatImm if values.dtype.kind == "f" else tvm.tirx.IntImm
    off, on = (relax.prim_value(make(str(values.dtype), v)) for v in values.tolist())
    return relax.op.one_hot(index, on, off, size, axis)


def _choice(bb: Any, index: Any, places: Any, axis: int, values: Any) -> Any:
    """The second of two values where an index is its place along a new axis, else the first."""
    emit = bb.normalize
    view = [-1 if i == axis else 1 for i in range(len(static_shape(index)) + 1)]
    hit = emit(relax.op.equal(emit(relax.op.expand_dims(index, axis)), constant(places.reshape(view))))
    off, on = (emit(relax.op.take(values, constant(np.asarray(i)), 0, mode="fast")) for i in (0, 1))
    return relax.op.where(hit, on, off)


@imports("EyeLike")
def eye_like(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """A constant: ones on a diagonal."""
    code = attrs.get("dtype")
    kind = helper.tensor_dtype_to_np_dtype(code) if code else np.dtype(str(inputs[0].ty.dtype))
    rows, columns = static_shape(inputs[0])
    return constant(np.eye(rows, columns, int(attrs.get("k", 0))).astype(kind))


@imports("Dropout")
def dropout(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """The input itself, and a mask that keeps all."""
    if attrs["tvm_custom"]["num_outputs"] == 1:
        return inputs[0]
    return relax.Tuple([inputs[0], constant(np.ones(static_shape(inputs[0]), bool))])


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


@imports("RoiAlign")
def roi_align(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """relax.vision.roi_align of (x, regions, their items of the batch), for the mode that it has."""
    if attrs.get("mode", b"avg") != b"avg":
        raise UnsupportedError("RoiAlign with mode max is not supported, only avg is")
    emit, (x, regions, items) = bb.normalize, inputs
    scale, kind = float(attrs.get("spatial_scale", 1.0)), str(inputs[1].ty.dtype)
    half = attrs.get("coordinate_transformation_mode", b"half_pixel") == b"half_pixel"
    if half:  # half a pixel of x, not of the image that the regions are of
        regions = emit(relax.op.subtract(regions, relax.const(0.5 / scale, kind)))
    first = emit(relax.op.astype(emit(relax.op.expand_dims(items, 1)), kind))
    return relax.op.vision.roi_align(
        x, emit(relax.op.concat([first, regions], 1)), aligned=half, spatial_scale=scale, layout="NCHW", mode="avg",
        pooled_size=(int(attrs.get("output_height", 1)), int(attrs.get("output_width", 1))),
        sample_ratio=int(attrs.get("sampling_ratio", 0)),
    )  # fmt: skip


WIDEST = 1024
"""Channels that an LRN sums over at most: each is an operator of its own."""


@imports("LRN")
def lrn(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """x / (bias + alpha / size * sum of the squares of `size` channels around)^beta; an odd one out comes behind."""
    x, size, emit = inputs[0], int(attrs["size"]), bb.normalize
    shape, kind = static_shape(x), str(x.ty.dtype)
    before, behind = min((size - 1) // 2, shape[1]), min(size // 2, shape[1])  # further ones are none
    if size < 1 or before + behind >= WIDEST:
        raise UnsupportedError(f"it sums over {size} channels, at most {WIDEST} are possible. Check its size")
    wide = [0, 0, before, behind, *[0, 0] * (len(shape) - 2)]
    squares = emit(relax.op.nn.pad(emit(relax.op.multiply(x, x)), wide, "constant", 0.0))
    parts = [emit(relax.op.strided_slice(squares, [1], [i], [i + shape[1]]))
             for i in range(before + behind + 1)]  # fmt: skip
    total = parts[0]
    for part in parts[1:]:
        total = emit(relax.op.add(total, part))
    scaled = emit(relax.op.multiply(total, relax.const(float(attrs.get("alpha", 1e-4)) / size, kind)))
    base = emit(relax.op.add(scaled, relax.const(float(attrs.get("bias", 1.0)), kind)))
    return relax.op.divide(x, emit(relax.op.power(base, relax.const(float(attrs.get("beta", 0.75)), kind))))


@imports("NonMaxSuppression", "AllClassNMS", "NonZero", "Unique", "Compress", "com.microsoft::Unique")
def depends_on_data(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """Raise an UnsupportedError: the result has another shape for other data."""
    raise UnsupportedError(
        "the shape of its result depends on data; tesa compiles for fixed sizes. Cut the model off before this operator"
    )
