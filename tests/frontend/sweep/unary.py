"""Operators of one tensor, element by element: every element type, NaN, infinities, zeros of both signs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .case import Case, numbers, types, versions

PLAIN = (
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BitwiseNot", "Ceil", "Celu", "Cos", "Cosh", "Elu",
    "Erf", "Exp", "Floor", "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN", "LeakyRelu", "Log", "Mish", "Neg",
    "Not", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign",
    "Sqrt", "Tan", "Tanh", "ThresholdedRelu", "Gelu", "Swish",
)  # fmt: skip
ATTRIBUTES: dict[str, list[dict[str, Any]]] = {
    "Celu": [{"alpha": 2.0}],
    "Elu": [{"alpha": 0.5}],
    "HardSigmoid": [{"alpha": 0.6, "beta": 0.1}],
    "LeakyRelu": [{"alpha": 0.2}, {"alpha": -0.5}, {"alpha": 2.0}],
    "Selu": [{"alpha": 1.2, "gamma": 0.8}],
    "Shrink": [{"lambd": 1.0, "bias": 0.5}],
    "ThresholdedRelu": [{"alpha": -0.5}, {"alpha": 2.0}],
    "Gelu": [{"approximate": "tanh"}],
    "Swish": [{"alpha": 0.5}],
    "IsInf": [{"detect_negative": 0}, {"detect_positive": 0}, {"detect_negative": 0, "detect_positive": 0}],
}
SPECIAL = [
    0.0,
    -0.0,
    np.nan,
    np.inf,
    -np.inf,
    1.0,
    -1.0,
    0.5,
    -0.5,
    1.5,
    2.5,
    -1.5,
    -2.5,
    3.49,
    -3.51,
    1e-3,
    30.0,
    -30.0,
]
ROUGH = {np.dtype(np.float16): 4e-3}


def values(dtype: Any) -> Any:
    """Numbers and, of floats, what is special."""
    plain = numbers((3, 10), dtype)
    if plain.dtype.kind == "f":
        special = np.resize(np.array(SPECIAL), 20).astype(plain.dtype).reshape(2, 10)
        return np.concatenate([plain, special])
    return plain


def cases() -> Iterator[Case]:
    """Every operator, at every opset where it changed, of every type."""
    for op in PLAIN:
        *old, newest = versions(op)
        for opset in (*old, newest):
            for dtype in types(op, opset):
                rough = ROUGH.get(dtype, 1e-5)
                for attrs in [{}, *(ATTRIBUTES.get(op, []) if dtype == np.float32 else [])]:
                    yield Case(op, (values(dtype),), attrs, opset, tolerance=rough)
        yield Case(op, (numbers((), types(op, newest)[0]),), {}, newest)
    yield Case("Clip", (values(np.float32),), {"min": -1.0, "max": 1.5}, 7)
    yield Case("Clip", (values(np.float16),), {"max": 1.5}, 7, tolerance=4e-3)
    yield Case("Clip", (values(np.float32),), {"min": 2.0, "max": -1.0}, 7)
    for opset in (11, 12, 13):
        for dtype in types("Clip", opset):
            for low, high in ((-1, 2), (0, None), (None, 3), (None, None), (3, 1), (0, 6)):
                if dtype.kind == "u" and low is not None:
                    low = max(low, 1)
                bounds = tuple(None if b is None else np.array(b, dtype) for b in (low, high))
                for fixed in ((1, 2), (), (1,)):
                    if dtype in (np.float32, np.int32) or fixed == (1, 2):
                        x = values(dtype)
                        if None in bounds:  # a bound that is left out is finite in some types and runtimes
                            x = np.where(np.isinf(x), x.dtype.type(9), x)
                        yield Case("Clip", (x, *bounds), {}, opset, constants=fixed, tolerance=1e-3)
    yield Case("Clip", (values(np.float32), np.array(-np.inf, np.float32), np.array(np.inf, np.float32)), {}, 13,
               constants=(1, 2))  # fmt: skip
    yield from casts()


FLOATS = [0.0, -0.0, 0.4, 0.5, 1.5, -1.5, 2.9, -2.9, 100.7, 127.0, -128.0]
WIDE = [np.nan, np.inf, -np.inf, 1e30, -1e30, 300.0, -300.0, 70000.0]


def casts() -> Iterator[Case]:
    """From every type to every other."""
    from onnx import TensorProto, helper

    kinds = types("Cast", 13)
    for source in kinds:
        for target in kinds:
            to = helper.np_dtype_to_tensor_dtype(target)
            x = np.array(FLOATS, source) if source.kind == "f" else numbers((11,), source, low=-9, high=100)
            if source.kind == "f" and target.kind == "u":
                x = np.abs(x)
            yield Case("Cast", (x,), {"to": to}, 13, tolerance=1e-3)
            if source.kind == "f" and (target.kind == "f" or target == np.bool_):
                with np.errstate(over="ignore"):
                    yield Case("Cast", (np.array(WIDE).astype(source),), {"to": to}, 13, tolerance=1e-3)
            if source.kind in "iu" and target.kind in "iu":  # what does not fit loses its upper bits
                limits = np.iinfo(source)
                yield Case("Cast", (np.array([limits.min, limits.max, limits.max // 3], source),), {"to": to}, 13)
    for opset in (7, 9, 19, 21):
        for to in (TensorProto.INT32, TensorProto.FLOAT16, TensorProto.BOOL):
            yield Case("Cast", (np.array(FLOATS, np.float32),), {"to": to}, opset)
    for opset in (15, 19):
        yield Case("CastLike", (np.array(FLOATS, np.float32), np.array(1, np.int8)), {}, opset)
        yield Case("CastLike", (np.array(FLOATS, np.float32), numbers((2, 3), np.bool_)), {}, opset, constants=(1,))
