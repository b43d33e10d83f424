"""Bits of each layer before and after propagation, as in figure 17 of SparTA (Zheng et al., OSDI 2022)."""

from collections.abc import Iterator
from dataclasses import dataclass

from tesa.attributes.attribute import FULL_BITS
from tesa.attributes.quantization import integer_grid
from tesa.propagate.bits.intervals import type_range
from tesa.propagate.bits.ranges import dtypes
from tesa.propagate.model import TesaModel
from tesa.propagate.network import Node

WEIGHT_LAYERS = ("relax.matmul", "relax.nn.conv1d", "relax.nn.conv2d", "relax.nn.conv3d", "relax.nn.conv2d_transpose")
CARRIERS = ("relax.dequantize", "relax.astype", "relax.subtract")  # what stands between stored codes and a layer
EPILOGUE = (
    "relax.add", "relax.multiply", "relax.nn.relu", "relax.nn.relu6", "relax.clip", "relax.maximum", "relax.minimum",
    "relax.nn.max_pool2d", "relax.reshape", "relax.astype", "relax.nn.leakyrelu", "relax.sigmoid", "relax.nn.silu",
)  # fmt: skip


@dataclass(frozen=True)
class LayerBits:
    """The bits of one layer with a weight, in running order of the model. 32 stands for full precision.

    layer, op: its name and its operator in Relax. var: the variable of its output, a name of TesaModel.tesa.
    weight_*, input_*, output_*: bits of the widest element of the weight, of the activation that the layer reads and of
    the one that it leaves behind, each as it is stored: of the codes that the layer's operand is dequantized from, and
    of the codes that its result is quantized to behind bias and activation function.
    *_before: what the file says of that tensor alone: its type, or a clip of its codes. *_after: after propagation.
    """

    layer: str
    op: str
    var: str
    weight_before: int
    weight_after: int
    input_before: int
    input_after: int
    output_before: int
    output_after: int

    @property
    def lowered(self) -> bool:
        """True if propagation has found that something of the layer needs fewer bits."""
        before = (self.weight_before, self.input_before, self.output_before)
        return (self.weight_after, self.input_after, self.output_after) != before


def layer_bits(model: TesaModel) -> tuple[LayerBits, ...]:
    """The bits of every convolution and matrix product with a weight, before and after propagation.

    >>> from importlib.resources import files
    >>> from tesa.frontend import import_onnx
    >>> from tesa.propagate import propagate
    >>> layers = layer_bits(propagate(import_onnx(str(files("tesa.models") / "digits.onnx"))))
    >>> layers[0].layer, layers[0].weight_before, layers[0].weight_after
    ('stem', 32, 32)
    """
    return _Reader(model).layers()


class _Reader:
    def __init__(self, model: TesaModel) -> None:
        self.model, self.net = model, model.network
        self.types = dtypes(self.net)
        self.producer = {name: node for node in self.net.nodes for name in node.outputs}
        self.readers: dict[str, list[Node]] = {}
        for node in self.net.nodes:
            for name in node.inputs:
                self.readers.setdefault(name, []).append(node)

    def layers(self) -> tuple[LayerBits, ...]:
        found = []
        for node in self.net.nodes:
            weight = self._weight(node)
            if node.operator.op in WEIGHT_LAYERS and weight is not None:
                pairs = (
                    *self._pair(list(self._stored(node.inputs[weight])), self._in_file(node.var, weight)),
                    *self._pair(list(self._stored(node.inputs[1 - weight]))),
                    *self._pair(self._left(node.outputs[0])),
                )
                found.append(LayerBits(node.operator.layer, node.operator.op, node.var, *pairs))
        return tuple(found)

    def _in_file(self, var: str, argument: int) -> int:
        """The bits of an element of a weight as the file has it."""
        imported = self.model.imported
        if (var, argument) in imported.quantization:
            return imported.quantization[var, argument].bits
        uses = (use for name in imported.halves for use in imported.weights.get(name, ()))
        return 16 if (var, argument) in {(use.var, use.argument) for use in uses} else FULL_BITS

    def _weight(self, node: Node) -> int | None:
        """The position of the operand that does not depend on the model's input; None if both do or none does."""
        fixed = [i for i, name in enumerate(node.inputs[:2]) if self._fixed(name)]
        return fixed[0] if len(fixed) == 1 and len(node.inputs) >= 2 else None

    def _fixed(self, name: str) -> bool:
        if name in self.net.constants:
            return True
        node = self.producer.get(name)
        return node is not None and all(self._fixed(n) for n in node.inputs)

    def _stored(self, name: str) -> Iterator[str]:
        """The tensor and those that it is a plain conversion of, back to its codes."""
        yield name
        node = self.producer.get(name)
        if node is None:
            return
        clipped = node.operator.op == "relax.clip" and self._integer(name)
        if clipped or (node.operator.op in CARRIERS and all(self._fixed(n) for n in node.inputs[1:])):
            yield from self._stored(node.inputs[0])

    def _left(self, name: str) -> list[str]:
        """The codes that a layer's result ends up as; the result itself where nobody quantizes it alone."""
        first = name
        while True:
            readers = self.readers.get(name, [])
            if len(readers) != 1 or name in self.net.outputs:
                return [first]
            name = readers[0].outputs[0]
            if readers[0].operator.op == "relax.quantize":
                break
            if readers[0].operator.op not in EPILOGUE:
                return [first]
        after = self.readers.get(name, [])
        clipped = len(after) == 1 and after[0].operator.op == "relax.clip" and name not in self.net.outputs
        return [name, after[0].outputs[0]] if clipped else [name]

    def _integer(self, name: str) -> bool:
        return self.types[name].startswith(("int", "uint"))

    def _pair(self, names: list[str], most: int = FULL_BITS) -> tuple[int, int]:
        """(before, after): the fewest bits of the forms that one tensor goes through, at most so many."""
        before = min(most, *(self._alone(name) for name in names))
        after = min(int(self.model.tesa[name].bits.max(initial=1)) for name in names)
        return before, min(before, after)

    def _alone(self, name: str) -> int:
        """The bits that the file gives one tensor: those of its type, or of a clip of its codes."""
        if not self._integer(name):
            return FULL_BITS
        low, high = type_range(self.types[name])
        node = self.producer.get(name)
        if node is not None and node.operator.op == "relax.clip":
            low, high = max(low, float(node.operator.static[0])), min(high, float(node.operator.static[1]))
        return min(int(integer_grid(low, high, 0)[0]), FULL_BITS)
