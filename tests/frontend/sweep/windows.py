"""Convolutions, poolings and what else looks through a window; sampling of images."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from .case import Case, numbers, types, versions

IMAGE = numbers((2, 3, 7, 8), np.float32)
ROW = numbers((2, 3, 9), np.float32)
VOLUME = numbers((1, 2, 5, 6, 5), np.float32)


def cases() -> Iterator[Case]:
    """All of them."""
    for part in (pools, convolutions, transposed, globals_, neighbours, samples, regions):
        yield from part()


def pool_options(opset: int, op: str) -> Iterator[dict[str, Any]]:
    """Attributes of a pooling over two axes."""
    plain: dict[str, Any] = {"kernel_shape": [3, 2]}
    yield plain
    yield {**plain, "strides": [2, 2]}
    yield {**plain, "strides": [2, 3], "pads": [1, 0, 1, 1]}
    yield {**plain, "pads": [1, 1, 0, 0]}
    for mode, stride in product(("SAME_UPPER", "SAME_LOWER", "VALID"), ([1, 1], [2, 3])):
        yield {"kernel_shape": [3, 3], "strides": stride, "auto_pad": mode}
        yield {"kernel_shape": [2, 2], "strides": stride, "auto_pad": mode}
    ceil = opset >= (18 if op == "LpPool" else 10)
    if ceil:
        yield {**plain, "strides": [2, 3], "ceil_mode": 1}
        yield {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1}
        yield {"kernel_shape": [2, 2], "strides": [3, 3], "pads": [0, 1, 0, 1], "ceil_mode": 1}
    if opset >= {"MaxPool": 10, "AveragePool": 19, "LpPool": 18}[op]:
        yield {**plain, "dilations": [2, 3]}
        yield {**plain, "dilations": [2, 1], "strides": [2, 1], "pads": [1, 0, 1, 0]}
        yield {"kernel_shape": [2, 2], "dilations": [2, 2], "strides": [2, 2], "ceil_mode": 1}
        if op == "MaxPool":
            yield {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "dilations": [2, 2]}
    if op == "AveragePool":
        yield {**plain, "pads": [1, 1, 1, 1], "count_include_pad": 1}
        yield {**plain, "pads": [1, 1, 1, 1], "count_include_pad": 0}
        yield {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER", "count_include_pad": 1}
        if ceil:
            for include in (0, 1):
                yield {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1,
                       "count_include_pad": include}  # fmt: skip
                yield {"kernel_shape": [3, 3], "strides": [3, 3], "pads": [1, 0, 0, 1], "ceil_mode": 1,
                       "count_include_pad": include}  # fmt: skip
    if op == "LpPool":
        yield {**plain, "p": 1}
        yield {**plain, "p": 3, "pads": [1, 1, 1, 1]}


def pools() -> Iterator[Case]:
    """Every attribute; one, two and three axes; NaN-free images, and ones below the padding's value."""
    for op in ("MaxPool", "AveragePool", "LpPool"):
        for opset in versions(op):
            for attrs in pool_options(opset, op):
                yield Case(op, (IMAGE,), attrs, opset)
        newest = versions(op)[-1]
        yield Case(op, (ROW,), {"kernel_shape": [3], "strides": [2], "pads": [1, 1]}, newest)
        yield Case(op, (ROW,), {"kernel_shape": [4], "strides": [2], "auto_pad": "SAME_UPPER"}, newest)
        yield Case(op, (ROW,), {"kernel_shape": [2], "strides": [2], "ceil_mode": 1}, newest)
        yield Case(op, (VOLUME,), {"kernel_shape": [2, 3, 2], "strides": [1, 2, 2], "pads": [0, 1, 1, 1, 1, 0]}, newest)
        yield Case(op, (VOLUME,), {"kernel_shape": [2, 2, 2], "strides": [2, 2, 2], "ceil_mode": 1}, newest)
    low = numbers((1, 2, 5, 5), np.float32, low=-9, high=-5)
    yield Case("MaxPool", (low,), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, 12)
    for kind in types("MaxPool", 12):
        yield Case("MaxPool", (numbers((1, 2, 5, 5), kind),), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, 12)
    for kind in (np.float64, np.float16):
        yield Case("AveragePool", (numbers((1, 2, 5, 5), kind),), {"kernel_shape": [3, 3]}, 11, tolerance=4e-3)
    special = IMAGE.copy()
    special[0, 0, 2, 2], special[0, 1, 3, 3], special[1, 0, 1, 1] = np.nan, np.inf, -np.inf
    yield Case("MaxPool", (special,), {"kernel_shape": [2, 2]}, 12, note="special")
    yield Case("AveragePool", (special,), {"kernel_shape": [2, 2]}, 11, note="special")


def convolutions() -> Iterator[Case]:
    """Strides, dilations, groups, every padding; weights fixed or fed; with a bias and without."""
    weight, bias = numbers((6, 3, 3, 2), np.float32, 1), numbers((6,), np.float32, 2)
    for opset in versions("Conv"):
        for attrs in (
            {}, {"strides": [2, 1], "pads": [1, 0, 2, 1]}, {"dilations": [2, 3]}, {"auto_pad": "SAME_UPPER"},
            {"auto_pad": "SAME_LOWER", "strides": [2, 3]}, {"auto_pad": "VALID", "strides": [2, 2]},
            {"auto_pad": "SAME_UPPER", "dilations": [2, 2]},
        ):  # fmt: skip
            attrs = {"kernel_shape": [3, 2], **attrs}
            yield Case("Conv", (IMAGE, weight, bias), attrs, opset, (1, 2), tolerance=1e-4)
            if opset == 11:
                yield Case("Conv", (IMAGE, weight), attrs, opset, tolerance=1e-4)
    for groups in (3, 1):
        weight = numbers((6, 3 // groups, 3, 3), np.float32, 1)
        yield Case("Conv", (IMAGE, weight, bias), {"group": groups}, 11, (1, 2), tolerance=1e-4)
    yield Case(
        "Conv", (ROW, numbers((4, 3, 3), np.float32)), {"pads": [1, 0], "strides": [2]}, 11, (1,), tolerance=1e-4
    )
    yield Case("Conv", (ROW, numbers((3, 1, 3), np.float32), bias[:3]), {"group": 3, "dilations": [2]}, 11, (1, 2),
               tolerance=1e-4)  # fmt: skip
    yield Case("Conv", (VOLUME, numbers((4, 2, 2, 3, 2), np.float32)), {"strides": [1, 2, 1]}, 11, (1,), tolerance=1e-4)


def transposed() -> Iterator[Case]:
    """Output shapes and paddings of every kind, groups, dilations."""
    weight, bias = numbers((3, 2, 3, 3), np.float32, 1), numbers((2,), np.float32, 2)
    small = numbers((1, 3, 4, 5), np.float32)
    rows: list[dict[str, Any]] = [
        {}, {"strides": [2, 3]}, {"strides": [2, 2], "pads": [1, 0, 1, 2]}, {"dilations": [2, 1]},
        {"strides": [2, 2], "output_padding": [1, 1]}, {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
        {"auto_pad": "VALID", "strides": [2, 1]}, {"strides": [3, 2], "output_shape": [12, 10]},
        {"strides": [2, 2], "output_shape": [8, 9], "auto_pad": "SAME_UPPER"},
    ]  # fmt: skip
    for opset in versions("ConvTranspose"):
        for attrs in rows:
            yield Case("ConvTranspose", (small, weight, bias), attrs, opset, (1, 2), tolerance=1e-4)
    yield Case("ConvTranspose", (small, weight), {"strides": [2, 2]}, 11, tolerance=1e-4)
    single, row = numbers((3, 1, 2, 2), np.float32), numbers((3, 2, 3), np.float32)
    yield Case("ConvTranspose", (small, single), {"group": 3, "strides": [2, 2]}, 11, (1,), tolerance=1e-4)
    yield Case("ConvTranspose", (ROW, row, bias), {"strides": [2], "pads": [1, 0]}, 11, (1, 2), tolerance=1e-4)
    yield Case("ConvTranspose", (numbers((1, 2, 3, 3, 3), np.float32), numbers((2, 2, 2, 2, 2), np.float32)),
               {"strides": [2, 2, 2]}, 11, (1,), tolerance=1e-4)  # fmt: skip


def globals_() -> Iterator[Case]:
    """Over all pixels, of one to three axes."""
    for op in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"):
        for x in (IMAGE, ROW, VOLUME):
            yield Case(op, (x,), {}, 7)
        if op != "GlobalLpPool":  # its newest has neither a kernel nor a reference
            yield Case(op, (IMAGE,), {}, versions(op)[-1])
    for p in (1, 2, 3):
        yield Case("GlobalLpPool", (IMAGE,), {"p": p}, 7)


def neighbours() -> Iterator[Case]:
    """LRN over an odd number of channels (of an even one there is no judge); MaxUnpool."""
    x = numbers((1, 7, 3, 4), np.float32)
    for opset in versions("LRN"):
        for attrs in ({"size": 3}, {"size": 5, "alpha": 0.02, "beta": 0.5, "bias": 2.0}):
            yield Case("LRN", (x,), attrs, opset)

    places = np.array([[[[5, 7], [13, 15]]]], np.int64)
    for opset in versions("MaxUnpool"):
        attrs = {"kernel_shape": [2, 2], "strides": [2, 2]}
        yield Case("MaxUnpool", (numbers((1, 1, 2, 2), np.float32), places), attrs, opset)


def samples() -> Iterator[Case]:
    """GridSample: every mode, padding and alignment; points outside of the image; volumes."""
    x, grid = numbers((2, 3, 4, 5), np.float32), numbers((2, 3, 4, 2), np.float32, 1, -1.4, 1.4)
    for opset, modes in ((16, ("bilinear", "nearest", "bicubic")), (20, ("linear", "nearest", "cubic"))):
        for mode, padding, align in product(modes, ("zeros", "border", "reflection"), (0, 1)):
            attrs = {"mode": mode, "padding_mode": padding, "align_corners": align}
            yield Case("GridSample", (x, grid), attrs, opset, tolerance=1e-4)
        yield Case("GridSample", (x, grid), {}, opset, tolerance=1e-4)
    volume, points = numbers((1, 2, 3, 4, 5), np.float32), numbers((1, 2, 3, 2, 3), np.float32, 1, -1.3, 1.3)
    for mode, padding, align in product(("linear", "nearest"), ("zeros", "border", "reflection"), (0, 1)):
        attrs = {"mode": mode, "padding_mode": padding, "align_corners": align}
        yield Case("GridSample", (volume, points), attrs, 20, tolerance=1e-4)
    theta = numbers((2, 2, 3), np.float32)
    for align in (0, 1):
        yield Case("AffineGrid", (theta, np.array([2, 3, 4, 5])), {"align_corners": align}, 20, (1,))
    yield Case("AffineGrid", (numbers((1, 3, 4), np.float32), np.array([1, 2, 3, 4, 5])), {}, 20, (1,))


def regions() -> Iterator[Case]:
    """RoiAlign and MaxRoiPool."""
    x = numbers((2, 3, 8, 9), np.float32)
    rois = np.array([[0.5, 1, 6, 5], [-1, -2, 4, 7], [3, 3, 3.2, 3.1], [2, 2, 12, 14]], np.float32)
    batch = np.array([0, 1, 1, 0])
    for opset in versions("RoiAlign"):
        for mode in ("avg", "max"):
            for attrs in ({"output_height": 2, "output_width": 3}, {}, {"output_height": 2, "output_width": 2,
                          "sampling_ratio": 2, "spatial_scale": 0.5}):  # fmt: skip
                yield Case("RoiAlign", (x, rois, batch), {**attrs, "mode": mode}, opset)
        if opset >= 16:
            yield Case("RoiAlign", (x, rois, batch), {"coordinate_transformation_mode": "output_half_pixel"}, opset)
    boxes = np.array([[0, 0, 1, 6, 5], [1, 2, 0, 7, 7]], np.float32)
    yield Case("MaxRoiPool", (x, boxes), {"pooled_shape": [2, 3]}, 7)
    yield Case("MaxRoiPool", (x, boxes), {"pooled_shape": [2, 2], "spatial_scale": 0.5}, 7)
