"""Helpers for converters: constants, shapes and inputs of Relax expressions."""

from typing import Any

import numpy as np
import tvm
from tvm import relax


def constant(array: Any) -> Any:
    """A Relax constant with the array's own shape and element type."""
    return relax.const(tvm.runtime.tensor(np.ascontiguousarray(array).reshape(array.shape)))


def like(value: float, x: Any) -> Any:
    """A number of the element type of a tensor."""
    return constant(np.asarray(value, str(x.ty.dtype)))


def constant_value(expr: Any) -> Any:
    """The array of a constant, None for anything else."""
    return expr.value.numpy() if isinstance(expr, tvm.ir.GenericConst) else None


def static_shape(expr: Any) -> list[int]:
    """The shape of an expression as ints."""
    return [int(n) for n in expr.ty.shape]


def at(inputs: Any, index: int) -> Any:
    """An input, None where the node leaves it out."""
    return inputs[index] if index < len(inputs) else None


def as_int32(bb: Any, x: Any) -> Any:
    """The tensor cast to int32; a constant stays one."""
    values = constant_value(x)
    return bb.normalize(relax.op.astype(x, "int32")) if values is None else constant(values.astype(np.int32))


def as_float32(bb: Any, x: Any) -> Any:
    """The tensor cast to float32; a constant stays one."""
    values = constant_value(x)
    if values is not None:
        return constant(values.astype(np.float32))
    return x if str(x.ty.dtype) == "float32" else bb.normalize(relax.op.astype(x, "float32"))


def minus(bb: Any, x: Any, zero: Any, view: tuple[int, ...]) -> Any:
    """x - zero, where zero is reshaped to `view`; a constant if both are."""
    values, level = constant_value(x), constant_value(zero)
    if values is not None and level is not None:
        return constant(values - level.reshape(view))
    shaped = bb.normalize(relax.op.reshape(zero, view)) if level is None else constant(level.reshape(view))
    return bb.normalize(relax.op.subtract(x, shaped))


def type_text(expr: Any) -> str:
    """The type of an expression as messages say it: "float32[2, 3]"."""
    ty = getattr(expr, "ty", None)
    if isinstance(ty, relax.TensorType):
        return f"{ty.dtype}{[int(n) if isinstance(n, tvm.tirx.IntImm) else '?' for n in ty.shape or ()]}"
    if isinstance(ty, relax.TupleType):
        return f"({', '.join('tensor' if isinstance(t, relax.TensorType) else 'value' for t in ty.fields)})"
    return "no tensor"


def value_text(value: Any) -> str:
    """An attribute as messages say it: short, text as text."""
    text = value.decode(errors="replace") if isinstance(value, bytes) else " ".join(str(value).split())
    return text if len(text) <= 40 else text[:37] + "..."
