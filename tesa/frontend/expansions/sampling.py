"""Values of pictures at places between the pixels: GridSample, DeformConv, and the gathers that they are made of.

Letters: B batch, C channels, P places. A picture is flat, (B, C, pixels); places are given axis by axis, (B, P) each.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tesa.frontend.expand import Writer, expands
from tesa.frontend.expansions.parts import cast, cut, integers, number, reshape, split, squeeze, transpose, unsqueeze

CUBIC = -0.75
"""The coefficient of Keys' cubic kernel that GridSample has."""


def gathered(writer: Writer, flat: str, index: str, batch: int, channels: int, places: int) -> str:
    """The pixels (B, C, P) of a flat picture at flat places (B, P)."""
    whole = writer.add("Expand", unsqueeze(writer, index, 1), integers(writer, [batch, channels, places]))
    return str(writer.add("GatherElements", flat, whole, axis=2))


Tap = tuple[str, str]
"""A place along one axis, in whole pixels, and the weight of what is there, (B, P) both."""


def linear_taps(writer: Writer, place: str, like: str) -> list[Tap]:
    """The pixels on both sides of a place along an axis."""
    low = writer.add("Floor", place)
    part = writer.add("Sub", place, low)
    one = number(writer, 1, like)
    return [(low, writer.add("Sub", one, part)), (writer.add("Add", low, one), part)]


def cubic_taps(writer: Writer, place: str, like: str) -> list[Tap]:
    """The two pixels on either side, with the weights of Keys' kernel (1981)."""
    low = writer.add("Floor", place)
    part = writer.add("Sub", place, low)
    taps = []
    for step in (-1, 0, 1, 2):
        distance = writer.add("Abs", writer.add("Sub", part, number(writer, step, like)))
        a = CUBIC
        inner, outer = (a + 2, -(a + 3), 0.0, 1.0), (a, -5 * a, 8 * a, -4 * a)
        weight = _polynomial(writer, distance, inner if step in (0, 1) else outer, like)
        taps.append((writer.add("Add", low, number(writer, step, like)), weight))
    return taps


def _polynomial(writer: Writer, x: str, factors: Sequence[float], like: str) -> str:
    result = number(writer, factors[0], like)
    for factor in factors[1:]:
        result = writer.add("Add", writer.add("Mul", result, x), number(writer, factor, like))
    return result


def sampled(
    writer: Writer, flat: str, shape: Sequence[int], taps: Sequence[Sequence[Tap]], places: int, like: str,
    padding: str = "zeros", corners: bool = False, mask: str = "",
) -> str:  # fmt: skip
    """The weighted sum (B, C, P) of the pixels at all combinations of taps. shape: (B, C, sizes) of the picture.

    padding: what is outside, as GridSample says it; corners: whether its borders are the middles of the last pixels;
    mask: (B, P) factors of the sums. Pixels are rows of channels meanwhile, which are read as vectors.
    """
    batch, channels, *sizes = shape
    pixels, rows = math.prod(sizes), batch * places
    picture = reshape(writer, transpose(writer, flat, [0, 2, 1]), [batch * pixels, channels])
    first = np.arange(batch)[:, None] * pixels
    axes = [[_bounded(writer, tap, n, like, padding, corners) for tap in axis]
            for axis, n in zip(taps, sizes, strict=True)]  # fmt: skip
    total = ""
    for combination in itertools.product(*axes):
        index, weight = combination[0]
        for (place, factor), size in zip(combination[1:], sizes[1:], strict=True):
            index = writer.add("Add", writer.add("Mul", index, integers(writer, size)), place)
            weight = writer.add("Mul", weight, factor)
        index = writer.add("Add", index, integers(writer, first)) if batch > 1 else index
        weight = writer.add("Mul", weight, mask) if mask else weight
        found = writer.add("Gather", picture, reshape(writer, index, [rows]), axis=0)
        part = writer.add("Mul", found, reshape(writer, weight, [rows, 1]))
        total = writer.add("Add", total, part) if total else part
    return transpose(writer, reshape(writer, total, [batch, places, channels]), [0, 2, 1])


def _bounded(writer: Writer, tap: Tap, size: int, like: str, padding: str, corners: bool) -> Tap:
    """A tap inside of the picture; what is outside weighs nothing, or is the border or the mirror image."""
    place, weight = tap
    if padding == "reflection":
        place = mirrored(writer, place, size, corners, like)
    zero, last = number(writer, 0, like), number(writer, size - 1, like)
    inside = writer.add("Max", writer.add("Min", place, last), zero)
    if padding == "zeros":
        weight = writer.add("Where", writer.add("Equal", inside, place), weight, zero)
    return cast(writer, inside, np.int64), weight


def mirrored(writer: Writer, place: str, size: int, corners: bool, like: str) -> str:
    """A place folded back into the picture, as often as needed, at the borders of the last pixels or their middles."""
    low, high = (0.0, size - 1.0) if corners else (-0.5, size - 0.5)
    width = high - low
    if width == 0:
        return str(writer.add("Mul", place, number(writer, 0, like)))
    moved = writer.add("Sub", place, number(writer, low, like))
    periods = writer.add("Floor", writer.add("Div", moved, number(writer, 2 * width, like)))
    rest = writer.add("Sub", moved, writer.add("Mul", periods, number(writer, 2 * width, like)))
    away = writer.add("Abs", writer.add("Sub", rest, number(writer, width, like)))
    return str(writer.add("Sub", number(writer, high, like), away))


@expands("GridSample", "com.microsoft::GridSample")
def grid_sample(writer: Writer, node: Any) -> Sequence[str]:
    """The picture at the places of a grid (B, ..., axes), which run from -1 to 1 and name the last axis first."""
    x, grid = node.input[:2]
    options, shape, out = writer.options, writer.shape(x), writer.shape(grid)
    sizes, places = shape[2:], math.prod(out[1:-1])
    corners = bool(options.get("align_corners", 0))
    mode = options.get("mode", b"linear").decode().replace("bilinear", "linear").replace("bicubic", "cubic")
    padding = options.get("padding_mode", b"zeros").decode()
    flat = reshape(writer, x, [*shape[:2], math.prod(sizes)])
    taps = []
    for axis, size in enumerate(sizes):
        name = cut(writer, reshape(writer, grid, [shape[0], places, len(sizes)]), 2, len(sizes) - 1 - axis,
                   len(sizes) - axis)  # fmt: skip
        scale, shift = ((size - 1) / 2, (size - 1) / 2) if corners else (size / 2, (size - 1) / 2)
        place = writer.add("Mul", squeeze(writer, name, 2), number(writer, scale, grid))
        place = writer.add("Add", place, number(writer, shift, grid))
        taps.append(_taps(writer, place, size, mode, padding, corners, grid))
    result = sampled(writer, flat, shape, taps, places, grid, padding, corners)
    return [reshape(writer, result, [*shape[:2], *out[1:-1]])]


def _taps(writer: Writer, place: str, size: int, mode: str, padding: str, corners: bool, like: str) -> list[Tap]:
    if mode == "cubic":
        return cubic_taps(writer, place, like)
    if mode == "nearest":
        place = writer.add("Round", place)
    if padding == "border":
        place = writer.add("Min", place, number(writer, size - 1, like))
        place = writer.add("Max", place, number(writer, 0, like))
    elif padding == "reflection":
        place = mirrored(writer, place, size, corners, like)
        place = writer.add("Round", place) if mode == "nearest" else place
    if mode == "nearest":
        one = writer.add("Add", writer.add("Mul", place, number(writer, 0, like)), number(writer, 1, like))
        return [(place, one)]
    return linear_taps(writer, place, like)


@expands("DeformConv")
def deform_conv(writer: Writer, node: Any) -> Sequence[str]:
    """A convolution whose taps are moved by offsets and weighted by a mask: (x, w, offsets[, bias][, mask])."""
    x, w, offsets = node.input[:3]
    options, shape, taps, out = writer.options, writer.shape(x), writer.shape(w), writer.shape(node.input[2])
    batch, channels, height, width = shape
    groups, parts = int(options.get("group", 1)), int(options.get("offset_group", 1))
    kernel, size = taps[2] * taps[3], out[2] * out[3]
    places = kernel * size
    if not (0 < groups <= taps[0] and 0 < parts <= channels):
        raise writer.unsupported(f"it has {groups} groups and {parts} of offsets, more than channels. Export it again")
    writer.reserve(kernel, size, copies=4)
    moved = reshape(writer, offsets, [batch, parts, kernel, 2, size])
    base = _base(options, taps, out)
    own = channels // parts
    pictures = split(writer, reshape(writer, x, [batch, channels, height * width]), [own] * parts, 1)
    masks = (
        split(writer, reshape(writer, node.input[4], [batch, parts, places]), [1] * parts, 1) if writer.has(4) else []
    )
    columns = []
    for part, picture in enumerate(pictures):
        local = cut(writer, moved, 1, part, part + 1)
        axes = [linear_taps(writer, _place(writer, local, i, base[i], batch, places, x), x) for i in (0, 1)]
        mask = reshape(writer, masks[part], [batch, places]) if masks else ""
        columns.append(sampled(writer, picture, (batch, own, height, width), axes, places, x, mask=mask))
    whole = columns[0] if parts == 1 else writer.add("Concat", *columns, axis=1)
    return [_product(writer, node, whole, (batch, channels, groups, kernel), taps, out)]


def _base(options: dict[str, Any], taps: Sequence[int], out: Sequence[int]) -> list[Any]:
    """The places of the taps without offsets, along each axis: (taps, places)."""
    stride, dilation = (list(options.get(name, [1, 1])) for name in ("strides", "dilations"))
    pads = list(options.get("pads", [0] * 4))
    axes = [np.arange(taps[2 + i])[:, None] * dilation[i] - pads[i] + np.arange(out[2 + i])[None] * stride[i]
            for i in (0, 1)]  # fmt: skip
    grid = (taps[2], taps[3], out[2], out[3])
    y = np.broadcast_to(axes[0][:, None, :, None], grid)
    x = np.broadcast_to(axes[1][None, :, None, :], grid)
    return [a.reshape(1, taps[2] * taps[3] * out[2] * out[3]) for a in (y, x)]


def _place(writer: Writer, local: str, axis: int, base: Any, batch: int, places: int, like: str) -> str:
    offset = reshape(writer, cut(writer, local, 3, axis, axis + 1), [batch, places])
    return str(writer.add("Add", offset, number(writer, base, like)))


def _product(
    writer: Writer, node: Any, columns: str, sizes: Sequence[int], taps: Sequence[int], out: Sequence[int]
) -> str:
    """The weights times the columns (B, C, taps * places), group by group."""
    batch, channels, groups, kernel = sizes
    size = out[2] * out[3]
    columns = reshape(writer, columns, [batch, channels * kernel, size])
    results = []
    weights = split(writer, node.input[1], [taps[0] // groups] * groups, 0)
    for weight, part in zip(weights, split(writer, columns, [channels * kernel // groups] * groups, 1), strict=True):
        flat = reshape(writer, weight, [taps[0] // groups, taps[1] * kernel])
        turned = transpose(writer, part, [0, 2, 1])
        results.append(writer.add("MatMul", turned, transpose(writer, flat, [1, 0])))
    whole = results[0] if groups == 1 else writer.add("Concat", *results, axis=2)
    whole = writer.add("Add", whole, node.input[3]) if writer.has(3) else whole
    return reshape(writer, transpose(writer, whole, [0, 2, 1]), [batch, taps[0], *out[2:]])


@expands("AffineGrid")
def affine_grid(writer: Writer, node: Any) -> Sequence[str]:
    """The places that affine maps (B, axes, axes + 1) take the pixels of a picture to: (maps, size of the picture)."""
    theta, size = node.input[0], writer.value(node.input[1])
    if size is None:
        raise writer.unsupported(
            f"its input {node.input[1]!r} is computed by the model; tesa compiles for fixed sizes. Make it a constant"
        )
    sizes = [int(n) for n in size[2:]]
    corners = bool(writer.options.get("align_corners", 0))
    writer.reserve(math.prod(sizes), len(sizes) + 1)
    lines = [_line(n, corners) for n in sizes]
    grid = np.meshgrid(*lines, indexing="ij")
    places = np.stack([*(axis.ravel() for axis in grid[::-1]), np.ones(math.prod(sizes))], -1)
    moved = writer.add("MatMul", number(writer, places, theta), transpose(writer, theta, [0, 2, 1]))
    return [reshape(writer, moved, [int(size[0]), *sizes, len(sizes)])]


def _line(size: int, corners: bool) -> Any:
    """The places of the pixels along an axis that runs from -1 to 1."""
    if corners:
        return np.linspace(-1, 1, size)
    return (2 * np.arange(size) + 1) / size - 1
