"""A Graph of the frontend as an ONNX file again.

Undone is what only serves the compiler: a weight that was stored quantized becomes integers and a DequantizeLinear, one
that was transposed in the file is so again, and GELU is written with operators that its opset has.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from tesa.attributes.attribute import Quantization, Values
from tesa.base.tolerance import STEPS
from tesa.compact.stored import small_opset, stored
from tesa.frontend.control.bodies import is_control, opened
from tesa.frontend.graph import Graph, Source, attributes
from tesa.frontend.half import HALVES
from tesa.frontend.names import Unique

GELU_OPSET = 20


EXPAND = 512
"""Bytes from which on it is worth a node that a constant repeats itself."""


def write(
    graph: Graph,
    nodes: Sequence[Any],
    constants: Mapping[str, Values],
    sources: Mapping[str, Source],
    quantization: Mapping[str, Quantization],
    shapes: Mapping[str, Any] | None = None,
) -> ModelProto:
    """The model of these nodes and constants, with the inputs, outputs, opset and names of the graph.

    sources, quantization: of constants, as in Graph. shapes: for outputs that are declared without one.
    """
    taken = {name for node in nodes for name in (*node.input, *node.output)} | {v.name for v in graph.inputs}
    read = {name for node in nodes for name in node.input} | {value.name for value in graph.outputs}
    grids = [q for name, q in quantization.items() if name in read]
    opset = small_opset(graph.opset, nodes, constants, grids)
    writer = _Writer(graph, Unique(taken), opset)
    for name, array in constants.items():
        if name in read:
            writer.constant(name, array, sources.get(name), quantization.get(name))
    body = [new for node in nodes for new in writer.node(node)]
    domains = {node.domain for node in (*writer.front, *body)} - {"", "ai.onnx"}
    versions = (helper.make_opsetid(domain, graph.domains.get(domain, 1)) for domain in sorted(domains))
    opsets = [helper.make_opsetid("", opset), *versions]
    model = ModelProto(ir_version=_ir_version(opset), producer_name="tesa", opset_import=opsets)
    model.graph.name = "main"
    model.graph.node.extend([*writer.front, *body])
    model.graph.input.extend(graph.inputs)
    model.graph.output.extend(graph.outputs)
    for value in model.graph.output:
        tensor = value.type.tensor_type
        if not tensor.HasField("shape") and value.name in (shapes or {}):
            tensor.shape.SetInParent()
            for size in (shapes or {})[value.name]:
                tensor.shape.dim.add().dim_value = size
    for name, array in writer.tensors.items():
        indices = _sparse(graph, name, array)
        if indices is None:
            _fill(model.graph.initializer.add(), name, array)
        else:
            model.graph.sparse_initializer.append(_sparse_tensor(name, array, indices))
    return model


def node_size(graph: Graph, node: Any) -> int:
    """The bytes of a node in the file."""
    if node.op_type == "Gelu" and not node.domain and graph.opset < GELU_OPSET:
        return 5 * int(node.ByteSize()) + 250  # what it is written out as
    return int(node.ByteSize()) + 3


def constant_size(
    graph: Graph, name: str, array: Values, source: Source | None, quantization: Quantization | None
) -> int:
    """The bytes that a constant takes in the file, with the nodes that make it what it is."""
    grids = [] if quantization is None else [quantization]
    writer = _Writer(graph, Unique(), small_opset(graph.opset, graph.nodes, {}, grids))
    writer.constant(name, array, source, quantization)
    nodes = sum(int(node.ByteSize()) for node in writer.front)
    return nodes + sum(_bytes(graph, *item) for item in writer.tensors.items())


def _bytes(graph: Graph, name: str, array: Values) -> int:
    bits = 4 if array.dtype.name in ("int4", "uint4") else 2 if array.dtype.name in ("int2", "uint2") else 0
    indices = _sparse(graph, name, array)
    dense = array.size * bits // 8 if bits else array.nbytes
    return len(name) + 12 + (dense if indices is None else len(indices) * (array.itemsize + 8) + 30)


def _sparse(graph: Graph, name: str, array: Values) -> Values | None:
    """The places of the non-zeros in a flattened tensor that the file has sparse; None where dense is smaller."""
    if name not in graph.given.sparse or array.dtype.kind not in "fiub":
        return None
    places = np.flatnonzero(array)
    return places if 0 < len(places) * (array.itemsize + 8) < array.nbytes else None


def _sparse_tensor(name: str, array: Values, places: Values) -> Any:
    values, indices = TensorProto(), TensorProto()
    _fill(values, name, array.reshape(-1)[places])
    _fill(indices, f"{name}/indices", places.astype(np.int64))
    return helper.make_sparse_tensor(values, indices, array.shape)


def _fill(tensor: Any, name: str, array: Values) -> None:
    """Write an array into a TensorProto; without a copy in between where its bytes are those of the file."""
    if array.dtype.kind not in "fiub":
        tensor.CopyFrom(numpy_helper.from_array(array, name))
        return
    tensor.name, tensor.data_type = name, helper.np_dtype_to_tensor_dtype(array.dtype)
    tensor.dims.extend(array.shape)
    tensor.raw_data = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _ir_version(opset: int) -> int:
    """The oldest version of the file format that has the opset: what reads the opset then reads the file."""
    return int(max(8, helper.find_min_ir_version_for([helper.make_opsetid("", opset)])))


class _Writer:
    def __init__(self, graph: Graph, unique: Unique, opset: int) -> None:
        self.graph, self.unique, self.opset = graph, unique, opset
        self.tensors: dict[str, Values] = {}
        self.front: list[Any] = []
        self.renamed: dict[str, str] = {}

    def node(self, given: Any) -> list[Any]:
        """The node in operators of the opset, with the constants called as in the file."""
        node = type(given)()
        node.CopyFrom(given)
        node.input[:] = [self.renamed.get(name, name) for name in given.input]
        if node.op_type == "Gelu" and not node.domain and self.graph.opset < GELU_OPSET:
            return self._gelu(node)
        return [opened(node) if is_control(node) else node]

    def _gelu(self, node: Any) -> list[Any]:
        """x * (1 + erf(x / sqrt 2)) * 0.5; the last node has the name of the operator."""
        x, base = node.input[0], node.name or node.output[0]
        if attributes(node).get("approximate", b"none") != b"none":
            return [helper.make_node("FastGelu", node.input, node.output, node.name, domain="com.microsoft")]
        values = {"sqrt2": math.sqrt(2), "one": 1.0, "half": 0.5}
        numbers = [self.unique(f"{base}/{what}") for what in values]
        self.tensors |= {key: np.asarray(v, np.float32) for key, v in zip(numbers, values.values(), strict=True)}
        names = [self.unique(f"{node.output[0]}/{what}") for what in ("scaled", "erf", "plus", "product")]
        steps = [("Div", [x, numbers[0]]), ("Erf", [names[0]]), ("Add", [names[1], numbers[1]]), ("Mul", [x, names[2]])]
        made = [helper.make_node(op, ins, [out], f"{base}/{op}") for (op, ins), out in zip(steps, names, strict=True)]
        return [*made, helper.make_node("Mul", [names[3], numbers[2]], [node.output[0]], node.name)]

    def constant(self, name: str, array: Values, source: Source | None, quantization: Quantization | None) -> None:
        """Initializers, and nodes in front of the graph, that make the constant `name`."""
        initializer, axes = (name, None) if source is None else (source.initializer, source.axes)
        found = stored(array, quantization, self.opset) if quantization is not None else None
        if found is None and source is None and self._repeated(name, array):
            return
        if found is None:
            self._plain(name, array, initializer, axes)
            return
        if initializer == name or initializer in self.tensors or initializer in self.unique.taken:
            initializer = self.unique(f"{name}/quantized")
        names = [initializer, *(self.unique(f"{initializer}/{what}") for what in ("scale", "zero_point"))]
        self.tensors |= zip(names, (found.integers, found.scale, found.zero), strict=True)
        node = helper.make_node("DequantizeLinear", names, [name], f"{name}/DequantizeLinear", **found.options)
        self.front.append(node)

    def _repeated(self, name: str, array: Values) -> bool:
        """Write what was computed out of fewer numbers as an Expand of these again. False where it was not."""
        if array.nbytes < EXPAND:
            return False
        same = [axis for axis, n in enumerate(array.shape) if n > 1 and (array == array.take([0], axis)).all()]
        few = array[tuple(slice(0, 1) if axis in same else slice(None) for axis in range(array.ndim))]
        if array.nbytes - few.nbytes < EXPAND:
            return False
        number, size = (self.unique(f"{name}/{what}") for what in ("numbers", "size"))
        self.tensors[number], self.tensors[size] = few, np.asarray(array.shape, np.int64)
        self.front.append(helper.make_node("Expand", [number, size], [name], f"{name}/Expand"))
        return True

    def _plain(self, name: str, array: Values, initializer: str, axes: tuple[int, ...] | None) -> None:
        half = _half(array, self.graph.halves.get(initializer))
        if initializer != name and not self._fits(array, initializer, axes):
            initializer, axes = name, None
        turned = axes is not None and axes != tuple(range(array.ndim))
        kept = np.transpose(array, np.argsort(axes)) if turned and axes is not None else array
        self.tensors[initializer] = kept if half is None else kept.astype(half)
        made = initializer
        if half is not None:
            made = self.unique(f"{initializer}/float32")
            cast = helper.make_node("Cast", [initializer], [made], f"{made}/Cast", to=TensorProto.FLOAT)
            self.front.append(cast)
        if turned and axes is not None:
            self.front.append(helper.make_node("Transpose", [made], [name], f"{name}/Transpose", perm=list(axes)))
        else:
            self.renamed[name] = made

    def _fits(self, array: Values, initializer: str, axes: tuple[int, ...] | None) -> bool:
        """True if the name of the initializer is free, or is that of the same numbers, for another layer."""
        there = self.tensors.get(initializer)
        if there is None:
            return initializer not in self.unique.taken
        mine = array if axes is None else np.transpose(array, np.argsort(axes))
        return there.dtype == mine.dtype and there.shape == mine.shape and bool(np.array_equal(there, mine))


def _half(array: Values, name: str | None) -> Any:
    """The 16-bit type that the file has a tensor in, None where it is not or the numbers do not fit it any more."""
    if name is None or array.dtype != np.float32:
        return None
    dtype = next(dtype for dtype in HALVES.values() if dtype.name == name)
    with np.errstate(over="ignore"):
        back = array.astype(dtype).astype(np.float32)
    close = np.abs(back - array) <= np.abs(array) * STEPS[name]
    return dtype if bool((close | (back == array)).all()) else None
