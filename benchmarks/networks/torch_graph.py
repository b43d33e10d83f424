"""An ONNX model as a PyTorch module, for the operators that the networks of the benchmark have.

Quantization is written in PyTorch's own decomposed operators, which its compiler turns into integer kernels, as it does
for models that PyTorch quantizes. Imported where PyTorch is installed only.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.ao.quantization
import torch.ao.quantization.fx._decomposed  # its operators
from onnx import helper, numpy_helper
from torch.nn import functional

from tesa.errors import UnsupportedError

DECOMPOSED = torch.ops.quantized_decomposed
Step = Callable[..., Any]


class Graph(torch.nn.Module):  # type: ignore[misc]
    """The module: inputs in the model's order, a tuple of its outputs. UnsupportedError for an unknown operator.

    dynamic: its linear layers and cells are quantized by PyTorch, and quantize what they read as it comes.
    """

    def __init__(self, model: Any, dynamic: bool = False) -> None:
        super().__init__()
        self.dynamic = dynamic
        self.inputs = [value.name for value in model.graph.input]
        self.outputs = [value.name for value in model.graph.output]
        self.known = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self.places: dict[str, str] = {}
        self.numbers = {n: a.item() for n, a in self.known.items() if a.ndim == 0}  # which its compiler folds
        self.steps = [self._step(node) for node in model.graph.node]

    def forward(self, *arrays: Any) -> tuple[Any, ...]:
        """Run the steps in the model's order."""
        values = dict(zip(self.inputs, arrays, strict=True))
        for step, reads, writes in self.steps:
            given = [self._value(name, values) for name in reads]
            found = step(*given)
            values.update(zip(writes, found if isinstance(found, tuple | list) else (found,), strict=False))
        return tuple(values[name] for name in self.outputs)

    def _value(self, name: str, values: Mapping[str, Any]) -> Any:
        if name in values:
            return values[name]
        return self.numbers[name] if name in self.numbers else getattr(self, self.places[name])

    def _step(self, node: Any) -> tuple[Step, Sequence[str], Sequence[str]]:
        make = MAKERS.get(node.op_type)
        if make is None:
            raise UnsupportedError(f"{node.op_type}: PyTorch's side of the benchmark does not have this operator")
        facts = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if self.dynamic and node.op_type in ("Gemm", "MatMul", "LSTM") and node.input[1] in self.known:
            make = _dynamic_lstm if node.op_type == "LSTM" else _dynamic_linear
        step, used = make(facts, list(node.input), self.known)
        reads = [node.input[i] for i in used]
        for name in reads:
            if name in self.known and name not in self.places and name not in self.numbers:
                self.places[name] = f"constant{len(self.places)}"
                self.register_buffer(self.places[name], torch.from_numpy(np.array(self.known[name])))
        return step, reads, list(node.output)


Known = Mapping[str, Any]
Made = tuple[Step, Sequence[int]]
"""A function, and the positions of the inputs that it is called with; what else it needs it knows already."""


def _plain(function: Step) -> Callable[[Mapping[str, Any], Sequence[str], Known], Made]:
    return lambda facts, inputs, known: (function, range(len(inputs)))


def _conv(facts: Mapping[str, Any], inputs: Sequence[str], known: Known) -> Made:
    axes = len(facts["kernel_shape"])
    function = (functional.conv1d, functional.conv2d, functional.conv3d)[axes - 1]
    pads = facts.get("pads", [0] * 2 * axes)
    if pads[:axes] != pads[axes:]:
        raise UnsupportedError("PyTorch's side of the benchmark pads both ends alike")
    stride, group = facts.get("strides", [1] * axes), facts.get("group", 1)
    return (
        lambda x, w, b=None: function(x, w, b, stride=stride, padding=pads[:axes], groups=group),
        range(len(inputs)),
    )


def _conv_transpose(facts: Mapping[str, Any], inputs: Sequence[str], known: Known) -> Made:
    stride = facts.get("strides", [1, 1])
    return lambda x, w, b=None: functional.conv_transpose2d(x, w, b, stride=stride), range(len(inputs))


def _gemm(facts: Mapping[str, Any], inputs: Sequence[str], known: Known) -> Made:
    turned = facts.get("transB", 0)
    return lambda x, w, b=None: functional.linear(x, w if turned else w.T, b), range(len(inputs))


def _matmul(facts: Mapping[str, Any], inputs: Sequence[str], known: Known) -> Made:
    return (lambda x, y: torch.matmul(x, y)), (0, 1)


def _quantize(facts: Mapping[str, Any], inputs: Sequence[str], known: Known) -> Made:
    scale, zero, low, high, dtype = _grid(inputs, known)
    return lambda x: DECOMPOSED.quantize_per_tensor(x, scale, zero, low, high, dtype), (0,)


def _grid(inputs: Sequence[str], known: Known) -> tuple[float, int, int, int, Any]:
    zero = known[inputs[2]]
    limits = np.iinfo(zero.dtype)
    dtype = torch.uint8 if zero.dtype == np.uint8 else torch.int8
    return float(known[inputs[1]].reshape(-1)[0]), int(zero.reshape(-1)[0]), int(limits.min), int(limits.max), dtype


def _dequantize(facts: Mapping[str, Any], inputs: Sequence[str], known: Known) -> Made:
    stored = known.get(inputs[0])
    if stored is not None and stored.dtype == np.int32:  # a bias
        scale = torch.from_numpy(np.array(known[inputs[1]]))
        return lambda x: x.to(torch.float32) * scale, (0,)
    if known[inputs[1]].size == 1:
        scale, zero, low, high, dtype = _grid(inputs, known)
        return lambda x: DECOMPOSED.dequantize_per_tensor(x, scale, zero, low, high, dtype), (0,)
    axis = facts.get("axis", 1)
    zeros = torch.from_numpy(known[inputs[2]].astype(np.int64))
    scales = torch.from_numpy(np.array(known[inputs[1]]))
    return lambda x: DECOMPOSED.dequantize_per_channel(x, scales, zeros, axis % x.ndim, -128, 127, torch.int8), (0,)


def _clip(facts: Mapping[str, Any], inputs: Sequence[str], known: Known) -> Made:
    low, high = (float(known[name]) for name in inputs[1:3])
    return lambda x: torch.clamp(x, low, high), (0,)


def _pool(facts: Mapping[str, Any], inputs: Sequence[str], known: Known) -> Made:
    pads = facts.get("pads", [0, 0])[:2]
    return lambda x: functional.max_pool2d(x, facts["kernel_shape"], facts["strides"], pads), (0,)


def _mean(facts: Mapping[str, Any], inputs: Sequence[str], known: Known) -> Made:
    return lambda x: x.mean(dim=tuple(range(2, x.ndim)), keepdim=True), (0,)


def _gather(facts: Mapping[str, Any], inputs: Sequence[str], known: Known) -> Made:
    axis = facts.get("axis", 0)
    index = known.get(inputs[1])
    if index is not None and index.ndim == 0:
        place = int(index)
        return lambda x: x.select(axis, place), (0,)
    return lambda x, i: functional.embedding(i, x), (0, 1)


def _shaped(facts: Mapping[str, Any], inputs: Sequence[str], known: Known) -> Made:
    shape = [int(n) for n in known[inputs[1]]]
    return lambda x: x.reshape(shape), (0,)


def _unsqueeze(facts: Mapping[str, Any], inputs: Sequence[str], known: Known) -> Made:
    axes = [int(n) for n in known[inputs[1]]]

    def step(x: Any) -> Any:
        for axis in axes:
            x = x.unsqueeze(axis)
        return x

    return step, (0,)


def _squeeze(facts: Mapping[str, Any], inputs: Sequence[str], known: Known) -> Made:
    axes = tuple(int(n) for n in known[inputs[1]])
    return lambda x: x.squeeze(axes), (0,)


def _split(facts: Mapping[str, Any], inputs: Sequence[str], known: Known) -> Made:
    sizes = [int(n) for n in known[inputs[1]]]
    return lambda x: torch.split(x, sizes, facts["axis"]), (0,)


def _norm(facts: Mapping[str, Any], inputs: Sequence[str], known: Known) -> Made:
    epsilon = facts["epsilon"]
    return lambda x, w, b: functional.layer_norm(x, w.shape, w, b, epsilon), (0, 1, 2)


def _lstm(facts: Mapping[str, Any], inputs: Sequence[str], known: Known) -> Made:
    cell = _cell(facts, inputs, known)
    return lambda x: cell(x)[0].unsqueeze(1), (0,)


def _dynamic_lstm(facts: Mapping[str, Any], inputs: Sequence[str], known: Known) -> Made:
    cell = _dynamic(_cell(facts, inputs, known))
    return lambda x: cell(x)[0].unsqueeze(1), (0,)


def _dynamic_linear(facts: Mapping[str, Any], inputs: Sequence[str], known: Known) -> Made:
    weight = known[inputs[1]] if facts.get("transB") else known[inputs[1]].T
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=len(inputs) > 2)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight.copy()))
        if len(inputs) > 2:
            layer.bias.copy_(torch.from_numpy(known[inputs[2]].copy()))
    return _dynamic(layer), (0,)


def _dynamic(layer: Any) -> Any:
    """The layer as PyTorch quantizes it dynamically."""
    kinds = {torch.nn.Linear, torch.nn.LSTM}
    return torch.ao.quantization.quantize_dynamic(torch.nn.Sequential(layer), kinds, dtype=torch.qint8)[0].eval()


def _cell(facts: Mapping[str, Any], inputs: Sequence[str], known: Known) -> Any:
    """ONNX has the gates as input, output, forget, cell; PyTorch as input, forget, cell, output."""
    hidden = facts["hidden_size"]
    w, r, b = (known[name][0] for name in inputs[1:4])

    def turned(array: Any) -> Any:
        i, o, f, c = np.split(array, 4)
        return torch.from_numpy(np.concatenate([i, f, c, o]))

    cell = torch.nn.LSTM(w.shape[1], hidden).eval()
    with torch.no_grad():
        for name, array in (("weight_ih_l0", w), ("weight_hh_l0", r), *zip(("bias_ih_l0", "bias_hh_l0"),
                                                                          np.split(b, 2), strict=True)):  # fmt: skip
            getattr(cell, name).copy_(turned(array))
    return cell


def _cast(facts: Mapping[str, Any], inputs: Sequence[str], known: Known) -> Made:
    return lambda x: x.to(torch.float32), (0,)


MAKERS: Mapping[str, Callable[[Mapping[str, Any], Sequence[str], Known], Made]] = {
    "Add": _plain(operator.add), "Sub": _plain(operator.sub), "Mul": _plain(operator.mul),
    "Div": _plain(operator.truediv), "Pow": _plain(operator.pow),
    "Erf": _plain(torch.erf), "Tanh": _plain(torch.tanh), "Relu": _plain(torch.relu),
    "Sigmoid": _plain(torch.sigmoid), "Cast": _cast, "Conv": _conv, "ConvTranspose": _conv_transpose, "Gemm": _gemm,
    "MatMul": _matmul, "QuantizeLinear": _quantize, "DequantizeLinear": _dequantize, "Clip": _clip, "MaxPool": _pool,
    "GlobalAveragePool": _mean, "Gather": _gather, "Reshape": _shaped, "Unsqueeze": _unsqueeze, "Squeeze": _squeeze,
    "Split": _split, "LayerNormalization": _norm, "LSTM": _lstm,
    "Flatten": lambda facts, inputs, known: ((lambda x: x.flatten(1)), (0,)),
    "Transpose": lambda facts, inputs, known: ((lambda x: x.permute(facts["perm"])), (0,)),
    "Softmax": lambda facts, inputs, known: ((lambda x: torch.softmax(x, facts.get("axis", -1))), (0,)),
    "Concat": lambda facts, inputs, known: ((lambda *x: torch.cat(x, facts["axis"])), range(len(inputs))),
}  # fmt: skip
