"""A look into the graphs that nodes hold: the branches of an If, the body of a loop."""

from collections.abc import Iterable, Iterator
from typing import Any

from onnx import AttributeProto


def graphs_of(node: Any) -> Iterator[Any]:
    """The graphs that a node holds in its attributes."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            yield from attribute.graphs


def all_nodes(nodes: Iterable[Any]) -> Iterator[Any]:
    """The nodes, and those of the graphs in them."""
    for node in nodes:
        yield node
        for body in graphs_of(node):
            yield from all_nodes(body.node)


def tensors_of(graph: Any) -> Iterator[Any]:
    """The TensorProtos of a GraphProto: initializers and those in attributes, also inside of branches and loops."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                yield attribute.t
        for body in graphs_of(node):
            yield from tensors_of(body)
