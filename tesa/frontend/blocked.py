"""Weights in blocks of channels, as ONNX Runtime saves them at its highest level, put back as ONNX has them.

There a convolution's input and output have their channels in blocks of 16 (of 8 on CPUs without AVX-512), and its
weights are saved in the order in which the kernel reads them. The shapes that the file says are as before but for
channels that fill the last block. So all that is blocked is plain again once the weights are.
"""

from typing import Any

from onnx import helper

from tesa.attributes.attribute import Values
from tesa.errors import UnsupportedError
from tesa.frontend.graph import Graph, attributes, domain_of
from tesa.targets.host import host_flags

BLOCKED = "com.microsoft.nchwc"


def unblock(graph: Graph) -> None:
    """Put the weights of blocked convolutions in order, in place, and note the size of the blocks where it counts.

    UnsupportedError if the weights fit neither size.
    """
    convolutions = [node for node in graph.nodes if domain_of(node) == BLOCKED and node.op_type == "Conv"]
    block = _block(graph, convolutions)
    for name in {node.input[1] for node in convolutions}:
        graph.constants[name] = _plain(graph.constants[name], block)
    for node in graph.nodes:
        if domain_of(node) == BLOCKED and node.op_type == "ReorderInput":
            node.attribute.append(helper.make_attribute("block", block))


def _plain(weight: Values, block: int) -> Values:
    """A weight (out, in, height, width) in order. In memory it is (out / block, in / block, height, width, in, out)."""
    out, inner, *taps = weight.shape
    if inner % block:  # few channels, or one for each group: (out / block, in, height, width, out)
        return weight.reshape(out // block, inner, *taps, block).transpose(0, 4, 1, 2, 3).reshape(weight.shape)
    apart = weight.reshape(out // block, inner // block, *taps, block, block)
    return apart.transpose(0, 5, 1, 4, 2, 3).reshape(weight.shape)


def _block(graph: Graph, convolutions: list[Any]) -> int:
    """The size of the blocks; where 16 and 8 fit the file, that of this machine, as onnxruntime takes it."""
    if not convolutions:
        return 16
    made = {name for node in graph.nodes if domain_of(node) == BLOCKED for name in node.output}
    fits = [size for size in (16, 8) if all(_fits(graph, node, size, made) for node in convolutions)]
    if not fits:
        raise UnsupportedError(
            f"{graph.source}: the weights of its convolutions are in blocks of channels of an unknown size. Save the "
            "model again with onnxruntime's optimization level 2 (extended) or lower"
        )
    own = 16 if "avx512f" in host_flags() else 8
    return own if own in fits else fits[0]


def _fits(graph: Graph, node: Any, block: int, made: set[str]) -> bool:
    out, inner = graph.constants[node.input[1]].shape[:2]
    if out % block:
        return False
    if attributes(node).get("group", 1) > 1:
        return bool(inner == 1 or inner % block == 0)
    return bool(inner % block == 0 if node.input[0] in made else inner < block)
