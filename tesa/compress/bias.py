"""The bias of a layer in a file: an input of its node, or the constant of the Add behind it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.compress.layers import Layer
from tesa.compress.tensors import Tensors
from tesa.compress.walk import reads_of
from tesa.frontend.control.inside import all_nodes


@dataclass(frozen=True, eq=False)
class Bias:
    """The node and the input that a bias is, or can become. tensor: its name, "" where there is none yet.

    scale: what the product of input and weight is multiplied with, over what the bias is. own: nothing else reads it.
    """

    node: Any
    position: int
    tensor: str
    scale: float
    own: bool


class Biases:
    """Finds and changes biases. fixed: nodes cannot get inputs that they do not have, as those of functions."""

    def __init__(self, graph: Any, tensors: Tensors, *, fixed: bool = False) -> None:
        self.tensors, self.fixed = tensors, fixed
        self.users: dict[str, list[Any]] = {}
        self.outputs = {value.name for value in graph.output}
        for node in graph.node:
            for name in reads_of(node):
                self.users.setdefault(name, []).append(node)
        self.reads = Counter(name for node in all_nodes(graph.node) for name in node.input)

    def of(self, layer: Layer) -> Bias | None:
        """The bias of a layer; None where it has none and can get none."""
        node, options = layer.node, layer.options
        if node.op_type in ("Conv", "ConvTranspose"):
            return self._input(node, 2, 1.0, [(layer.rows,)])
        if node.op_type == "Gemm":
            alpha, beta = float(options.get("alpha", 1.0)), float(options.get("beta", 1.0))
            m = layer.rows
            shapes: list[tuple[int, ...]] = [(m,), (1, m)] if layer.position == 1 else [(m, 1)]
            return self._input(node, 2, alpha / beta, shapes) if beta and alpha else None
        if node.op_type in ("MatMul", "FusedMatMul"):
            return self._behind(layer, float(options.get("alpha", 1.0)))
        return None

    def _input(self, node: Any, position: int, scale: float, shapes: list[tuple[int, ...]]) -> Bias | None:
        name = node.input[position] if len(node.input) > position else ""
        if not name:
            return None if self.fixed or len(shapes[0]) > 1 else Bias(node, position, "", scale, True)
        array = self.tensors.get(name)
        if array is None or array.shape not in shapes or array.dtype.kind != "f":
            return None
        own = self.reads[name] == 1
        return Bias(node, position, name, scale, own) if own or not self.fixed else None

    def _behind(self, layer: Layer, scale: float) -> Bias | None:
        output = layer.node.output[0]
        users = self.users.get(output, [])
        if len(users) != 1 or output in self.outputs or users[0].op_type != "Add" or users[0].domain:
            return None
        names = list(users[0].input)
        if names.count(output) != 1:
            return None
        position = 1 - names.index(output)
        array = self.tensors.get(names[position])
        if array is None or array.size != layer.rows or array.dtype.kind != "f":
            return None
        axis = -1 if layer.position == 1 else -2
        if array.ndim < -axis or array.shape[axis] != layer.rows:
            return None
        own = self.reads[names[position]] == 1
        return Bias(users[0], position, names[position], scale, own) if own or not self.fixed else None

    def add(self, layer: Layer, bias: Bias, shift: NDArray[Any]) -> tuple[str, NDArray[Any]]:
        """Add (m,) numbers to a bias, which gets a tensor of its own if need be. (its name, the numbers before)."""
        gain = np.asarray(shift * bias.scale, np.float64)
        if not bias.tensor:
            weight = self.tensors.get(layer.tensor)
            assert weight is not None
            before = np.zeros(layer.rows, weight.dtype)
            return self._attach(layer, bias, before, gain), before
        found = self.tensors.get(bias.tensor)
        assert found is not None
        after = (found.astype(np.float64) + gain.reshape(found.shape)).astype(found.dtype)
        if bias.own:
            self.tensors.set(bias.tensor, after)
            return bias.tensor, found
        return self._attach(layer, bias, found, gain.reshape(found.shape)), found

    def _attach(self, layer: Layer, bias: Bias, before: NDArray[Any], gain: NDArray[Any]) -> str:
        name = self.tensors.add(f"{layer.name}.bias", (before + gain).astype(before.dtype))
        while len(bias.node.input) <= bias.position:
            bias.node.input.append("")
        bias.node.input[bias.position] = name
        return name
