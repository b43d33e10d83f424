"""Magnitude pruning of every weight of an ONNX model, unstructured or by blocks that lie along outputs and inputs.

A weight is taken as the matrix that multiplies: outputs x (kernel positions x input channels), so that a block of 1x4
has four input channels of one kernel position, which lie side by side in a row of an integer layer's input. What is
left of each weight is scaled up to the energy that it had, so that activations keep their size.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import numpy_helper

from tesa.errors import UsageError

Array = NDArray[Any]
FEW_INPUTS = 4
"""A convolution of so few channels is the first one, of an image, which is left dense as usual."""


@dataclass(frozen=True)
class Sparsity:
    """The pruning of a network. block: outputs x inputs that go together; share: how much of each weight goes."""

    block: tuple[int, int] = (1, 1)
    share: float = 0.0

    @property
    def name(self) -> str:
        """As parse_sparsity reads it."""
        if not self.share:
            return "dense"
        block = "" if self.block == (1, 1) else f"{self.block[0]}x{self.block[1]}-"
        return f"{block}{100 * self.share:g}"

    @property
    def label(self) -> str:
        """As people read it."""
        if not self.share:
            return "dense"
        block = "" if self.block == (1, 1) else f" {self.block[0]}x{self.block[1]}"
        return f"{100 * self.share:g} %{block}"


def parse_sparsity(text: str) -> Sparsity:
    """Read dense, 70 (per cent, unstructured), 1x4-70 (blocks of 1 output x 4 inputs).

    >>> parse_sparsity("16x1-90")
    Sparsity(block=(16, 1), share=0.9)
    """
    found = re.fullmatch(r"(?:(\d+)x(\d+)-)?(\d+(?:\.\d+)?)%?", text)
    if text == "dense":
        return Sparsity()
    if not found or not 0 < float(found[3]) < 100 or "0" in (found[1], found[2]):
        raise UsageError(f"{text!r}: a sparsity is dense, a percentage such as 70, or blocks of them such as 1x4-70")
    return Sparsity((int(found[1] or 1), int(found[2] or 1)), float(found[3]) / 100)


def pruned(model: Any, sparsity: Sparsity) -> Any:
    """A copy of the model, each of whose weights is pruned. What makes an output of the model stays dense, as usual."""
    copy = type(model)()
    copy.CopyFrom(model)
    if not sparsity.share:
        return copy
    tensors = {tensor.name: tensor for tensor in copy.graph.initializer}
    for name, view in dict(weights(copy)).items():
        array = numpy_helper.to_array(tensors[name]).copy()
        for matrix, put in view(array):
            put(_scaled(matrix, _mask(matrix, sparsity)))
        tensors[name].CopyFrom(numpy_helper.from_array(array, name))
    return copy


Matrices = Callable[[Array], Iterator[tuple[Array, Callable[[Array], None]]]]
"""Of a weight its matrices (outputs, inputs), each with a function that puts another one in its place."""


def weights(model: Any) -> Iterator[tuple[str, Matrices]]:
    """The weights that are pruned, in the model's order, each with its matrices."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    ends = _ends(model)
    for node in model.graph.node:
        if node.op_type in ("Conv", "ConvTranspose"):
            name = node.input[1]
            group = next((a.i for a in node.attribute if a.name == "group"), 1)
            if name in shapes and node.output[0] not in ends and shapes[name][1] > (FEW_INPUTS if group == 1 else 1):
                yield name, _moved(1, -1) if node.op_type == "Conv" else _moved(0, -1)
        elif node.op_type in ("MatMul", "Gemm") and node.input[1] in shapes and node.output[0] not in ends:
            turned = node.op_type == "Gemm" and any(a.name == "transB" and a.i for a in node.attribute)
            yield node.input[1], _moved(-1, -1) if turned else _moved(-2, -1)
        elif node.op_type in ("LSTM", "GRU", "RNN"):
            yield from ((name, _moved(-1, -1)) for name in node.input[1:3] if name in shapes)


def _ends(model: Any) -> set[str]:
    """The tensors that become an output of the model through nothing but a bias or an activation."""
    ends = {output.name for output in model.graph.output}
    for node in reversed(model.graph.node):
        if node.op_type in ("Add", "Sigmoid", "Tanh", "Softmax") and ends.intersection(node.output):
            ends.update(node.input)
    return ends


def _moved(source: int, target: int) -> Matrices:
    """The matrices of a weight whose axis `source` are the input channels, which go last."""

    def each(array: Array) -> Iterator[tuple[Array, Callable[[Array], None]]]:
        moved = np.moveaxis(array, source, target)
        stacked = moved[None] if array.ndim != 3 or source == 1 else moved  # experts, and directions of a cell
        for part in stacked:
            matrix = part.reshape(len(part), -1)

            def put(new: Array, part: Array = part) -> None:
                part[...] = new.reshape(part.shape)

            yield matrix, put

    return each


def _mask(matrix: Array, sparsity: Sparsity) -> Array:
    """True for what stays: the blocks with the most energy."""
    rows, columns = sparsity.block
    m, k = matrix.shape
    padded = np.zeros((-(-m // rows) * rows, -(-k // columns) * columns))
    padded[:m, :k] = np.square(matrix, dtype=np.float64)
    energy = padded.reshape(len(padded) // rows, rows, -1, columns).sum(axis=(1, 3))
    gone = round(energy.size * sparsity.share)
    keep = np.ones(energy.size, bool)
    keep[np.argpartition(energy, gone - 1, axis=None)[:gone]] = gone == 0
    return np.kron(keep.reshape(energy.shape), np.ones((rows, columns), bool))[:m, :k]


def _scaled(matrix: Array, mask: Array) -> Array:
    left = np.where(mask, matrix, 0)
    energy = float(np.square(left, dtype=np.float64).sum())
    whole = float(np.square(matrix, dtype=np.float64).sum())
    return np.asarray(left * np.sqrt(whole / energy if energy else 1.0), matrix.dtype)
