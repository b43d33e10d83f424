"""Operators of two or more tensors, element by element: broadcasting, every element type, signs, NaN."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .case import Case, numbers, types, versions
from .unary import ROUGH

BINARY = (
    "Add", "And", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater", "GreaterOrEqual",
    "Less", "LessOrEqual", "Mod", "Mul", "Or", "PRelu", "Pow", "Sub", "Xor",
)  # fmt: skip
VARIADIC = ("Max", "Mean", "Min", "Sum")
SHAPES = [((2, 3, 4), (2, 3, 4)), ((2, 3, 4), (4,)), ((3, 1), (2, 1, 4)), ((), (2, 3)), ((2, 3), ()), ((1,), (1, 1))]
SPECIAL = np.array([0.0, np.nan, np.inf, -np.inf, 1.0, -2.0], np.float32)


def operands(op: str, shapes: tuple[Any, Any], dtype: Any) -> tuple[Any, Any]:
    """Two tensors; no divisor is 0, no shift is wider than the type."""
    x, y = (numbers(shape, dtype, seed) for seed, shape in enumerate(shapes))
    if op in ("Div", "Mod"):
        y = np.where(y == 0, np.array(3, dtype), y).astype(dtype)
    if op == "BitShift":
        y = (y % 7).astype(dtype)
    if op == "Pow":
        x, y = np.abs(x), (y % 3 if dtype.kind in "iu" else y).astype(dtype)
    return x, y


def options(op: str, dtype: Any) -> list[dict[str, Any]]:
    if op == "BitShift":
        return [{"direction": "LEFT"}, {"direction": "RIGHT"}]
    if op == "Mod":
        return [{"fmod": 1}] if dtype.kind == "f" else [{}, {"fmod": 1}]
    return [{}]


def cases() -> Iterator[Case]:
    """Every operator, at every opset where it changed, of every type."""
    for op in BINARY:
        for opset in versions(op):
            for dtype in types(op, opset):
                shapes = SHAPES if dtype in (np.float32, np.int32, np.bool_) and opset >= 13 else SHAPES[1:3]
                if op == "PRelu":
                    shapes = [((2, 3, 4), (3, 1)), ((2, 3, 4), (1,)), ((2, 3, 4), (2, 3, 4)), ((2, 3), (3,))]
                for pair in shapes:
                    for attrs in options(op, dtype):
                        yield Case(op, operands(op, pair, dtype), attrs, opset, tolerance=ROUGH.get(dtype, 1e-5))
    yield from special()
    yield from powers()
    for op in VARIADIC:
        for opset in versions(op):
            for dtype in types(op, opset):
                for shapes in ([(2, 3)], [(2, 3), (3,)], [(4, 2, 3), (3,), (2, 1)]):
                    given = tuple(numbers(shape, dtype, seed) for seed, shape in enumerate(shapes))
                    yield Case(op, given, {}, opset, tolerance=ROUGH.get(dtype, 1e-5))
        yield Case(op, (SPECIAL[:, None], SPECIAL), {}, 13)
        yield Case(op, (SPECIAL, np.array(0.5, np.float32)), {}, 13, constants=(1,))
        yield Case(op, (np.array(0.5, np.float32), SPECIAL), {}, 13, constants=(0,))
    yield from where()


def special() -> Iterator[Case]:
    """NaN and infinities, quotients of every sign, and comparisons of what is no number."""
    a, b = SPECIAL[:, None], SPECIAL
    for op in ("Add", "Sub", "Mul", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Pow"):
        yield Case(op, (a, b), {}, 13 if op != "Pow" else 15)
    signs = np.array([-7, -6, -1, 1, 5, 7], np.int32)
    for dtype in (np.int8, np.int32, np.int64):
        x, y = signs[:, None].astype(dtype), np.array([-3, -1, 2, 3], dtype)
        yield Case("Div", (x, y), {}, 14)
        for fmod in (0, 1):
            yield Case("Mod", (x, y), {"fmod": fmod}, 13)
            yield Case("Mod", (x, y), {"fmod": fmod}, 13, constants=(1,))
    for dtype in (np.float32, np.float64):
        x, y = signs[:, None].astype(dtype) + dtype(0.25), np.array([-3, -1.5, 2, 3.25], dtype)
        yield Case("Mod", (x, y), {"fmod": 1}, 13)
    wide = np.array([2**40 + 3, -(2**40) - 5], np.int64)
    yield Case("Div", (wide, np.array([7, -7])), {}, 14)
    yield Case("Mod", (wide, np.array([7, -7])), {}, 13)
    yield Case("Add", (np.array([127, -128], np.int8), np.array([1, -1], np.int8)), {}, 14)


def powers() -> Iterator[Case]:
    """Bases and exponents of either sign and of different types."""
    base = np.array([-2.0, -1.0, 0.0, 1.0, 2.5], np.float32)[:, None]
    for kind in (np.int32, np.int64, np.float32, np.float64):
        for fixed in ((), (1,)):
            yield Case("Pow", (base, np.array([-2, 0, 1, 2, 3], kind)), {}, 15, constants=fixed)
    yield Case("Pow", (base, np.array(0.5, np.float32)), {}, 15, constants=(1,))
    for kind in (np.int32, np.int64, np.float32):
        yield Case("Pow", (np.array([-3, 0, 2, 5], np.int32)[:, None], np.array([0, 1, 3], kind)), {}, 15)
    yield Case("Pow", (np.array([3, -7], np.int64)[:, None], np.array([21, 22], np.int64)), {}, 15)


def where() -> Iterator[Case]:
    """Every type, broadcast; NaN on the side that is not taken."""
    for opset in versions("Where"):
        for dtype in types("Where", opset, 1):
            pair = numbers((2, 3, 4), dtype), numbers((3, 1), dtype, 1)
            yield Case("Where", (numbers((4,), np.bool_), *pair), {}, opset)
    condition = np.array([True, False, True, False])
    yield Case("Where", (condition, np.array([1, np.nan, 2, np.inf], np.float32), SPECIAL[:4]), {}, 16)
    yield Case("Where", (condition, SPECIAL[:4], np.array(0, np.float32)), {}, 16, constants=(0, 2))
