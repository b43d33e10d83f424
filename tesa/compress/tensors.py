"""The constant tensors of an ONNX file by name, read and written in place, wherever the file keeps them."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from tesa.attributes.attribute import Values
from tesa.frontend.control.inside import all_nodes, graphs_of
from tesa.frontend.tensors import constant_node, densify, to_array


class Tensors:
    """Initializers, sparse ones, and Constant nodes of a ModelProto, those inside branches and loops included.

    A name that stands for several tensors, as it may in two branches, is in none of them: `get` gives None.
    """

    def __init__(self, proto: Any, source: str) -> None:
        self.proto, self.source = proto, source
        self._places: dict[str, Any] = {}
        self._twice: set[str] = set()
        self._note_graph(proto.graph)
        for node in all_nodes(proto.graph.node):
            for body in graphs_of(node):
                self._note_graph(body)

    def _note_graph(self, graph: Any) -> None:
        for tensor in graph.initializer:
            self._note(tensor.name, tensor)
        for sparse in graph.sparse_initializer:
            self._note(sparse.values.name, sparse)
        for node in graph.node:
            if node.op_type == "Constant" and not node.domain:
                self._note(node.output[0], node)

    def _note(self, name: str, place: Any) -> None:
        if name in self._places:
            self._twice.add(name)
        self._places[name] = place

    def __contains__(self, name: object) -> bool:
        return name in self._places and name not in self._twice

    def get(self, name: str) -> Values | None:
        """The numbers of a tensor, None if there is none of that name."""
        if name not in self:
            return None
        place = self._places[name]
        if hasattr(place, "op_type"):
            return constant_node(place, self.source)
        if hasattr(place, "indices"):
            return densify(place, self.source)
        return to_array(place, self.source)

    def set(self, name: str, array: Values) -> None:
        """Give a tensor other numbers of the same shape and type; it stays where, and as, the file has it."""
        place = self._places[name]
        if hasattr(place, "op_type"):
            self._set_node(place, array)
        elif hasattr(place, "indices"):
            _set_sparse(place, array)
        else:
            _fill(place, array)

    def add(self, name: str, array: Values) -> str:
        """A new initializer; its name, made unlike all others."""
        taken = {n for node in all_nodes(self.proto.graph.node) for n in (*node.input, *node.output)}
        taken |= set(self._places) | {value.name for value in self.proto.graph.input}
        unique, number = name, 1
        while unique in taken:
            number += 1
            unique = f"{name}_{number}"
        tensor = self.proto.graph.initializer.add()
        tensor.name = unique
        _fill(tensor, array)
        self._note(unique, tensor)
        return unique

    def _set_node(self, node: Any, array: Values) -> None:
        attribute = node.attribute[0]
        if attribute.name == "sparse_value":
            _set_sparse(attribute.sparse_tensor, array)
            return
        if attribute.name == "value":
            _fill(attribute.t, array)
            return
        del node.attribute[:]
        node.attribute.append(helper.make_attribute("value", numpy_helper.from_array(array)))


def _fill(tensor: Any, array: Values) -> None:
    """Replace the numbers of a TensorProto; its name and all else that it says stay."""
    made = numpy_helper.from_array(np.ascontiguousarray(array))
    for field in ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data", "raw_data"):
        tensor.ClearField(field)
    tensor.ClearField("dims")
    tensor.dims.extend(array.shape)
    tensor.data_type = made.data_type
    if made.raw_data:
        tensor.raw_data = made.raw_data
    else:
        made.name = tensor.name
        tensor.CopyFrom(made)


def _set_sparse(sparse: Any, array: Values) -> None:
    """Replace the numbers of a SparseTensorProto, of which only those that are not zero are kept."""
    places = np.flatnonzero(array)
    _fill(sparse.values, array.reshape(-1)[places])
    _fill(sparse.indices, places.astype(np.int64))
