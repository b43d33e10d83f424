"""Steps of random models for images (n, c, h, w)."""

from __future__ import annotations

from typing import Any

import numpy as np

from .graph_any import ANY_STEPS
from .graph_maker import LARGEST, Maker

Names = list[str]


def conv(m: Maker, x: str, alike: Names) -> Names:
    """1x1, 3x3, dilated, strided, grouped, with and without padding and bias."""
    x = m.small(x, LARGEST)
    n, c, h, w = m.shapes[x]
    outs, groups = int(m.rng.integers(1, 4)) * 2, 2 if c % 2 == 0 and m.rng.random() < 0.3 else 1
    kernel, pad, stride = (
        (1, int(m.rng.random() < 0.1), 1) if m.rng.random() < 0.5 else (3, 1, int(m.rng.integers(1, 3)))
    )
    if kernel == 3 and min(h, w) >= 3 and m.rng.random() < 0.3:
        pad = 0
    inputs = [x, m.weight(outs, c // groups, kernel, kernel)]
    if m.rng.random() < 0.7:
        inputs.append(m.weight(outs))
    out = (n, outs, (h + 2 * pad - kernel) // stride + 1, (w + 2 * pad - kernel) // stride + 1)
    return [m.op("Conv", inputs, out, pads=[pad] * 4, strides=[stride] * 2, group=groups)]


def depthwise(m: Maker, x: str, alike: Names) -> Names:
    """Each channel its own filter."""
    x = m.small(x, LARGEST)
    n, c, h, w = m.shapes[x]
    pad = 1 if m.rng.random() < 0.7 or min(h, w) < 3 else 0
    out = (n, c, h - 2 + pad * 2, w - 2 + pad * 2)
    return [m.op("Conv", [x, m.weight(c, 1, 3, 3), m.weight(c)], out, group=c, pads=[pad] * 4)]


def transposed(m: Maker, x: str, alike: Names) -> Names:
    """A transposed convolution that keeps or doubles the size."""
    x = m.small(x, LARGEST)
    n, c, h, w = m.shapes[x]
    outs, groups = int(m.rng.integers(1, 3)) * 2, 2 if c % 2 == 0 and m.rng.random() < 0.3 else 1
    inputs = [x, m.weight(c, outs // groups, 2, 2)]
    if m.rng.random() < 0.5:
        inputs.append(m.weight(outs))
    if m.rng.random() < 0.5 and h <= 4:
        return [m.op("ConvTranspose", inputs, (n, outs, 2 * h, 2 * w), strides=[2, 2], group=groups)]
    return [m.op("ConvTranspose", inputs, (n, outs, h + 1, w + 1), group=groups)]


def concat(m: Maker, x: str, alike: Names) -> Names:
    """Along the channels, or along a side; maybe of a tensor with itself."""
    n, c, h, w = m.shapes[x]
    axis = 1 if m.rng.random() < 0.7 else int(m.rng.integers(2, 4))
    if m.shapes[x][axis] > 10:
        return []
    out = tuple(2 * s if i == axis else s for i, s in enumerate((n, c, h, w)))
    return [m.op("Concat", [x, str(m.rng.choice(alike))], out, axis=axis)]


def split(m: Maker, x: str, alike: Names) -> Names:
    """Two parts of the channels."""
    n, c, h, w = m.shapes[x]
    if c < 2:
        return []
    cut = int(m.rng.integers(1, c))
    return list(m.op("Split", [x, m.numbers(cut, c - cut)], [(n, cut, h, w), (n, c - cut, h, w)], axis=1))


def pool(m: Maker, x: str, alike: Names) -> Names:
    """Over windows, with padding that counts or not, or over the whole image."""
    n, c, h, w = m.shapes[x]
    if m.rng.random() < 0.3:
        return [m.op(str(m.rng.choice(["GlobalAveragePool", "GlobalMaxPool"])), [x], (n, c, 1, 1))]
    if min(h, w) < 2:
        return []
    op = str(m.rng.choice(["MaxPool", "AveragePool"]))
    if m.rng.random() < 0.5:
        extra = {"count_include_pad": int(m.rng.integers(0, 2))} if op == "AveragePool" else {}
        return [m.op(op, [x], (n, c, h, w), kernel_shape=[3, 3], pads=[1] * 4, **extra)]
    return [m.op(op, [x], (n, c, h // 2, w // 2), kernel_shape=[2, 2], strides=[2, 2])]


def normalize(m: Maker, x: str, alike: Names) -> Names:
    """Batch, instance or group norm with pruned scale and shift."""
    c, shape = m.shapes[x][1], m.shapes[x]
    scale, shift = m.weight(c), m.weight(c)
    kind = str(m.rng.choice(["BatchNormalization", "InstanceNormalization", "GroupNormalization"]))
    if kind == "BatchNormalization":
        moments = [m.constant(m.rng.normal(size=c)), m.constant(m.rng.uniform(0.5, 2, size=c))]
        return [m.op(kind, [x, scale, shift, *moments], shape)]
    if kind == "GroupNormalization" and c % 2 == 0 and m.opset >= 21:
        return [m.op(kind, [x, scale, shift], shape, num_groups=2)]
    return [m.op("InstanceNormalization", [x, scale, shift], shape)]


def affine(m: Maker, x: str, alike: Names) -> Names:
    """x * scale + shift by channel."""
    c, shape = m.shapes[x][1], m.shapes[x]
    scaled = m.op("Mul", [x, m.weight(c, 1, 1)], shape)
    return [m.op("Add", [scaled, m.weight(c, 1, 1)], shape)]


def squeeze_and_excite(m: Maker, x: str, alike: Names) -> Names:
    """A gate by channel that is made of the tensor itself."""
    n, c, h, w = m.shapes[x]
    pooled = m.op("GlobalAveragePool", [m.small(x, LARGEST - 1)], (n, c, 1, 1))
    inner = m.op("Relu", [m.op("Conv", [pooled, m.weight(2, c, 1, 1), m.weight(2)], (n, 2, 1, 1))], (n, 2, 1, 1))
    outer = m.op("Conv", [inner, m.weight(c, 2, 1, 1)], (n, c, 1, 1))
    gate = m.op(str(m.rng.choice(["Sigmoid", "HardSigmoid", "Relu"])), [m.small(outer, 2)], (n, c, 1, 1))
    return [m.op("Mul", [gate, x], (n, c, h, w))]


def pad(m: Maker, x: str, alike: Names) -> Names:
    """Constant (0 or not), reflected or repeated borders."""
    n, c, h, w = m.shapes[x]
    if min(h, w) < 2 or h > 6:
        return []
    top, left, bottom, right = (int(v) for v in m.rng.integers(0, 2, 4))
    mode = str(m.rng.choice(["constant", "constant", "reflect", "edge"]))
    inputs = [x, m.numbers(0, 0, top, left, 0, 0, bottom, right)]
    if mode == "constant" and m.rng.random() < 0.4:
        inputs.append(m.constant(np.float32(0.7)))
    return [m.op("Pad", inputs, (n, c, h + top + bottom, w + left + right), mode=mode)]


def move(m: Maker, x: str, alike: Names) -> Names:
    """Slice, gather, shuffle, transpose, tile: the same elements elsewhere."""
    n, c, h, w = m.shapes[x]
    kind = str(m.rng.choice(["slice", "gather", "shuffle", "turn", "tile", "space"]))
    if kind == "slice" and c > 1:
        begin, step = int(m.rng.integers(0, c - 1)), int(m.rng.integers(1, 3))
        if m.rng.random() < 0.3:
            bounds = [m.numbers(v) for v in (-1, -c - 1, 1, -1)]
            return [m.op("Slice", [x, *bounds], (n, c, h, w))]
        count = len(range(begin, c, step))
        return [m.op("Slice", [x, *(m.numbers(v) for v in (begin, c, 1, step))], (n, count, h, w))]
    if kind == "gather":
        index = m.rng.integers(-c, c, size=int(m.rng.integers(1, c + 2)))
        return [m.op("Gather", [x, m.constant(index)], (n, len(index), h, w), axis=1)]
    if kind == "shuffle" and c % 2 == 0:
        wide = m.op("Reshape", [x, m.numbers(n, 2, c // 2, h, w)], (n, 2, c // 2, h, w))
        turned = m.op("Transpose", [wide], (n, c // 2, 2, h, w), perm=[0, 2, 1, 3, 4])
        return [m.op("Reshape", [turned, m.numbers(n, c, h, w)], (n, c, h, w))]
    if kind == "turn":
        return [m.op("Transpose", [x], (n, c, w, h), perm=[0, 1, 3, 2])]
    if kind == "tile" and c * h <= 24:
        repeats = [1, int(m.rng.integers(1, 3)), 1, int(m.rng.integers(1, 3))]
        return [m.op("Tile", [x, m.numbers(*repeats)], (n, c * repeats[1], h, w * repeats[3]))]
    if kind == "space" and c % 4 == 0 and h <= 4:
        return [m.op("DepthToSpace", [x], (n, c // 4, 2 * h, 2 * w), blocksize=2)]
    return []


def reduce(m: Maker, x: str, alike: Names) -> Names:
    """Sum, mean or extreme along axes, then broadcast over the tensor again, or expanded to its shape."""
    shape = m.shapes[x]
    axes = sorted(int(a) for a in m.rng.choice([1, 2, 3], size=int(m.rng.integers(1, 3)), replace=False))
    kind = str(m.rng.choice(["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin"]))
    small = tuple(1 if i in axes else s for i, s in enumerate(shape))
    attributes: Any = {} if m.opset >= 18 or kind == "ReduceSum" else {"axes": axes}
    inputs = [x] if attributes else [x, m.numbers(*axes)]
    reduced = m.op(kind, inputs, small, keepdims=1, **attributes)
    if m.rng.random() < 0.4:
        return [m.op("Expand", [reduced, m.numbers(*shape)], shape)]
    return [m.op(str(m.rng.choice(["Add", "Sub"])), [x, reduced], shape)]


IMAGE_STEPS = {
    **ANY_STEPS, "conv": conv, "conv2": conv, "conv3": conv, "depthwise": depthwise, "transposed": transposed,
    "concat": concat, "split": split, "pool": pool, "normalize": normalize, "affine": affine,
    "excite": squeeze_and_excite, "pad": pad, "move": move, "reduce": reduce,
}  # fmt: skip
