"""The same bits read as numbers of another type."""

from typing import Any

import numpy as np
import tvm
from onnx import helper
from tvm import relax, te

from tesa.frontend.expressions import constant_value
from tesa.frontend.registry import imports


@imports("BitCast")
def bit_cast(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """The same bits as numbers of another type of as many bits."""
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(attrs["to"])).name

    def bits(x: Any) -> Any:
        return te.compute(x.shape, lambda *place: tvm.tirx.reinterpret(dtype, x(*place)), "bit_cast")

    return bb.call_te(bits, inputs[0], primfunc_name_hint="bit_cast")


@imports("BitShift")
def bit_shift(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """A shift by any number of places: negative ones and those past the width leave what the sign fills, or 0."""
    x, places = inputs
    dtype, emit = np.dtype(str(x.ty.dtype)), bb.normalize
    left, width = attrs["direction"] == b"LEFT", dtype.itemsize * 8
    known = constant_value(places)
    shift = relax.op.left_shift if left else relax.op.right_shift
    if known is not None and bool(((known >= 0) & (known < width)).all()):
        return shift(x, places)
    fits = emit(relax.op.less(places, relax.const(width, dtype.name)))
    if dtype.kind == "i":
        fits = emit(relax.op.logical_and(fits, emit(relax.op.greater_equal(places, relax.const(0, dtype.name)))))
    safe = emit(relax.op.where(fits, places, relax.const(0 if left or dtype.kind == "u" else width - 1, dtype.name)))
    moved = emit(shift(x, safe))
    if not left and dtype.kind == "i":
        return moved
    return relax.op.where(fits, moved, relax.const(0, dtype.name))
