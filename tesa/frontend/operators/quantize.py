"""QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear of tensors that are computed."""

import math
from typing import Any

import numpy as np
from onnx import helper
from tvm import relax

from tesa.errors import UnsupportedError
from tesa.frontend.expressions import as_float32, at, constant, constant_value, static_shape
from tesa.frontend.quantized import laid_out
from tesa.frontend.registry import imports


@imports("QuantizeLinear", "com.microsoft::QuantizeLinear")
def quantize(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """relax.quantize; where scales are in blocks, its arithmetic over scales laid out over the whole tensor."""
    x, zero = inputs[0], at(inputs, 2)
    dtype = _type(attrs, "uint8") if zero is None else str(zero.ty.dtype)
    zero = constant(np.zeros((), dtype)) if zero is None else zero
    if not attrs.get("block_size", 0):
        scale, level, axis = _parameters(bb, x, inputs[1], zero, attrs)
        return relax.op.quantize(x, scale, level, axis=axis, out_dtype=dtype)
    scale, level = (_over_blocks(bb, x, p, attrs) for p in (inputs[1], zero))
    steps = bb.normalize(relax.op.round(bb.normalize(relax.op.divide(x, scale))))
    limits = np.iinfo(np.dtype(dtype))
    codes = relax.op.clip(bb.normalize(relax.op.add(steps, level)), float(limits.min), float(limits.max))
    return relax.op.astype(bb.normalize(codes), dtype)


@imports("DequantizeLinear", "com.microsoft::DequantizeLinear")
def dequantize(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """relax.dequantize; where scales are in blocks, its arithmetic over scales laid out over the whole tensor."""
    x, scale, zero = inputs[0], inputs[1], at(inputs, 2)
    dtype = _type(attrs, str(scale.ty.dtype))
    centred = dynamic_codes(bb, x, zero)
    if centred is not None and math.prod(static_shape(scale)) == 1:
        return relax.op.multiply(centred, _number(bb, scale))
    zero = constant(np.zeros((), str(x.ty.dtype))) if zero is None else zero
    if not attrs.get("block_size", 0) and str(x.ty.dtype) != "int32":
        scale, level, axis = _parameters(bb, x, scale, zero, attrs)
        return relax.op.dequantize(x, scale, level, axis=axis, out_dtype=dtype)
    scale, level = (_over_blocks(bb, x, p, attrs) for p in (scale, zero))
    steps = bb.normalize(relax.op.subtract(as_float32(bb, x), level))
    real = bb.normalize(relax.op.multiply(steps, scale))
    return real if dtype == "float32" else relax.op.astype(real, dtype)


def _type(attrs: dict[str, Any], default: str) -> str:
    code = attrs.get("output_dtype", 0)
    return str(helper.tensor_dtype_to_np_dtype(code)) if code else default


def _parameters(bb: Any, x: Any, scale: Any, zero: Any, attrs: dict[str, Any]) -> tuple[Any, Any, int]:
    """(scale, zero point, axis) as Relax wants them: a scale of one element is a number of no axes."""
    rank = len(static_shape(x))
    axis = int(attrs.get("axis", 1))
    axis = axis % rank if -rank <= axis < rank else max(rank - 1, 0)
    return _number(bb, scale), _number(bb, zero), axis


def _number(bb: Any, x: Any) -> Any:
    """A tensor of one element without axes; others as they are."""
    shape, values = static_shape(x), constant_value(x)
    if math.prod(shape) != 1 or not shape:
        return x
    return bb.normalize(relax.op.reshape(x, ())) if values is None else constant(values.reshape(()))


def _over_blocks(bb: Any, x: Any, parameter: Any, attrs: dict[str, Any]) -> Any:
    """Scales or zero points as float32, laid out over the tensor x."""
    shape, block = tuple(static_shape(x)), int(attrs.get("block_size", 0))
    axis = int(attrs.get("axis", 1)) % max(len(shape), 1)
    values, dims = constant_value(parameter), static_shape(parameter)
    if values is not None:
        laid = laid_out(values, shape, axis, block)
        fits = laid is not None
        found = constant(laid.astype(np.float32)) if laid is not None else None
    elif math.prod(dims) == 1:
        fits, found = True, as_float32(bb, _number(bb, parameter))
    elif block:
        fits = len(dims) == len(shape) and dims[axis] * block >= shape[axis]
        found = bb.normalize(relax.op.repeat(as_float32(bb, parameter), block, axis)) if fits else None
        if fits and dims[axis] * block > shape[axis]:
            found = bb.normalize(relax.op.strided_slice(found, [axis], [0], [shape[axis]]))
    else:
        fits = dims == [shape[axis]]
        view = [-1 if i == axis else 1 for i in range(len(shape))]
        found = bb.normalize(relax.op.reshape(as_float32(bb, parameter), view)) if fits else None
    if not fits:
        raise UnsupportedError(
            f"a scale or zero point of shape {dims} does not fit x of shape {list(shape)} along axis {axis}"
            + (f" in blocks of {block}" if block else "")
        )
    return found


@imports("DynamicQuantizeLinear")
def dynamic_quantize(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """uint8 codes of x by its own range, in which 0 always is; their scale; the code of 0.

    The codes are made as the code of 0 plus steps from there, and an integer product that takes the code of 0 away
    again reads these steps, see `dynamic_codes`. They are 0 where x is, whatever the range: so zeros are seen.
    """
    (x,) = inputs
    zero, one, last = (relax.const(v, "float32") for v in (0.0, 1.0, 255.0))

    def emit(op: Any, *operands: Any) -> Any:
        return bb.normalize(op(*operands))

    low = emit(relax.op.minimum, _extreme(bb, x, relax.op.min), zero)
    high = emit(relax.op.maximum, _extreme(bb, x, relax.op.max), zero)
    span = emit(relax.op.subtract, high, low)
    scale = bb.emit(emit(relax.op.where, emit(relax.op.equal, span, zero), one, emit(relax.op.divide, span, last)))
    level = emit(relax.op.clip, emit(relax.op.subtract, zero, emit(relax.op.divide, low, scale)), 0.0, 255.0)
    level = bb.emit(emit(relax.op.round, level))
    nothing = emit(relax.op.equal, x, zero)
    # a divisor that differs by element stays one; a multiplication by 1 / scale would round to another code at times
    steps = emit(relax.op.round, emit(relax.op.divide, x, emit(relax.op.where, nothing, one, scale)))
    steps = emit(relax.op.clip, steps, -255.0, 255.0)  # says the range of what follows
    steps = emit(relax.op.minimum, steps, emit(relax.op.subtract, last, level))  # two halves may round up both
    steps = bb.emit(emit(relax.op.where, nothing, zero, steps))
    codes = emit(relax.op.astype, bb.emit(emit(relax.op.add, steps, level)), "uint8")
    return relax.Tuple([codes, scale, emit(relax.op.astype, level, "uint8")])


def _extreme(bb: Any, x: Any, op: Any) -> Any:
    """The least or largest element: over the other axes first, which a vector unit does without a horizontal step."""
    rank = len(static_shape(x))
    if rank > 1:
        x = bb.normalize(op(x, list(range(rank - 1))))
    return bb.normalize(op(x))


def dynamic_codes(bb: Any, codes: Any, zero: Any) -> Any:
    """codes - zero as float32, where a DynamicQuantizeLinear has made both; None where they are something else."""
    total, level = (_operands_of(bb, x, "relax.astype")[:1] for x in (codes, zero))
    added = _operands_of(bb, total[0], "relax.add") if total and level else []
    return added[0] if added and added[1].same_as(level[0]) else None


def _operands_of(bb: Any, x: Any, op: str) -> list[Any]:
    """The operands of the call of `op` that makes x, none if something else does."""
    call = bb.lookup_binding(x) if isinstance(x, relax.Var) else None
    return list(call.args) if isinstance(call, relax.Call) and getattr(call.op, "name", "") == op else []
