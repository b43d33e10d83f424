"""Writes an operator out as simpler ONNX nodes, before the graph becomes Relax.

So an operator that is a small network of its own (a recurrent cell, a fused attention) needs no kernel, no propagation
rule and no compaction rule: what it is made of has them. Sizes are fixed here, so an expansion may count on shapes.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any

from onnx import helper

from tesa.attributes.attribute import Shape
from tesa.errors import UnsupportedError
from tesa.frontend.converters import has_converter
from tesa.frontend.functions import has_body, write_body
from tesa.frontend.graph import Graph, domain_of
from tesa.frontend.infer import infer_nodes, infer_types
from tesa.frontend.registry import custom_operators
from tesa.frontend.schemas import check_written
from tesa.frontend.writer import Writer

__all__ = ["Expansion", "Writer", "check_expanded", "expand", "expands", "has_expansion"]

Expansion = Callable[[Writer, Any], Sequence[str] | None]
"""Gets the writer and a node, and returns the tensors that take the place of the node's outputs, in order; None where
it does not apply. A name "" stands for an output that nobody reads."""

_EXPANSIONS: dict[tuple[str, str], Expansion] = {}


def expands(*operators: str) -> Callable[[Expansion], Expansion]:
    """Register the decorated function for "Operator" of ONNX, or "com.microsoft::Operator" of another domain."""

    def register(function: Expansion) -> Expansion:
        for name in operators:
            domain, _, operator = name.rpartition("::")
            if (domain, operator) in _EXPANSIONS:
                raise ValueError(f"operator {name!r} has two expansions")
            _EXPANSIONS[domain, operator] = function
        return function

    return register


def has_expansion(operator: str, domain: str = "", opset: int = 18) -> bool:
    """True where an operator is written out as simpler nodes. domain: "" for ONNX's own.

    >>> has_expansion("HannWindow"), has_expansion("Conv")
    (True, False)
    """
    return _find(operator, domain, opset) is not None


def expand(graph: Graph) -> bool:
    """Write out the nodes that have an expansion and inputs of known types, in place. True if there were any.

    What an expansion lacks may be known after constants are folded: it is asked again by the next call. An
    UnsupportedError of one is raised if nothing else could be written out.
    """
    if not any(_of(graph, node) for node in graph.nodes):
        return False
    shapes, dtypes = infer_types(graph)
    read = set(graph.users())
    nodes: list[Any] = []
    changed, failure = False, None
    for node in graph.nodes:
        try:
            written = _write(graph, node, shapes, dtypes, read)
        except UnsupportedError as error:
            written, failure = None, failure or error
        if written is not None or any(name and name not in shapes for name in node.output):
            infer_nodes(graph, [node] if written is None else written, shapes, dtypes)
        changed |= written is not None
        nodes += [node] if written is None else written
    if failure is not None and not changed:
        raise failure
    graph.nodes = nodes
    return changed


def check_expanded(graph: Graph) -> None:
    """Raise an UnsupportedError for an operator that should have been written out and has no converter either."""
    left = [n for n in graph.nodes if _of(graph, n) is not None and not has_converter(n.op_type, domain_of(n))]
    if not left:
        return
    shapes, dtypes = infer_types(graph)
    writer = Writer(graph, left[0], shapes, dtypes)
    for name in filter(None, left[0].input):
        writer.shape(name)
    raise writer.unsupported("this form of the operator cannot be imported. Export it as simpler operators")


def _find(operator: str, domain: str, opset: int) -> Expansion | None:
    """The expansion of an operator, if no user has registered a converter; without either its schema's body."""
    if f"{domain}::{operator}" in custom_operators():
        return None
    found = _EXPANSIONS.get((domain, operator))
    if found is None and not has_converter(operator, domain) and has_body(operator, domain, opset):
        return write_body
    return found


def _of(graph: Graph, node: Any) -> Expansion | None:
    domain = domain_of(node)
    return _find(node.op_type, domain, graph.domains.get(domain, 1) if domain else graph.opset)


def _write(
    graph: Graph, node: Any, shapes: dict[str, Shape], dtypes: dict[str, Any], read: Collection[str]
) -> list[Any] | None:
    function = _of(graph, node)
    if function is None or any(n and n not in shapes and n not in graph.constants for n in node.input):
        return None
    writer = Writer(graph, node, shapes, dtypes, read=read)
    results = function(writer, node)
    if results is None:
        return None
    check_written(graph.opset, writer.nodes, writer.where)
    layer = graph.layers.get(node.output[0], node.op_type.lower())
    _rename(writer, {old: new for old, new in zip(node.output, results, strict=False) if old})
    for made in writer.nodes:
        own = writer.layers.get(made.output[0])
        made.name = own or made.name  # so that a file that is written from the graph has it as well
        graph.layers[made.output[0]] = own or layer
    return writer.nodes


def _rename(writer: Writer, results: dict[str, str]) -> None:
    """Give each result the name that the model knows; what is no fresh tensor of its own is copied.

    results: for each output of the node the tensor that takes its place.
    """
    made = {name for node in writer.nodes for name in node.output}
    names: dict[str, str] = {}
    for old, new in results.items():
        if new in made and new not in names:
            names[new] = old
    writer.layers |= {names[new]: layer for new, layer in writer.layers.items() if new in names}
    copies = [(old, names.get(new, new)) for old, new in results.items() if new and names.get(new) != old]
    for node in writer.nodes:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    writer.nodes += [helper.make_node("Identity", [source], [old], old) for old, source in copies]
