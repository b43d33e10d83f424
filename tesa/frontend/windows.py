"""Poolings with plain paddings: "SAME", "VALID" and sizes rounded up become numbers of pixels.

TVM and ONNX's shape inference each have another idea of some of them; there is one of a plain padding.
"""

import math
from typing import Any

import numpy as np
from onnx import helper

from tesa.attributes.attribute import Shape
from tesa.frontend.graph import Graph, attributes, domain_of
from tesa.frontend.infer import infer_types
from tesa.frontend.lift import put, take

POOLS = ("MaxPool", "AveragePool", "LpPool")


def plain_windows(graph: Graph) -> None:
    """Give every pooling whose input has a known shape its padding in pixels, in place."""
    while any(_is_open(node) for node in graph.nodes):
        if not _round(graph, infer_types(graph)[0]):
            return


def _is_open(node: Any) -> bool:
    if node.op_type not in POOLS or domain_of(node):
        return False
    options = attributes(node)
    return options.get("auto_pad", b"NOTSET") != b"NOTSET" or bool(options.get("ceil_mode", 0))


def _round(graph: Graph, shapes: dict[str, Shape]) -> bool:
    """Give poolings their padding, but for those behind one whose size was inferred wrongly. True if there was one."""
    nodes: list[Any] = []
    unsure: set[str] = set()
    for node in graph.nodes:
        wrong = not unsure.isdisjoint(node.input)
        shape = shapes.get(node.input[0]) if not wrong and _is_open(node) else None
        if shape is not None:
            sizes, pads, more = padding(attributes(node), shape[2:])
            wrong = tuple(shapes.get(node.output[0], ())[2:]) != tuple(sizes)
            nodes += _padded(graph, node, pads, more)
        if wrong:
            unsure.update(filter(None, node.output))
        nodes.append(node)
    graph.nodes = nodes
    return bool(unsure)


def padding(options: dict[str, Any], shape: Shape) -> tuple[list[int], list[int], list[int]]:
    """(sizes after, pixels before and behind each axis, more behind that count for no mean).

    options: the attributes of a pooling. shape: the sizes of the axes that it looks along.

    >>> padding({"kernel_shape": [3], "strides": [2], "auto_pad": b"SAME_UPPER"}, (6,))
    ([3], [0, 1], [0])
    >>> padding({"kernel_shape": [2], "strides": [2], "ceil_mode": 1}, (5,))
    ([3], [0, 0], [1])
    """
    rank = len(shape)
    kernel = options["kernel_shape"]
    stride, dilation = (options.get(name, [1] * rank) for name in ("strides", "dilations"))
    mode, given = options.get("auto_pad", b"NOTSET").decode(), options.get("pads", [0] * 2 * rank)
    sizes, before, behind, more = [], [], [], []
    for i, (n, k, s, d) in enumerate(zip(shape, kernel, stride, dilation, strict=True)):
        reach = (k - 1) * d + 1
        low, high = (given[i], given[rank + i]) if mode == "NOTSET" else (0, 0)
        if mode.startswith("SAME"):
            total = max((math.ceil(n / s) - 1) * s + reach - n, 0)
            low, high = sorted((total // 2, total - total // 2), reverse=mode == "SAME_LOWER")
        steps = (n + low + high - reach) / s
        size = (math.ceil(steps) if options.get("ceil_mode", 0) else math.floor(steps)) + 1
        size -= (size - 1) * s >= n + low and size > 1 and bool(options.get("ceil_mode", 0))  # one all in the padding
        sizes.append(size)
        before.append(low)
        behind.append(high)
        more.append(max((size - 1) * s + reach - n - low - high, 0))
    return sizes, before + behind, more


def _padded(graph: Graph, node: Any, pads: list[int], more: list[int]) -> list[Any]:
    """Write the padding into a node; what goes before it: a Pad, where only a part of the padding counts for a mean."""
    for name in ("auto_pad", "ceil_mode", "pads"):
        take(node, name)
    rank = len(more)
    if not any(more) or node.op_type != "AveragePool" or not attributes(node).get("count_include_pad", 0):
        put(node, pads=[*pads[:rank], *(p + m for p, m in zip(pads[rank:], more, strict=True))])
        return []
    take(node, "count_include_pad")
    put(node, pads=[*[0] * rank, *more])
    if not any(pads):
        return []
    number = graph.written = graph.written + 1
    widths, wide = f"{node.output[0]}#widths.{number}", f"{node.output[0]}#pad.{number}"
    graph.constants[widths] = np.array([0, 0, *pads[:rank], 0, 0, *pads[rank:]], np.int64)
    pad = helper.make_node("Pad", [node.input[0], widths], [wide], f"{node.name}.pad" if node.name else "")
    node.input[0] = wide
    if node.output[0] in graph.layers:
        graph.layers[wide] = graph.layers[node.output[0]]
    return [pad]
