"""Reductions, arguments of the largest, softmax and its like."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .case import Case, numbers, types, versions
from .unary import ROUGH

REDUCTIONS = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSum", "ReduceSumSquare",
)  # fmt: skip
X = numbers((2, 3, 4), np.float32)


def given(op: str, dtype: Any) -> Any:
    """Numbers that the reduction is defined for."""
    x = numbers((2, 3, 4), dtype, low=-3, high=3)
    return np.abs(x) + np.array(1, dtype) if op == "ReduceLogSum" else x


def cases() -> Iterator[Case]:
    """All of them."""
    for part in (reductions, arguments, softmaxes):
        yield from part()


def reductions() -> Iterator[Case]:
    """Axes as attribute and as input, none, all, negative; every type; rank 0; what is empty."""
    for op in REDUCTIONS:
        for opset in versions(op):
            by_input = opset >= (13 if op == "ReduceSum" else 18)
            for dtype in types(op, opset):
                if dtype.kind == "u" and op not in ("ReduceMax", "ReduceMin"):
                    continue  # no runtime has them
                if dtype.kind == "i" and op == "ReduceLogSumExp":
                    continue  # onnxruntime rounds every exponential to an integer
                rough, x = max(ROUGH.get(dtype, 1e-5), 1e-5), given(op, dtype)
                signed = (-1,) if opset >= 11 else (2,)
                for axes in ((1,), (0, 2), None, signed) if dtype in (np.float32, np.int32) else ((1,), None):
                    for keep in (0, 1) if axes is None or len(axes) == 2 else (1,):
                        if by_input:
                            rest = () if axes is None else (np.array(axes),)
                            yield Case(op, (x, *rest), {"keepdims": keep}, opset, (1,), tolerance=rough)
                        else:
                            attrs: dict[str, Any] = {"keepdims": keep} | ({"axes": list(axes)} if axes else {})
                            yield Case(op, (x,), attrs, opset, tolerance=rough)
            if by_input:
                yield Case(op, (given(op, np.float32),), {"noop_with_empty_axes": 1}, opset)
                yield Case(op, (given(op, np.float32), np.zeros(0, np.int64)), {"noop_with_empty_axes": 1}, opset, (1,))
                yield Case(op, (given(op, np.float32), np.zeros(0, np.int64)), {}, opset, (1,))
        yield Case(op, (given(op, np.float32).reshape(-1)[:1].reshape(()),), {}, 13 if op != "ReduceSum" else 11)
    special = np.array([[0, np.nan, 1], [np.inf, 1, 2], [-np.inf, 0, 1]], np.float32)
    for op in ("ReduceSum", "ReduceMean", "ReduceLogSumExp"):
        yield Case(op, (special,), {"axes": [1]}, 11)
    for op in ("ReduceMax", "ReduceMin"):
        yield Case(op, (np.nan_to_num(special, nan=0.5, posinf=np.inf, neginf=-np.inf),), {"axes": [1]}, 11)
    yield Case("ReduceLogSumExp", (np.array([[100.0, 90, 2], [-200, -201, -300]], np.float32),), {"axes": [1]}, 13)
    for op in ("ReduceMax", "ReduceMin"):
        yield Case(op, (numbers((2, 3), np.bool_), np.array([1])), {}, 20, (1,))
    for dtype in (np.int32, np.int64):
        yield Case("ReduceMean", (np.array([[-7, 2, -4], [5, 5, 1]], dtype), np.array([1])), {}, 18, (1,))


def arguments() -> Iterator[Case]:
    """Ties, the last of them, axes, every type."""
    ties = np.array([[3, 1, 3, 2, 1, 3], [0, 0, 0, 5, 5, 7]])
    for op in ("ArgMax", "ArgMin"):
        for opset in versions(op):
            for axis in (0, 1, *((-1,) if opset >= 11 else ())):
                for keep in (0, 1):
                    for last in (0, 1) if opset >= 12 else (0,):
                        attrs = {"axis": axis, "keepdims": keep} | ({"select_last_index": last} if last else {})
                        yield Case(op, (ties.astype(np.float32),), attrs, opset)
            yield Case(op, (X,), {}, opset)
            for dtype in types(op, opset):
                yield Case(op, (ties.astype(dtype),), {"axis": 1}, opset)


def softmaxes() -> Iterator[Case]:
    """Before opset 13 over all axes from one on; large numbers, ties, rank 1."""
    big = np.array([[1000.0, 999, -1000], [-50, -50, -51], [0, 0, 0]], np.float32)
    masked = np.array([[0.0, -np.inf, 1], [5, 5, -np.inf]], np.float32)
    for op in ("Softmax", "LogSoftmax", "Hardmax"):
        for opset in versions(op):
            old = opset < 13
            for axis in (None, 0, 1, 2, *((-1, -2) if opset >= 11 else ())):
                for dtype in types(op, opset):
                    if op == "Hardmax" and old and dtype == np.float64:
                        continue  # no runtime has it, and ONNX's reference takes the axis of now
                    if dtype == np.float32 or axis in (None, 1):
                        attrs = {} if axis is None else {"axis": axis}
                        yield Case(op, (numbers((2, 3, 4), dtype),), attrs, opset, tolerance=ROUGH.get(dtype, 1e-5))
            yield Case(op, (numbers((2, 5, 1, 1), np.float32),), {}, opset)
            yield Case(op, (numbers((5,), np.float32),), {"axis": 0}, opset)
            yield Case(op, (big,), {} if old else {"axis": -1}, opset)
        if op != "Hardmax":
            yield Case(op, (masked,), {}, 13)
