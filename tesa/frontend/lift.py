"""Raises the nodes of a graph to one version of ONNX's operator set, so that an operator has one meaning.

In older files k of a TopK is an attribute, a Softmax runs over all axes from one on, Resize is called Upsample, and so
on. After this everything is as in opset 18, or in the file's own opset where that is newer.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from onnx import AttributeProto, helper, numpy_helper

from tesa.attributes.attribute import Shape, Values
from tesa.errors import UnsupportedError
from tesa.frontend.graph import Graph, attributes, domain_of
from tesa.frontend.infer import infer_types

OPSET = 18

Raise = Callable[["Lifter", Any], Sequence[Any] | None]
"""Gets the lifter and a node of an older version; changes the node in place (None), or returns what replaces it."""

_RAISES: dict[str, list[tuple[int, Raise]]] = {}


def raises(*operators: str, to: int) -> Callable[[Raise], Raise]:
    """Register the decorated function for nodes of these operators in files older than opset `to`."""

    def register(function: Raise) -> Raise:
        for name in operators:
            _RAISES.setdefault(name, []).append((to, function))
            _RAISES[name].sort(key=lambda pair: pair[0])
        return function

    return register


def is_raised(operator: str) -> bool:
    """True for an operator of ONNX that older files have in another form, or under another name."""
    return operator in _RAISES


def differs(operator: str, one: int, other: int) -> bool:
    """True if an operator of ONNX is written in another way, or means something else, in one of two opsets.

    >>> from tesa.frontend import import_onnx  # registers what changed
    >>> differs("Clip", 10, 11), differs("Clip", 12, 17)
    (True, False)
    """
    return any(min(one, other) < to <= max(one, other) for to, _ in _RAISES.get(operator, ()))


@dataclass
class Lifter:
    """Raises the nodes of one graph, or of the body of a loop or branch in it.

    opset: of the file. body: the GraphProto that the nodes are in, None for the graph itself.
    """

    graph: Graph
    opset: int
    body: Any = None
    types: tuple[dict[str, Shape], dict[str, Any]] = field(default_factory=lambda: ({}, {}))

    def constant(self, array: Any, dtype: Any = None) -> str:
        """The name of a new constant of the graph or body."""
        name, values = self.fresh("raised"), np.asarray(array, dtype)
        if self.body is None:
            self.graph.constants[name] = values
        else:
            self.body.initializer.append(numpy_helper.from_array(values, name))
        return name

    def constant_like(self, array: Any, name: str) -> tuple[str, list[Any]]:
        """(a new constant of the element type of a tensor, the nodes that make it)."""
        dtype = self.dtype(name)
        if dtype is not None:
            return self.constant(array, dtype), []
        cast, result = self.node("CastLike", [self.constant(array, np.float32), name])
        return result, [cast]

    def fresh(self, what: str) -> str:
        """A name that nothing has yet."""
        number = self.graph.written = self.graph.written + 1
        return f"{what}#{number}"

    def node(self, op: str, inputs: Iterable[str], output: str = "", name: str = "", **options: Any) -> tuple[Any, str]:
        """(a new node, its output)."""
        output = output or self.fresh(op.lower())
        return helper.make_node(op, list(inputs), [output], name, **options), output

    def shape(self, name: str) -> Shape | None:
        """The shape of a tensor, None where it is not known."""
        value = self.value(name)
        return value.shape if value is not None else self.types[0].get(name)

    def dtype(self, name: str) -> Any:
        """The NumPy element type of a tensor, None where it is not known."""
        value = self.value(name)
        return value.dtype if value is not None else self.types[1].get(name)

    def value(self, name: str) -> Values | None:
        """The numbers of a constant, None for other tensors."""
        return self.graph.constants.get(name)

    def is_read(self, node: Any, index: int) -> bool:
        """True if somebody may read output number `index` of a node."""
        name = node.output[index] if len(node.output) > index else ""
        return bool(name) and (self.body is not None or name in self._read)

    @cached_property
    def _read(self) -> set[str]:
        """The tensors of the graph that somebody reads; the graph stays as it is until all of it is raised."""
        return set(self.graph.users())

    def part(self, node: Any, what: str) -> str:
        """The name of a node that does a part of another one's work; none for a part of one without a name."""
        return f"{node.name}.{what}" if node.name else ""

    def unsupported(self, node: Any, why: str) -> UnsupportedError:
        """The error that names a node and says why it cannot be raised."""
        where = f"{self.graph.source} (opset {self.opset}): node {node.name or node.output[0]!r} ({node.op_type})"
        return UnsupportedError(f"{where}: {why}")


def take(node: Any, name: str, default: Any = None) -> Any:
    """Remove an attribute of a node: its value, `default` if it has none of that name."""
    value = attributes(node).get(name, default)
    stay = [a for a in node.attribute if a.name != name]
    del node.attribute[:]
    node.attribute.extend(stay)
    return value


def put(node: Any, **options: Any) -> None:
    """Give a node attributes, in place of those of the same names."""
    for name, value in options.items():
        take(node, name)
        node.attribute.append(helper.make_attribute(name, value))


def lift(graph: Graph) -> None:
    """Raise every node of ONNX's own operators, those in bodies of loops and branches too, to opset 18.

    A graph of a newer opset stays as it is. UnsupportedError where the raised node would depend on a shape that is not
    known.
    """
    if graph.opset >= OPSET:
        return
    old, has = graph.opset, any(_older(node, graph.opset) for node in graph.nodes)
    lifter = Lifter(graph, old, types=infer_types(graph) if has else ({}, {}))
    graph.nodes = _lifted(lifter, graph.nodes)
    graph.opset = OPSET


def _older(node: Any, opset: int) -> bool:
    return not domain_of(node) and any(to > opset for to, _ in _RAISES.get(node.op_type, ()))


def _lifted(lifter: Lifter, nodes: Iterable[Any]) -> list[Any]:
    result: list[Any] = []
    for node in nodes:
        for attribute in node.attribute:
            bodies = [attribute.g] if attribute.type == AttributeProto.GRAPH else attribute.graphs
            for body in bodies:
                made = _lifted(Lifter(lifter.graph, lifter.opset, body), body.node)
                copies = [_copy(one) for one in made]
                del body.node[:]
                body.node.extend(copies)
        result += _raise(lifter, node)
    return result


def _copy(node: Any) -> Any:
    copy = type(node)()
    copy.CopyFrom(node)
    return copy


def _raise(lifter: Lifter, node: Any) -> list[Any]:
    if domain_of(node):
        return [node]
    if lifter.opset < 6:
        take(node, "consumed_inputs")
    for to, function in _RAISES.get(node.op_type, ()):
        if lifter.opset >= to:
            continue
        written = function(lifter, node)
        if written is not None:  # what is written is of the newest form
            return list(written)
    return [node]
