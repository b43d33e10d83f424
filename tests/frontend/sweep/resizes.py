"""Upsample and Resize: every mode, coordinate and rounding; sizes and scales that do not fit each other; any rank."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from .case import Case, numbers

X = numbers((1, 2, 4, 5), np.float32)
EMPTY = np.zeros(0, np.float32)
F = np.float32
COORDINATES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
SCALES = ([1, 1, 2, 2], [1, 1, 1.3, 1.4], [1, 1, 0.5, 0.6], [1, 1, 2.5, 0.7], [1, 1, 0.3, 1])
SIZES = ([1, 2, 8, 10], [1, 2, 3, 7], [1, 2, 1, 1], [1, 2, 9, 3])


def by_scale(x: Any, scales: Any, attrs: dict[str, Any], opset: int = 13, **more: Any) -> Case:
    roi = EMPTY if opset < 13 else None
    return Case("Resize", (x, roi, np.array(scales, F)), attrs, opset, (1, 2), **more)


def by_size(x: Any, sizes: Any, attrs: dict[str, Any], opset: int = 13, **more: Any) -> Case:
    missing = EMPTY if opset < 13 else None
    return Case("Resize", (x, missing, missing, np.array(sizes, np.int64)), attrs, opset, (1, 2, 3), **more)


def cases() -> Iterator[Case]:
    """All of them."""
    for part in (old, nearest, smooth, ranks, crops, policies, kinds):
        yield from part()


def old() -> Iterator[Case]:
    """Upsample 7 and 9, Resize 10."""
    for mode in ("nearest", "linear"):
        for scales in ([1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 1.0, 3.0], [1.0, 1.0, 1.3, 1.5], [1.0, 1.0, 2.5, 1.0]):
            yield Case("Upsample", (X,), {"mode": mode, "scales": scales}, 7)
            yield Case("Upsample", (X, np.array(scales, F)), {"mode": mode}, 9, (1,))
        for scales in SCALES:
            yield Case("Resize", (X, np.array(scales, F)), {"mode": mode}, 10, (1,))
    yield Case("Upsample", (X,), {"mode": "nearest", "scales": [2.0, 3.0, 2.0, 1.0]}, 7)
    yield Case("Upsample", (X[0],), {"mode": "nearest", "scales": [1.0, 2.0, 1.5]}, 7)
    yield Case("Upsample", (X[0, 0],), {"mode": "linear", "scales": [2.0, 1.5]}, 7)
    yield Case("Upsample", (numbers((2, 3), np.uint8),), {"mode": "nearest", "scales": [2.0, 1.5]}, 7)


def nearest() -> Iterator[Case]:
    """Every coordinate with every rounding: ties, and sizes that are no multiples."""
    for coordinate, rounding in product((*COORDINATES, "half_pixel_symmetric"), ROUNDINGS):
        opset = 19 if coordinate == "half_pixel_symmetric" else 13
        attrs = {"mode": "nearest", "coordinate_transformation_mode": coordinate, "nearest_mode": rounding}
        for scales in SCALES:
            yield by_scale(X, scales, attrs, opset)
        for sizes in SIZES:
            yield by_size(X, sizes, attrs, opset)
    for opset in (11, 13, 18, 19):
        yield by_scale(X, SCALES[1], {}, opset)
        yield by_size(X, SIZES[1], {}, opset)
    for scales in SCALES:
        attrs = {"mode": "nearest", "coordinate_transformation_mode": "tf_half_pixel_for_nn", "nearest_mode": "floor"}
        yield by_scale(X, scales, attrs, 11)


def smooth() -> Iterator[Case]:
    """Linear and cubic: coordinates, coefficients, what lies outside, antialias."""
    for mode, coordinate in product(("linear", "cubic"), (*COORDINATES, "half_pixel_symmetric")):
        opset = 19 if coordinate == "half_pixel_symmetric" else 13
        attrs: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": coordinate}
        for scales in SCALES:
            yield by_scale(X, scales, attrs, opset)
        for sizes in SIZES:
            yield by_size(X, sizes, attrs, opset)
        if coordinate in ("half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"):
            for scales in SCALES[2:]:
                yield by_scale(X, scales, {**attrs, "antialias": 1}, 18, tolerance=1e-4)
            yield by_size(X, SIZES[1], {**attrs, "antialias": 1}, 18, tolerance=1e-4)
    for extra in ({"cubic_coeff_a": -0.5}, {"exclude_outside": 1}, {"cubic_coeff_a": -0.5, "exclude_outside": 1}):
        for scales in SCALES:
            yield by_scale(X, scales, {"mode": "cubic", **extra})
        yield by_scale(X, SCALES[2], {"mode": "cubic", "antialias": 1, **extra}, 18, tolerance=1e-4)
    for opset in (11, 13, 18, 19):
        for mode in ("linear", "cubic"):
            yield by_scale(X, SCALES[1], {"mode": mode}, opset)
            yield by_size(X, SIZES[1], {"mode": mode}, opset)


def ranks() -> Iterator[Case]:
    """One to five axes; axes before the last two; channels last."""
    for shape, scales in (
        ((6,), [1.5]), ((6, 4), [1.5, 0.5]), ((2, 6, 4), [1, 1.5, 2]), ((1, 2, 3, 4, 3), [1, 1, 2, 1.5, 0.7]),
        ((1, 4, 5, 2), [1, 2, 2, 1]), ((2, 3, 4, 5), [1, 2, 1, 1]), ((2, 3, 2, 2), [2, 1, 1, 1]),
    ):  # fmt: skip
        yield by_scale(numbers(shape, F), scales, {"mode": "nearest"})
        yield by_scale(numbers(shape, F), scales, {"mode": "nearest", "coordinate_transformation_mode": "asymmetric",
                       "nearest_mode": "floor"})  # fmt: skip
        yield by_scale(numbers(shape, F), scales, {"mode": "linear"})
    yield by_scale(numbers((4, 5), F), [2, 1.5], {"mode": "cubic"})
    yield by_size(numbers((1, 4, 5, 2), F), [1, 7, 9, 2], {"mode": "linear", "coordinate_transformation_mode":
                  "align_corners"})  # fmt: skip
    for mode in ("nearest", "linear", "cubic"):
        yield Case("Resize", (X, None, np.array([2, 1.5], F)), {"mode": mode, "axes": [2, 3]}, 18, (2,))
        yield Case("Resize", (X, None, np.array([1.5, 2], F)), {"mode": mode, "axes": [3, 2]}, 18, (2,))
        yield Case("Resize", (X, None, None, np.array([7, 3])), {"mode": mode, "axes": [-2, -1]}, 18, (3,))


def crops() -> Iterator[Case]:
    """tf_crop_and_resize with a region, partly outside."""
    for mode in ("nearest", "linear", "cubic"):
        attrs = {"mode": mode, "coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 3.5}
        for roi in ([0, 0, 0.2, 0.1, 1, 1, 0.9, 0.8], [0, 0, -0.2, 0.1, 1, 1, 0.9, 1.4]):
            given = np.array(roi, F)
            for opset in (11, 13, 18):
                yield Case("Resize", (X, given, np.array([1, 1, 1.5, 2], F)), attrs, opset, (1, 2))
                scales = EMPTY if opset < 13 else None
                yield Case("Resize", (X, given, scales, np.array([1, 2, 3, 7])), attrs, opset, (1, 2, 3))
        part = np.array([0.1, -0.1, 0.8, 0.9], F)
        yield Case("Resize", (X, part, None, np.array([3, 4])), {**attrs, "axes": [2, 3]}, 18, (1, 3))


def policies() -> Iterator[Case]:
    """Sizes that keep the ratio of the sides."""
    for policy in ("stretch", "not_larger", "not_smaller"):
        for mode in ("nearest", "linear"):
            for sizes in ([7, 8], [3, 9], [2, 2]):
                attrs = {"mode": mode, "keep_aspect_ratio_policy": policy, "axes": [2, 3]}
                yield Case("Resize", (X, None, None, np.array(sizes)), attrs, 18, (3,))


def kinds() -> Iterator[Case]:
    """Element types."""
    for dtype in (np.uint8, np.int8, np.int32, np.float16, np.float64):
        yield by_scale(numbers((1, 1, 3, 4), dtype), [1, 1, 2, 1.5], {"mode": "nearest"})
    for dtype in (np.uint8, np.int8, np.int32, np.float16):
        yield by_scale(
            numbers((1, 1, 3, 4), dtype, low=-100, high=100), [1, 1, 2, 1.5], {"mode": "linear"}, tolerance=4e-3
        )
    special = np.array([[[[0, np.nan, 1, 2], [np.inf, 3, 4, 5]]]], F)
    yield by_scale(special, [1, 1, 2, 2], {"mode": "nearest"})
