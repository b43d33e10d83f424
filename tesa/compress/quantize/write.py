"""Writes a quantized model: QuantizeLinear and DequantizeLinear around what layers read, codes for weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, version_converter

from tesa.compress.quantize.grids import Grid, weight_codes, weight_scales
from tesa.compress.quantize.layers import QuantLayer
from tesa.compress.quantize.settings import Settings
from tesa.errors import ModelError

Array = NDArray[Any]

PER_AXIS, SMALL = 13, 21
"""The opsets that brought a scale for each channel, and int4 and blocks."""


def lifted(model: Any, settings: Settings, bits: Sequence[int]) -> Any:
    """A copy of the model with an opset that has what these settings need; a newer one stays as it is.

    Where the converter cannot go as far as int4 needs, 4 bits are stored in int8. ModelError where blocks need it.
    """
    copy = type(model)()
    copy.CopyFrom(model)
    for wanted in (SMALL, PER_AXIS) if settings.block or 4 in bits else (PER_AXIS,):
        if opset(copy) >= wanted:
            break
        try:
            copy = version_converter.convert_version(copy, wanted)
            break
        except Exception as error:
            if wanted == PER_AXIS or settings.block:
                line = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise ModelError(
                    f"the model has opset {opset(model)} and cannot be converted to {wanted}, which its quantized form "
                    f"needs ({line}); export it again with a newer opset"
                ) from error
    copy.ir_version = max(copy.ir_version, 10 if opset(copy) >= SMALL else copy.ir_version)
    return copy


def opset(model: Any) -> int:
    """The version of ONNX's own operators that a model uses."""
    return max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1)


class Writer:
    """Builds the quantized model in place, step by step; finish() puts the new nodes where they belong."""

    def __init__(self, model: Any, constants: Mapping[str, Array], settings: Settings) -> None:
        self.model, self.constants, self.settings = model, constants, settings
        self.names = {name for node in model.graph.node for name in (*node.input, *node.output, node.name)}
        self.names |= set(constants) | {value.name for value in model.graph.input}
        self.first: list[Any] = []
        self.behind: dict[str, list[Any]] = {}
        self.renamed: dict[str, str] = {}
        self.weights: dict[tuple[str, int], tuple[str, Array]] = {}

    def weight(self, layer: QuantLayer, bits: int) -> Array:
        """Store a layer's weight as codes; the scales of its outputs, one where it has one for all."""
        if (layer.weight, bits) not in self.weights:
            array = self.constants[layer.weight]
            blocks = self.settings.block if layer.k_axis is not None and array.ndim == 2 else None
            codes, scales, axis = (
                _codes(array, layer, bits, self.settings)
                if blocks is None
                else _block_codes(array, layer, bits, self.settings)
            )
            name, more = self._new(f"{layer.weight}.real"), {} if axis is None else {"axis": axis}
            if blocks is not None:
                more["block_size"] = blocks
            stored = self._store(f"{layer.weight}.codes", codes, small=bits == 4)
            scale = self._store(f"{layer.weight}.scale", scales.astype(np.float32))
            self.first.append(helper.make_node("DequantizeLinear", [stored, scale], [name], name, **more))
            self.weights[layer.weight, bits] = name, scales if blocks is None else np.zeros(0)
        name, scales = self.weights[layer.weight, bits]
        self.model.graph.node[layer.node].input[layer.slot] = name
        return scales

    def dequantized(self, layer: QuantLayer, bits: int) -> Array:
        """A layer's weight in so many bits, without writing anything."""
        array = self.constants[layer.weight]
        blocks = self.settings.block if layer.k_axis is not None and array.ndim == 2 else None
        make = _codes if blocks is None else _block_codes
        codes, scales, axis = make(array, layer, bits, self.settings)
        if blocks is not None and axis is not None:
            scales = np.repeat(scales, blocks, axis)
            scales = np.take(scales, np.arange(array.shape[axis]), axis)
        elif axis is not None:
            scales = scales.reshape([-1 if i == axis else 1 for i in range(array.ndim)])
        real: Array = codes * scales.astype(np.float32)
        return real

    def activation(self, tensor: str, grid: Grid) -> None:
        """Let all that reads a tensor read its codes' numbers."""
        scale = self._store(f"{tensor}.scale", np.array(grid.scale, np.float32))
        zero = self._store(f"{tensor}.zero", np.array(grid.zero, np.uint8))
        codes, real = self._new(f"{tensor}.codes"), self._new(f"{tensor}.real")
        self.behind[tensor] = [
            helper.make_node("QuantizeLinear", [tensor, scale, zero], [codes], codes),
            helper.make_node("DequantizeLinear", [codes, scale, zero], [real], real),
        ]
        self.renamed[tensor] = real

    def bias(self, layer: QuantLayer, scales: Array, grid: Grid) -> None:
        """Store a bias as int32 codes on the grid of the layer's sums; one that they do not hold stays real."""
        step = (np.float32(grid.scale) * np.broadcast_to(scales, self.constants[layer.bias].shape)).astype(np.float32)
        codes = np.rint(self.constants[layer.bias].astype(np.float64) / step)
        if np.abs(codes).max(initial=0) >= 2**31 - 1:
            return
        name = self._new(f"{layer.name}.bias.real")
        stored = self._store(f"{layer.name}.bias.codes", codes.astype(np.int32))
        scale = self._store(f"{layer.name}.bias.scale", step)
        self.first.append(helper.make_node("DequantizeLinear", [stored, scale], [name], name, axis=0))
        self.model.graph.node[layer.node].input[2] = name

    def finish(self) -> Any:
        """The model with all nodes in an order in which they can run, and without constants that nobody reads."""
        graph = self.model.graph
        nodes = [*self.first, *(n for v in graph.input for n in self.behind.get(v.name, ()))]
        for node in graph.node:
            for i, name in enumerate(node.input):
                node.input[i] = self.renamed.get(name, name)
            nodes += [node, *(n for output in node.output for n in self.behind.get(output, ()))]
        kept = [helper_copy(node) for node in nodes]
        del graph.node[:]
        graph.node.extend(kept)
        _drop_unread(self.model, self.constants)
        return self.model

    def _store(self, name: str, array: Array, *, small: bool = False) -> str:
        name = self._new(name)
        if small and opset(self.model) >= SMALL:
            tensor = helper.make_tensor(name, TensorProto.INT4, array.shape, array.reshape(-1).tolist())
        else:
            tensor = numpy_helper.from_array(np.asarray(array, order="C"), name)
        self.model.graph.initializer.append(tensor)
        return name

    def _new(self, name: str) -> str:
        found = next(n for n in (name, *(f"{name}.{i}" for i in range(len(self.names) + 1))) if n not in self.names)
        self.names.add(found)
        return found


def helper_copy(node: Any) -> Any:
    """A node of its own: one that is taken out of a graph is emptied with it."""
    copy = type(node)()
    copy.CopyFrom(node)
    return copy


def _codes(array: Array, layer: QuantLayer, bits: int, settings: Settings) -> tuple[Array, Array, int | None]:
    """Codes of a weight, its scales, and their axis; one scale for all where it has no axis of outputs."""
    axis = layer.axis if settings.per_channel else None
    rows = array.reshape(1, -1) if axis is None else np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
    scales = weight_scales(rows, bits, settings.method_of_weights(bits), settings.percentile)
    codes = weight_codes(rows, scales, bits)
    if axis is None:
        return codes.reshape(array.shape), scales.reshape(()), None
    shape = (array.shape[axis], *np.delete(array.shape, axis))
    return np.moveaxis(codes.reshape(shape), 0, axis), scales, axis


def _block_codes(array: Array, layer: QuantLayer, bits: int, settings: Settings) -> tuple[Array, Array, int | None]:
    """Codes of a matrix with a scale for each block of inputs of each output."""
    assert layer.k_axis is not None
    assert settings.block is not None
    matrix = array if layer.k_axis == 1 else array.T  # (outputs, inputs)
    m, k = matrix.shape
    padded = np.pad(matrix, ((0, 0), (0, -k % settings.block)))
    rows = padded.reshape(-1, settings.block)
    scales = weight_scales(rows, bits, settings.method_of_weights(bits), settings.percentile)
    codes = weight_codes(rows, scales, bits).reshape(padded.shape)[:, :k]
    scales = scales.reshape(m, -1)
    if layer.k_axis == 1:
        return codes, scales, 1
    return codes.T, scales.T, 0


def _drop_unread(model: Any, constants: Mapping[str, Array]) -> None:
    graph = model.graph
    read = {name for node in graph.node for name in _reads(node)} | {value.name for value in graph.output}
    kept = [t for t in graph.initializer if t.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    inputs = [helper_copy(value) for value in graph.input if value.name in read or value.name not in constants]
    del graph.input[:]
    graph.input.extend(inputs)
    nodes = [helper_copy(n) for n in graph.node if n.op_type != "Constant" or n.output[0] in read]
    del graph.node[:]
    graph.node.extend(nodes)


def _reads(node: Any) -> list[str]:
    """The tensors that a node reads, in its subgraphs too."""
    inner = [g for a in node.attribute for g in ([a.g] if a.HasField("g") else list(a.graphs))]
    return [*node.input, *(name for graph in inner for n in graph.node for name in _reads(n)),
            *(value.name for graph in inner for value in graph.output)]  # fmt: skip
