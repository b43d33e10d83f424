"""Shapes, size and work of an ONNX model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx.shape_inference
from onnx import helper, numpy_helper

from tesa.attributes.attribute import Values
from tesa.frontend.graph import Graph
from tesa.frontend.rewrite import attributes

SMALL = 1024  # elements of a constant whose content may say a shape


def infer_types(graph: Graph) -> tuple[dict[str, tuple[int, ...]], dict[str, Any]]:
    """The shapes and dtypes of all activations of which ONNX can infer them, by name."""
    constants = graph.constants  # of large ones only the types are passed around
    small = [numpy_helper.from_array(array, name) for name, array in constants.items() if array.size <= SMALL]
    large = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in constants.items()
        if array.size > SMALL
    ]
    plain = [
        helper.make_node("Erf", node.input, node.output) if node.op_type == "Gelu" else node for node in graph.nodes
    ]
    body = helper.make_graph(plain, "shapes", [*graph.inputs, *large], graph.outputs, small)
    domains = {"com.microsoft": 1, **graph.domains}
    opsets = [helper.make_opsetid("", graph.opset), *(helper.make_opsetid(*pair) for pair in domains.items())]
    inferred = onnx.shape_inference.infer_shapes(helper.make_model(body, opset_imports=opsets), data_prop=True).graph
    shapes, dtypes = {}, {}
    for value in (*inferred.value_info, *graph.inputs, *inferred.output):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.elem_type:
            dtypes[value.name] = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        if value.type.tensor_type.HasField("shape") and all(d.HasField("dim_value") for d in dims):
            shapes[value.name] = tuple(int(d.dim_value) for d in dims)
    return shapes, dtypes


def parameters(constants: Mapping[str, Values]) -> int:
    """The number of weights: elements of all constants but the 64-bit integers, which are sizes and indices."""
    return sum(array.size for array in constants.values() if array.dtype != np.int64)


def macs(nodes: Sequence[Any], shapes: Mapping[str, tuple[int, ...]], constants: Mapping[str, Values]) -> int:
    """Multiply-accumulates of all convolutions and matrix products of one run."""
    known = {**shapes, **{name: array.shape for name, array in constants.items()}}
    return sum(_macs(node, known) for node in nodes)


def _macs(node: Any, shapes: Mapping[str, tuple[int, ...]]) -> int:
    tensors = [*node.input[:2], node.output[0]]
    if any(name not in shapes for name in tensors):
        return 0
    first, second, out = (shapes[name] for name in tensors) if len(tensors) == 3 else ((), (), ())
    if node.op_type == "Conv":
        return int(np.prod(out)) * int(np.prod(second[1:]))
    if node.op_type == "ConvTranspose":
        return int(np.prod(first)) * int(np.prod(second[1:]))
    if node.op_type == "MatMul":
        return int(np.prod(out)) * first[-1]
    if node.op_type == "Gemm":
        return int(np.prod(out)) * first[0 if attributes(node).get("transA", 0) else 1]
    return 0
