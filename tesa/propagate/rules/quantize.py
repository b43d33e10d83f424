"""quantize and dequantize: what is known is rounded, and both sides learn how many bits hold an element."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tesa.attribute import Bools, Quantization, TeSA, Values
from tesa.propagate.registry import Operator, rule
from tesa.propagate.rules.common import facts, unbroadcast

WIDTHS = {"int4": 4, "uint4": 4, "int8": 8, "uint8": 8, "int16": 16, "uint16": 16}


def _backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    live = outputs[0].live
    others = [np.full((1,) * len(shape), bool(live.any())) for shape in op.inputs[1:]]
    return (unbroadcast(live, op.outputs[0], op.inputs[0]), *others)


def _parameters(op: Operator) -> tuple[Values, Values] | None:
    """(scale, zero point) along the axis of the data, None if one of them is no constant."""
    rank, axis = len(op.inputs[0]), int(op.attrs.get("axis", -1))
    laid: list[Any] = []
    for array in op.constants[1:3]:
        if array is None:
            return None
        view = [1] * rank
        if array.size > 1:
            view[axis] = -1
        laid.append(array.reshape(view))
    return laid[0], laid[1]


def _bits(op: Operator, stored: str, t: TeSA) -> TeSA:
    parameters, width = _parameters(op), WIDTHS.get(stored)
    if width is None or parameters is None:
        return t
    quantization = Quantization(width, stored.startswith("i"), parameters[0], parameters[1].astype(np.int32))
    return replace(t, bits=np.full((1,) * len(t.shape), width, np.int8), quantization=quantization)


@rule("relax.quantize", backward=_backward)
def quantize(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """clip(round(x / scale) + zero point); the result has the bits of its type."""
    x, parameters, dtype = inputs[0], _parameters(op), op.dtypes[0]
    known, value = x.known, np.zeros((1,) * len(x.shape))
    if parameters is None or dtype not in WIDTHS:
        known = np.zeros_like(known)
    else:
        signed, width = dtype.startswith("i"), WIDTHS[dtype]
        low, high = (-(1 << (width - 1)), (1 << (width - 1)) - 1) if signed else (0, (1 << width) - 1)
        value = np.clip(np.rint(x.value / parameters[0]) + parameters[1], low, high)
    return (_bits(op, dtype, facts(op.outputs[0], known, value)),)


@rule("relax.dequantize", backward=_backward)
def dequantize(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """scale * (q - zero point); the result still needs only the bits of q."""
    q, parameters = inputs[0], _parameters(op)
    known, value = q.known, np.zeros((1,) * len(q.shape))
    if parameters is None:
        known = np.zeros_like(known)
    else:
        value = (q.value.astype(np.float64) - parameters[1]) * parameters[0]
    stored = q.quantization
    result = facts(op.outputs[0], known, value)
    if stored is None:
        return (result,)
    return (_bits(op, f"{'int' if stored.signed else 'uint'}{stored.bits}", result),)
