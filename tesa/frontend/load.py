"""Reads a model file into a Graph, with the sizes of its inputs fixed, its nodes in order and every fault reported."""

import copy
import heapq
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tesa.attributes.attribute import Values
from tesa.errors import ModelError
from tesa.frontend.checks import check_finite, check_operators, check_outputs, check_scales
from tesa.frontend.control.bodies import close, name_first_outputs
from tesa.frontend.declared import check_element_types, check_names, trust_outputs
from tesa.frontend.file import read_model
from tesa.frontend.giants import check_possible
from tesa.frontend.given import measured
from tesa.frontend.graph import Graph, Source
from tesa.frontend.guard import guarded
from tesa.frontend.infer import infer_types
from tesa.frontend.local_functions import inline_functions, with_plain_domains
from tesa.frontend.schemas import check_nodes, check_types, opset_of
from tesa.frontend.sizes import fix_sizes, open_negative
from tesa.frontend.tensors import check_sparse, constant_node, densify, to_array


def load_graph(model: str | Path | Any, shapes: Mapping[str, Any] | None = None) -> Graph:
    """Read and check a model file (or a ModelProto). Every fault is a ModelError, UsageError or UnsupportedError."""
    source, proto = read_model(model)
    with guarded(source):
        return _loaded(model, source, proto, shapes or {})


def _loaded(model: str | Path | Any, source: str, proto: Any, shapes: Mapping[str, Any]) -> Graph:
    given = measured(model, proto)
    proto = inline_functions(with_plain_domains(proto), source)
    opset = opset_of(proto, source)
    check_names(proto.graph, source)
    check_sparse(proto.graph, source, given.size)
    constants = _constants(proto.graph, source)
    # copies: the caller's model stays as it is, and a part of a message would keep all of it in memory
    nodes, outputs = _copies(proto.graph.node), _copies(proto.graph.output)
    inputs = _copies(value for value in proto.graph.input if value.name not in constants)
    graph = Graph(nodes, constants, inputs, outputs, opset, source)
    graph.domains = {o.domain: o.version for o in proto.opset_import if o.domain not in ("", "ai.onnx")}
    graph.sources = {name: Source(name) for name in constants}
    graph.given = given
    fix_sizes(graph.source, graph.inputs, shapes)
    check_element_types(source, outputs)
    open_negative(outputs)
    check_nodes(graph)
    _absorb_constant_nodes(graph)
    check_outputs(graph)
    check_operators(graph)
    close(graph)
    name_first_outputs(graph)
    _sort(graph)
    check_finite(graph)
    check_scales(graph)
    _check_tensors(graph)
    return graph


def _check_tensors(graph: Graph) -> None:
    """Hold what ONNX infers of the tensors against schemas, limits, and what the file declares of its outputs."""
    shapes, dtypes = infer_types(graph, trusting=False)
    check_types(graph, shapes, dtypes)
    for node in graph.nodes:
        for name in node.output:
            if name in shapes and name in dtypes:
                what = f"{graph.source}: node {node.name or node.output[0]!r} ({node.op_type}): tensor {name!r}"
                check_possible(shapes[name], dtypes[name], what)
    trust_outputs(graph, shapes, dtypes)


def _copies(messages: Iterable[Any]) -> list[Any]:
    return [copy.deepcopy(message) for message in messages]


def _constants(graph: Any, source: str) -> dict[str, Values]:
    constants = {tensor.name: to_array(tensor, source) for tensor in graph.initializer}
    constants.update({t.values.name: densify(t, source) for t in graph.sparse_initializer})
    return constants


def _absorb_constant_nodes(graph: Graph) -> None:
    for node in graph.nodes:
        if node.op_type == "Constant":
            name = node.output[0]
            graph.constants[name] = constant_node(node, graph.source)
            graph.sources[name] = Source(name)
    graph.nodes = [node for node in graph.nodes if node.op_type != "Constant"]


def _sort(graph: Graph) -> None:
    """Sort the nodes. A tensor that no node makes, that two nodes make, or a cycle, is a ModelError."""
    made = Counter(name for node in graph.nodes for name in node.output if name)
    given = set(graph.constants) | {value.name for value in graph.inputs}
    for name, times in made.items():
        if times > 1 or name in given:
            raise ModelError(f"{graph.source}: tensor {name!r} is written more than once; the file is not valid ONNX")
    _check_made(graph, given | set(made) | {""})
    waits = [len(set(node.input) & made.keys()) for node in graph.nodes]
    readers: dict[str, list[int]] = {}
    for i, node in enumerate(graph.nodes):
        for name in set(node.input) & made.keys():
            readers.setdefault(name, []).append(i)
    ready = [i for i, count in enumerate(waits) if not count]  # a heap: of several the first of the file
    order: list[int] = []
    while ready:
        i = heapq.heappop(ready)
        order.append(i)
        for name in filter(None, graph.nodes[i].output):
            for reader in readers.get(name, ()):
                waits[reader] -= 1
                if not waits[reader]:
                    heapq.heappush(ready, reader)
    if len(order) < len(graph.nodes):
        rest = [node for node, count in zip(graph.nodes, waits, strict=True) if count]
        names = ", ".join(repr(n.name or n.output[0]) for n in rest[:4])
        raise ModelError(f"{graph.source}: the graph has a cycle through the nodes {names}; ONNX graphs have none")
    graph.nodes = [graph.nodes[i] for i in order]


def _check_made(graph: Graph, have: set[str]) -> None:
    for node in graph.nodes:
        for name in node.input:
            if name not in have:
                raise ModelError(
                    f"{graph.source}: node {node.name or node.output[0]!r} ({node.op_type}) reads tensor {name!r}, "
                    "which no node, input or initializer provides. Export the model again"
                )
    for output in graph.outputs:
        if output.name not in have:
            raise ModelError(f"{graph.source}: no node provides the model's output {output.name!r}")
