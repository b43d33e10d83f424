"""The model as its file has it, kept beside what becomes of it: compaction writes back what it did not cut."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx import TensorProto

from tesa.attributes.attribute import Values
from tesa.frontend.control.inside import all_nodes, graphs_of


@dataclass
class Given:
    """Nodes and constants before anything was rewritten, masks included.

    sparse: the constants that the file stores as sparse tensors. parameters: the numbers in its weights; size: its
    bytes, with those of external data. external: whether it has such data. flushed: some constants were cleared of
    subnormal numbers, which the file still has.
    """

    nodes: list[Any]
    constants: dict[str, Values]
    sparse: frozenset[str] = frozenset()
    parameters: int = 0
    size: int = 0
    external: bool = False
    flushed: bool = False


def measured(model: Any, proto: Any) -> Given:
    """The sizes of a model that was read, with nodes and constants yet to come. model: as it was given; proto: all."""
    sparse = [tensor.values.name for tensor in proto.graph.sparse_initializer]
    for node in proto.graph.node:
        sparse += [node.output[0] for a in node.attribute if node.op_type == "Constant" and a.name == "sparse_value"]
    size = file_size(proto)
    external = isinstance(model, str | Path) and Path(model).stat().st_size + 1024 < size
    return Given([], {}, frozenset(sparse), parameters(proto), size, external)


def parameters(proto: Any) -> int:
    """The number of weights in a model: elements of its constants, without the 64-bit integers: sizes and indices.

    Of a sparse tensor only what is stored counts.
    """
    tensors = [*proto.graph.initializer, *(sparse.values for sparse in proto.graph.sparse_initializer)]
    for node in all_nodes(proto.graph.node):
        for body in graphs_of(node):
            tensors += [*body.initializer, *(sparse.values for sparse in body.sparse_initializer)]
        for attribute in node.attribute if node.op_type == "Constant" else ():
            if attribute.name == "value":
                tensors.append(attribute.t)
            elif attribute.name == "sparse_value":
                tensors.append(attribute.sparse_tensor.values)
    return sum(_elements(tensor) for tensor in tensors if tensor.data_type != TensorProto.INT64)


def _elements(tensor: Any) -> int:
    count = 1
    for n in tensor.dims:
        count *= int(n)
    return count


def file_size(proto: Any) -> int:
    """The bytes that a model takes as a file, external data included."""
    try:
        return int(proto.ByteSize())
    except Exception:  # protobuf cannot count beyond 2 GB, and says so with errors of its own
        return sum(len(tensor.raw_data) for tensor in proto.graph.initializer)


def note_given(given: Given, nodes: list[Any], constants: dict[str, Values]) -> None:
    """Keep copies of the nodes, which rewrites change in place, and the constants, which they replace."""
    given.nodes, given.constants = [copy.deepcopy(node) for node in nodes], dict(constants)
