"""Operators that cut, fill, spread and collect elements, by operators that every schedule has."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import helper

from tesa.frontend.expand import Writer, expands
from tesa.frontend.expansions.parts import concat, cut, integers, number, optional, reshape, unsqueeze


@expands("CenterCropPad")
def center_crop_pad(writer: Writer, node: Any) -> Sequence[str]:
    """Axes cut or filled with zeros at both ends: (x, sizes)."""
    x, wanted = node.input[0], writer.value(node.input[1])
    shape = writer.shape(x)
    if wanted is None:
        raise writer.unsupported(
            "the sizes are computed by the model; tesa compiles for fixed sizes. Make them constant"
        )
    axes = [int(n) % len(shape) for n in writer.options.get("axes", range(len(shape)))]
    before, after = [0] * len(shape), [0] * len(shape)
    result = x
    for axis, size in zip(axes, wanted.tolist(), strict=True):
        extra = size - shape[axis]
        if extra < 0:
            result = cut(writer, result, axis, -extra // 2, -extra // 2 + size)
        else:
            before[axis], after[axis] = extra // 2, extra - extra // 2
    if any(before) or any(after):
        result = writer.add("Pad", result, integers(writer, before + after), number(writer, 0, x))
    return [result]


@expands("Col2Im")
def col2im(writer: Writer, node: Any) -> Sequence[str]:
    """Blocks summed into a picture: (x (B, C * block, blocks), picture, block), as a transposed convolution."""
    x, options = node.input[0], writer.options
    image, block = (writer.value(node.input[i]) for i in (1, 2))
    if image is None or block is None:
        raise writer.unsupported(
            "its sizes are computed by the model; tesa compiles for fixed sizes. Make them constant"
        )
    sizes, taps = image.tolist(), block.tolist()
    rank, area = len(taps), math.prod(taps)
    ones = [1] * rank
    stride, dilation = (list(options.get(name, ones)) for name in ("strides", "dilations"))
    pads = list(options.get("pads", [0] * 2 * rank))
    full = [n + pads[i] + pads[rank + i] for i, n in enumerate(sizes)]
    steps = [(f - d * (k - 1) - 1) // s + 1 for f, k, s, d in zip(full, taps, stride, dilation, strict=True)]
    batch, width, _ = writer.shape(x)
    writer.reserve(area, area)
    columns = reshape(writer, x, [batch * width // area, area, *steps])
    weight = number(writer, np.eye(area).reshape(area, 1, *taps), x)
    covered = [s * (n - 1) + d * (k - 1) + 1 for n, k, s, d in zip(steps, taps, stride, dilation, strict=True)]
    y = writer.add("ConvTranspose", columns, weight, strides=stride, dilations=dilation, kernel_shape=taps)
    ends = [max(f - c, 0) for f, c in zip(full, covered, strict=True)]
    if any(ends):
        y = writer.add("Pad", y, integers(writer, [0] * (4 + rank) + ends), number(writer, 0, x))
    for i in range(rank):
        if pads[i] or pads[rank + i]:
            y = cut(writer, y, 2 + i, pads[i], pads[i] + sizes[i])
    return [reshape(writer, y, [batch, width // area, *sizes])]


POOL = ("auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "strides")


@expands("MaxPool")
def max_pool_with_places(writer: Writer, node: Any) -> Sequence[str] | None:
    """The maxima, and their places in the input as it lies in memory; None if nobody reads the places."""
    if not writer.reads(1):
        return None
    x, options = node.input[0], writer.options
    shape, out = writer.shape(x), writer.shape(node.output[0])
    taps = [int(n) for n in options["kernel_shape"]]
    rank = len(taps)
    stride, dilation = ([int(n) for n in options.get(name, [1] * rank)] for name in ("strides", "dilations"))
    begins = _begins(options, shape[2:], out[2:], taps, stride, dilation)
    writer.reserve(math.prod(out[2:]), math.prod(taps), copies=5)
    place = _places(shape[2:], out[2:], taps, stride, dilation, begins, bool(options.get("storage_order", 0)))
    known = place >= 0
    steps = [n * s for n, s in zip(np.prod(shape[2:]) * np.array([shape[1], 1]), (1, 1), strict=True)]
    area = math.prod(shape[2:])
    flat = reshape(writer, x, [shape[0], shape[1], area])
    reading = np.maximum(_places(shape[2:], out[2:], taps, stride, dilation, begins, False), 0)
    windows = writer.add("Gather", flat, integers(writer, reading), axis=2)  # (B, C, places of the result, taps)
    lowest = _lowest(writer, x)
    if not known.all():
        windows = writer.add("Where", writer.constant(known[None, None]), windows, lowest)
    best = writer.add("ArgMax", windows, axis=3, keepdims=1)
    table = writer.add("Expand", integers(writer, place[None, None]), integers(writer, [*shape[:2], *place.shape]))
    found = reshape(writer, writer.add("GatherElements", table, best, axis=3), out)
    planes = np.arange(shape[0])[:, None] * steps[0] + np.arange(shape[1])[None] * steps[1]
    base = integers(writer, planes.reshape(*shape[:2], *[1] * rank))
    return [writer.add("MaxPool", x, **optional(options, *POOL)), writer.add("Add", found, base)]


def _lowest(writer: Writer, x: str) -> str:
    dtype = writer.dtype(x)
    return number(writer, -np.inf if dtype.kind == "f" else np.iinfo(dtype).min, x)


def _begins(
    options: dict[str, Any], sizes: Sequence[int], out: Sequence[int], taps: Sequence[int], stride: Sequence[int],
    dilation: Sequence[int],
) -> list[int]:  # fmt: skip
    """The number of places that the first window begins before the input, along each axis."""
    mode = options.get("auto_pad", b"NOTSET").decode()
    if not mode.startswith("SAME"):
        return [int(n) for n in options.get("pads", [0] * 2 * len(taps))[: len(taps)]]
    rows = zip(sizes, out, taps, stride, dilation, strict=True)
    total = [max((o - 1) * s + d * (k - 1) + 1 - n, 0) for n, o, k, s, d in rows]
    return [t // 2 if mode == "SAME_UPPER" else t - t // 2 for t in total]


def _places(
    sizes: Sequence[int], out: Sequence[int], taps: Sequence[int], stride: Sequence[int], dilation: Sequence[int],
    begins: Sequence[int], by_columns: bool,
) -> Any:  # fmt: skip
    """The place in the input (places of the result, taps) that each tap reads, -1 outside."""
    axes = [np.arange(o)[:, None] * s + np.arange(k) * d - b
            for o, k, s, d, b in zip(out, taps, stride, dilation, begins, strict=True)]  # fmt: skip
    rank = len(taps)
    order = range(rank)[::-1] if by_columns else range(rank)
    place: Any = np.zeros((1,) * 2 * rank, np.int64)
    inside: Any = np.ones((1,) * 2 * rank, bool)
    for i in order:
        view = [1] * 2 * rank
        view[i], view[rank + i] = axes[i].shape
        grid = axes[i].reshape(view)
        place = place * sizes[i] + grid
        inside = inside & (grid >= 0) & (grid < sizes[i])
    return np.where(inside, place, -1).reshape(math.prod(out), math.prod(taps))


@expands("MaxUnpool")
def max_unpool(writer: Writer, node: Any) -> Sequence[str]:
    """Maxima put back to their places: (x, places, sizes), zero elsewhere."""
    x, options = node.input[0], writer.options
    shape = writer.shape(x)
    taps = [int(n) for n in options["kernel_shape"]]
    rank = len(taps)
    stride, pads = list(options.get("strides", [1] * rank)), list(options.get("pads", [0] * 2 * rank))
    sizes = [(n - 1) * s + k - pads[i] - pads[rank + i]
             for i, (n, s, k) in enumerate(zip(shape[2:], stride, taps, strict=True))]  # fmt: skip
    wanted = writer.value(node.input[2]) if writer.has(2) else np.array([*shape[:2], *sizes])
    if wanted is None:
        raise writer.unsupported("its output_shape is computed by the model; tesa compiles for fixed sizes. Fix it")
    whole = [*shape[:2], *(int(n) for n in wanted[-rank:])]
    writer.check_possible(whole)
    writer.reserve(*whole, copies=1)
    zeros = number(writer, np.zeros(math.prod(whole)), x)
    flat = (reshape(writer, name, [-1]) for name in (x, node.input[1]))
    values, places = flat
    return [reshape(writer, writer.add("ScatterElements", zeros, places, values, axis=0), whole)]


@expands("TensorScatter")
def tensor_scatter(writer: Writer, node: Any) -> Sequence[str]:
    """A cache with new elements along an axis from a place of each row on: (cache, new, places)."""
    cache, new = node.input[:2]
    shape, length = writer.shape(cache), writer.shape(new)
    axis = int(writer.options.get("axis", -2)) % len(shape)
    size, count = shape[axis], length[axis]
    view = [1] * len(shape)
    view[axis] = size
    writer.reserve(size)
    columns = integers(writer, np.arange(size).reshape(view))
    place = columns
    if writer.has(2):
        starts = writer.add("Cast", node.input[2], to=7)
        place = writer.add("Sub", columns, unsqueeze(writer, starts, *range(1, len(shape))))
    if writer.options.get("mode", b"linear") == b"circular":
        place = writer.add("Mod", place, integers(writer, size))
    inside = writer.add("Max", writer.add("Min", place, integers(writer, count - 1)), integers(writer, 0))
    moved = writer.add("GatherElements", new, writer.add("Expand", inside, integers(writer, shape)), axis=axis)
    return [writer.add("Where", writer.add("Equal", place, inside), moved, cache)]


@expands("Det")
def determinant(writer: Writer, node: Any) -> Sequence[str]:
    """The determinants of small matrices, by minors of the first row."""
    size = writer.shape(node.input[0])[-1]
    if size > 4:
        raise writer.unsupported(f"of matrices of {size} rows it cannot be imported, of 4 it can. Compute it elsewhere")
    rank = len(writer.shape(node.input[0]))
    axes = integers(writer, [rank - 2, rank - 1])
    return [writer.add("Squeeze", _minor(writer, node.input[0], list(range(size)), list(range(size))), axes)]


def _minor(writer: Writer, x: str, rows: Sequence[int], columns: Sequence[int]) -> str:
    parts = []
    for i, column in enumerate(columns):
        element = cut(writer, cut(writer, x, -2, rows[0], rows[0] + 1), -1, column, column + 1)
        if len(rows) > 1:
            rest = _minor(writer, x, rows[1:], [c for c in columns if c != column])
            element = writer.add("Mul", element, rest)
        parts.append(writer.add("Neg", element) if i % 2 else element)
    total = parts[0]
    for part in parts[1:]:
        total = writer.add("Add", total, part)
    return total


@expands("com.microsoft::Trilu")
def trilu(writer: Writer, node: Any) -> Sequence[str]:
    """ONNX's operator of the name."""
    return [writer.add("Trilu", *node.input, **writer.options)]


@expands("com.microsoft::GatherND")
def gather_nd(writer: Writer, node: Any) -> Sequence[str]:
    """ONNX's operator of the name."""
    return [writer.add("GatherND", *node.input)]


@expands("com.microsoft::MulInteger")
def integer_product(writer: Writer, node: Any) -> Sequence[str]:
    """(a - its zero) * (b - its zero) in int32: (a, a's zero, b, b's zero)."""
    parts = []
    for index in (0, 2):
        wide = writer.add("Cast", node.input[index], to=6)
        zero = writer.input(index + 1)
        parts.append(writer.add("Sub", wide, writer.add("Cast", zero, to=6)) if zero else wide)
    return [writer.add("Mul", *parts)]


@expands("com.microsoft::ReduceSumInteger")
def integer_sum(writer: Writer, node: Any) -> Sequence[str]:
    """A sum over axes in int32."""
    options = writer.options
    wide = writer.add("Cast", node.input[0], to=6)
    return [writer.add("ReduceSum", wide, integers(writer, list(options["axes"])), keepdims=options.get("keepdims", 1))]


@expands("com.microsoft::UnfoldTensor")
def unfold(writer: Writer, node: Any) -> Sequence[str]:
    """Windows along an axis, as one more axis at the end."""
    x, options = node.input[0], writer.options
    shape = writer.shape(x)
    axis = int(options.get("dim", -1)) % len(shape)
    size, step = int(options["size"]), int(options.get("step", 1))
    if not 0 < size <= shape[axis] or step < 1:
        raise writer.unsupported(f"it cuts windows of {size} with steps of {step} from {shape[axis]}. Export it again")
    starts = range(0, shape[axis] - size + 1, step)
    order = [*range(axis), *range(axis + 1, len(shape)), axis]
    parts = [unsqueeze(writer, writer.add("Transpose", cut(writer, x, axis, s, s + size), perm=order), axis)
             for s in starts]  # fmt: skip
    return [concat(writer, parts, axis)]


@expands("Dropout")
def dropout_with_mask(writer: Writer, node: Any) -> Sequence[str] | None:
    """At inference nothing is dropped: the mask is True everywhere. None if nobody reads it."""
    if not writer.reads(1):
        return None
    return [node.input[0], writer.constant(np.ones(writer.shape(node.input[0]), bool))]


@expands("EyeLike")
def eye_like(writer: Writer, node: Any) -> Sequence[str]:
    """Ones on a diagonal of zeros: a constant, for the shape is known."""
    options, x = writer.options, node.input[0]
    dtype = helper.tensor_dtype_to_np_dtype(options["dtype"]) if "dtype" in options else writer.dtype(x)
    rows, columns = writer.shape(x)
    writer.reserve(rows, columns, copies=1)
    return [writer.constant(np.eye(rows, columns, int(options.get("k", 0))), dtype)]


@expands("Pad")
def pad_with_a_computed_value(writer: Writer, node: Any) -> Sequence[str] | None:
    """Padding whose value the model computes: zeros, then the value where nothing of the input is. None for others."""
    value = writer.input(2)
    widths = writer.value(node.input[1]) if writer.has(1) else None
    if not value or value in writer.graph.constants or widths is None:
        return None
    if writer.options.get("mode", b"constant") != b"constant":
        return None
    x, shape = node.input[0], writer.shape(node.input[0])
    axes = writer.value(node.input[3]) if writer.has(3) else np.arange(len(shape))
    if axes is None:
        return None
    rows, wide = list(zip(axes.tolist(), widths.reshape(2, -1).T.tolist(), strict=True)), list(shape)
    for axis, (before, after) in rows:
        wide[axis] += before + after
    writer.check_possible(wide)
    inside = np.ones(shape, bool)
    for axis, (before, after) in rows:
        inside = _padded(inside, axis % len(shape), before, after)
    rest = [node.input[3]] if writer.has(3) else []
    zeros = writer.add("Pad", x, node.input[1], number(writer, 0, x), *rest)
    one = reshape(writer, value, [1])
    return [writer.add("Where", writer.constant(inside), zeros, one)]


def _padded(inside: Any, axis: int, before: int, after: int) -> Any:
    """False at both ends of an axis; a negative width cuts."""
    moved = np.moveaxis(inside, axis, 0)
    moved = moved[max(-before, 0) : len(moved) - max(-after, 0)]
    ends = [np.zeros((max(n, 0), *moved.shape[1:]), bool) for n in (before, after)]
    return np.moveaxis(np.concatenate([ends[0], moved, ends[1]]), 0, axis)
