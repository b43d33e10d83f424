"""TIR for quantize and dequantize: one product, one rounding, a clip and a narrowing, exact but for a last bit.

quantize is clip(round(x / scale) + zero), ties to even. With C = 1.5 * 2**23, a float32 of whose last bits none stands
behind the point, x * (1 / scale) + C rounds so in one addition, and its last bits are those of the code: see
cpu/requantize.py. The zero point is added to them as an integer, so that a tie rounds as if there were none.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import te, tirx

ROUNDING = 1.5 * 2**23
_BITS = 0x4B400000
"""Those of ROUNDING: behind them are the bits of the code."""

_RANGE = {"uint8": (0, 255), "int8": (-128, 127)}


def legalize_quantize(fallback: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """The legalization of relax.quantize of float32 to 8 bits; any other one is the fallback's."""

    def change(bb: Any, call: Any) -> Any:
        x, scale, zero = call.args
        found = _grid(scale, zero)
        if found is None or str(call.ty.dtype) not in _RANGE or str(x.ty.dtype) != "float32":
            return fallback(bb, call)
        axis, kind = _axis(call), str(call.ty.dtype)
        if found[0].size > 1:
            return bb.call_te(lambda x, s, z: _quantized(x, kind, _along(axis, s, z)), x, scale, zero,
                              primfunc_name_hint="quantize")  # fmt: skip
        one = _immediate(*found)
        return bb.call_te(lambda x: _quantized(x, kind, one), x, primfunc_name_hint="quantize")

    return change


def legalize_dequantize(fallback: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """The legalization of relax.dequantize of 8 bits to float32; any other one is the fallback's."""

    def change(bb: Any, call: Any) -> Any:
        x, scale, zero = call.args
        found = _grid(scale, zero)
        if found is None or str(x.ty.dtype) not in _RANGE or str(call.ty.dtype) != "float32":
            return fallback(bb, call)
        axis = _axis(call)
        if found[0].size > 1:
            return bb.call_te(lambda x, s, z: _real(x, _along(axis, s, z)), x, scale, zero,
                              primfunc_name_hint="dequantize")  # fmt: skip
        one = _immediate(*found)
        return bb.call_te(lambda x: _real(x, one), x, primfunc_name_hint="dequantize")

    return change


def quantized(x: Any, scale: float, zero: int, kind: str = "uint8") -> Any:
    """The code of a float32 expression."""
    low, high = _RANGE[kind]
    unit = tirx.FloatImm("float32", float(np.float32(1.0 / np.float64(scale))))
    return _code(x * unit, tirx.IntImm("int32", int(zero)), low, high, kind)


def dequantized(code: Any, scale: float, zero: int) -> Any:
    """The float32 number that a code stands for."""
    return _number(code, tirx.FloatImm("float32", float(np.float32(scale))), tirx.IntImm("int32", int(zero)))


def _code(steps: Any, zero: Any, low: int, high: int, kind: str) -> Any:
    """The code of a number of steps from zero."""
    # the bounds come first, so that they take the place of a not-a-number
    moved = steps + tirx.FloatImm("float32", ROUNDING)
    shift = tirx.Cast("float32", zero) if not isinstance(zero, tirx.IntImm) else float(zero.value)
    least, most = (tirx.FloatImm("float32", ROUNDING + bound) - shift if not isinstance(shift, float)
                   else tirx.FloatImm("float32", ROUNDING + bound - shift) for bound in (low, high))  # fmt: skip
    bits = tirx.reinterpret("int32", tirx.Min(tirx.Max(moved, least), most))
    return tirx.Cast(kind, bits - tirx.IntImm("int32", _BITS) + zero)


def _number(code: Any, scale: Any, zero: Any) -> Any:
    whole = tirx.Cast("int32", code)
    if not (isinstance(zero, tirx.IntImm) and zero.value == 0):
        whole = whole - zero
    return tirx.Cast("float32", whole) * scale


Grid = Callable[[tuple[Any, ...]], tuple[Any, Any, Any]]
"""(scale, 1 / scale, zero) of an element, as expressions."""


def _immediate(scale: Any, zero: Any) -> Grid:
    step = np.float32(scale.reshape(-1)[0])
    made = (
        tirx.FloatImm("float32", float(step)), tirx.FloatImm("float32", float(np.float32(1 / np.float64(step)))),
        tirx.IntImm("int32", int(zero.reshape(-1)[0])),
    )  # fmt: skip
    return lambda at: made


def _along(axis: int, scale: Any, zero: Any) -> Grid:
    def find(at: tuple[Any, ...]) -> tuple[Any, Any, Any]:
        step = scale[at[axis]]
        single = not zero.shape or int(zero.shape[0]) == 1
        place = zero[()] if not zero.shape else zero[0 if single else at[axis]]
        return step, tirx.FloatImm("float32", 1.0) / step, tirx.Cast("int32", place)

    return find


def _quantized(x: Any, kind: str, grid: Grid) -> Any:
    low, high = _RANGE[kind]

    def element(*at: Any) -> Any:
        _, unit, zero = grid(at)
        return _code(x[at] * unit, zero, low, high, kind)

    return te.compute(x.shape, element, name="quantize", tag="elemwise")


def _real(x: Any, grid: Grid) -> Any:
    def element(*at: Any) -> Any:
        scale, _, zero = grid(at)
        return _number(x[at], scale, zero)

    return te.compute(x.shape, element, name="dequantize", tag="elemwise")


def _grid(scale: Any, zero: Any) -> tuple[Any, Any] | None:
    """Scale and zero point as arrays; None where they are not known, or are no such numbers."""
    arrays = [part.value.numpy() if hasattr(part, "value") and hasattr(part.value, "numpy") else None
              for part in (scale, zero)]  # fmt: skip
    if arrays[0] is None or arrays[1] is None or str(arrays[0].dtype) != "float32":
        return None
    normal = np.isfinite(arrays[0]).all() and (arrays[0] > np.finfo(np.float32).tiny * 2).all()
    return (arrays[0], arrays[1]) if normal and arrays[0].size else None


def _axis(call: Any) -> int:
    rank = len(call.args[0].ty.shape.values if hasattr(call.args[0].ty.shape, "values") else call.args[0].ty.shape)
    return int(call.attrs.axis) % max(rank, 1)
