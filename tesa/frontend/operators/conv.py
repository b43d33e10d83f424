"""Convolutions as relax.nn.convNd: padding "SAME" becomes plain padding, the bias an addition."""

import math
from typing import Any

from tvm import relax

from tesa.frontend.expressions import at, constant, constant_value, static_shape
from tesa.frontend.registry import imports

CONVOLUTIONS = {3: relax.op.nn.conv1d, 4: relax.op.nn.conv2d, 5: relax.op.nn.conv3d}

TRANSPOSED = {3: relax.op.nn.conv1d_transpose, 4: relax.op.nn.conv2d_transpose, 5: relax.op.nn.conv3d_transpose}


@imports("Conv")
def conv(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """A convolution, padding "SAME" as plain padding, the bias as a constant of shape (1, out, 1, 1)."""
    shape = static_shape(inputs[0])
    if len(shape) not in CONVOLUTIONS or not all(isinstance(x, relax.Expr) for x in inputs[:2]):
        return None
    product = convolve(inputs[0], inputs[1], attrs)
    return product if at(inputs, 2) is None else relax.op.add(product, _per_channel(inputs[2], len(shape)))


def convolve(x: Any, weight: Any, attrs: dict[str, Any], **options: Any) -> Any:
    """A convolution without a bias. options: of the Relax operator."""
    shape, taps = static_shape(x), static_shape(weight)
    ones = (1,) * (len(shape) - 2)
    stride, dilation = (list(attrs.get(name, ones)) for name in ("strides", "dilations"))
    pads = _padding(attrs, shape[2:], taps[2:], stride, dilation)
    return CONVOLUTIONS[len(shape)](
        x, weight, strides=stride, padding=pads, dilation=dilation, groups=attrs.get("group", 1), **options
    )


def _padding(attrs: dict[str, Any], size: list[int], kernel: list[int], stride: list[int], dil: list[int]) -> list[int]:
    """The padding, all befores, then all afters.

    "SAME": ceil(size / stride) outputs; an odd pixel goes after (UPPER) or before.
    """
    mode = attrs.get("auto_pad", b"NOTSET").decode()
    if mode == "NOTSET":
        return list(attrs.get("pads", [0, 0] * len(size)))
    if mode == "VALID":
        return [0, 0] * len(size)
    total = [max((math.ceil(n / s) - 1) * s + d * (k - 1) + 1 - n, 0)
             for n, k, s, d in zip(size, kernel, stride, dil, strict=True)]  # fmt: skip
    return _split(total, mode)


def _split(total: list[int], mode: str) -> list[int]:
    small, large = [t // 2 for t in total], [t - t // 2 for t in total]
    return small + large if mode == "SAME_UPPER" else large + small


def _per_channel(bias: Any, rank: int) -> Any:
    """A vector along axis 1 of a tensor with so many axes."""
    values, view = constant_value(bias), (1, -1) + (1,) * (rank - 2)
    return relax.op.reshape(bias, view) if values is None else constant(values.reshape(view))


@imports("ConvTranspose")
def conv_transpose(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """A transposed convolution; "SAME" and an output shape become padding, the bias as in a convolution."""
    shape, taps = static_shape(inputs[0]), static_shape(inputs[1])
    if len(shape) not in TRANSPOSED:
        return None
    zeros, ones = [0] * (len(shape) - 2), [1] * (len(shape) - 2)
    stride, dilation = (list(attrs.get(name, ones)) for name in ("strides", "dilations"))
    extra, pads = list(attrs.get("output_padding", zeros)), list(attrs.get("pads", zeros * 2))
    mode, wanted = attrs.get("auto_pad", b"NOTSET").decode(), attrs.get("output_shape")
    if wanted or mode.startswith("SAME"):
        sizes = list(wanted)[-len(ones) :] if wanted else [n * s for n, s in zip(shape[2:], stride, strict=True)]
        full = [s * (n - 1) + e + (k - 1) * d + 1
                for s, n, e, k, d in zip(stride, shape[2:], extra, taps[2:], dilation, strict=True)]  # fmt: skip
        extra = [e + max(n - f, 0) for e, n, f in zip(extra, sizes, full, strict=True)]  # as if the kernel went on
        pads = _split([max(f - n, 0) for n, f in zip(sizes, full, strict=True)], mode)
    elif mode == "VALID":
        pads = zeros * 2
    if any(e >= max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True)):
        return None
    pads, extra, zeros_after = _less_extra(pads, extra, stride)
    product = TRANSPOSED[len(shape)](
        inputs[0], inputs[1], strides=stride, padding=pads, output_padding=extra, dilation=dilation,
        groups=attrs.get("group", 1),
    )  # fmt: skip
    if any(zeros_after):
        widths = [0] * 4 + [n for after in zeros_after for n in (0, after)]
        product = bb.normalize(relax.op.nn.pad(bb.normalize(product), widths))
    return product if at(inputs, 2) is None else relax.op.add(product, _per_channel(inputs[2], len(shape)))


def _less_extra(pads: list[int], extra: list[int], stride: list[int]) -> tuple[list[int], list[int], list[int]]:
    """(padding, output padding below the stride, zeros behind the result): Relax takes no more output padding.

    With a dilation ONNX does. What goes beyond is less padding, and where there is none, elements that no tap reaches.
    """
    pads, extra, rest = list(pads), list(extra), []
    for axis, s in enumerate(stride):
        over = max(extra[axis] - (s - 1), 0)
        taken = min(over, pads[len(stride) + axis])
        pads[len(stride) + axis] -= taken
        extra[axis] -= over
        rest.append(over - taken)
    return pads, extra, rest
