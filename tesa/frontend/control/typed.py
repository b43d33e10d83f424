"""The body of a Repeat as a graph of its own, with the types of its inputs, and the types of tensors."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx import helper

from tesa.attributes.attribute import Shape
from tesa.frontend.control.bodies import instantiate
from tesa.frontend.control.repeat import repeated
from tesa.frontend.graph import Graph


def body_graph(graph: Graph, node: Any, shapes: Mapping[str, Shape], dtypes: Mapping[str, Any]) -> Graph | None:
    """The body of a Repeat as a Graph; None while the type of one of its inputs is not known.

    Its inputs are the states, the slices and the captured tensors that are no constants, in this order; its outputs the
    new states and the slices of what is stacked, each with a name of its own.
    """
    loop = repeated(node)
    where = node.name or node.output[0]
    formals = [f"{where}#in{i}" for i in range(len(loop.body.input))]
    actual = dict(zip((value.name for value in loop.body.input), formals, strict=True))
    body = Graph([], {}, [], [], graph.opset, graph.source, domains=dict(graph.domains), written=graph.written)
    for i, (name, formal) in enumerate(zip(node.input, formals, strict=True)):
        if name in graph.constants and i >= len(loop.states) + len(loop.scanned):
            body.constants[formal] = graph.constants[name]
            for old, new in ((graph.sources, body.sources), (graph.quantization, body.quantization)):
                if name in old:
                    new[formal] = old[name]  # type: ignore[assignment]
            continue
        found = type_of(graph, name, shapes, dtypes)
        if found is None:
            return None
        shape, dtype = found
        place = i - len(loop.states)
        if 0 <= place < len(loop.scanned):
            axis = loop.axes[place] % len(shape)
            shape = (*shape[:axis], *shape[axis + 1 :])
        body.inputs.append(helper.make_tensor_value_info(formal, helper.np_dtype_to_tensor_dtype(dtype), shape))
    body.nodes, results = instantiate(body, loop.body, actual, where)
    for i, result in enumerate(results):
        name = f"{where}#out{i}"
        body.nodes.append(helper.make_node("Identity", [result], [name], name))
        body.outputs.append(helper.make_empty_tensor_value_info(name))
    graph.written = body.written
    return body


def type_of(
    graph: Graph, name: str, shapes: Mapping[str, Shape], dtypes: Mapping[str, Any]
) -> tuple[Shape, Any] | None:
    """(shape, NumPy dtype) of a tensor, None where it is not known."""
    if name in graph.constants:
        return graph.constants[name].shape, graph.constants[name].dtype
    return (shapes[name], np.dtype(dtypes[name])) if name in shapes and name in dtypes else None
