"""Networks of images with random weights, as ONNX: MobileNet-v2 and a U-Net. benchmarks.zoo has the others."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.zoo import Builder

MOBILENET_V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def mobilenet_v2(
    resolution: int = 224, *, blocks: Sequence[tuple[int, int, int, int]] = MOBILENET_V2, stem: int = 32,
    last: int = 1280, classes: int = 1000, batch: int = 1, seed: int = 0,
) -> Any:  # fmt: skip
    """MobileNet-v2 (Sandler et al., 2018), batch norms folded. blocks: (expansion, channels, repeats, stride) of each.

    >>> sum(node.op_type == "Conv" for node in mobilenet_v2(32).graph.node)
    52
    """
    build = Builder(seed)
    build.tensor("zero", np.float32(0))
    build.tensor("six", np.float32(6))
    x, before = _relu6(build, _conv(build, "image", "stem", (stem, 3, 3, 3), 2), "stem"), stem
    places = ((e, c, s if not i else 1) for e, c, count, s in blocks for i in range(count))
    for number, (expansion, channels, stride) in enumerate(places):
        name, inner, y = f"block{number}", before * expansion, x
        if expansion != 1:
            y = _relu6(build, _conv(build, y, f"{name}.expand", (inner, before, 1, 1)), f"{name}.expand")
        y = _conv(build, y, f"{name}.depthwise", (inner, 1, 3, 3), stride, inner)
        y = _relu6(build, y, f"{name}.depthwise")
        adds = stride == 1 and before == channels
        y = _conv(build, y, f"{name}.project", (channels, inner, 1, 1), gain=0.5 if adds else 2.0)
        x, before = build.node("Add", [x, y], f"{name}.add") if adds else y, channels
    x = _relu6(build, _conv(build, x, "last", (last, before, 1, 1)), "last")
    x = build.node("Flatten", [build.node("GlobalAveragePool", [x], "pool")], "flatten", axis=1)
    weight = build.weight("classifier.weight", (classes, last), last, 1.0)
    x = build.node("Gemm", [x, weight, build.around("classifier.bias", classes, 0)], "classifier", transB=1)
    return build.model({"image": ("float32", (batch, 3, resolution, resolution))}, x, (batch, classes))


def unet(
    resolution: int = 256, width: int = 32, *, depth: int = 4, channels: int = 3, classes: int = 1, batch: int = 1,
    seed: int = 0,
) -> Any:  # fmt: skip
    """A U-Net (Ronneberger et al., 2015) that keeps the size, batch norms folded; width: channels of the first level.

    The sizes are those of Buda et al., 2019: 32 channels, four levels of 2x2 pooling, transposed convolutions of 2x2.

    >>> sum(node.op_type == "ConvTranspose" for node in unet(32, 4).graph.node)
    4
    """
    build = Builder(seed)
    widths = [width * 2**level for level in range(depth + 1)]
    x, before, skips = "image", channels, []
    for level, after in enumerate(widths):
        x = _double(build, x, f"down{level}", before, after)
        before = after
        if level < depth:
            skips.append(x)
            x = build.node("MaxPool", [x], f"pool{level}", kernel_shape=[2, 2], strides=[2, 2])
    for level in reversed(range(depth)):
        after = widths[level]
        # of the four outputs of a 2x2 kernel at stride 2 each sums over the inputs alone
        inputs = [x, build.weight(f"up{level}.weight", (before, after, 2, 2), before)]
        inputs.append(build.around(f"up{level}.bias", after, 0))
        x = build.node("ConvTranspose", inputs, f"up{level}", kernel_shape=[2, 2], strides=[2, 2])
        x = build.node("Concat", [x, skips[level]], f"join{level}", axis=1)
        x = _double(build, x, f"decode{level}", 2 * after, after)
        before = after
    x = build.node("Sigmoid", [_conv(build, x, "head", (classes, before, 1, 1), gain=1.0)], "mask")
    size = (resolution, resolution)
    return build.model({"image": ("float32", (batch, channels, *size))}, x, (batch, classes, *size), "mask")


def _double(build: Builder, x: str, name: str, before: int, after: int) -> str:
    for i, (k, m) in enumerate(itertools.pairwise((before, after, after))):
        x = build.node("Relu", [_conv(build, x, f"{name}.conv{i}", (m, k, 3, 3))], f"{name}.relu{i}")
    return x


def _relu6(build: Builder, x: str, name: str) -> str:
    return build.node("Clip", [x, "zero", "six"], f"{name}.relu6")


def _conv(
    build: Builder, x: str, name: str, shape: tuple[int, ...], stride: int = 1, group: int = 1, gain: float = 2.0
) -> str:
    """A convolution with a bias that keeps the size at stride 1."""
    weight = build.weight(f"{name}.weight", shape, math.prod(shape[1:]), gain)
    inputs = [x, weight, build.around(f"{name}.bias", shape[0], 0)]
    kernel, pads = [shape[2]] * 2, [shape[2] // 2] * 4
    return build.node("Conv", inputs, name, kernel_shape=kernel, strides=[stride] * 2, pads=pads, group=group)
