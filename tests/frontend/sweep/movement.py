"""Operators that move, pick, repeat and pad elements."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from onnx import numpy_helper

from .case import DTYPES, Case, numbers, types, versions

X = numbers((2, 3, 4, 5), np.float32)
KINDS = (np.float32, np.float16, np.float64, np.int64, np.uint8, np.bool_)


def i64(*values: int) -> Any:
    return np.array(values, np.int64)


def cases() -> Iterator[Case]:
    """All of them."""
    for part in (shapes, slices, gathers, scatters, pads, splits, blocks, creations, sorts, others):
        yield from part()


def shapes() -> Iterator[Case]:
    """Reshape, Flatten, Squeeze, Unsqueeze, Transpose, Expand, Tile, Concat, Identity, Shape, Size."""
    for opset in versions("Reshape"):
        for target in (i64(6, -1), i64(0, -1, 5), i64(120), i64(2, 3, 2, 2, 5)):
            yield Case("Reshape", (X, target), {}, opset, constants=(1,))
    for opset in versions("Flatten"):
        for axis in (0, 1, 2, 4, *((-1, -2) if opset >= 11 else ())):
            yield Case("Flatten", (X,), {"axis": axis}, opset)
        yield Case("Flatten", (X,), {}, opset)
    one = numbers((1, 3, 1, 4, 1), np.float32)
    for opset in (7, 11):
        for axes in ([0], [0, 2], [4, 0], *([[-1], [-3, 0]] if opset >= 11 else [])):
            yield Case("Squeeze", (one,), {"axes": axes}, opset)
            yield Case("Unsqueeze", (X,), {"axes": axes}, opset)
        yield Case("Squeeze", (one,), {}, opset)
    for opset in (13, 21):
        for axes in (i64(0), i64(-1, 0), i64(2, -1)):
            yield Case("Squeeze", (one, axes), {}, opset, constants=(1,))
            yield Case("Unsqueeze", (X, axes), {}, opset, constants=(1,))
        yield Case("Squeeze", (one,), {}, opset)
    for opset in versions("Transpose"):
        yield Case("Transpose", (X,), {}, opset)
        yield Case("Transpose", (X,), {"perm": [2, 0, 3, 1]}, opset)
    for kind in KINDS:
        yield Case("Transpose", (numbers((2, 3, 4), kind),), {"perm": [1, 2, 0]}, 13)
        yield Case("Concat", (numbers((2, 3), kind), numbers((2, 1), kind, 1)), {"axis": -1}, 13)
    for opset in versions("Expand"):
        for target in (i64(2, 3, 4), i64(1, 1), i64(2, 1, 1, 4), i64(4)):
            yield Case("Expand", (numbers((3, 1) if target.size > 1 else (1,), np.float32), target), {}, opset,
                       constants=(1,))  # fmt: skip
    for opset in versions("Tile"):
        yield Case("Tile", (numbers((2, 3), np.float32), i64(3, 2)), {}, opset, constants=(1,))
        yield Case("Tile", (numbers((2, 3), np.int64), i64(1, 4)), {}, opset, constants=(1,))
    for opset in versions("Concat"):
        for axis in (0, 1, *((-1,) if opset >= 11 else ())):
            yield Case("Concat", (X, X, X), {"axis": axis}, opset)
    yield Case("Concat", (X,), {"axis": 1}, 13)
    for opset in versions("Shape"):
        yield Case("Shape", (X,), {}, opset)
        yield Case("Size", (X,), {}, opset)
    for bounds in ({"start": 1}, {"end": -1}, {"start": -2, "end": 100}, {"start": 3, "end": 1}, {"start": -9}):
        if bounds != {"start": 3, "end": 1}:
            yield Case("Shape", (X,), bounds, 15)


def slices() -> Iterator[Case]:
    """Begins, ends, axes and steps of either sign, in and out of range."""
    for opset in (7, 9):
        for starts, ends, axes in (
            ([1], [3], [1]), ([0, -2], [-1, 100], [2, 3]), ([-100, 1], [2, -1], None),
            ([1, 0, 1, 2], [2, 2, 3, 4], None),
        ):  # fmt: skip
            attrs = {"starts": starts, "ends": ends} | ({"axes": axes} if axes else {})
            yield Case("Slice", (X,), attrs, opset)
    last = np.iinfo(np.int64)
    rows: list[tuple[Any, ...]] = [
        (i64(1), i64(3), i64(1), None), (i64(-2), i64(last.max), i64(-1), None), (i64(0, 1), i64(2, -1), None, None),
        (i64(0), i64(4), i64(2), i64(2)), (i64(-1), i64(last.min), i64(3), i64(-1)),
        (i64(4), i64(0), i64(-1), i64(-2)), (i64(100), i64(-100), i64(3), i64(-3)),
        (i64(-100), i64(100), i64(3), i64(3)),
        (i64(3, 0), i64(0, 2), i64(3, 1), i64(-1, 1)), (i64(0), i64(-1), i64(0), i64(1)),
    ]  # fmt: skip
    for opset in (10, 11, 13):
        for row in rows:
            while row[-1] is None:
                row = row[:-1]
            yield Case("Slice", (X, *row), {}, opset, constants=tuple(range(1, 5)))
            if opset == 13:
                small = tuple(None if r is None else r.clip(-1000, 1000).astype(np.int32) for r in row)
                yield Case("Slice", (X, *small), {}, opset, constants=tuple(range(1, 5)))
    for kind in KINDS:
        yield Case("Slice", (numbers((4, 5), kind), i64(1), i64(3), i64(1)), {}, 13, constants=(1, 2, 3))


def gathers() -> Iterator[Case]:
    """Gather, GatherElements, GatherND: axes and indices of either sign, of both types, constant or not."""
    indices = np.array([[1, -1], [0, -2]])
    for opset in versions("Gather"):
        for axis in (0, 1, 3, -2):
            for kind in (np.int64, np.int32):
                given = indices if opset >= 11 else np.abs(indices)
                for fixed in ((), (1,)):
                    if opset < 11 and axis < 0:
                        continue
                    yield Case("Gather", (X, (given % 2 if axis == 0 and opset < 11 else given).astype(kind)),
                               {"axis": axis}, opset, constants=fixed)  # fmt: skip
    yield Case("Gather", (X, np.array(2)), {"axis": 1}, 13, constants=(1,))
    yield Case("Gather", (X, np.array(-1)), {"axis": 1}, 13)
    for kind in KINDS:
        yield Case("Gather", (numbers((4, 5), kind), i64(3, 0, -1)), {"axis": 0}, 13)
    for opset in versions("GatherElements"):
        for axis in (0, 1, -1):
            for fixed in ((), (1,)):
                index = np.array([[0, -1, 1], [1, 0, -2]])
                yield Case("GatherElements", (numbers((3, 3), np.float32), index), {"axis": axis}, opset, fixed)
        yield Case("GatherElements", (X, numbers((2, 2, 2, 2), np.int32, low=-2, high=1)), {"axis": 2}, opset)
    for opset in versions("GatherND"):
        for index in (i64(1, 2), np.array([[1, 2], [-1, -3]]), np.array([[[0, 1, 2, -1]]])):
            for fixed in ((), (1,)):
                yield Case("GatherND", (X, index), {}, opset, fixed)
    last = numbers((2, 3, 1), np.int64, low=-2, high=2)
    for dims, index in ((1, np.array([[2], [-1]])), (1, np.array([[[0, 1]], [[2, -1]]])), (2, last)):
        yield Case("GatherND", (X, index), {"batch_dims": dims}, 13)


def scatters() -> Iterator[Case]:
    """Scatter, ScatterElements, ScatterND with every reduction; negative indices."""
    data, index = numbers((3, 5), np.float32), np.array([[1, -1], [0, 3]])
    updates = numbers((2, 2), np.float32, 1)
    yield Case("Scatter", (data, index, updates), {"axis": 1}, 9)
    yield Case("Scatter", (data, np.abs(index) % 3, updates), {}, 9)
    for opset in versions("ScatterElements"):
        for axis in (0, 1, -1):
            here = index if axis else np.array([[1, -1], [0, 2]])
            for fixed in ((), (1,)):
                yield Case("ScatterElements", (data, here, updates), {"axis": axis}, opset, fixed)
    twice = np.array([[1, 1, -4], [0, 0, 0]])
    for opset in (16, 18):
        for reduction in ("none", "add", "mul", *(("max", "min") if opset == 18 else ())):
            for kind in (np.float32, np.int32, np.float64):
                if reduction != "none":
                    given = (data.astype(kind), twice, numbers((2, 3), kind, 2))
                    yield Case("ScatterElements", given, {"axis": 1, "reduction": reduction}, opset)
                points = np.array([[0, 1], [-1, -2], [2, 0]] if reduction == "none" else [[0, 1], [-1, -2], [0, 1]])
                rows = np.array([[1], [-1]] if reduction == "none" else [[1], [1]])
                for fixed in ((), (1,)):
                    yield Case("ScatterND", (data.astype(kind), points, numbers((3,), kind, 3)),
                               {"reduction": reduction}, opset, fixed)  # fmt: skip
                yield Case("ScatterND", (data.astype(kind), rows, numbers((2, 5), kind, 3)), {"reduction": reduction},
                           opset)  # fmt: skip
    for opset in (11, 13):
        yield Case("ScatterND", (data, np.array([[0, 1], [-1, -2]]), updates[0]), {}, opset)


def pads() -> Iterator[Case]:
    """Every mode, widths of either sign, the value of every type, axes."""
    wide, cut = [0, 1, 2, 0, 0, 0, 1, 2], [0, -1, 1, -2, 0, 1, -1, 0]
    for mode in ("constant", "reflect", "edge"):
        for widths in (wide, [0, 0, 1, 1, 0, 0, 3, 4]):
            yield Case("Pad", (X,), {"pads": widths, "mode": mode, "value": 1.5}, 7)
        for opset in (11, 13, 18, 21):
            yield Case("Pad", (X, i64(*wide)), {"mode": mode}, opset, constants=(1,))
    yield Case("Pad", (X,), {"pads": cut, "value": -2.0}, 7)
    for mode in ("constant", "edge", "reflect", "wrap"):
        yield Case("Pad", (X, i64(*cut)), {"mode": mode}, 19, constants=(1,))
        if mode != "reflect":
            yield Case("Pad", (X, i64(1, 0, 0, 2, 1, 2, 3, 3)), {"mode": mode}, 19, constants=(1,))
    yield Case("Pad", (numbers((2, 3), np.float32), i64(0, 4, 0, 5)), {"mode": "wrap"}, 19, constants=(1,))
    yield Case("Pad", (numbers((3,), np.float32), i64(1, 2)), {"mode": "edge"}, 13, constants=(1,))
    volume = numbers((2, 3, 2, 2, 3), np.float32)
    yield Case("Pad", (volume, i64(0, 0, 1, 1, 1, 0, 0, 0, 1, 2)), {"mode": "reflect"}, 13, constants=(1,))
    for opset in (13, 18):
        for kind in KINDS:
            value = np.array(3, kind)
            yield Case("Pad", (numbers((2, 3), kind), i64(1, 0, 0, 2), value), {}, opset, constants=(1, 2))
    yield Case("Pad", (X, i64(1, 2), np.array(0.5, np.float32), i64(-1)), {}, 18, constants=(1, 2, 3))
    yield Case("Pad", (X, i64(1, 2, 0, 1), None, np.array([3, 1], np.int32)), {"mode": "edge"}, 18, constants=(1, 2, 3))
    yield Case("Pad", (X, i64(*wide), np.array(7, np.float32)), {}, 18, constants=(1,), note="value fed")
    special = np.array([[np.nan, np.inf], [-np.inf, 0]], np.float32)
    yield Case("Pad", (special, i64(1, 1, 1, 1), np.array(-np.inf, np.float32)), {}, 18, constants=(1, 2))


def splits() -> Iterator[Case]:
    """Equal parts, sizes, an uneven last one."""
    for opset in (7, 11):
        yield Case("Split", (X,), {"axis": 1, "split": [1, 2]}, opset, outputs=2)
        yield Case("Split", (X,), {"axis": 2}, opset, outputs=2)
        yield Case("Split", (X,), {}, opset, outputs=2)
    yield Case("Split", (X,), {"axis": -1, "split": [2, 2, 1]}, 11, outputs=3)
    for opset in (13, 18):
        yield Case("Split", (X, i64(3, 2)), {"axis": -1}, opset, constants=(1,), outputs=2)
        yield Case("Split", (X, i64(1, 1, 1)), {"axis": 1}, opset, constants=(1,), outputs=3)
    yield Case("Split", (X,), {"axis": 1}, 13, outputs=3)
    for count in (1, 2, 3, 5):
        yield Case("Split", (X,), {"axis": 3, "num_outputs": count}, 18, outputs=count)


def blocks() -> Iterator[Case]:
    """DepthToSpace and SpaceToDepth."""
    x = numbers((2, 8, 2, 3), np.float32)
    for opset in versions("DepthToSpace"):
        yield Case("DepthToSpace", (x,), {"blocksize": 2}, opset)
        for mode in ("DCR", "CRD") if opset >= 11 else ():
            yield Case("DepthToSpace", (x,), {"blocksize": 2, "mode": mode}, opset)
    for opset in versions("SpaceToDepth"):
        yield Case("SpaceToDepth", (numbers((2, 3, 4, 6), np.float32),), {"blocksize": 2}, opset)


def creations() -> Iterator[Case]:
    """ConstantOfShape, EyeLike, Range, OneHot, Trilu, Constant."""
    for opset in versions("ConstantOfShape"):
        yield Case("ConstantOfShape", (i64(2, 3),), {}, opset, constants=(0,))
        for value in (np.array([2.5], np.float32), np.array([7]), np.array([True])):
            yield Case(
                "ConstantOfShape", (i64(2, 3),), {"value": numpy_helper.from_array(value)}, opset, constants=(0,)
            )
    for opset in versions("EyeLike"):
        yield Case("EyeLike", (numbers((3, 4), np.float32),), {}, opset)
        yield Case("EyeLike", (numbers((4, 3), np.int32),), {"k": 1, "dtype": 1}, opset)
        yield Case("EyeLike", (numbers((4, 3), np.float32),), {"k": -2}, opset)
    for start, limit, delta in ((0, 10, 3), (10, 0, -3), (-2, 3, 1)):
        for kind in (np.int64, np.int32, np.float32):
            given = tuple(np.array(v, kind) for v in (start, limit, delta))
            yield Case("Range", given, {}, 11, constants=(0, 1, 2))
    yield Case("Range", tuple(np.array(v, np.float32) for v in (0.1, 1.0, 0.3)), {}, 11, constants=(0, 1, 2))
    hot = np.array([[0, -1, 2], [3, 9, -4]])
    for opset in versions("OneHot"):
        for axis in (-1, 0, 1):
            for kind, values in ((np.int64, np.array([0, 1], np.float32)), (np.int32, np.array([5, -2], np.int64)),
                                 (np.float32, np.array([0.5, 2], np.float32))):  # fmt: skip
                yield Case("OneHot", (hot.astype(kind), np.array(4), values), {"axis": axis}, opset, (1, 2))
    yield Case("OneHot", (i64(2), np.array([4]), np.array([0, 1], np.float32)), {}, 11, (1, 2))
    yield Case("OneHot", (hot, np.array(4.0, np.float32), np.array([0, 1], np.float32)), {}, 11, (1,))
    for upper in (0, 1):
        for k in (None, -1, 0, 2, 9, -9):
            rest = () if k is None else (np.array(k),)
            yield Case("Trilu", (numbers((2, 3, 4), np.float32), *rest), {"upper": upper}, 14, constants=(1,))
    for kind in (np.int64, np.bool_, np.float64):
        yield Case("Trilu", (numbers((4, 3), kind),), {}, 14)
    special = np.full((3, 3), np.nan, np.float32)
    yield Case("Trilu", (special,), {}, 14)


def sorts() -> Iterator[Case]:
    """TopK: ties, NaN-free values of every type, the smallest, not sorted."""
    ties = np.array([[3, 1, 3, 2, 1, 3], [0, 0, 0, 5, 5, -1]])
    yield Case("TopK", (X,), {"k": 2, "axis": 1}, 7, outputs=2)
    yield Case("TopK", (X,), {"k": 3}, 7, outputs=2)
    yield Case("TopK", (X, i64(2)), {"axis": 2}, 10, constants=(1,), outputs=2)
    for kind in (np.float32, np.int64, np.int32, np.float64, np.float16, np.uint8):
        for largest in (0, 1):
            for axis in (-1, 0):
                given = (np.abs(ties).astype(kind), i64(2))
                yield Case("TopK", given, {"axis": axis, "largest": largest}, 11, constants=(1,), outputs=2)
    yield Case("TopK", (ties.astype(np.float32), i64(6)), {}, 24, constants=(1,), outputs=2)
    yield Case("TopK", (ties.astype(np.float32), i64(1)), {}, 11, constants=(1,), outputs="01")
    yield Case("TopK", (numbers((7,), np.float32), i64(3)), {"largest": 0}, 11, constants=(1,), outputs="10")


def others() -> Iterator[Case]:
    """CumSum, ReverseSequence, Dropout, Identity of every type."""
    for opset in versions("CumSum"):
        for axis in (0, 1, -1):
            for exclusive in (0, 1):
                for reverse in (0, 1):
                    options = {"exclusive": exclusive, "reverse": reverse}
                    yield Case("CumSum", (numbers((3, 4), np.float32), np.array(axis)), options, opset, (1,))
    for kind in (np.int32, np.int64, np.float64):
        yield Case("CumSum", (numbers((2, 3, 2), kind), np.array([1], np.int32)), {"exclusive": 1}, 14, (1,))
    for exclusive, reverse in ((0, 0), (1, 0), (0, 1)):
        options = {"exclusive": exclusive, "reverse": reverse}
        yield Case("CumProd", (numbers((3, 4), np.float32), np.array(1)), options, 26, (1,))
    lengths = i64(1, 3, 2)
    for time, batch in ((0, 1), (1, 0)):
        for fixed in ((), (1,)):
            yield Case("ReverseSequence", (numbers((3, 3, 2), np.float32), lengths),
                       {"time_axis": time, "batch_axis": batch}, 10, fixed)  # fmt: skip
    for opset in (7, 10):
        for outputs in (1, 2):
            yield Case("Dropout", (X,), {"ratio": 0.4}, opset, outputs=outputs)
    for opset in (12, 13, 22):
        for outputs in (1, 2):
            yield Case("Dropout", (X, np.array(0.4, np.float32)), {}, opset, constants=(1,), outputs=outputs)
        yield Case("Dropout", (X,), {}, opset, outputs=2)
    for dtype in map(np.dtype, DTYPES.values()):
        yield Case("Identity", (numbers((2, 3), dtype),), {}, 16)
    for kind in types("Reshape", 13):
        yield Case("Reshape", (numbers((2, 3), kind), i64(3, 2)), {}, 13, constants=(1,))
