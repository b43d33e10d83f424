"""The layers of an ONNX file that have a weight to prune: where its numbers are, and the matrix that they make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.attributes.attribute import Values
from tesa.compress.codes import Codes
from tesa.compress.tensors import Tensors
from tesa.frontend.control.inside import graphs_of
from tesa.frontend.graph import attributes, domain_of
from tesa.frontend.names import layer_names

Matrix = NDArray[np.float32]

WEIGHT = {
    "Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1, "FusedMatMul": 1, "QLinearConv": 3, "ConvInteger": 1,
    "QLinearMatMul": 3, "MatMulInteger": 1, "LSTM": 1, "GRU": 1, "RNN": 1,
}  # fmt: skip
"""The operators with a weight, and the input where it usually stands."""

RECURRENT = ("LSTM", "GRU", "RNN")
_ZERO_POINT = {"QLinearConv": 5, "ConvInteger": 3, "QLinearMatMul": 5, "MatMulInteger": 3}
_SCALE = {"QLinearConv": 4, "QLinearMatMul": 4}


@dataclass(frozen=True, eq=False)
class Layer:
    """A weight of a layer. name: of the layer; node: it; at: the place of the node in the graph, -1 inside a branch.

    op: "conv", "depthwise", "linear" or "recurrent". tensor: the initializer. perm, rows: the stored tensor, its axes
    in this order and cut into so many rows, is the matrix (outputs, k). groups: of a grouped convolution. codes: the
    grid of a quantized weight. input, position: the activation, and where the weight stands among the inputs of the
    node. transposed: a transposed convolution. options: the attributes of the node.
    """

    name: str
    node: Any
    at: int
    op: str
    tensor: str
    shape: tuple[int, ...]
    perm: tuple[int, ...]
    rows: int
    groups: int = 1
    codes: Codes | None = None
    input: str = ""
    position: int = 1
    transposed: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def k(self) -> int:
        """Columns of the matrix."""
        return int(np.prod(self.shape, dtype=np.int64)) // self.rows if self.rows else 0

    def matrix(self, array: Values) -> NDArray[Any]:
        """(outputs, k): of an array of the shape of the stored tensor."""
        return array.transpose(self.perm).reshape(self.rows, -1)

    def stored(self, matrix: NDArray[Any]) -> NDArray[Any]:
        """The array in the shape of the stored tensor of a matrix (outputs, k)."""
        shape = [self.shape[axis] for axis in self.perm]
        return matrix.reshape(shape).transpose(np.argsort(self.perm))

    def numbers(self, tensors: Tensors) -> Matrix:
        """(outputs, k): the weight as real numbers."""
        array = tensors.get(self.tensor)
        assert array is not None
        values = array if self.codes is None else self.codes.values(array)
        return np.ascontiguousarray(self.matrix(values), np.float32)

    @property
    def window(self) -> bool:
        """True for a convolution with a window of more than one element."""
        return self.op in ("conv", "depthwise") and int(np.prod(self.shape[2:], dtype=np.int64)) > 1

    def known_as(self) -> tuple[str, ...]:
        """The names that a user may call it by."""
        return tuple(dict.fromkeys((self.name, self.node.name, self.tensor)))


@dataclass(frozen=True)
class Found:
    """The layers with a weight to prune, in the order of the graph; others: layers that have none, with the reason."""

    layers: tuple[Layer, ...]
    others: tuple[tuple[str, str], ...]


def find_layers(graph: Any, tensors: Tensors) -> Found:
    """The layers of a GraphProto, those in branches and loops behind the others."""
    makers: dict[str, Any] = {}
    flat = list(_flat(graph))
    for node, _ in flat:
        makers |= {name: node for name in node.output if name}
    finder = _Finder(tensors, makers)
    for node, at in flat:
        finder.visit(node, at)
    initializers = {key: tensor for key, tensor in finder.weights.items() if tensor}
    names = layer_names((node for node, _ in flat if node.output), initializers)
    uses = Counter(layer.tensor for layer in finder.found)
    tables = {node.input[0] for node, _ in flat if node.op_type == "Gather"}
    layers: list[Layer] = []
    others = [(names[key], why) for key, why in finder.others]
    for layer in finder.found:
        name = names[layer.node.output[0] or next(n for n in layer.node.output if n)]
        if layer.op == "recurrent" and layer.position == 2:
            name = f"{name}.recurrent"
        if layer.tensor in tables:
            others.append((name, "its weight is also the table of an embedding"))
        elif uses[layer.tensor] > 1 and any(one.tensor == layer.tensor for one in layers):
            others.append((name, f"its weight {layer.tensor!r} is pruned with the first layer that reads it"))
        else:
            layers.append(_named(layer, name, uses[layer.tensor] > 1))
    return Found(tuple(layers), tuple(others))


def _named(layer: Layer, name: str, shared: bool) -> Layer:
    # What several layers share has several inputs, so that no single one can be repaired.
    return replace(layer, name=name, at=-1 if shared else layer.at)


def _flat(graph: Any, top: bool = True) -> Sequence[tuple[Any, int]]:
    found = [(node, at if top else -1) for at, node in enumerate(graph.node)]
    for node in graph.node:
        for body in graphs_of(node):
            found += _flat(body, False)
    return found


class _Finder:
    def __init__(self, tensors: Tensors, makers: Mapping[str, Any]) -> None:
        self.tensors, self.makers = tensors, makers
        self.found: list[Layer] = []
        self.others: list[tuple[str, str]] = []
        self.weights: dict[str, str] = {}

    def visit(self, node: Any, at: int) -> None:
        if node.op_type not in WEIGHT or domain_of(node) not in ("", "com.microsoft") or not node.output:
            return
        if node.op_type in RECURRENT:
            for position in (1, 2):
                self._add(node, at, position)
            return
        usual = WEIGHT[node.op_type]
        if self._add(node, at, usual):
            return
        if node.op_type in ("MatMul", "Gemm", "MatMulInteger") and self._add(node, at, 0):
            return
        if node.op_type not in ("MatMul", "QLinearMatMul", "MatMulInteger", "FusedMatMul"):
            self.others.append((node.output[0], "its weight is computed, no tensor of the file"))

    def _add(self, node: Any, at: int, position: int) -> bool:
        traced = self._trace(node.input[position]) if position < len(node.input) else None
        if traced is None:
            return False
        tensor, axes, codes = traced
        array = self.tensors.get(tensor)
        if array is None or array.ndim < 2 or not array.size:
            return False
        options = attributes(node)
        used = [array.shape[axis] for axis in axes]
        shaped = _shaped(node.op_type, options, used, position)
        if shaped is None:
            return False
        order, rows, op, groups = shaped
        if node.op_type in _ZERO_POINT:
            codes = self._integer_codes(node)
        self.weights[node.output[0]] = tensor
        perm = tuple(axes[axis] for axis in order)
        activation = node.input[1 - position] if op == "linear" and position < 2 else node.input[0]
        self.found.append(
            Layer(
                "",
                node,
                at,
                op,
                tensor,
                tuple(array.shape),
                perm,
                rows,
                groups,
                codes,
                activation,
                position,
                node.op_type == "ConvTranspose",
                options,
            )
        )
        return True

    def _trace(self, name: str) -> tuple[str, tuple[int, ...], Codes | None] | None:
        """(stored tensor, its axes in the order in which the node sees them, grid) of an input of a node."""
        steps: list[Any] = []
        while name not in self.tensors:
            node = self.makers.get(name)
            if node is None or domain_of(node) or node.op_type not in (
                "Identity", "Transpose", "Cast", "DequantizeLinear"
            ):  # fmt: skip
                return None
            steps.append(node)
            name = node.input[0]
        array = self.tensors.get(name)
        if array is None:
            return None
        axes, codes = tuple(range(array.ndim)), None
        for node in reversed(steps):
            if node.op_type == "Transpose":
                perm = attributes(node).get("perm") or list(range(array.ndim))[::-1]
                axes = tuple(axes[axis] for axis in perm)
            elif node.op_type == "DequantizeLinear":
                if axes != tuple(range(array.ndim)) or codes is not None:
                    return None
                codes = self._codes(node)
                if codes is None:
                    return None
        return name, axes, codes

    def _codes(self, node: Any) -> Codes | None:
        scale = self.tensors.get(node.input[1])
        zero = self.tensors.get(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros((), np.int8)
        if scale is None or zero is None:
            return None
        options = attributes(node)
        return Codes(scale, zero, int(options.get("axis", 1)), int(options.get("block_size", 0)))

    def _integer_codes(self, node: Any) -> Codes:
        """The grid of the weight of an integer operator: along its first axis, of a matrix along its last."""
        numbers = {}
        for what, places, missing in (("scale", _SCALE, np.float32(1)), ("zero", _ZERO_POINT, np.int8(0))):
            position = places.get(node.op_type, 99)
            given = self.tensors.get(node.input[position]) if position < len(node.input) else None
            numbers[what] = np.asarray(missing) if given is None else given
        return Codes(numbers["scale"], numbers["zero"], 0 if "Conv" in node.op_type else -1, 0)


def _shaped(
    op: str, options: Mapping[str, Any], shape: Sequence[int], position: int
) -> tuple[list[int], int, str, int] | None:
    """(order of the axes, rows, kind, groups) that make a weight of this shape the matrix (outputs, k)."""
    rank = len(shape)
    if op in ("Conv", "QLinearConv", "ConvInteger"):
        groups = int(options.get("group", 1))
        kind = "depthwise" if groups > 1 and shape[1] == 1 else "conv"
        return list(range(rank)), shape[0], kind, groups
    if op == "ConvTranspose":
        groups = int(options.get("group", 1))
        if groups > 1:
            return (list(range(rank)), shape[0], "depthwise", groups) if shape[1] == 1 else None
        return [1, 0, *range(2, rank)], shape[1], "conv", 1
    if op in RECURRENT:
        return list(range(rank)), shape[0] * shape[1], "recurrent", 1
    if op == "Gemm":
        flip = bool(options.get("transB" if position == 1 else "transA", 0))
        first = flip if position == 1 else not flip
        return ([0, 1], shape[0], "linear", 1) if first else ([1, 0], shape[1], "linear", 1)
    flip = bool(options.get("transB" if position else "transA", 0)) if op == "FusedMatMul" else False
    if position == 0:
        return (list(range(rank)), shape[0], "linear", 1) if rank == 2 else None
    if flip:
        return [rank - 2, *range(rank - 2), rank - 1], shape[-2], "linear", 1
    return [rank - 1, *range(rank - 1)], shape[-1], "linear", 1
