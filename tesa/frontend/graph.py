"""A model as plain ONNX nodes and NumPy arrays, which the rewrites change in place."""

from dataclasses import dataclass, field, replace
from typing import Any

from onnx import TensorProto, helper

from tesa.attributes.attribute import Bools, Quantization, Values
from tesa.frontend.given import Given


@dataclass(frozen=True)
class Source:
    """The initializer that a constant was made of, and how it was transposed since."""

    initializer: str
    axes: tuple[int, ...] | None = None


@dataclass
class Graph:
    """A model being imported. Nodes in topological order; constants: every tensor whose numbers are in the file.

    sources: for a constant the initializer behind it. layers: the layer of each node, by the name of its first output.
    domains: the version of each further operator set. dropped, unused: layers, and inputs and initializers, on which no
    output of the model depends. written: how many tensors expansions have made, so that each has a name of its own.
    halves: the type of each initializer that the file has in 16 bits. widened: the output's name of each tensor that
    stands for an output of the model before that is rounded to 16 bits. given: the model as its file has it.
    bodies: of each Repeat, by its first output.
    notes: what a user has to know of what was made of the model. scales: how many numbers the file has for a constant
    of scales that is written out to more. computed: the bytes of all that was computed from constants.
    unrolled: the nodes that long loops and sequences were written out as.
    """

    nodes: list[Any]
    constants: dict[str, Values]
    inputs: list[Any]
    outputs: list[Any]
    opset: int
    source: str
    sources: dict[str, Source] = field(default_factory=dict)
    layers: dict[str, str] = field(default_factory=dict)
    masks: dict[str, Bools] = field(default_factory=dict)
    quantization: dict[str, Quantization] = field(default_factory=dict)
    domains: dict[str, int] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    written: int = 0
    halves: dict[str, str] = field(default_factory=dict)
    widened: dict[str, str] = field(default_factory=dict)
    given: Given = field(default_factory=lambda: Given([], {}))
    bodies: "dict[str, Graph]" = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    scales: dict[str, int] = field(default_factory=dict)
    computed: int = 0
    unrolled: int = 0

    def users(self) -> dict[str, list[Any]]:
        """The nodes that read each tensor; an output of the model counts as one more reader, None."""
        users: dict[str, list[Any]] = {output.name: [None] for output in self.outputs}
        for node in self.nodes:
            for name in node.input:
                users.setdefault(name, []).append(node)
        return users

    def whole(self) -> "Graph":
        """The graph with the nodes and constants of the loops in it beside its own: a list of all that there is."""
        whole = self
        for body in self.bodies.values():
            inner = body.whole()
            whole = replace(
                whole,
                nodes=[*whole.nodes, *inner.nodes],
                constants={**whole.constants, **inner.constants},
                sources={**whole.sources, **inner.sources},
                layers={**whole.layers, **inner.layers},
                quantization={**whole.quantization, **inner.quantization},
            )
        return whole


def domain_of(node: Any) -> str:
    """The operator set of a node, "" for ONNX's own."""
    return "" if node.domain in ("", "ai.onnx") else str(node.domain)


def attributes(node: Any) -> dict[str, Any]:
    """The attributes of a node as Python values."""
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def tensor_type(value: Any) -> str:
    """The NumPy name of the element type of a graph input or output."""
    code = value.type.tensor_type.elem_type
    return "bool" if code == TensorProto.BOOL else str(helper.tensor_dtype_to_np_dtype(code))
