"""The operators on channels in blocks that ONNX Runtime saves at its highest level; the weights are plain already."""

from collections.abc import Sequence
from typing import Any

from tesa.frontend.expand import Writer, expands
from tesa.frontend.expansions.parts import cut, integers, number, optional, text
from tesa.frontend.expansions.products import first, last

POOLS = ("auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "storage_order", "strides")


@expands(*(f"com.microsoft.nchwc::{kind}" for kind in ("MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool")))
def pool(writer: Writer, node: Any) -> Sequence[str]:
    """The plain operator of the name."""
    options = optional(writer.options, *POOLS)
    dilations = writer.options.get("dilations", [1])
    if any(n != 1 for n in dilations):
        options["dilations"] = dilations
    return [writer.add(node.op_type, node.input[0], **options)]


@expands("com.microsoft.nchwc::Upsample")
def upsample(writer: Writer, node: Any) -> Sequence[str]:
    """Resize by whole factors."""
    options = writer.options
    mode = text(options.get("mode"), "nearest")
    place = text(options.get("coordinate_transformation_mode"), "asymmetric")
    scales = writer.constant([float(n) for n in options["scales"]], "float32")
    more: dict[str, Any] = {"nearest_mode": "floor"} if mode == "nearest" else {}
    return [writer.add("Resize", node.input[0], "", scales, mode=mode, coordinate_transformation_mode=place, **more)]


@expands("com.microsoft.nchwc::ReorderInput")
def to_blocks(writer: Writer, node: Any) -> Sequence[str]:
    """Channels of zeros fill the last block; channels that are last become axis 1."""
    x, options = node.input[0], writer.options
    shape, block = writer.shape(x), int(options["block"])
    turned = bool(options.get("channels_last", 0))
    channels = shape[-1] if turned else shape[1]
    x = first(writer, x, len(shape)) if turned else x
    missing = -channels % block
    if not missing:
        return [x]
    return [writer.add("Pad", x, integers(writer, [0, 0, 0, 0, 0, missing, 0, 0]), number(writer, 0, node.input[0]))]


@expands("com.microsoft.nchwc::ReorderOutput")
def from_blocks(writer: Writer, node: Any) -> Sequence[str]:
    """The channels that fill the last block go; they become the last axis where that is asked for."""
    x, options = node.input[0], writer.options
    shape, channels = writer.shape(x), int(options["channels"])
    x = cut(writer, x, 1, 0, channels) if channels < shape[1] else x
    return [last(writer, x, len(shape)) if options.get("channels_last", 0) else x]
