"""The layers of an ONNX model whose weights can be quantized, and how their weights lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import numpy_helper

Array = NDArray[Any]

KINDS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class QuantLayer:
    """A layer with a constant weight of real numbers.

    name: of its node, or its output where that has none. slot, x_slot: which inputs of the node weight and activation
    are. axis: of the outputs in the weight, None where there is no single one. k_axis: of the inputs, for blocks; None
    for a convolution. bias: the constant of its bias, "" where there is none or it is no row of numbers.
    """

    name: str
    node: int
    kind: str
    weight: str
    slot: int
    x: str
    x_slot: int
    axis: int | None
    k_axis: int | None
    bias: str


def constants_of(graph: Any) -> dict[str, Array]:
    """The constants of a graph by name: initializers, and what Constant nodes hold."""
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            found.update((node.output[0], a.t) for a in node.attribute if a.name == "value")
    return {name: numpy_helper.to_array(tensor) for name, tensor in found.items()}


def layer_name(node: Any) -> str:
    """The name of a node; that of its output where it has none."""
    return str(node.name or node.output[0])


def quantizable(model: Any, constants: Mapping[str, Array]) -> tuple[QuantLayer, ...]:
    """The convolutions and matrix products with a constant float weight, in the order of the model."""
    found = []
    for place, node in enumerate(model.graph.node):
        if node.op_type not in KINDS or node.domain not in ("", "ai.onnx") or len(node.input) < 2:
            continue
        slot = 1
        if node.op_type == "MatMul" and node.input[1] not in constants:
            slot = 0
        weight, x = node.input[slot], node.input[1 - slot]
        array = constants.get(weight)
        if array is None or array.dtype != np.float32 or array.ndim < 2 or x in constants or not array.size:
            continue
        axis, k_axis = _axes(node, array, slot)
        bias = node.input[2] if len(node.input) > 2 else ""
        own = constants.get(bias)
        plain = own is not None and own.dtype == np.float32 and axis is not None and own.shape == (array.shape[axis],)
        whole = all(a.f == 1.0 for a in node.attribute if a.name in ("alpha", "beta"))
        found.append(
            QuantLayer(
                layer_name(node), place, node.op_type, weight, slot, x, 1 - slot, axis, k_axis,
                bias if plain and whole else "",
            )
        )  # fmt: skip
    return tuple(found)


def _axes(node: Any, weight: Array, slot: int) -> tuple[int | None, int | None]:
    """The axis of the outputs, and that of the inputs for a matrix product."""
    options = {a.name: a.i for a in node.attribute}
    if node.op_type == "Conv":
        return 0, None
    if node.op_type == "ConvTranspose":
        return (1, None) if options.get("group", 1) == 1 else (None, None)
    if node.op_type == "Gemm":
        return (0, 1) if options.get("transB", 0) else (1, 0)
    last = weight.ndim - 1
    return (last, last - 1) if slot == 1 else (last - 1, last)
