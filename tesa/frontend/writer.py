"""Writes the simpler ONNX nodes that take the place of one node of a graph."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from onnx import helper

from tesa.attributes.attribute import Shape, Values
from tesa.errors import UnsupportedError
from tesa.frontend.computed import count_computed
from tesa.frontend.giants import check_possible
from tesa.frontend.graph import Graph, attributes

MOST = 20_000
"""Nodes that may take the place of one: sizes and attributes say how many there are of some."""

_LARGE = 1 << 20  # bytes of a constant that is counted


@dataclass
class Writer:
    """Writes the nodes that take the place of one node.

    shapes, dtypes: of the tensors before it, as far as they are known; graph.constants has those whose numbers are.
    layers: of the nodes that are layers of their own, by their first output; the others belong to that of the node.
    """

    graph: Graph
    node: Any
    shapes: dict[str, Shape]
    dtypes: dict[str, Any]
    nodes: list[Any] = field(default_factory=list)
    layers: dict[str, str] = field(default_factory=dict)
    read: Collection[str] | None = None
    """The tensors that somebody reads, where that is known already: to look through all nodes for each takes long."""

    def input(self, index: int) -> str:
        """The name of input number `index` of the node, "" where it is left out."""
        return self.node.input[index] if index < len(self.node.input) else ""

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
        return len(outputs) > index and bool(outputs[index]) and outputs[index] in self._read

    def value(self, name: str) -> Values | None:
        """The numbers of a tensor, None where they are not known."""
        return self.graph.constants.get(name)

    def dtype(self, name: str) -> Any:
        """The NumPy dtype of a tensor. UnsupportedError where it is not known."""
        known = self.graph.constants[name].dtype if name in self.graph.constants else self.dtypes.get(name)
        if known is None:
            raise self.unsupported(f"the element type of its input {name!r} is not known before the model runs")
        return np.dtype(known)

    def shape(self, name: str) -> Shape:
        """The shape of a tensor. UnsupportedError where it is not known."""
        known = self.graph.constants[name].shape if name in self.graph.constants else self.shapes.get(name)
        if known is None:
            raise self.unsupported(
                f"the shape of its input {name!r} is not known before the model runs; tesa compiles for fixed sizes. "
                "Export it with fixed sizes"
            )
        return known

    def constant(self, array: Any, dtype: Any = None) -> str:
        """The name of a new constant."""
        name, values = self._fresh("value"), np.asarray(array, dtype)
        if values.nbytes > _LARGE:
            count_computed(self.graph, values.shape, values.dtype, f"{self.where}: a constant of it", copies=2)
        self.graph.constants[name] = values
        return name

    def add(self, op: str, *inputs: str, outputs: int = 1, domain: str = "", **options: Any) -> Any:
        """Write a node of ONNX's operator `op`; the name of its output, a list of them where there are several."""
        if len(self.nodes) >= MOST:
            raise self.unsupported(f"it would be written out as more than {MOST} operators. Check its attributes")
        names = [self._fresh(op.lower()) for _ in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, names[0], domain=domain, **options))
        return names[0] if outputs == 1 else names

    def node_like(self, node: Any, inputs: Sequence[str], attributes: Sequence[Any]) -> list[str]:
        """Write a node with the operator and the number of outputs of another one; the names of its outputs."""
        names = [self._fresh(node.op_type.lower()) if name else "" for name in node.output]
        made = helper.make_node(node.op_type, inputs, names, names[0], domain=node.domain)
        made.attribute.extend(attributes)
        self.nodes.append(made)
        return names

    def check_possible(self, shape: Iterable[int]) -> None:
        """Raise a ModelError for a result that cannot be, or is too large, before it is made of numbers."""
        check_possible(shape, np.float32, f"{self.where}: its result")

    def reserve(self, *sizes: int, copies: int = 3) -> None:
        """Raise a ModelError for numbers that would be too many, before they are worked out.

        sizes: of an array of 8 bytes an element. copies: how many of it are there at a time.
        """
        check_possible(sizes, f"V{8 * copies}", f"{self.where}: what it is worked out with")

    def unsupported(self, why: str) -> UnsupportedError:
        """The error that names the node and says why it cannot be written out."""
        return UnsupportedError(f"{self.where}: {why}")

    @cached_property
    def _read(self) -> Collection[str]:
        return set(self.graph.users()) if self.read is None else self.read

    @property
    def where(self) -> str:
        """The file and the node, for messages."""
        layer = self.graph.layers.get(self.node.output[0], self.node.name or self.node.output[0])
        return f"{self.graph.source}: node {layer!r} ({self.node.op_type})"

    def fresh(self, what: str) -> str:
        """A name for a tensor of a node that the writer does not write itself."""
        return self._fresh(what)

    def _fresh(self, what: str) -> str:
        number = self.graph.written = self.graph.written + 1
        return f"{self.node.output[0] or self.node.name}#{what}.{number}"
