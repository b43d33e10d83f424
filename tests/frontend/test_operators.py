"""Operators that tesa converts itself: numbers against onnxruntime, and what they become in Relax."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tesa.errors import UnsupportedError
from tesa.frontend import import_onnx
from tests.frontend.onnx_models import model, node, port

from .onnx_models import floats
from .test_import import compare, operators

RNG = np.random.default_rng(0)
MS = "com.microsoft"


def u8(*shape: int) -> Any:
    return RNG.integers(0, 255, shape).astype(np.uint8)


def i8(*shape: int) -> Any:
    return RNG.integers(-127, 127, shape).astype(np.int8)


def i32(*shape: int) -> Any:
    return RNG.integers(-1000, 1000, shape).astype(np.int32)


@dataclass(frozen=True)
class Op:
    """One node. inputs: fed when it runs; constants: in the file; order: of all of them in the node, "" left out."""

    op: str
    inputs: Mapping[str, Any]
    constants: Mapping[str, Any] = field(default_factory=dict)
    becomes: tuple[str, ...] = ()
    attrs: Mapping[str, Any] = field(default_factory=dict)
    opset: int = 17
    domain: str = ""
    outputs: int = 1
    order: tuple[str, ...] = ()

    def model(self) -> onnx.ModelProto:
        names = list(self.order) or [*self.inputs, *self.constants]
        outs = [f"y{i}" for i in range(self.outputs)]
        node = helper.make_node(self.op, names, outs, "node", domain=self.domain, **self.attrs)
        kind = helper.np_dtype_to_tensor_dtype
        ports = [helper.make_tensor_value_info(n, kind(a.dtype), a.shape) for n, a in self.inputs.items()]
        tensors = [numpy_helper.from_array(np.asarray(a), n) for n, a in self.constants.items()]
        graph = helper.make_graph([node], "test", ports, [onnx.ValueInfoProto(name=n) for n in outs], tensors)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid(MS, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        try:
            return onnx.shape_inference.infer_shapes(model)
        except onnx.shape_inference.InferenceError:
            return model


X, F = floats(1, 4, 6, 6), np.float32
QX = {"xs": F(0.05), "xz": np.uint8(120)}
QY = {"ys": F(0.1), "yz": np.uint8(100)}
QUANTIZED = ("dequantize", "nn.conv2d", "quantize")
ATTENTION = {"q": floats(1, 2, 3, 4), "k": floats(1, 2, 5, 4, seed=1), "v": floats(1, 2, 5, 4, seed=2)}
OPS: dict[str, Op] = {
    "einsum": Op("Einsum", {"a": floats(2, 3, 4), "b": floats(2, 4, 5)}, {}, ("einsum",), {"equation": "bij,bjk->bik"}),
    "einsum, implicit": Op("Einsum", {"a": floats(3, 4), "b": floats(4, 5)}, {}, ("einsum",), {"equation": "ij,jk"}),
    "einsum, dots": Op(
        "Einsum", {"a": floats(2, 3, 4), "b": floats(2, 4, 5)}, {}, ("einsum",), {"equation": "...ij,...jk->...ik"}
    ),
    "einsum as a matmul": Op(
        "Einsum", {"a": floats(2, 3, 4)}, {"b": floats(4, 5)}, ("matmul",), {"equation": "bij, jk -> bik"}
    ),
    "transposed convolution": Op(
        "ConvTranspose", {"x": X}, {"w": floats(4, 3, 3, 3), "b": floats(3)}, ("nn.conv2d_transpose", "add"),
        {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]},
    ),
    "transposed convolution, same": Op(
        "ConvTranspose", {"x": X}, {"w": floats(4, 2, 3, 3)}, ("nn.conv2d_transpose",),
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
    ),
    "transposed convolution, shape given": Op(
        "ConvTranspose", {"x": X}, {"w": floats(4, 2, 3, 3)}, ("nn.conv2d_transpose",),
        {"output_shape": [12, 12], "strides": [2, 2]},
    ),
    "transposed convolution, larger shape": Op(
        "ConvTranspose", {"x": X}, {"w": floats(4, 2, 3, 3)}, ("nn.conv2d_transpose",),
        {"output_shape": [14, 13], "strides": [2, 2]},
    ),
    "transposed convolution, groups": Op(
        "ConvTranspose", {"x": X}, {"w": floats(4, 2, 3, 3)}, ("nn.conv2d_transpose",),
        {"group": 2, "dilations": [2, 2]},
    ),
    "convolution of sequences": Op(
        "Conv", {"x": floats(1, 4, 6)}, {"w": floats(3, 4, 3), "b": floats(3)}, ("nn.conv1d", "add"),
        {"auto_pad": "SAME_LOWER"},
    ),
    "convolution of volumes": Op(
        "Conv", {"x": floats(1, 2, 4, 4, 4)}, {"w": floats(3, 2, 3, 3, 3)}, ("nn.conv3d",), {"pads": [1] * 6}
    ),
    "integer convolution": Op(
        "ConvInteger", {"x": u8(1, 4, 6, 6)}, {"w": i8(3, 4, 3, 3), "xz": np.uint8(120)},
        ("dequantize", "nn.conv2d", "astype"), {"pads": [1] * 4},
    ),
    "integer convolution, both zeros": Op(
        "ConvInteger", {"x": u8(1, 4, 6, 6)}, {"w": u8(3, 4, 3, 3), "xz": np.uint8(120), "wz": np.uint8(3)},
        ("dequantize", "nn.conv2d", "astype"), {"strides": [2, 2]},
    ),
    "integer matmul": Op(
        "MatMulInteger", {"a": u8(2, 4)}, {"b": i8(4, 3), "az": np.uint8(12), "bz": np.array([1, 2, 3], np.int8)}
    ),
    "dynamic quantization": Op("DynamicQuantizeLinear", {"x": floats(3, 4)}, outputs=3),
    "quantized convolution": Op(
        "QLinearConv", {"x": u8(1, 4, 6, 6)},
        {**QX, "w": i8(3, 4, 3, 3), "ws": np.array([0.01, 0.02, 0.03], F), "wz": np.zeros(3, np.int8), **QY,
         "b": i32(3)},
        ("dequantize", "nn.conv2d", "add", "quantize"), {"pads": [1] * 4},
    ),
    "quantized convolution, uint8 weight": Op(
        "QLinearConv", {"x": u8(1, 4, 6, 6)}, {**QX, "w": u8(3, 4, 3, 3), "ws": F(0.01), "wz": np.uint8(7), **QY},
        QUANTIZED, {"strides": [2, 2]},
    ),
    "quantized depthwise convolution": Op(
        "QLinearConv", {"x": u8(1, 4, 6, 6)}, {**QX, "w": i8(4, 1, 3, 3), "ws": F(0.01), "wz": np.int8(0), **QY},
        QUANTIZED, {"group": 4, "pads": [1] * 4},
    ),
    "quantized matmul": Op(
        "QLinearMatMul", {"a": u8(2, 4)},
        {**QX, "b": i8(4, 3), "bs": np.array([0.02, 0.03, 0.01], F), "bz": np.zeros(3, np.int8), **QY},
        ("dequantize", "matmul", "quantize"), order=("a", "xs", "xz", "b", "bs", "bz", "ys", "yz"),
    ),
    "quantized gemm": Op(
        "QGemm", {"a": u8(2, 4)}, {**QX, "b": i8(4, 3), "bs": F(0.02), "bz": np.int8(0), "c": i32(3), **QY},
        ("dequantize", "matmul", "add", "quantize"), domain=MS,
    ),
    "quantized gemm to real, turned, scaled": Op(
        "QGemm", {"a": u8(2, 4)}, {**QX, "b": i8(3, 4), "bs": F(0.02), "bz": np.int8(0), "c": i32(3)},
        ("dequantize", "matmul", "add"), {"transB": 1, "alpha": 0.5}, domain=MS,
    ),
    "quantized sum": Op(
        "QLinearAdd", {"a": u8(2, 4), "b": u8(2, 4)}, {**QX, "bs": F(0.02), "bz": np.uint8(3), **QY},
        ("dequantize", "dequantize", "add", "quantize"), domain=MS,
        order=("a", "xs", "xz", "b", "bs", "bz", "ys", "yz"),
    ),
    "quantized sigmoid": Op(
        "QLinearSigmoid", {"x": u8(1, 4)}, {**QX, "ys": F(0.004), "yz": np.uint8(0)},
        ("dequantize", "sigmoid", "quantize"), domain=MS,
    ),
    "quantized global pooling": Op(
        "QLinearGlobalAveragePool", {"x": u8(1, 4, 6, 6)}, {**QX, "ys": F(0.05), "yz": np.uint8(90)},
        ("dequantize", "mean", "quantize"), domain=MS,
    ),
    "quantized global pooling, channels last": Op(
        "QLinearGlobalAveragePool", {"x": u8(1, 6, 6, 4)}, {**QX, "ys": F(0.05), "yz": np.uint8(90)},
        ("permute_dims", "dequantize", "mean", "quantize", "permute_dims"), domain=MS, attrs={"channels_last": 1},
    ),
    "quantized softmax of several axes": Op(
        "QLinearSoftmax", {"x": u8(2, 3, 4)}, {**QX, "ys": F(0.01), "yz": np.uint8(0)},
        ("dequantize", "reshape", "nn.softmax", "reshape", "quantize"), domain=MS, attrs={"axis": 1, "opset": 11},
    ),
    "quantized concat": Op(
        "QLinearConcat", {"a": u8(2, 4), "b": u8(2, 3)}, {**QY, **QX, "bs": F(0.02), "bz": np.uint8(3)},
        ("dequantize", "dequantize", "concat", "quantize"), {"axis": 1}, domain=MS,
        order=("ys", "yz", "a", "xs", "xz", "b", "bs", "bz"),
    ),
    "integer matmul to real": Op(
        "MatMulIntegerToFloat", {"a": u8(2, 4)},
        {"b": i8(4, 3), "as": F(0.05), "bs": F(0.02), "az": np.uint8(120), "bz": np.int8(0), "bias": floats(3)},
        ("dequantize", "matmul", "add"), domain=MS,
    ),
    "dynamically quantized matmul": Op("DynamicQuantizeMatMul", {"a": floats(2, 4)}, {"b": i8(4, 3), "bs": F(0.02)},
                                       domain=MS),
    "attention": Op("Attention", ATTENTION, {}, opset=23),
    "attention, 3 axes": Op(
        "Attention", {"q": floats(1, 3, 8), "k": floats(1, 5, 4), "v": floats(1, 5, 4)}, {}, opset=23,
        attrs={"q_num_heads": 4, "kv_num_heads": 2},
    ),
    "attention with a mask": Op("Attention", ATTENTION, {"m": floats(3, 5)}, opset=23),
    "attention with a boolean mask": Op("Attention", ATTENTION, {"m": np.array(
        [[1, 0, 1, 1, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 1]], bool)}, opset=23),
    "attention, causal": Op("Attention", ATTENTION, {}, opset=23, attrs={"is_causal": 1, "scale": 0.3}),
    "attention, many heads": Op(
        "MultiHeadAttention", {"q": floats(1, 3, 8), "k": floats(1, 4, 8), "v": floats(1, 4, 8)},
        {"bias": floats(24)}, domain=MS, attrs={"num_heads": 2},
    ),
    "group norm": Op("GroupNormalization", {"x": X}, {"s": floats(4), "b": floats(4)}, ("nn.group_norm", "multiply",
                     "add"), {"num_groups": 2}, opset=21),
    "group norm by group": Op(
        "GroupNormalization", {"x": X}, {"s": floats(2), "b": floats(2)}, ("nn.group_norm",), {"num_groups": 2},
        opset=18,
    ),
    "instance norm": Op("InstanceNormalization", {"x": X}, {"s": floats(4), "b": floats(4)}),
    "layer norm with its mean": Op(
        "LayerNormalization", {"x": floats(2, 3, 4)}, {"s": floats(3, 4), "b": floats(3, 4)}, attrs={"axis": 1},
        outputs=3,
    ),
    "rms norm": Op("RMSNormalization", {"x": floats(1, 3, 8)}, {"s": floats(8)}, ("nn.rms_norm",), {"axis": -1},
                   opset=23),
    "layer norm of a sum": Op(
        "SkipLayerNormalization", {"x": floats(1, 3, 8), "s": floats(1, 3, 8, seed=1)},
        {"g": floats(8), "b": floats(8)},
        ("add", "nn.layer_norm"), domain=MS,
    ),
    "simplified layer norm": Op("SimplifiedLayerNormalization", {"x": floats(1, 3, 8)}, {"g": floats(8)},
                                ("nn.rms_norm",)),
    "matmul, turned and scaled": Op(
        "FusedMatMul", {"x": floats(3, 8), "w": floats(4, 8)}, {}, ("permute_dims", "matmul", "multiply"),
        {"alpha": 0.5, "transB": 1}, domain=MS,
    ),
    "quick gelu": Op("QuickGelu", {"x": floats(3, 8)}, {}, ("multiply", "sigmoid", "multiply"), domain=MS),
    "pad": Op("Pad", {"x": X}, {"p": np.array([0, 0, 1, 2, 0, 0, 0, 1]), "v": F(2.5)}, ("nn.pad",)),
    "pad, reflected": Op("Pad", {"x": X}, {"p": np.array([0, 0, 1, 2, 0, 0, 0, 1])}, ("nn.pad",), {"mode": "reflect"}),
    "pad, repeated": Op("Pad", {"x": X}, {"p": np.array([0, 0, 1, 2, 0, 0, 0, 1])}, ("nn.pad",), {"mode": "edge"}),
    "pad, around": Op("Pad", {"x": X}, {"p": np.array([0, 0, 1, 2, 0, 0, 0, 1])}, ("nn.pad",), {"mode": "wrap"},
                      opset=19),
    "pad that cuts": Op("Pad", {"x": X}, {"p": np.array([0, 0, -1, 2, 0, 0, 1, -2])}, ("strided_slice", "nn.pad")),
    "pad of some axes": Op("Pad", {"x": X}, {"p": np.array([1, 2]), "v": F(0), "a": np.array([-1])}, ("nn.pad",),
                           opset=18),
    "tile": Op("Tile", {"x": floats(2, 3)}, {"n": np.array([2, 3])}, ("tile",)),
    "running sum": Op("CumSum", {"x": floats(2, 3)}, {"a": np.int64(1)}, ("flip", "cumsum", "flip"),
                      {"reverse": 1, "exclusive": 1}),
    "one hot": Op("OneHot", {"i": np.array([0, -1, 2, 7])}, {"d": np.int64(3), "v": np.array([0, 1], F)},
                  attrs={"axis": -1}),
    "cast like": Op("CastLike", {"x": floats(2, 3)}, {"t": np.int32(0)}, ("astype",)),
    "integer power": Op("Pow", {"x": np.array([2, -3, 7], np.int32)}, {"e": np.int32(3)}),
    "power of another type": Op("Pow", {"x": floats(4)}, {"e": np.int64(2)}, ("power",)),
    "reversed sequences": Op("ReverseSequence", {"x": floats(4, 3)}, {"n": np.array([1, 4, 2])}, ("reverse_sequence",),
                             {"time_axis": 0, "batch_axis": 1}),
    "space to depth": Op("SpaceToDepth", {"x": X}, {}, ("reshape", "permute_dims", "reshape"), {"blocksize": 2}),
    "depth to space": Op("DepthToSpace", {"x": X}, {}, ("reshape", "permute_dims", "reshape"), {"blocksize": 2}),
    "shape as an output": Op("Shape", {"x": X}),
}  # fmt: skip


@pytest.mark.parametrize("name", OPS)
def test_numbers_of_onnxruntime(name: str) -> None:
    op = OPS[name]
    codes = "quantize" in op.becomes  # a float sum that lies between two codes may round to either
    imported = compare(op.model(), op.inputs, 1.0 if codes else 1e-4)
    if op.becomes:
        assert tuple(operators(imported)) == op.becomes


def test_a_quantized_convolution_is_a_layer_with_a_traced_weight() -> None:
    imported = import_onnx(OPS["quantized convolution"].model())
    ((use,),) = [uses for name, uses in imported.weights.items() if name == "w"]
    assert use.layer == "node"
    assert imported.quantization[use.var, 1].bits == 8
    masks = {"w": np.zeros((3, 4, 3, 3))}
    pruned = import_onnx(OPS["quantized convolution, uint8 weight"].model(), masks=masks)
    assert not pruned.graph.constants[next(n.input[1] for n in pruned.graph.nodes if n.op_type == "Conv")].any()


REFUSED = {
    "training": (
        Op("BatchNormalization", {"x": X}, {n: floats(4) for n in "sbmv"}, outputs=1, attrs={"training_mode": 1}),
        "training mode",
    ),
    "a window": (Op("Attention", ATTENTION, {}, opset=23, attrs={"left_window": 1}), "attribute left_window"),
    "shapes by data": (Op("NonZero", {"x": X}, {}), "depends on data"),
    "unique": (Op("Unique", {"x": floats(4)}, {}), "depends on data"),
    "random numbers": (Op("RandomNormalLike", {"x": X}, {}), "draws random numbers"),
    "dropout in training": (
        Op("Dropout", {"x": X}, {"ratio": F(0.5), "training": np.array(True)}), "draws random numbers"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_computed_wrongly_is_refused(name: str) -> None:
    op, expected = REFUSED[name]
    with pytest.raises(UnsupportedError) as caught:
        import_onnx(op.model())
    assert expected in str(caught.value)
    assert "node 'node'" in str(caught.value)


@pytest.mark.parametrize("zeros", [(None, None), (7, None), (7, 3), ([1, 2, 3], [0, 4, 5, 250])])
def test_an_integer_product_has_its_weight(zeros: tuple[Any, Any]) -> None:
    """A zero point is one number, or one for each row of a and each column of b. With it b is the weight of a layer."""
    from tesa.propagate import propagate
    from tests.propagate.run_network import run_network

    rng = np.random.default_rng(0)
    constants = {"w": rng.integers(0, 256, (5, 4)).astype(np.uint8)}
    names = ["x", "w"]
    for name, zero in zip(("za", "zb"), zeros, strict=True):
        if zero is not None:
            constants[name] = np.asarray(zero, np.uint8)
            names.append(name)
    nodes = [node("MatMulInteger", names, "i"), node("Cast", ["i"], "y", to=1)]
    proto = model(nodes, [port("x", [3, 5], "uint8")], ["y"], constants)
    x = rng.integers(0, 256, (3, 5)).astype(np.uint8)
    rows, columns = (np.asarray(0 if zero is None else zero) for zero in zeros)
    expected = (x.astype(np.int64) - rows.reshape(-1, 1)) @ (constants["w"].astype(np.int64) - columns)
    found = propagate(import_onnx(proto))
    (layer,) = found.weights.values()
    assert layer.weight.shape == (5, 4)
    got = run_network(found.network, {found.imported.mod["main"].params[0].name: x})
    np.testing.assert_array_equal(got[found.network.outputs[0]], expected)
