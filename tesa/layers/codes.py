"""8-bit codes of real numbers: how quantize and dequantize name their grid, and how codes are stored.

All codes are stored as uint8: one of int8 has 128 added, so that kernels know one kind of activation. A code of int8
with the zero point z is one of uint8 with z + 128, and stands for the same number.
"""

from typing import Any

import numpy as np
from tvm import relax, te, tirx

from tesa.layers.expressions import constant_of, op_name, shape_of
from tesa.layers.layout import SIGNED, Grid, Value

CODES = ("uint8", "int8")

LARGEST = float(np.finfo(np.float32).max) / 256
"""A scale of which every code is a finite number; and kernels multiply by 1 / scale, which has to be a normal one."""


def grid_of(call: Any) -> Grid | None:
    """The grid, of codes as they are stored, of a quantize to 8 bits or a dequantize from them; None for any other.

    Scale and zero point have to be one constant number each.
    """
    name = op_name(call)
    if name not in ("relax.quantize", "relax.dequantize") or len(call.args) != 3:
        return None
    codes, real = (call, call.args[0]) if name == "relax.quantize" else (call.args[0], call)
    scale, zero = (constant_of(arg) for arg in call.args[1:])
    if str(codes.ty.dtype) not in CODES or str(real.ty.dtype) != "float32" or not shape_of(codes):
        return None
    if scale is None or zero is None or scale.size != 1 or zero.size != 1:
        return None
    if not np.finfo(np.float32).tiny <= float(scale.reshape(())) <= LARGEST:
        return None
    moved = int(zero.reshape(())) + (128 if str(codes.ty.dtype) == "int8" else 0)
    return Grid(float(scale.reshape(())), moved) if 0 <= moved <= 255 else None


def decoded(builder: Any, value: Value) -> Any:
    """Emit what the codes of a value stand for, in their layout."""
    grid = value.grid
    assert grid is not None
    if value.dtype == "int8":
        return builder.emit_te(_signed, value.expr, primfunc_name_hint="codes")
    scale, zero = relax.const(np.float32(grid.scale)), relax.const(np.uint8(grid.zero))
    return builder.emit(relax.op.dequantize(value.expr, scale, zero, axis=0, out_dtype="float32"))


def encoded(builder: Any, value: Value, grid: Grid) -> Any:
    """Emit the codes of real numbers on a grid, in their layout."""
    scale, zero = relax.const(np.float32(grid.scale)), relax.const(np.uint8(grid.zero))
    return builder.emit(relax.op.quantize(value.expr, scale, zero, axis=0, out_dtype="uint8"))


def unsigned(builder: Any, value: Value) -> Value:
    """A tensor of codes as they are stored. value: of int8 or uint8 elements."""
    if value.dtype == "uint8" or value.grid is not None:
        return value
    made = builder.emit_te(_unsigned, value.expr, primfunc_name_hint="codes")
    return Value(made, value.shape, value.dtype, value.perm, SIGNED)


def _signed(x: Any) -> Any:
    return te.compute(x.shape, lambda *at: tirx.Cast("int8", x[at] ^ tirx.const(128, "uint8")), name="codes")


def _unsigned(x: Any) -> Any:
    return te.compute(x.shape, lambda *at: tirx.Cast("uint8", x[at]) ^ tirx.const(128, "uint8"), name="codes")
