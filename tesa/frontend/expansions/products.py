"""Convolutions and matrix products that ONNX Runtime has fused with what follows them."""

from collections.abc import Sequence
from typing import Any

from tesa.frontend.expand import Writer, expands
from tesa.frontend.expansions.activations import activated
from tesa.frontend.expansions.parts import number, optional, transpose

CONV_ATTRIBUTES = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")


@expands("com.microsoft::FusedConv", "com.microsoft.nchwc::Conv")
def fused_conv(writer: Writer, node: Any) -> Sequence[str]:
    """activation(conv(x, w) + bias + z): (x, w[, bias][, z])."""
    return [_conv(writer, node, node.input[0], writer.input(3))]


@expands("com.microsoft::NhwcConv", "com.microsoft::NhwcFusedConv")
def channels_last_conv(writer: Writer, node: Any) -> Sequence[str]:
    """FusedConv whose input, output and z have their channels last."""
    rank = len(writer.shape(node.input[0]))
    x, z = (first(writer, name, rank) if name else "" for name in (node.input[0], writer.input(3)))
    return [last(writer, _conv(writer, node, x, z), rank)]


def _conv(writer: Writer, node: Any, x: str, z: str) -> str:
    options = writer.options
    bias = [node.input[2]] if writer.has(2) else []
    result = writer.add("Conv", x, node.input[1], *bias, **optional(options, *CONV_ATTRIBUTES))
    result = writer.add("Add", result, z) if z else result
    return activated(writer, result, options, node.input[0])


def first(writer: Writer, x: str, rank: int) -> str:
    """A tensor with its channels last, turned so that they are axis 1."""
    return transpose(writer, x, [0, rank - 1, *range(1, rank - 1)])


def last(writer: Writer, x: str, rank: int) -> str:
    """The reverse of first."""
    return transpose(writer, x, [0, *range(2, rank), 1])


@expands("com.microsoft::FusedGemm")
def fused_gemm(writer: Writer, node: Any) -> Sequence[str]:
    """activation(Gemm)."""
    options = writer.options
    product = writer.add("Gemm", *node.input, **optional(options, "alpha", "beta", "transA", "transB"))
    return [activated(writer, product, options, node.input[0])]


@expands("com.microsoft::FusedMatMul", "com.microsoft::TransposeMatMul", "com.microsoft::FusedMatMulActivation")
def fused_matmul(writer: Writer, node: Any) -> Sequence[str]:
    """activation(alpha * A B) with either operand transposed, or its first axis moved behind the axes of the batch."""
    options = writer.options
    operands = []
    for x, side in zip(node.input, "AB", strict=True):
        axes = list(range(len(writer.shape(x))))
        if options.get(f"transBatch{side}", 0) and len(axes) > 2:
            axes = [*axes[1:-1], axes[0], axes[-1]]
        if options.get(f"trans{side}", 0) and len(axes) > 1:
            axes = [*axes[:-2], axes[-1], axes[-2]]
        operands.append(transpose(writer, x, axes))
    product = writer.add("MatMul", *operands)
    alpha = float(options.get("alpha", 1.0))
    product = product if alpha == 1.0 else writer.add("Mul", product, number(writer, alpha, node.input[0]))
    axis = {"axis": options["activation_axis"]} if "activation_axis" in options else {}
    if axis and options.get("activation") == b"Softmax":
        return [writer.add("Softmax", product, **axis)]
    return [activated(writer, product, options, node.input[0])]
