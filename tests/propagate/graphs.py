"""Random small models: convolutions, residual branches, concats, products, attention, all with much pruned."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Shape = tuple[int, ...]
IMAGE_STEPS = ["conv", "conv", "depthwise", "act", "act", "add", "mul", "concat", "split", "affine", "pool"]


class Maker:
    """Builds an ONNX model operator by operator; `shapes` knows what each tensor looks like."""

    def __init__(self, seed: int, shape: Shape = (1, 4, 4, 4)) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.shapes: dict[str, Shape] = {"x": shape}
        self.inputs = {"x": shape}

    def constant(self, array: Any) -> str:
        """An initializer."""
        name = f"c{len(self.constants)}"
        array = np.asarray(array)
        array = array.astype(np.float32) if array.dtype.kind == "f" else array
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def op(self, kind: str, inputs: list[str], shape: Shape | list[Shape], **attributes: Any) -> Any:
        """A node; its output's name, or names where `shape` is a list."""
        several = isinstance(shape, list)
        shapes = shape if isinstance(shape, list) else [shape]
        names = [f"t{len(self.nodes)}_{i}" for i in range(len(shapes))]
        self.nodes.append(helper.make_node(kind, inputs, names, f"n{len(self.nodes)}", **attributes))
        self.shapes.update(zip(names, shapes, strict=True))
        return names if several else names[0]

    def pruned(self, *shape: int) -> Any:
        """Random values of which rows, columns and single elements are 0."""
        values = self.rng.normal(size=shape)
        for axis in range(min(len(shape), 2)):
            if self.rng.random() < 0.7:
                keep = self.rng.random(shape[axis]) < 0.6
                values = values * keep.reshape([-1 if i == axis else 1 for i in range(len(shape))])
        return values * (self.rng.random(shape) < self.rng.choice([1.0, 0.6]))

    def model(self, outputs: list[str]) -> Any:
        """The finished model."""
        ins = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in self.inputs.items()]
        outs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, self.shapes[n]) for n in outputs]
        graph = helper.make_graph(self.nodes, "random", ins, outs, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def random_model(seed: int) -> onnx.ModelProto:
    """Four to twelve operators on images, then maybe some on matrices; one or two outputs."""
    maker = Maker(seed)
    rng = maker.rng
    images = ["x"]
    for _ in range(int(rng.integers(4, 12))):
        images += _image_step(maker, images)
    outputs = [images[-1]]
    if rng.random() < 0.7:
        matrices = [_to_matrix(maker, images[-1])]
        for _ in range(int(rng.integers(2, 8))):
            matrices.append(_matrix_step(maker, matrices))
        outputs = [matrices[-1]]
    if rng.random() < 0.4:
        outputs.append(str(rng.choice([n for n in images if n not in ("x", outputs[0])])))
    return maker.model(list(dict.fromkeys(outputs)))


def _pick(maker: Maker, names: list[str]) -> str:
    """Mostly a late tensor, sometimes an early one: that makes residual branches and multiple consumers."""
    recent = names[-3:] if maker.rng.random() < 0.8 else names
    return str(maker.rng.choice(recent))


def _image_step(m: Maker, names: list[str]) -> list[str]:
    x = _pick(m, names)
    n, c, h, w = m.shapes[x]
    alike = [t for t in names if m.shapes[t] == m.shapes[x]]
    kind = str(m.rng.choice(IMAGE_STEPS))
    if kind == "conv":
        return [_conv(m, x)]
    if kind == "depthwise":
        pads = [1, 1, 1, 1] if m.rng.random() < 0.7 or min(h, w) < 3 else [0, 0, 0, 0]
        out = (n, c, h - 2 + pads[0] * 2, w - 2 + pads[0] * 2)
        weight = m.constant(m.pruned(c, 1, 3, 3))
        return [m.op("Conv", [x, weight, m.constant(m.pruned(c))], out, group=c, pads=pads)]
    if kind == "act":
        return [_activation(m, x)]
    if kind == "add":
        return [m.op(str(m.rng.choice(["Add", "Sub"])), [x, str(m.rng.choice(alike))], m.shapes[x])]
    if kind == "mul":
        gate = str(m.rng.choice(alike))
        return [m.op("Mul", [x, gate], m.shapes[x])]
    if kind == "concat" and c <= 12:
        other = str(m.rng.choice([t for t in names if m.shapes[t][2:] == (h, w)]))
        return [m.op("Concat", [x, other], (n, c + m.shapes[other][1], h, w), axis=1)]
    if kind == "split" and c > 1:
        cut = int(m.rng.integers(1, c))
        sizes = m.constant(np.array([cut, c - cut]))
        return list(m.op("Split", [x, sizes], [(n, cut, h, w), (n, c - cut, h, w)], axis=1))
    if kind == "pool" and min(h, w) >= 2:
        if m.rng.random() < 0.5:
            counted = int(m.rng.integers(0, 2))
            return [m.op("AveragePool", [x], m.shapes[x], kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=counted)]
        op = str(m.rng.choice(["MaxPool", "AveragePool"]))
        return [m.op(op, [x], (n, c, h // 2, w // 2), kernel_shape=[2, 2], strides=[2, 2])]
    scaled = m.op("Mul", [x, m.constant(m.pruned(c, 1, 1))], m.shapes[x])
    return [m.op("Add", [scaled, m.constant(m.pruned(c, 1, 1))], m.shapes[x])]


def _conv(m: Maker, x: str) -> str:
    n, c, h, w = m.shapes[x]
    outs, groups = int(m.rng.integers(1, 5)) * 2, 2 if c % 2 == 0 and m.rng.random() < 0.3 else 1
    kernel, pad, stride = (1, 0, 1) if m.rng.random() < 0.5 else (3, 1, int(m.rng.integers(1, 3)))
    inputs = [x, m.constant(m.pruned(outs, c // groups, kernel, kernel))]
    if m.rng.random() < 0.7:
        inputs.append(m.constant(m.pruned(outs)))
    out = (n, outs, (h + 2 * pad - kernel) // stride + 1, (w + 2 * pad - kernel) // stride + 1)
    return str(m.op("Conv", inputs, out, pads=[pad] * 4, strides=[stride] * 2, group=groups))


def _activation(m: Maker, x: str) -> str:
    kind = str(m.rng.choice(["Relu", "Clip", "Sigmoid", "Tanh", "LeakyRelu", "Neg", "Gelu", "QDQ"]))
    shape = m.shapes[x]
    if kind == "Clip":
        low = float(m.rng.choice([0.0, -1.0, 0.5]))
        return str(m.op("Clip", [x, m.constant(np.float32(low)), m.constant(np.float32(6))], shape))
    if kind == "Gelu":
        scaled = m.op("Div", [x, m.constant(np.float32(2**0.5))], shape)
        erf = m.op("Erf", [scaled], shape)
        plus = m.op("Add", [erf, m.constant(np.float32(1))], shape)
        return str(m.op("Mul", [m.op("Mul", [x, plus], shape), m.constant(np.float32(0.5))], shape))
    if kind == "QDQ":
        parameters = [m.constant(np.float32(0.05)), m.constant(np.int8(m.rng.integers(-3, 3)))]
        return str(m.op("DequantizeLinear", [m.op("QuantizeLinear", [x, *parameters], shape), *parameters], shape))
    return str(m.op(kind, [x], shape))


def _to_matrix(m: Maker, x: str) -> str:
    n, c, h, w = m.shapes[x]
    if m.rng.random() < 0.5:
        pooled = m.op("GlobalAveragePool", [x], (n, c, 1, 1))
        return str(m.op("Reshape", [pooled, m.constant(np.array([n, 1, c]))], (n, 1, c)))
    flat = m.op("Reshape", [x, m.constant(np.array([n, c, h * w]))], (n, c, h * w))
    return str(m.op("Transpose", [flat], (n, h * w, c), perm=[0, 2, 1]))


def _matrix_step(m: Maker, names: list[str]) -> str:
    x = _pick(m, names)
    n, rows, k = m.shapes[x]
    kind = str(m.rng.choice(["linear", "linear", "act", "norm", "softmax", "add", "product", "heads", "slice", "mul"]))
    alike = [t for t in names if m.shapes[t] == m.shapes[x]]
    if kind == "linear":
        outs = int(m.rng.integers(1, 7))
        y = m.op("MatMul", [x, m.constant(m.pruned(k, outs))], (n, rows, outs))
        return str(m.op("Add", [y, m.constant(m.pruned(outs))], (n, rows, outs)) if m.rng.random() < 0.7 else y)
    if kind == "norm":
        scale, shift = m.constant(m.pruned(k)), m.constant(m.pruned(k))
        return str(m.op("LayerNormalization", [x, scale, shift], m.shapes[x], axis=-1))
    if kind == "softmax":
        return str(m.op("Softmax", [x], m.shapes[x], axis=-1))
    if kind in ("add", "mul"):
        return str(m.op({"add": "Add", "mul": "Mul"}[kind], [x, str(m.rng.choice(alike))], m.shapes[x]))
    if kind == "product":
        turned = m.op("Transpose", [str(m.rng.choice(alike))], (n, k, rows), perm=[0, 2, 1])
        return str(m.op("MatMul", [x, turned], (n, rows, rows)))
    if kind == "heads" and k % 2 == 0:
        split = m.op("Reshape", [x, m.constant(np.array([n, rows, 2, k // 2]))], (n, rows, 2, k // 2))
        perm = [[0, 2, 1, 3], [0, 2, 3, 1]][int(m.rng.integers(0, 2))]
        turned = m.op("Transpose", [split], tuple(m.shapes[split][i] for i in perm), perm=perm)
        return str(m.op("Reshape", [turned, m.constant(np.array([n, 2 * rows, k // 2]))], (n, 2 * rows, k // 2)))
    if kind == "slice" and k > 1:
        begin = int(m.rng.integers(0, k - 1))
        bounds = [m.constant(np.array([v])) for v in (begin, k, 2)]
        return str(m.op("Slice", [x, *bounds], (n, rows, k - begin)))
    return _activation(m, x)
