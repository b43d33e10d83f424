"""The Maker of random models: nodes, pruned constants, and how large the values may get."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Shape = tuple[int, ...]
VOCABULARY = 5
PRODUCTS = {"Mul", "MatMul", "Einsum", "Pow", "ReduceProd"}
LINEAR = {"Conv", "ConvTranspose", "Gemm", "ReduceSum", "CumSum"}
BOUNDED = {"Tanh", "Sigmoid", "Softmax", "Erf", "Sin", "Cos", "Atan", "HardSigmoid", "Sign", "Softsign"}
NORMS = {"LayerNormalization", "InstanceNormalization", "GroupNormalization", "RMSNormalization"}
LARGEST = 8  # powers of about 5


class Maker:
    """Builds an ONNX model operator by operator; `shapes` knows what each tensor looks like.

    degree: how large the values of a tensor may be, in powers of about 5: 0 for a sigmoid, one more with each layer.
    """

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.opset = int(self.rng.choice([17, 21, 23]))
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.weights: dict[Shape, list[str]] = {}
        self.shapes: dict[str, Shape] = {}
        self.degree: dict[str, int] = {}
        self.inputs: dict[str, int] = {}

    def input(self, name: str, shape: Shape, elem: int = TensorProto.FLOAT) -> str:
        """A new input of the model."""
        self.shapes[name], self.degree[name], self.inputs[name] = shape, 1, elem
        return name

    def constant(self, array: Any) -> str:
        """An initializer."""
        name = f"c{len(self.constants)}"
        array = np.asarray(array)
        array = array.astype(np.float32) if array.dtype.kind == "f" else array
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def numbers(self, *values: int) -> str:
        """An initializer of integers: a shape, axes, bounds."""
        return self.constant(np.array(values, np.int64))

    def weight(self, *shape: int) -> str:
        """A pruned initializer; now and then one that another layer has too."""
        known = self.weights.setdefault(shape, [])
        if known and self.rng.random() < 0.25:
            return str(self.rng.choice(known))
        known.append(self.constant(self.pruned(*shape)))
        return known[-1]

    def op(self, kind: str, inputs: list[str], shape: Shape | list[Shape], **attributes: Any) -> Any:
        """A node; its output's name, or names where `shape` is a list."""
        several = isinstance(shape, list)
        shapes = shape if isinstance(shape, list) else [shape]
        names = [f"t{len(self.nodes)}_{i}" for i in range(len(shapes))]
        if kind in NORMS:  # over a constant, what rounding leaves is divided by the root of it
            attributes = {"epsilon": 1e-2, **attributes}
        self.nodes.append(helper.make_node(kind, inputs, names, f"n{len(self.nodes)}", **attributes))
        self.shapes.update(zip(names, shapes, strict=True))
        self.degree.update(dict.fromkeys(names, self._grown(kind, inputs)))
        return names if several else names[0]

    def _grown(self, kind: str, inputs: list[str]) -> int:
        degrees = [self.degree.get(name, 0) for name in inputs if name]
        if kind in BOUNDED:
            return 0
        if kind in NORMS:
            return 1
        if kind in PRODUCTS:
            return sum(degrees) + (kind != "Mul")
        return max(degrees, default=0) + (kind in LINEAR)

    def small(self, x: str, largest: int = 0) -> str:
        """The tensor, or a squashed one if its values may be larger than 5 ** largest."""
        if self.degree[x] <= largest:
            return x
        kind = str(self.rng.choice(["Tanh", "Sigmoid", "Erf", "Clip", "Softsign"]))
        if kind == "Clip":
            bounds = [self.constant(np.float32(b)) for b in (-2, 2)]
            self.degree[self.op("Clip", [x, *bounds], self.shapes[x])] = 0
            return f"t{len(self.nodes) - 1}_0"
        return str(self.op(kind, [x], self.shapes[x]))

    def pair(self, a: str, b: str) -> list[str]:
        """Two factors whose product is not too large."""
        if self.degree[a] + self.degree[b] <= LARGEST:
            return [a, b]
        same = a == b
        a = self.small(a, 1)
        return [a, a if same else self.small(b, 1)]

    def pruned(self, *shape: int) -> Any:
        """Random values of which rows, columns, blocks and single elements are 0."""
        values = self.rng.normal(size=shape)
        for axis in range(min(len(shape), 2)):
            if self.rng.random() < 0.6:
                keep = self.rng.random(shape[axis]) < 0.6
                values = values * keep.reshape([-1 if i == axis else 1 for i in range(len(shape))])
        if len(shape) >= 2 and self.rng.random() < 0.3:
            blocks = self.rng.random([-(-n // 2) for n in shape[:2]]) < 0.6
            keep = blocks.repeat(2, 0).repeat(2, 1)[: shape[0], : shape[1]]
            values = values * keep.reshape(*keep.shape, *[1] * (len(shape) - 2))
        return values * (self.rng.random(shape) < self.rng.choice([1.0, 0.6]))

    def model(self, outputs: list[str]) -> Any:
        """The finished model."""
        ins = [helper.make_tensor_value_info(n, elem, self.shapes[n]) for n, elem in self.inputs.items()]
        outs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, self.shapes[n]) for n in outputs]
        graph = helper.make_graph(self.nodes, "random", ins, outs, self.constants)
        return helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", self.opset)], ir_version=10)
