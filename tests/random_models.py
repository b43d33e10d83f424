"""Random whole models: a seed makes an ONNX graph of some ten operators with pruned weights, branches and outputs.

>>> random_model(3) == random_model(3)
True
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
_LARGEST = 6000
_OPSET = 17
_SMOOTH = ("Sigmoid", "Tanh", "Erf", "HardSwish", "HardSigmoid", "Relu", "LeakyRelu", "Clip", "Abs", "Neg", "Elu")
_EXTRA: dict[str, dict[str, Any]] = {
    "LeakyRelu": {"alpha": 0.1},
    "HardSigmoid": {"alpha": 1 / 6, "beta": 0.5},
    "Elu": {"alpha": 0.7},
}


def random_model(seed: int) -> onnx.ModelProto:
    """The model of a seed. Inputs are called x0, x1; every shape is fixed and every tensor float32."""
    return _Writer(seed).write()


def random_feeds(model: onnx.ModelProto, seed: int) -> dict[str, Array]:
    """Values for the inputs of a model."""
    rng = np.random.default_rng(seed)
    shapes = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in model.graph.input}
    return {name: rng.standard_normal(shape).astype("float32") for name, shape in shapes.items()}


class _Writer:
    """Appends nodes to a graph; shapes holds every value that a later node may read."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.weights: dict[str, Array] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}

    def write(self) -> onnx.ModelProto:
        images = self.chance(0.55)
        for i in range(self.pick((1, 1, 2))):
            self.shapes[f"x{i}"] = self.image() if images else self.rows()
        inputs = dict(self.shapes)
        while len(self.nodes) < 4 or self.chance(0.88):
            # the newest value mostly: chains, but also branches and values with several readers
            names = list(self.shapes)
            name = names[-1] if self.chance(0.6) else self.pick(names)
            self.pick(_STEPS)(self, name, self.shapes[name])
        made = [name for name in self.shapes if name not in inputs]
        outputs = [name for name in made[:-1] if self.chance(0.15)] + made[-1:]
        graph = helper.make_graph(
            self.nodes,
            "random",
            [_info(name, shape) for name, shape in inputs.items()],
            [_info(name, self.shapes[name]) for name in outputs],
            [numpy_helper.from_array(array, name) for name, array in self.weights.items()],
        )
        return _model(graph)

    # Chance

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def pick(self, values: Sequence[Any]) -> Any:
        return values[int(self.rng.integers(len(values)))]

    def upto(self, most: int, least: int = 1) -> int:
        return int(self.rng.integers(least, most + 1))

    def image(self) -> tuple[int, ...]:
        return (self.upto(2), self.pick((1, 3, 4, 8, 17)), self.upto(12, 4), self.upto(14, 4))

    def rows(self) -> tuple[int, ...]:
        return (*(self.upto(6) for _ in range(self.upto(3))), self.upto(40, 2))

    # Nodes

    def constant(self, array: Any) -> str:
        name = f"w{len(self.weights)}"
        self.weights[name] = np.asarray(array)
        return name

    def weight(self, *shape: int, fan_in: int = 1) -> str:
        """Normal numbers, most of them pruned: single ones, whole outputs, whole inputs, or all but a few."""
        array = self.rng.standard_normal(shape) / np.sqrt(fan_in)
        array[self.rng.random(shape) > self.pick((0.05, 0.3, 0.6, 1.0))] = 0
        for axis in (0, 1) if len(shape) > 1 else ():
            if self.chance(0.3):
                np.moveaxis(array, axis, 0)[self.rng.random(shape[axis]) < 0.4] = 0
        return self.constant(array.astype("float32"))

    def node(self, kind: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> str | None:
        """Append a node; None where its result would be empty or too large to be worth the time."""
        names = [f"v{len(self.shapes)}_{i}" for i in range(outputs)]
        made = helper.make_node(kind, list(inputs), names, name=f"{kind}_{len(self.nodes)}", **attributes)
        known = [_info(name, self.shapes[name]) for name in dict.fromkeys(inputs) if name in self.shapes]
        kept = [numpy_helper.from_array(self.weights[i], i) for i in inputs if i in self.weights]
        untyped = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
        inferred = onnx.shape_inference.infer_shapes(
            _model(helper.make_graph([made], "one", known, untyped, kept)), strict_mode=True, data_prop=True
        )
        shapes = [tuple(d.dim_value for d in out.type.tensor_type.shape.dim) for out in inferred.graph.output]
        if any(min(shape, default=1) < 1 or np.prod(shape) > _LARGEST for shape in shapes):
            return None
        self.nodes.append(made)
        self.shapes.update(zip(names, shapes, strict=True))
        return names[0]

    def alike(self, shape: tuple[int, ...], but: int | None = None) -> list[str]:
        """Values of this shape, except for the axis `but`."""
        rank = len(shape)
        return [
            name
            for name, other in self.shapes.items()
            if len(other) == rank and all(i == but or shape[i] == other[i] for i in range(rank))
        ]


def _info(name: str, shape: Sequence[int]) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def _model(graph: Any) -> onnx.ModelProto:
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8)


# What a step may append: (writer, name of a value, its shape)


def _conv_node(w: _Writer, name: str, shape: tuple[int, ...], out: int, same: bool) -> str | None:
    """same: the result is as large as its input."""
    size = (1, 1) if same and w.chance(0.4) else (3, 3) if same else (w.upto(3), w.upto(3))
    groups = [g for g in (1, 1, 2, 4) if shape[1] % g == 0 and out % g == 0]
    group = w.pick(groups)
    pads = [size[0] // 2, size[1] // 2] * 2 if same else [w.upto(2, 0) for _ in range(4)]
    steps: dict[str, Any] = {} if same else {"strides": [w.upto(2), w.upto(2)], "dilations": [w.upto(2), w.upto(2)]}
    if any(shape[2 + i] + pads[i] + pads[2 + i] < 2 * size[i] for i in (0, 1)):
        return None
    inputs = [name, w.weight(out, shape[1] // group, *size, fan_in=shape[1] * size[0] * size[1] // group)]
    inputs += [w.weight(out)] if w.chance(0.5) else []
    return w.node("Conv", inputs, kernel_shape=list(size), pads=pads, group=group, **steps)


def _conv(w: _Writer, name: str, shape: tuple[int, ...]) -> None:
    if len(shape) != 4:
        return
    made = _conv_node(w, name, shape, w.pick((1, 4, 8, 13, 16)), same=w.chance(0.5))
    if made and w.chance(0.3):
        channels = w.shapes[made][1]
        scale, shift, mean = (w.weight(channels) for _ in range(3))
        spread = w.constant(w.rng.uniform(0.5, 2, channels).astype("float32"))
        w.node("BatchNormalization", [made, scale, shift, mean, spread])


def _depthwise(w: _Writer, name: str, shape: tuple[int, ...]) -> None:
    if len(shape) != 4:
        return
    size, stride = w.pick((3, 3, 5)), w.upto(2)
    weight = w.weight(shape[1] * w.pick((1, 1, 2)), 1, size, size, fan_in=size * size)
    w.node("Conv", [name, weight], group=shape[1], pads=[size // 2] * 4, strides=[stride, stride])


def _linear(w: _Writer, name: str, shape: tuple[int, ...]) -> None:
    if len(shape) < 2:
        return
    out, inner = w.upto(34), shape[-1]
    if len(shape) == 2 and w.chance(0.4):
        turned = w.chance(0.5)
        weight = w.weight(*((out, inner) if turned else (inner, out)), fan_in=inner)
        w.node("Gemm", [name, weight, w.weight(out)], transB=int(turned))
    elif (made := w.node("MatMul", [name, w.weight(inner, out, fan_in=inner)])) and w.chance(0.5):
        w.node("Add", [made, w.weight(out)])


def _sum_of_layers(w: _Writer, name: str, shape: tuple[int, ...]) -> None:
    """Two weight layers of one value, or of two, added."""
    other, out = w.pick(w.alike(shape)), w.pick((4, 8, 19))
    if len(shape) == 4:
        sides = [_conv_node(w, side, shape, out, same=True) for side in (name, other)]
    elif len(shape) > 1:
        sides = [w.node("MatMul", [s, w.weight(shape[-1], out, fan_in=shape[-1])]) for s in (name, other)]
    else:
        return
    if sides[0] and sides[1]:
        w.node("Add", [sides[0], sides[1]])


def _product(w: _Writer, name: str, shape: tuple[int, ...]) -> None:
    """A value times its own, or another's, transpose."""
    if len(shape) < 2:
        return
    order = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
    turned = w.node("Transpose", [w.pick(w.alike(shape))], perm=order)
    if turned and (made := w.node("MatMul", [name, turned])):
        w.node("Softmax" if w.chance(0.5) else "Tanh", [made])


def _binary(w: _Writer, name: str, shape: tuple[int, ...]) -> None:
    other = w.pick([*w.alike(shape), w.weight(*shape[1:]) if len(shape) > 1 else name])
    w.node(w.pick(("Add", "Add", "Mul", "Sub", "Max")), [name, other])


def _concat(w: _Writer, name: str, shape: tuple[int, ...]) -> None:
    axis = w.upto(len(shape) - 1, 0)
    others = [name if w.chance(0.4) else w.pick(w.alike(shape, axis)) for _ in range(w.upto(2))]
    w.node("Concat", [name, *others], axis=axis)


def _cut(w: _Writer, name: str, shape: tuple[int, ...]) -> None:
    """A slice; or a split into two, joined again in some way."""
    axis = w.upto(len(shape) - 1, 0)
    if shape[axis] < 2:
        return
    if w.chance(0.5):
        start = w.upto(shape[axis] - 1, 0)
        numbers = (start, w.upto(shape[axis], start + 1), axis, w.upto(2))
        w.node("Slice", [name, *(w.constant(np.array([n], "int64")) for n in numbers)])
        return
    first = shape[axis] // 2
    sizes = w.constant(np.array([first, shape[axis] - first], "int64"))
    made = w.node("Split", [name, sizes], 2, axis=axis)
    if made is None:
        return
    halves = [made, made[:-1] + "1"]
    if 2 * first == shape[axis] and w.chance(0.5):
        w.node(w.pick(("Add", "Mul")), halves)
    else:
        w.node("Concat", [halves[1], halves[0]], axis=axis)


def _pool(w: _Writer, name: str, shape: tuple[int, ...]) -> None:
    if len(shape) != 4:
        return
    if w.chance(0.2):
        w.node("GlobalAveragePool", [name])
        return
    size = [w.upto(min(3, shape[2])), w.upto(min(3, shape[3]))]
    pads = [w.upto(k - 1, 0) for k in size * 2]
    kind = w.pick(("MaxPool", "AveragePool"))
    more: dict[str, Any] = {"count_include_pad": w.upto(1, 0)} if kind == "AveragePool" else {}
    w.node(kind, [name], kernel_shape=size, strides=[w.upto(2), w.upto(2)], pads=pads, **more)


def _normal_form(w: _Writer, name: str, shape: tuple[int, ...]) -> None:
    if w.chance(0.5):
        w.node("Softmax", [name], axis=w.upto(len(shape) - 1, 0))
    elif shape[-1] > 1:
        w.node("LayerNormalization", [name, w.weight(shape[-1]), w.weight(shape[-1])], axis=-1, epsilon=1e-3)


def _activation(w: _Writer, name: str, shape: tuple[int, ...]) -> None:
    kind = w.pick((*_SMOOTH, "Gelu"))
    if kind == "Clip":
        w.node(kind, [name, w.constant(np.float32(-0.5)), w.constant(np.float32(0.8))])
    elif kind != "Gelu":
        w.node(kind, [name], **_EXTRA.get(kind, {}))
    else:
        below = w.node("Div", [name, w.constant(np.float32(2**0.5))])
        raised = w.node("Add", [w.node("Erf", [below or ""]) or "", w.constant(np.float32(1))])
        w.node("Mul", [w.node("Mul", [name, raised or ""]) or "", w.constant(np.float32(0.5))])


def _shape(w: _Writer, name: str, shape: tuple[int, ...]) -> None:
    if w.chance(0.6):
        w.node("Transpose", [name], perm=[int(i) for i in w.rng.permutation(len(shape))])
        return
    options = [(*shape[:-2], -1), (shape[0], -1), (*shape[:-1], 1, shape[-1])]
    target = w.pick(options) if 1 < len(shape) < 4 else (shape[0], -1)
    w.node("Reshape", [name, w.constant(np.array(target, "int64"))])


def _reduction(w: _Writer, name: str, shape: tuple[int, ...]) -> None:
    axes = [i for i in range(len(shape)) if w.chance(0.4)] or [len(shape) - 1]
    keep = w.upto(1, 0) if len(axes) < len(shape) else 1
    made = w.node(w.pick(("ReduceMean", "ReduceMax", "ReduceMin")), [name], axes=axes, keepdims=keep)
    if made and keep and w.chance(0.5):
        w.node("Sub", [name, made])


_STEPS: tuple[Callable[[_Writer, str, tuple[int, ...]], None], ...] = (
    *(_conv, _conv, _conv, _depthwise, _linear, _linear, _linear, _sum_of_layers, _product),
    *(_binary, _binary, _concat, _concat, _cut, _cut, _pool, _pool, _normal_form, _normal_form),
    *(_activation, _activation, _activation, _shape, _reduction),
)
