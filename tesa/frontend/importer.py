"""From the checked graph to Relax: TVM's own ONNX importer, with a few operators converted more plainly.

TVM's converters for Clip, Gemm with a constant weight, padding "SAME" and Gather leave chains of small operators that
hide what the operator was. Here Clip becomes relax.clip, a constant transpose or bias is folded in NumPy, padding
becomes an attribute of the convolution and out-of-range indices of a Gather are clamped instead of read anywhere.
"""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.relax.frontend.onnx import onnx_frontend

from tesa.errors import TesaError, UnsupportedError
from tesa.frontend.graph import Graph
from tesa.frontend.names import Unique, identifier
from tesa.frontend.rewrite import tensor_type

Converter = Callable[[Any, list[Any], dict[str, Any]], Any]


def importable(op: str) -> bool:
    """True if there is a way to bring the ONNX operator into Relax."""
    return op == "Constant" or op in onnx_frontend._get_convert_map()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep TVM's notes to itself: those about the import are printed for every sound model."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def to_relax(graph: Graph) -> tuple[Any, dict[str, str], dict[str, str]]:
    """(module, layer of each variable, ONNX output tensor of the variable that ends a layer)."""
    importer = _Importer(graph)
    with quiet():
        try:
            mod = importer.from_onnx(_Body(graph), graph.opset)
        except TesaError:
            importer.bb._end_block()  # else TVM complains on stderr about the block that the failure left open
            raise
    return mod, importer.layer_of, importer.tensor_of


class _Body:
    """What TVM's importer reads of a GraphProto; the initializers come from Graph.constants instead."""

    def __init__(self, graph: Graph) -> None:
        self.node, self.input, self.output, self.initializer = graph.nodes, graph.inputs, graph.outputs, ()


class _Importer(onnx_frontend.ONNXGraphImporter):  # type: ignore[misc]
    """Names every binding after its layer and prefers the converters of this file."""

    def __init__(self, graph: Graph) -> None:
        dtypes = {value.name: tensor_type(value) for value in graph.inputs}
        super().__init__({}, dtypes, keep_params_in_input=False, sanitize=True)
        self._graph = graph
        self._unique = Unique(identifier(value.name) for value in graph.inputs)
        self._pending = iter(graph.nodes)
        self.layer_of: dict[str, str] = {}
        self.tensor_of: dict[str, str] = {}

    def _parse_graph_initializers(self, graph: Any) -> None:
        for name, array in self._graph.constants.items():
            self._nodes[name] = constant(array)

    def _sanitize_name(self, name: str) -> str:
        return identifier(name)

    def _convert_operator(self, op_name: str, inputs: list[Any], attrs: dict[str, Any], opset: int) -> Any:
        node = next(self._pending)
        layer = self._graph.layers[node.output[0]]
        try:
            converter = _CONVERTERS.get(op_name)
            value = converter(self.bb, inputs, attrs) if converter is not None else None
            if value is None:
                value = super()._convert_operator(op_name, inputs, attrs, opset)
        except TesaError:
            raise
        except Exception as error:
            shapes = ", ".join(str(getattr(x, "ty", x)) for x in inputs if x is not None)
            reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
            raise UnsupportedError(
                f"{self._graph.source}: node {layer!r}: TVM cannot import {op_name} (opset {opset}) with inputs "
                f"{shapes}: {reason}. Export this operator in another way"
            ) from error
        return self._name(value, layer, node)

    def _name(self, value: Any, layer: str, node: Any) -> Any:
        if isinstance(value, relax.Tuple):
            wanted = zip(value.fields, node.output, strict=False)  # optional outputs may be left out, at the end
            fields = [self._name_one(field, layer, tensor) for field, tensor in wanted]
            return fields[0] if len(fields) == 1 else relax.Tuple(fields)
        return self._name_one(value, layer, node.output[0])

    def _name_one(self, value: Any, layer: str, tensor: str) -> Any:
        if isinstance(value, relax.Var) and value.name not in self._unique.taken:
            self.layer_of.setdefault(value.name, layer)
            self.tensor_of.setdefault(value.name, tensor)
        if not isinstance(value, relax.Call | relax.TupleGetItem):
            return value
        if isinstance(value, relax.Call):
            args = [self._bind(a, layer) if isinstance(a, relax.Call) else a for a in value.args]
            value = relax.Call(value.op, args, value.attrs, value.ty_args)
        var = self._bind(self.bb.normalize(value), layer)
        self.tensor_of[var.name] = tensor
        return var

    def _bind(self, value: Any, layer: str) -> Any:
        if isinstance(value, relax.Call):
            args = [self._bind(a, layer) if isinstance(a, relax.Call) else a for a in value.args]
            value = self.bb.normalize(relax.Call(value.op, args, value.attrs, value.ty_args))
        name = self._unique(identifier(layer))
        var = self.bb.emit(value, name_hint=name)
        self.layer_of[var.name] = layer
        return var


def constant(array: Any) -> Any:
    """A Relax constant with the array's own shape and element type."""
    return relax.const(tvm.runtime.tensor(np.ascontiguousarray(array).reshape(array.shape)))


def content(expr: Any) -> Any:
    """The array of a constant, None for anything else."""
    return expr.value.numpy() if isinstance(expr, tvm.ir.GenericConst) else None


def static_shape(expr: Any) -> list[int]:
    """The shape of an expression as ints."""
    return [int(n) for n in expr.ty.shape]


def _at(inputs: list[Any], index: int) -> Any:
    return inputs[index] if index < len(inputs) else None


def _clip(bb: Any, inputs: list[Any], attrs: dict[str, Any]) -> Any:
    """min and max are attributes (opset 6) or inputs; NaN as a bound means none."""
    if not str(inputs[0].ty.dtype).startswith("float"):
        return None
    bounds = []
    for index, (name, default) in enumerate((("min", -math.inf), ("max", math.inf)), start=1):
        given = _at(inputs, index)
        value = content(given) if given is not None else np.asarray(attrs.get(name, default))
        if value is None:
            return None
        number = float(value.reshape(()))
        bounds.append(default if math.isnan(number) else number)
    if bounds == [0.0, math.inf]:
        return relax.op.nn.relu(inputs[0])
    return relax.op.clip(inputs[0], *bounds)


def _gemm(bb: Any, inputs: list[Any], attrs: dict[str, Any]) -> Any:
    """alpha * A B + beta * C with constant B and C: alpha, beta and the transpose go into the constants."""
    weight, bias = content(inputs[1]), _at(inputs, 2)
    if weight is None or attrs.get("transA", 0):
        return None
    weight = weight.T if attrs.get("transB", 0) else weight
    alpha, beta = attrs.get("alpha", 1.0), attrs.get("beta", 1.0)
    product = relax.op.matmul(inputs[0], constant((weight * weight.dtype.type(alpha)) if alpha != 1.0 else weight))
    if bias is None or beta == 0.0:
        return product
    values = content(bias)
    if values is None:
        return None if beta != 1.0 else relax.op.add(product, bias)
    return relax.op.add(product, constant(values * values.dtype.type(beta) if beta != 1.0 else values))


def _conv(bb: Any, inputs: list[Any], attrs: dict[str, Any]) -> Any:
    """A 2-D convolution, padding "SAME" as plain padding, the bias as a constant of shape (1, out, 1, 1)."""
    shape = static_shape(inputs[0])
    if len(shape) != 4 or not all(isinstance(x, relax.Expr) for x in inputs[:2]):
        return None
    weight = static_shape(inputs[1])
    stride, dilation = (list(attrs.get(name, (1, 1))) for name in ("strides", "dilations"))
    pads = _padding(attrs, shape[2:], weight[2:], stride, dilation)
    product = relax.op.nn.conv2d(
        inputs[0], inputs[1], strides=stride, padding=pads, dilation=dilation, groups=attrs.get("group", 1)
    )
    bias = _at(inputs, 2)
    if bias is None:
        return product
    values = content(bias)
    view = relax.op.reshape(bias, (1, -1, 1, 1)) if values is None else constant(values.reshape(1, -1, 1, 1))
    return relax.op.add(product, view)


def _padding(attrs: dict[str, Any], size: list[int], kernel: list[int], stride: list[int], dil: list[int]) -> list[int]:
    """(top, left, bottom, right). "SAME": ceil(size / stride) outputs; an odd pixel goes after (UPPER) or before."""
    mode = attrs.get("auto_pad", b"NOTSET").decode()
    if mode == "NOTSET":
        return list(attrs.get("pads", (0, 0, 0, 0)))
    if mode == "VALID":
        return [0, 0, 0, 0]
    before, after = [], []
    for n, k, s, d in zip(size, kernel, stride, dil, strict=True):
        total = max((math.ceil(n / s) - 1) * s + d * (k - 1) + 1 - n, 0)
        small, large = total // 2, total - total // 2
        before.append(small if mode == "SAME_UPPER" else large)
        after.append(large if mode == "SAME_UPPER" else small)
    return before + after


def _gather(bb: Any, inputs: list[Any], attrs: dict[str, Any]) -> Any:
    """take, with negative indices counted from the end. An index out of range takes the nearest element."""
    data, indices = inputs[0], inputs[1]
    if not isinstance(getattr(data, "ty", None), relax.TensorType) or isinstance(indices, relax.ShapeExpr):
        return None
    axis = int(attrs.get("axis", 0)) % len(static_shape(data))
    length = static_shape(data)[axis]
    known = content(indices)
    if known is not None:
        fixed = constant(np.clip(np.where(known < 0, known + length, known), 0, length - 1).astype(known.dtype))
        return relax.op.take(data, fixed, axis, mode="fast")
    dtype = indices.ty.dtype
    wrapped = relax.op.add(indices, relax.const(length, dtype))
    positive = relax.op.where(relax.op.less(indices, relax.const(0, dtype)), wrapped, indices)
    return relax.op.take(data, positive, axis, mode="clip")


def _gelu(bb: Any, inputs: list[Any], attrs: dict[str, Any]) -> Any:
    if attrs.get("approximate", b"none") == b"none":
        return relax.op.nn.gelu(inputs[0])
    return relax.op.nn.gelu_tanh(inputs[0])


def _batch_norm(bb: Any, inputs: list[Any], attrs: dict[str, Any]) -> Any:
    """x * scale + shift, with the constants of inference."""
    arrays = [content(x) for x in inputs[1:5]]
    if any(a is None for a in arrays) or attrs.get("training_mode", 0):
        return None
    gamma, beta, mean, variance = (np.asarray(a, np.float64) for a in arrays)
    factor = gamma / np.sqrt(variance + attrs.get("epsilon", 1e-5))
    view = (-1,) + (1,) * (len(static_shape(inputs[0])) - 2)
    scale, shift = (v.reshape(view).astype(np.float32) for v in (factor, beta - mean * factor))
    return relax.op.add(relax.op.multiply(inputs[0], constant(scale)), constant(shift))


_CONVERTERS: dict[str, Converter] = {
    "Clip": _clip, "Gemm": _gemm, "Conv": _conv, "Gather": _gather, "Gelu": _gelu,
    "BatchNormalization": _batch_norm,
}  # fmt: skip
