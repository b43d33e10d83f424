"""An imported model: a Relax module, and the names that lead from it back to the model file."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tesa.attributes.attribute import Bools, Quantization
from tesa.frontend.cells import Part
from tesa.frontend.graph import Graph


@dataclass(frozen=True)
class Port:
    """An input or output of the model: its name in the file, static shape and element type ("float32")."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class WeightUse:
    """The place of a tensor of the file in the module: argument number `argument` of the call bound to `var`.

    layer: that the call belongs to. axes: how the tensor was transposed on the way (numpy.transpose), None if not.
    """

    layer: str
    var: str
    argument: int
    axes: tuple[int, ...] | None = None


@dataclass(frozen=True, eq=False)
class ImportedModel:
    """A model as Relax, in ONNX order of inputs and outputs.

    mod: one function "main", static shapes, weights as constants: conv2d (out, in/groups, kh, kw), matmul (k, out).
    names: the layer of each binding's variable. A layer is an ONNX node; several variables may belong to one.
    weights: for each initializer of the file that a convolution or matmul uses, where. masks: the user's masks by
    initializer (already multiplied into the weights). quantization: by (variable, argument) of a weight that was
    stored quantized. graph: the ONNX nodes and constants that mod was made of, after all rewrites; tensors: for the
    variable that ends a layer the ONNX tensor it is. Both are missing where a module did not come from ONNX. dropped:
    layers on which no output of the model depends; they are not part of mod. unused: inputs and initializers on which
    no output depends; the inputs stay inputs. cells: for each layer of a recurrent cell the parts of an initializer
    that its name may mean, its own first; weights has no such initializer.
    """

    mod: Any
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    names: Mapping[str, str]
    weights: Mapping[str, tuple[WeightUse, ...]]
    tensors: Mapping[str, str] = field(default_factory=dict)
    masks: Mapping[str, Bools] = field(default_factory=dict)
    quantization: Mapping[tuple[str, int], Quantization] = field(default_factory=dict)
    source: str = ""
    graph: Graph | None = field(default=None, repr=False)
    dropped: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    cells: Mapping[str, tuple[Part, ...]] = field(default_factory=dict)

    @property
    def halves(self) -> Mapping[str, str]:
        """The type, "float16" or "bfloat16", of each initializer that the file has in 16 bits."""
        return {} if self.graph is None else self.graph.halves

    def __repr__(self) -> str:
        ports = ", ".join(f"{p.name}{list(p.shape)}" for p in self.inputs)
        return f"ImportedModel({self.source}: {ports}, {len(self.names)} operators, {len(self.weights)} weights)"

    @property
    def nodes(self) -> Mapping[str, str]:
        """The layer of each ONNX node that is called otherwise than its layer: it has slashes, or a weight's name."""
        return {name: layer for name, layer in self._named() if name and name != layer}

    @property
    def folded(self) -> tuple[str, ...]:
        """The operators of the file that became a part of what is around them, or a constant, at import."""
        known = {*self.names.values(), *self.dropped}
        return tuple(dict.fromkeys(layer for _, layer in self._named() if layer not in known))

    def _named(self) -> Iterator[tuple[str, str]]:
        """(name, layer) of each node of the file."""
        for node in () if self.graph is None else self.graph.given.nodes:
            layer = self.graph.layers.get(node.output[0], "") if self.graph is not None else ""
            if layer:
                yield node.name, layer
