"""Masks for the weights of any ONNX model: coarse (whole outputs or inputs), block and fine-grained, by magnitude.

Each function takes a ModelProto and a ratio, the share to prune of each layer, and returns boolean masks by the names
of initializers, False where pruned: what `masks=` of tesa.import_onnx and, saved with numpy.savez, `--mask` take.
Depthwise convolutions and the layers that make an output of the model are left out, as pruners do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import numpy_helper

Masks = dict[str, NDArray[np.bool_]]

CARRY = (
    "Relu", "Clip", "Sigmoid", "Tanh", "Erf", "Add", "Sub", "Mul", "Div", "BatchNormalization", "MaxPool",
    "AveragePool", "GlobalAveragePool", "Flatten", "Reshape", "Transpose", "Softmax", "Cast", "Identity", "Concat",
)  # fmt: skip
"""Operators whose outputs are counted as the same channels as those of the activations they read."""


@dataclass(frozen=True)
class Layer:
    """A layer that can be pruned. axis, input_axis: of outputs and inputs in its weight. input, output: its tensors."""

    weight: str
    axis: int
    input_axis: int
    input: str
    output: str


def coarse(model: Any, ratio: float, *, biases: bool = True) -> Masks:
    """Whole outputs (filters of a convolution, columns of a linear layer), those with the smallest sum of magnitudes.

    Consistent: layers whose outputs meet in a sum or a product of activations lose the same ones. Layers that write
    into a sum that a normalisation reads are left out: there every channel counts. biases: with a filter goes its bias
    and what its batch norm adds; otherwise these stay, and a pruned output is a constant that is not 0.
    """
    arrays = _arrays(model)
    masks: Masks = {}
    for layers in _Channels(model).groups("output"):
        keep = _keep(sum(_norms(arrays[layer.weight], layer.axis) for layer in layers), ratio)
        for layer in layers:
            masks[layer.weight] = _along(keep, layer.axis, arrays[layer.weight].shape)
            for name in _attached(model, arrays, layer.output) if biases else ():
                masks[name] = keep.copy()
    return masks


def coarse_inputs(model: Any, ratio: float) -> Masks:
    """Whole inputs (input channels of a convolution, rows of a linear layer), with the smallest sum of magnitudes.

    Consistent as `coarse` is: layers that read the same channels lose the same ones, so that nobody needs what the
    layers before them write there.
    """
    arrays = _arrays(model)
    masks: Masks = {}
    for layers in _Channels(model).groups("input"):
        keep = _keep(sum(_norms(arrays[layer.weight], layer.input_axis) for layer in layers), ratio)
        masks.update({layer.weight: _along(keep, layer.input_axis, arrays[layer.weight].shape) for layer in layers})
    return masks


def _along(keep: NDArray[np.bool_], axis: int, shape: Sequence[int]) -> NDArray[np.bool_]:
    """The mask of one axis as one of the whole weight."""
    view = [1] * len(shape)
    view[axis] = -1
    return np.broadcast_to(keep.reshape(view), shape).copy()


def block(model: Any, ratio: float, shape: tuple[int, int] = (8, 4)) -> Masks:
    """Blocks of `shape` in the weight as a matrix (outputs, all else), those with the smallest sum of magnitudes."""

    def keep(weight: NDArray[Any], axis: int) -> NDArray[np.bool_]:
        moved = np.moveaxis(weight, axis, 0)
        matrix = np.abs(moved.reshape(len(moved), -1))
        grid = [-(-n // b) for n, b in zip(matrix.shape, shape, strict=True)]
        padded = np.zeros([g * b for g, b in zip(grid, shape, strict=True)])
        padded[: matrix.shape[0], : matrix.shape[1]] = matrix
        sums = padded.reshape(grid[0], shape[0], grid[1], shape[1]).sum(axis=(1, 3))
        whole = np.kron(_keep(sums, ratio), np.ones(shape, bool))[: matrix.shape[0], : matrix.shape[1]]
        return np.moveaxis(whole.reshape(moved.shape), 0, axis)

    return _each(model, keep)


def fine(model: Any, ratio: float) -> Masks:
    """Single elements, those of the smallest magnitude."""
    return _each(model, lambda weight, axis: _keep(np.abs(weight), ratio))


PRUNERS: Mapping[str, Callable[[Any, float], Masks]] = {
    "coarse": coarse, "coarse inputs": coarse_inputs, "block": block, "fine": fine,
}  # fmt: skip


def prunable(model: Any) -> tuple[Layer, ...]:
    """The convolutions and matrix products of the model with a constant weight, in its order; no depthwise ones."""
    arrays, layers = _arrays(model), []
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul") or node.input[1] not in arrays:
            continue
        options = {a.name: a.i for a in node.attribute}
        if options.get("group", 1) != 1:
            continue
        axis = 0 if node.op_type == "Conv" or options.get("transB", 0) else 1
        layers.append(Layer(node.input[1], axis, 1 - axis, node.input[0], node.output[0]))
    return tuple(layers)


class _Channels:
    """Sets of tensors that are joined on their way through the graph, by which layers write the same channels.

    A product of two activations sums over their channels, which are thus joined; its result, the scores of an
    attention, has none. A product with scores passes the channels of the other factor on.
    """

    def __init__(self, model: Any) -> None:
        self.parent: dict[str, str] = {}
        self.layers = prunable(model)
        self.scores: set[str] = set()
        own = {layer.output for layer in self.layers}
        constants = set(_arrays(model))
        pinned = [value.name for value in (*model.graph.input, *model.graph.output)]
        for node in model.graph.node:
            if node.output[0] not in own:
                pinned += self._pass(node, [name for name in node.input if name and name not in constants])
        self.pinned = {self._root(name) for name in pinned}

    def _pass(self, node: Any, read: list[str]) -> list[str]:
        """Join what the node joins; the tensors whose channels it needs all."""
        output, channels = node.output[0], [name for name in read if name not in self.scores]
        if not read:
            return []
        if node.op_type == "MatMul" and len(read) == 2:
            self._join(channels)
            if len(channels) == len(read):
                self.scores.add(output)
            else:
                self._join([*channels, output])
        elif node.op_type in CARRY or node.op_type == "Conv":  # a convolution that is no layer here is depthwise
            if len(channels) < len(read):
                self.scores.add(output)
            else:
                self._join([*read, output])
        else:
            return [*read, output]  # a normalisation, or an operator that is not known here
        return []

    def groups(self, side: str) -> list[list[Layer]]:
        """The layers to prune, by the channels that they share on that side, "input" or "output"."""
        found: dict[str, list[Layer]] = {}
        for layer in self.layers:
            found.setdefault(self._root(getattr(layer, side)), []).append(layer)
        return [layers for root, layers in found.items() if root not in self.pinned]

    def _root(self, name: str) -> str:
        while name in self.parent:
            name = self.parent[name]
        return name

    def _join(self, names: Sequence[str]) -> None:
        first = self._root(names[0])
        for name in names[1:]:
            root = self._root(name)
            if root != first:
                self.parent[root] = first


def _attached(model: Any, arrays: Mapping[str, NDArray[Any]], output: str) -> list[str]:
    """The bias of the layer that writes `output`, or the one added behind it; scale and shift of its batch norm."""
    nodes = model.graph.node
    maker = next(node for node in nodes if output in node.output)
    names = list(maker.input[2:3])
    for node in nodes:
        if output in node.input and node.op_type == "BatchNormalization":
            names += node.input[1:3]
        elif output in node.input and node.op_type == "Add":
            names += [name for name in node.input if name in arrays]
    return names


def _each(model: Any, keep: Callable[[NDArray[Any], int], NDArray[np.bool_]]) -> Masks:
    arrays, outputs = _arrays(model), {value.name for value in model.graph.output}
    return {
        layer.weight: keep(arrays[layer.weight], layer.axis) for layer in prunable(model) if layer.output not in outputs
    }


def _keep(scores: Any, ratio: float) -> NDArray[np.bool_]:
    """False for the share `ratio` with the lowest scores."""
    score = np.asarray(scores)
    gone = round(score.size * ratio)
    keep = np.ones(score.size, bool)
    if gone:
        keep[np.argpartition(score, gone - 1, axis=None)[:gone]] = False
    return keep.reshape(score.shape)


def _norms(weight: NDArray[Any], axis: int) -> NDArray[np.float64]:
    others = tuple(i for i in range(weight.ndim) if i != axis)
    return np.asarray(np.abs(weight).sum(axis=others, dtype=np.float64))


def _arrays(model: Any) -> dict[str, NDArray[Any]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def masked(model: Any, masks: Mapping[str, NDArray[np.bool_]]) -> Any:
    """A copy of the model with the masks applied: zeros in the file."""
    copy = type(model)()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        if tensor.name in masks:
            array = numpy_helper.to_array(tensor)
            zeroed = np.where(masks[tensor.name], array, array.dtype.type(0))
            tensor.CopyFrom(numpy_helper.from_array(zeroed, tensor.name))
    return copy
