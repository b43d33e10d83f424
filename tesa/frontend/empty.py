"""Removes tensors without elements: they become constants, and a Concat does without them."""

from typing import Any

import numpy as np

from tesa.errors import ModelError, UnsupportedError
from tesa.frontend import rewrite
from tesa.frontend.graph import Graph
from tesa.frontend.infer import infer_types


def fold_empty(graph: Graph) -> None:
    """Take tensors of size 0 out of the graph: they are constants, and a Concat does without them.

    An empty tensor that is a parameter, as the `roi` of a Resize, stays. ModelError if an output of the model is empty,
    UnsupportedError if an operator makes something out of an empty tensor that cannot be computed here.
    """
    empty = {name for name, array in graph.constants.items() if 0 in array.shape}
    shapes, dtypes = infer_types(graph)
    empty |= {name for name, shape in shapes.items() if 0 in shape}
    if not empty:
        return
    for output in graph.outputs:
        if output.name in empty:
            shape = shapes[output.name] if output.name in shapes else graph.constants[output.name].shape
            raise ModelError(
                f"{graph.source}: output {output.name!r} has the shape {list(shape)}, without elements; there is "
                "nothing to compute. Drop the output, or check the sizes of the slices that lead to it"
            )
    given = empty & set(graph.constants)
    nodes = []
    for node in graph.nodes:
        _split_without(graph, node, empty)
        if node.output and all(name in empty or not name for name in node.output):
            for name in filter(None, node.output):
                graph.constants[name] = np.zeros(shapes[name], dtypes[name])
            continue
        if node.op_type == "Concat":
            node.input[:] = [name for name in node.input if name not in empty]
        nodes.append(node)
    graph.nodes = nodes
    rewrite.fold_constants(graph)
    for node in graph.nodes:
        _check_used(graph, node, empty, given)


def _split_without(graph: Graph, node: Any, empty: set[str]) -> None:
    """Take the empty parts out of a Split."""
    parts = [name for name in node.output if name not in empty]
    sizes = graph.constants.get(node.input[1]) if len(node.input) > 1 else None
    if node.op_type != "Split" or sizes is None or len(parts) in (0, len(node.output)):
        return
    for name, size in zip(node.output, sizes.tolist(), strict=True):
        if name in empty and size == 0:
            graph.constants[name] = np.zeros((0,), np.float32)
    name = f"{node.output[0]}#sizes"
    graph.constants[name] = np.asarray([n for n in sizes.tolist() if n], np.int64)
    layer = graph.layers[node.output[0]]
    node.input[1] = name
    node.output[:] = parts
    graph.layers[parts[0]] = layer


def _check_used(graph: Graph, node: Any, empty: set[str], given: set[str]) -> None:
    """Raise an UnsupportedError for a node that reads an empty tensor; only a parameter from the file may be empty."""
    found = [name for i, name in enumerate(node.input) if name in empty and (i == 0 or name not in given)]
    if found:
        shape = graph.constants[found[0]].shape
        raise UnsupportedError(
            f"{graph.source}: node {graph.layers[node.output[0]]!r} ({node.op_type}) reads {found[0]!r} of shape "
            f"{list(shape)}, without elements; tesa cannot compile that. Check the sizes of the slices that lead to it"
        )
