"""Small networks with what ONNX Runtime's optimizers look for: convolutions, a transformer's block, quantized ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .onnx_models import floats, port


class Net:
    """A model that is written node by node; each call returns the name of the result."""

    def __init__(self, opset: int = 18) -> None:
        self.opset = opset
        self.nodes: list[Any] = []
        self.tensors: dict[str, Any] = {}

    def add(self, op: str, *inputs: str, outputs: int = 1, **options: Any) -> Any:
        names = [f"{op.lower()}{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, f"node{len(self.nodes)}", **options))
        return names[0] if outputs == 1 else names

    def number(self, array: Any, dtype: Any = np.float32) -> str:
        name = f"value{len(self.tensors)}"
        self.tensors[name] = np.asarray(array, dtype)
        return name

    def weight(self, *shape: int) -> str:
        return self.number(floats(*shape, seed=len(self.tensors)) / np.sqrt(max(np.prod(shape[1:]), 1)))

    def conv(self, x: str, inner: int, out: int, size: int, **options: Any) -> str:
        weight = self.weight(out, inner // int(options.get("group", 1)), size, size)
        return str(self.add("Conv", x, weight, self.weight(out), kernel_shape=[size, size], **options))

    def model(self, inputs: Sequence[Any], outputs: Sequence[str]) -> onnx.ModelProto:
        tensors = [numpy_helper.from_array(array, name) for name, array in self.tensors.items()]
        outs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "net", list(inputs), outs, tensors)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)
        return onnx.shape_inference.infer_shapes(made)


def convolutions(opset: int = 18) -> onnx.ModelProto:
    """Convolutions with activations, a residual, pools, a concatenation, channels that fill no block."""
    net = Net(opset)
    x = net.add("Relu", net.conv("x", 3, 16, 3, pads=[1] * 4))
    y = net.add("Relu", net.conv(x, 16, 32, 3, pads=[1] * 4, strides=[2, 2]))
    z = net.conv(y, 32, 32, 3, pads=[1] * 4)
    y = net.add("Relu", net.add("Add", z, y))
    y = net.add("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
    a = net.add("LeakyRelu", net.conv(y, 32, 20, 1), alpha=0.1)
    b = net.add("Clip", net.conv(y, 32, 12, 1), net.number(0.0), net.number(0.5))
    c = net.add("HardSigmoid", net.conv(y, 32, 32, 1, group=2))
    y = net.add("Concat", net.add("Concat", a, b, axis=1), c, axis=1)
    y = net.add("AveragePool", y, kernel_shape=[2, 2])
    y = net.add("Tanh", net.conv(y, 64, 8, 1))
    return net.model([port("x", [1, 3, 16, 16])], [y])


def separable(*, upsample: bool = True) -> onnx.ModelProto:
    """Depthwise convolutions, squeeze and excitation, a batch norm, nearest upsampling, a classifier."""
    net = Net()
    x = net.add("HardSwish", net.conv("x", 3, 16, 3, pads=[1] * 4, strides=[2, 2]))
    y = net.conv(x, 16, 48, 1)
    norm = [net.number(np.abs(floats(48, seed=i)) + 0.5) for i in range(4)]
    y = net.add("Relu", net.add("BatchNormalization", y, *norm))
    y = net.add("Sigmoid", net.conv(y, 48, 48, 3, pads=[1] * 4, group=48))
    s = net.add("GlobalAveragePool", y)
    s = net.add("Relu", net.conv(s, 48, 16, 1))
    s = net.add("Sigmoid", net.conv(s, 16, 48, 1))
    y = net.add("Mul", y, s)
    y = net.conv(y, 48, 16, 1)
    y = net.add("Add", y, x)
    sizes = net.number([1, 1, 2, 2])
    up = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    y = net.add("Resize", y, "", sizes, **up) if upsample else y
    y = net.add("Relu", net.conv(y, 16, 16, 3))
    y = net.add("Flatten", net.add("GlobalAveragePool", y))
    y = net.add("Sigmoid", net.add("Gemm", y, net.weight(10, 16), net.weight(10), transB=1))
    return net.model([port("x", [1, 3, 16, 16])], [y])


def transformer() -> onnx.ModelProto:
    """One block of a BERT as exporters write it: embeddings, a mask of integers, attention, GELU, layer norms."""
    net, width, heads, length = Net(), 32, 2, 6
    word = net.add("Gather", net.weight(50, width), "ids")
    places = net.number(np.arange(length)[None], np.int64)
    total = net.add("Add", word, net.add("Gather", net.weight(length, width), places))
    total = net.add("Add", total, net.add("Gather", net.weight(2, width), "kinds"))
    x = _norm(net, total, width)
    mask = net.add("Unsqueeze", net.add("Unsqueeze", "mask", net.number([1], np.int64)), net.number([2], np.int64))
    mask = net.add("Sub", net.number(1.0), net.add("Cast", mask, to=TensorProto.FLOAT))
    mask = net.add("Mul", mask, net.number(-10000.0))
    q, k, v = (_head(net, _linear(net, x, width, width), heads, width, length) for _ in range(3))
    scores = net.add("MatMul", q, net.add("Transpose", k, perm=[0, 1, 3, 2]))
    scores = net.add("Add", net.add("Div", scores, net.number(np.sqrt(width / heads))), mask)
    y = net.add("MatMul", net.add("Softmax", scores, axis=-1), v)
    y = net.add("Transpose", y, perm=[0, 2, 1, 3])
    y = _linear(net, net.add("Reshape", y, net.number([1, length, width], np.int64)), width, width)
    x = _norm(net, net.add("Add", y, x), width)
    y = _linear(net, x, width, 64)
    erf = net.add("Add", net.add("Erf", net.add("Div", y, net.number(np.sqrt(2)))), net.number(1.0))
    y = net.add("Mul", net.add("Mul", y, erf), net.number(0.5))
    y = _norm(net, net.add("Add", _linear(net, y, 64, width), x), width)
    names = [port(n, [1, length], "int64") for n in ("ids", "kinds", "mask")]
    return net.model(names, [y, net.add("MatMul", y, net.add("Transpose", y, perm=[0, 2, 1]))])


def _linear(net: Net, x: str, inner: int, out: int) -> str:
    return str(net.add("Add", net.add("MatMul", x, net.weight(inner, out)), net.weight(out)))


def _head(net: Net, x: str, heads: int, width: int, length: int) -> str:
    shape = net.number([1, length, heads, width // heads], np.int64)
    return str(net.add("Transpose", net.add("Reshape", x, shape), perm=[0, 2, 1, 3]))


def _norm(net: Net, x: str, width: int) -> str:
    """A layer norm as older exporters write it."""
    axes = net.number([-1], np.int64)
    centred = net.add("Sub", x, net.add("ReduceMean", x, axes))
    variance = net.add("ReduceMean", net.add("Pow", centred, net.number(2.0)), axes)
    deviation = net.add("Sqrt", net.add("Add", variance, net.number(1e-12)))
    scaled = net.add("Mul", net.add("Div", centred, deviation), net.number(1 + 0.1 * floats(width)))
    return str(net.add("Add", scaled, net.weight(width)))


def gated() -> onnx.ModelProto:
    """Products with activations, x * sigmoid(1.702 x), GELU by tanh, an RMS norm, a transposed product with a scale."""
    net = Net()
    x = net.add("Relu", net.add("Gemm", "x", net.weight(24, 16), net.weight(24), transB=1))
    x = net.add("LeakyRelu", net.add("Gemm", x, net.weight(24, 24), net.weight(24)), alpha=0.2)
    x = net.add("Mul", x, net.add("Sigmoid", net.add("Mul", x, net.number(1.702))))
    cube = net.add("Mul", net.add("Pow", x, net.number(3.0)), net.number(0.044715))
    inner = net.add("Mul", net.add("Add", x, cube), net.number(np.sqrt(2 / np.pi)))
    grown = net.add("Add", net.add("Tanh", inner), net.number(1.0))
    x = net.add("Mul", net.add("Mul", x, grown), net.number(0.5))
    square = net.add("ReduceMean", net.add("Pow", x, net.number(2.0)), net.number([-1], np.int64))
    root = net.add("Sqrt", net.add("Add", square, net.number(1e-6)))
    x = net.add("Mul", net.add("Mul", x, net.add("Reciprocal", root)), net.weight(24))
    product = net.add("MatMul", x, net.add("Transpose", x, perm=[1, 0]))
    return net.model([port("x", [4, 16])], [net.add("Mul", product, net.number(0.125))])
