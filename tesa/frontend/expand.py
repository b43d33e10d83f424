"""Writes an operator out as simpler ONNX nodes, before the graph becomes Relax.

So an operator that is a small network of its own (a recurrent cell, a fused attention) needs no kernel, no propagation
rule and no compaction rule: what it is made of has them. Sizes are fixed here, so an expansion may count on shapes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import helper

from tesa.attributes.attribute import Shape, Values
from tesa.errors import UnsupportedError
from tesa.frontend.graph import Graph, attributes, domain_of
from tesa.frontend.infer import infer_types

Expansion = Callable[["Writer", Any], Sequence[str] | None]
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


def has_expansion(operator: str, domain: str = "") -> bool:
    """True where an operator is written out as simpler nodes. domain: "" for ONNX's own."""
    return (domain, operator) in _EXPANSIONS


@dataclass
class Writer:
    """Writes the nodes that take the place of one node.

    shapes, dtypes: of the tensors before it, as far as they are known; graph.constants has those whose numbers are.
    """

    graph: Graph
    node: Any
    shapes: dict[str, Shape]
    dtypes: dict[str, Any]
    nodes: list[Any] = field(default_factory=list)

    @property
    def options(self) -> dict[str, Any]:
        """The attributes of the node as Python values."""
        return attributes(self.node)

    def has(self, index: int) -> bool:
        """True if the node has input number `index`; optional ones may be left out."""
        return len(self.node.input) > index and bool(self.node.input[index])

    def reads(self, index: int) -> bool:
        """True if somebody reads output number `index` of the node."""
        outputs = self.node.output
        return len(outputs) > index and bool(outputs[index]) and outputs[index] in self.graph.users()

    def value(self, name: str) -> Values | None:
        """The numbers of a tensor, None where they are not known."""
        return self.graph.constants.get(name)

    def shape(self, name: str) -> Shape:
        """The shape of a tensor. UnsupportedError where it is not known."""
        known = self.graph.constants[name].shape if name in self.graph.constants else self.shapes.get(name)
        if known is None:
            raise self.unsupported(f"the shape of {name!r} is not known before the model runs")
        return known

    def constant(self, array: Any, dtype: Any = None) -> str:
        """The name of a new constant."""
        name = self._fresh("value")
        self.graph.constants[name] = np.asarray(array, dtype)
        return name

    def add(self, op: str, *inputs: str, outputs: int = 1, domain: str = "", **options: Any) -> Any:
        """Write a node of ONNX's operator `op`; the name of its output, a list of them where there are several."""
        names = [self._fresh(op.lower()) for _ in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, names[0], domain=domain, **options))
        return names[0] if outputs == 1 else names

    def unsupported(self, why: str) -> UnsupportedError:
        """The error that names the node and says why it cannot be written out."""
        layer = self.graph.layers.get(self.node.output[0], self.node.name or self.node.output[0])
        return UnsupportedError(f"{self.graph.source}: node {layer!r} ({self.node.op_type}): {why}")

    def _fresh(self, what: str) -> str:
        number = self.graph.written = self.graph.written + 1
        return f"{self.node.output[0] or self.node.name}#{what}.{number}"


def expand(graph: Graph) -> bool:
    """Write out the nodes that have an expansion and inputs of known types, in place. True if there were any.

    Types are inferred once: what reads the result of a node that was written out waits for the next call.
    """
    if not any(_of(node) for node in graph.nodes):
        return False
    shapes, dtypes = infer_types(graph)
    nodes: list[Any] = []
    changed = False
    for node in graph.nodes:
        written = _write(graph, node, shapes, dtypes)
        changed |= written is not None
        nodes += [node] if written is None else written
    graph.nodes = nodes
    return changed


def _of(node: Any) -> Expansion | None:
    return _EXPANSIONS.get((domain_of(node), node.op_type))


def _write(graph: Graph, node: Any, shapes: dict[str, Shape], dtypes: dict[str, Any]) -> list[Any] | None:
    function = _of(node)
    known = shapes.keys() | graph.constants.keys()
    if function is None or any(name and name not in known for name in node.input):
        return None
    writer = Writer(graph, node, shapes, dtypes)
    results = function(writer, node)
    if results is None:
        return None
    layer = graph.layers.get(node.output[0], node.op_type.lower())
    for old, new in zip(node.output, results, strict=False):
        if old and new:
            _rename(writer, new, old)
    for made in writer.nodes:
        graph.layers[made.output[0]] = layer
    return writer.nodes


def _rename(writer: Writer, new: str, old: str) -> None:
    """Give a result the name that the model knows; what the writer did not make itself is copied."""
    if not any(new in made.output for made in writer.nodes):
        writer.nodes.append(helper.make_node("Identity", [new], [old], old))
        return
    for made in writer.nodes:
        made.input[:] = [old if name == new else name for name in made.input]
        made.output[:] = [old if name == new else name for name in made.output]
