"""The shapes and element types of a graph's tensors, as far as ONNX can infer them."""

from typing import Any

import numpy as np
import onnx.shape_inference
from onnx import helper, numpy_helper

from tesa.attributes.attribute import Shape, Values
from tesa.frontend.control.bodies import is_control, opened
from tesa.frontend.control.repeat import repeated
from tesa.frontend.control.typed import body_graph
from tesa.frontend.custom_types import custom_types
from tesa.frontend.graph import Graph, attributes
from tesa.frontend.sampling import scaled

SMALL = 1024  # elements of a constant whose numbers may say a shape
_LONG = 1 << 18  # elements of a vector: of longer ones no number is followed
_FEW = 2000  # nodes: the types of so many are inferred twice, to see whether there is a long vector


def infer_types(graph: Graph, *, trusting: bool = True) -> tuple[dict[str, Shape], dict[str, Any]]:
    """(static shapes, NumPy dtypes) of inputs and activations by name; missing is what cannot be inferred.

    What ONNX does not know of is inferred by the converter of its operator. trusting: believe what the file declares
    of its outputs.
    """
    declared: list[Any] = []
    resized: dict[str, Values] = {}
    while True:
        shapes, dtypes = _infer(graph, declared, resized, trusting)
        found = custom_types(graph, shapes, dtypes) + _repeats(graph, shapes, dtypes)
        sizes = _resized(graph, shapes)
        if not found and sizes.keys() <= resized.keys():
            return shapes | {name: tuple(map(int, size)) for name, size in resized.items()}, dtypes
        declared += found
        resized |= sizes


def _repeats(graph: Graph, shapes: dict[str, Shape], dtypes: dict[str, Any]) -> list[Any]:
    """Declarations of the results of loops that stay; ONNX knows no numbers of constants around a body."""
    found: list[Any] = []
    for node in graph.nodes:
        if node.op_type != "Repeat" or not is_control(node) or all(n in shapes for n in node.output if n):
            continue
        body = body_graph(graph, node, shapes, dtypes)
        if body is None:
            continue
        loop, (inner, kinds) = repeated(node), infer_types(body)
        for i, (name, result) in enumerate(zip(node.output, body.outputs, strict=True)):
            shape, place = inner.get(result.name), i - len(loop.states)
            if not name or name in shapes or shape is None:
                continue
            if place >= 0:
                axis = loop.out_axes[place] % (len(shape) + 1)
                shape = (*shape[:axis], loop.steps, *shape[axis:])
            kind = helper.np_dtype_to_tensor_dtype(np.dtype(kinds[result.name]))
            found.append(helper.make_tensor_value_info(name, kind, shape))
    return found


def _resized(graph: Graph, shapes: dict[str, Shape]) -> dict[str, Values]:
    """The sizes that Resize nodes make, by output, where ONNX infers others: it rounds their product with the scales
    in another way than everybody computes it.
    """
    found = {}
    for node in graph.nodes:
        scales = graph.constants.get(node.input[2]) if node.op_type == "Resize" and len(node.input) > 2 else None
        before, after = shapes.get(node.input[0]) if node.input else None, shapes.get(node.output[0])
        if scales is None or not scales.size or before is None or after is None:
            continue
        axes = attributes(node).get("axes") or range(len(before))
        sizes = np.array(before)
        sizes[list(axes)] = scaled(sizes[list(axes)], scales)
        if tuple(sizes) != after:
            found[node.output[0]] = sizes
    return found


def _infer(
    graph: Graph, declared: list[Any], resized: dict[str, Values], trusting: bool
) -> tuple[dict[str, Shape], dict[str, Any]]:
    """The types that ONNX infers. declared: the types of further tensors; resized: the sizes that Resize nodes make."""
    small = [numpy_helper.from_array(a, n) for n, a in graph.constants.items() if a.size <= SMALL]
    large = [value_info(n, a) for n, a in graph.constants.items() if a.size > SMALL]  # their types alone
    # the Gelu that stands for a chain of operators is older than ONNX's own; Erf has the same types
    nodes = [helper.make_node("Erf", n.input, n.output) if n.op_type == "Gelu" else _plain(n) for n in graph.nodes]
    for i, node in enumerate(nodes):
        if node.output[0] in resized:
            sizes = f"{node.output[0]}#sizes"
            small.append(numpy_helper.from_array(resized[node.output[0]], sizes))
            nodes[i] = helper.make_node("Resize", [node.input[0], "", "", sizes], node.output)
    outputs = graph.outputs if trusting else [helper.make_empty_tensor_value_info(v.name) for v in graph.outputs]
    body = helper.make_graph(nodes, "shapes", [*graph.inputs, *large], outputs, small, value_info=declared)
    domains = {"com.microsoft": 1, **graph.domains, "": graph.opset}
    opsets = [helper.make_opsetid(domain, version) for domain, version in domains.items()]
    model = helper.make_model(body, opset_imports=opsets)
    careful = len(nodes) < _FEW or any(a.size > _LONG for a in graph.constants.values())
    shapes, dtypes = _read_types(onnx.shape_inference.infer_shapes(model), graph) if careful else ({}, {})
    # with data_prop onnx makes an object of every element of a vector, which its sums and joins may be
    sides = [value.type.tensor_type.shape.dim for value in graph.inputs]
    vectors = [*shapes.values(), *(a.shape for a in graph.constants.values())]
    vectors += [(dims[0].dim_value,) for dims in sides if len(dims) == 1]
    if any(len(shape) == 1 and shape[0] > _LONG for shape in vectors):
        return _read_types(onnx.shape_inference.infer_shapes(model), graph) if not careful else (shapes, dtypes)
    return _read_types(onnx.shape_inference.infer_shapes(model, data_prop=True), graph)


def _read_types(model: Any, graph: Graph) -> tuple[dict[str, Shape], dict[str, Any]]:
    """(static shapes, NumPy dtypes) of what onnx has inferred, and of the inputs."""
    shapes, dtypes = {}, {}
    for value in [*model.graph.value_info, *model.graph.output, *graph.inputs]:
        tensor = value.type.tensor_type
        dims = tensor.shape.dim
        if tensor.elem_type:
            dtypes[value.name] = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        if tensor.elem_type and tensor.HasField("shape") and all(d.HasField("dim_value") for d in dims):
            shapes[value.name] = tuple(int(d.dim_value) for d in dims)
    return shapes, dtypes


def infer_nodes(graph: Graph, nodes: list[Any], shapes: dict[str, Shape], dtypes: dict[str, Any]) -> None:
    """Add what can be inferred of the results of a few nodes; nothing where the type of an input is unknown."""
    made = {name for node in nodes for name in node.output if name}
    read = dict.fromkeys(name for node in nodes for name in node.input if name and name not in made)
    if any(name not in shapes and name not in graph.constants for name in read):
        return
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtypes[name])), shapes[name])
        for name in read
        if name not in graph.constants
    ]
    constants = {name: graph.constants[name] for name in read if name in graph.constants}
    part = Graph(nodes, constants, inputs, [], graph.opset, graph.source, domains=graph.domains)
    found = infer_types(part)
    shapes.update(found[0])
    dtypes.update(found[1])


def _plain(node: Any) -> Any:
    """A node of ONNX with the same types."""
    if not is_control(node):
        return node
    return helper.make_node("Where", node.input, node.output) if node.op_type == "Select" else opened(node)


def value_info(name: str, array: Values) -> Any:
    """The declaration of a tensor with the type and shape of an array."""
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
