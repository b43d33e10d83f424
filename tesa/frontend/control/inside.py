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
    """The TensorProtos of a GraphProto: initializers, parts of sparse ones, and those in attributes, also in bodies."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from tensors_in(graph.node)


def tensors_in(nodes: Iterable[Any]) -> Iterator[Any]:
    """The TensorProtos in the attributes of nodes, also in their bodies."""
    for node in nodes:
        for attribute in node.attribute:  # by field and not by type, which may say something else
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            held = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
            for sparse in [*held, *attribute.sparse_tensors]:
                yield from (sparse.values, sparse.indices)
        for body in graphs_of(node):
            yield from tensors_of(body)


def sparse_tensors_of(graph: Any) -> Iterator[Any]:
    """The SparseTensorProtos of a GraphProto: initializers, and those in attributes, also in bodies."""
    yield from graph.sparse_initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("sparse_tensor"):
                yield attribute.sparse_tensor
            yield from attribute.sparse_tensors
        for body in graphs_of(node):
            yield from sparse_tensors_of(body)
