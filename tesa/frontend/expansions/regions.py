"""Regions of interest as gathers, for the forms that have a known number of samples."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tesa.frontend.expand import Writer, expands
from tesa.frontend.expansions.parts import cast, cut, number, reduce, reshape, unsqueeze
from tesa.frontend.expansions.sampling import gathered


@expands("RoiAlign")
def roi_align_maximum(writer: Writer, node: Any) -> Sequence[str] | None:
    """The largest weighted pixel of the samples in each bin: (x, regions (R, 4), batch of each). None for the mean."""
    options = writer.options
    if options.get("mode", b"avg") != b"max":
        return None
    samples = int(options.get("sampling_ratio", 0))
    if samples < 1:
        raise writer.unsupported(
            "with sampling_ratio 0 the number of its samples depends on data; tesa compiles for fixed sizes. Export it "
            "with a sampling_ratio"
        )
    x, regions = node.input[:2]
    _, channels, height, width = writer.shape(x)
    count = writer.shape(regions)[0]
    bins = [int(options.get(f"output_{side}", 1)) for side in ("height", "width")]
    pictures = reshape(writer, writer.add("Gather", x, node.input[2], axis=0), [count, channels, height * width])
    axes = [_samples(writer, regions, i, size, n, samples, options)
            for i, (size, n) in enumerate(zip((height, width), bins, strict=True))]  # fmt: skip
    places = math.prod(bins) * samples * samples
    best = ""
    for (row, a), (column, b) in itertools.product(*axes):
        index = writer.add("Add", writer.add("Mul", unsqueeze(writer, row, 2), writer.constant(width, "int64")),
                           unsqueeze(writer, column, 1))  # fmt: skip
        weight = writer.add("Mul", unsqueeze(writer, a, 2), unsqueeze(writer, b, 1))
        flat = reshape(writer, index, [count, places])
        pixels = gathered(writer, pictures, flat, count, channels, places)
        part = writer.add("Mul", pixels, reshape(writer, weight, [count, 1, places]))
        best = writer.add("Max", best, part) if best else part
    apart = reshape(writer, best, [count, channels, bins[0], samples, bins[1], samples])
    return [reduce(writer, "ReduceMax", apart, [3, 5], 0)]


def _samples(
    writer: Writer, regions: str, axis: int, size: int, bins: int, samples: int, options: dict[str, Any]
) -> list[tuple[str, str]]:
    """The pixels on both sides of each sample along an axis, (R, bins * samples), and their weights."""
    scale = number(writer, options.get("spatial_scale", 1.0), regions)
    half = options.get("coordinate_transformation_mode", b"half_pixel") == b"half_pixel"
    first = 1 - axis  # regions are x1, y1, x2, y2
    start, end = (writer.add("Mul", cut(writer, regions, 1, i, i + 1), scale) for i in (first, first + 2))
    if half:
        start, end = (writer.add("Sub", name, number(writer, 0.5, regions)) for name in (start, end))
    length = writer.add("Sub", end, start)
    length = length if half else writer.add("Max", length, number(writer, 1, regions))
    writer.reserve(bins, samples)
    steps = (np.arange(bins * samples) + 0.5) / (bins * samples)
    place = writer.add("Add", start, writer.add("Mul", length, number(writer, steps[None], regions)))
    zero, last = number(writer, 0, regions), number(writer, size - 1, regions)
    inside = writer.add("And", writer.add("Not", writer.add("Less", place, number(writer, -1, regions))),
                        writer.add("Not", writer.add("Greater", place, number(writer, size, regions))))  # fmt: skip
    place = writer.add("Min", writer.add("Max", place, zero), last)
    low = writer.add("Floor", place)
    part = writer.add("Sub", place, low)
    weights = (writer.add("Sub", number(writer, 1, regions), part), part)
    high = writer.add("Min", writer.add("Add", low, number(writer, 1, regions)), last)
    return [(cast(writer, pixel, np.int64), writer.add("Where", inside, weight, zero))
            for pixel, weight in zip((low, high), weights, strict=True)]  # fmt: skip
