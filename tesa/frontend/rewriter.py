"""The nodes that replace one node of a graph, before anything of it is folded: how the rewrites write them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import helper

from tesa.attributes.attribute import Values
from tesa.errors import UnsupportedError
from tesa.frontend.graph import Graph, attributes


@dataclass
class Rewrite:
    """The nodes that replace one node, named after it. unpacked: the constants that hold one code an element by now."""

    graph: Graph
    node: Any
    nodes: list[Any] = field(default_factory=list)
    unpacked: set[str] = field(default_factory=set)

    @property
    def options(self) -> dict[str, Any]:
        """The attributes of the node as Python values."""
        return attributes(self.node)

    def fixed(self, index: int) -> Values:
        """The numbers of an input that has to be a constant."""
        found = self.graph.constants.get(self.at(index))
        if found is None:
            raise self.unsupported(
                f"its input {self.at(index)!r} is computed by the model; tesa unpacks constants. Export it as a weight"
            )
        return found

    def unpack(self, index: int, unpacked: Callable[[Values], Values]) -> str:
        """Put what `unpacked` makes of a packed constant in its place, once, and return its name."""
        name = self.at(index)
        if name not in self.unpacked:
            self.graph.constants[name] = unpacked(self.fixed(index))
            self.unpacked.add(name)
        return name

    def unsupported(self, why: str) -> UnsupportedError:
        """The error that names the node and says why it cannot be imported."""
        return UnsupportedError(f"{self.where}: {why}")

    @property
    def where(self) -> str:
        """The file and the node, for messages."""
        return f"{self.graph.source}: node {self.node.name or self.node.output[0]!r} ({self.node.op_type})"

    def at(self, index: int) -> str:
        """The name of an input, "" if the node has none there."""
        return self.node.input[index] if index < len(self.node.input) else ""

    def add(self, op: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        """Add a node, called after its operator, and return the name of its output."""
        name = output or f"{self.node.output[0]}#{op.lower()}{len(self.nodes)}"
        own = f"{self.node.name or self.node.output[0]}.{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], own, **attributes))
        return name

    def core(self, op: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        """Add the operator itself, which keeps the name of the node."""
        name = self.add(op, inputs, output, **attributes)
        self.nodes[-1].name = self.node.name
        return name

    def constant(self, array: Any) -> str:
        """Add a constant and return its name."""
        name = f"{self.node.output[0]}#constant{len(self.graph.constants)}"
        self.graph.constants[name] = np.asarray(array)
        return name

    def real(self, index: int, axis: int | None = None) -> str:
        """Dequantize three inputs x, scale, zero point from `index` on. axis: that a vector of scales lies along."""
        return self.dequantize(self.at(index), self.at(index + 1), self.at(index + 2), axis)

    def dequantize(self, x: str, scale: str, zero: str = "", axis: int | None = None) -> str:
        """Add a DequantizeLinear; along `axis` where the scale is not one number."""
        options: dict[str, Any] = {} if axis is None or self._single(scale) else {"axis": axis}
        return self.add("DequantizeLinear", [x, scale, *([zero] if zero else [])], **options)

    def quantize(self, x: str, scale: str, zero: str) -> None:
        """Add a QuantizeLinear, the last node."""
        self.add("QuantizeLinear", [x, scale, *([zero] if zero else [])], self.node.output[0])

    def _single(self, name: str) -> bool:
        array = self.graph.constants.get(name)
        if array is None:
            return True
        if array.ndim > 1 and array.size > 1:
            raise self.unsupported(
                f"the scale {name!r} has shape {list(array.shape)}, expected one number or one for each place of one "
                "axis. Export the model in QDQ form"
            )
        return array.size == 1
