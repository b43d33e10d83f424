"""Rewrites quantization to fewer than 8 bits into a form that TVM can run.

ONNX says "fewer than 8 bits" in two ways: a Clip of the codes between QuantizeLinear and DequantizeLinear, and the
types int4, uint4, int2 and uint2 of newer opsets. TVM has neither as they are: a Clip of integers is imported as two
anonymous functions, and nothing is quantized to fewer than 8 bits. Both become a clip of 8-bit codes here.
"""

from typing import Any

import numpy as np
from onnx import helper

from tesa.frontend.graph import Graph

SMALL = {"int4": (-8, 7), "uint4": (0, 15), "int2": (-2, 1), "uint2": (0, 3)}


def widen_codes(graph: Graph) -> None:
    """Quantize to 8 bits and clip, where a node quantizes to fewer bits than TVM can."""
    nodes = []
    for node in graph.nodes:
        dtype = _small_type(graph, node)
        if dtype is not None:
            _widen_parameter(graph, node, dtype)
        if node.op_type != "QuantizeLinear" or dtype is None:
            nodes.append(node)
            continue
        output, codes = node.output[0], f"{node.output[0]}#codes"
        low, high = _bounds(graph, codes, dtype)
        clip = helper.make_node("Clip", [codes, low, high], [output], f"{node.name or output}.clip")
        node.output[0] = codes
        graph.layers[codes] = graph.layers[output]
        nodes += [node, clip]
    graph.nodes = nodes


def _small_type(graph: Graph, node: Any) -> str | None:
    """The small type that a node quantizes to or from, by its zero point or attribute; None for other nodes."""
    if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
        return None
    zero = graph.constants.get(node.input[2]) if len(node.input) > 2 else None
    name = zero.dtype.name if zero is not None else ""
    for attribute in node.attribute:
        if attribute.name == "output_dtype" and zero is None and attribute.i:
            name = helper.tensor_dtype_to_np_dtype(attribute.i).name
    return name if name in SMALL else None


def _widen_parameter(graph: Graph, node: Any, dtype: str) -> None:
    """Give the node a zero point of 8 bits."""
    wide = _wide(dtype)
    old = graph.constants[node.input[2]] if len(node.input) > 2 and node.input[2] else None
    name = f"{node.output[0]}#zero"
    shape = graph.constants[node.input[1]].shape
    graph.constants[name] = np.zeros(shape, wide) if old is None else old.astype(wide)
    node.input[:] = [*node.input[:2], name]
    kept = [a for a in node.attribute if a.name != "output_dtype"]
    del node.attribute[:]
    node.attribute.extend(kept)


def _bounds(graph: Graph, codes: str, dtype: str) -> tuple[str, str]:
    names = (f"{codes}#low", f"{codes}#high")
    graph.constants |= {name: np.array(bound, _wide(dtype)) for name, bound in zip(names, SMALL[dtype], strict=True)}
    return names


def _wide(dtype: str) -> Any:
    return np.int8 if dtype.startswith("i") else np.uint8
