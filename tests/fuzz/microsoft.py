"""A small model of each operator of ONNX Runtime's own, of which ONNX has no schema to hold a node against."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DOMAIN, BLOCKED = "com.microsoft", "com.microsoft.nchwc"

Shapes = dict[str, tuple[int, ...]]


def _floats(*shape: int) -> Any:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def _codes(*shape: int, kind: Any = np.uint8) -> Any:
    return np.random.default_rng(1).integers(1, 9, shape).astype(kind)


@dataclass(frozen=True)
class Seed:
    """One node. inputs: the shapes of what is fed, reals; arrays: what the file holds; order: "" is left out."""

    op: str
    inputs: Shapes
    arrays: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    outputs: int = 1
    order: tuple[str, ...] = ()
    domain: str = DOMAIN
    codes: bool = False
    """The inputs are of uint8."""

    def model(self) -> onnx.ModelProto:
        """The node as a model."""
        names, results = self.order or (*self.inputs, *self.arrays), [f"y{i}" for i in range(self.outputs)]
        kind = TensorProto.UINT8 if self.codes else TensorProto.FLOAT
        node = helper.make_node(self.op, names, results, "node", domain=self.domain, **self.options)
        ports = [helper.make_tensor_value_info(name, kind, shape) for name, shape in self.inputs.items()]
        tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in self.arrays.items()]
        graph = helper.make_graph([node], "seed", ports, [onnx.ValueInfoProto(name=n) for n in results], tensors)
        sets = [helper.make_opsetid(domain, version) for domain, version in (("", 18), (DOMAIN, 1), (BLOCKED, 1))]
        return helper.make_model(graph, opset_imports=sets, ir_version=10)


ROWS, PICTURE, WIDE = {"x": (2, 5, 8)}, {"x": (2, 4, 6, 6)}, {"x": (2, 6, 6, 4)}
HALF = {"s": np.float32(0.05), "z": np.uint8(120)}
NORM = {"g": _floats(8), "b": _floats(8)}
AFTER = {"ys": np.float32(0.1), "yz": np.uint8(100)}
CACHES = {"cos": _floats(16, 2), "sin": _floats(16, 2)}
FILTER = {"w": _floats(4, 4, 3, 3), "b": _floats(4)}
IDS = np.array([[1, 0, 3], [2, 2, 1]], np.int32)
TABLES = [_floats(9, 8), _floats(6, 8), _floats(2, 8), _floats(8), _floats(8)]
POOL = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}

ACTIVATIONS = (
    Seed("BiasAdd", {**ROWS, "skip": (2, 5, 8)}, {"b": _floats(8)}, order=("x", "b", "skip")),
    Seed("BiasSoftmax", {"x": (2, 3, 4)}, {"b": _floats(2, 1, 4)}, {"axis": 2, "is_inner_broadcast": 0}),
    Seed("BiasSplitGelu", ROWS, {"b": _floats(8)}),
    Seed("GemmFastGelu", {"x": (3, 8)}, {"w": _floats(8, 4), "b": _floats(4)}),
    Seed("IsAllFinite", {"x": (2, 3), "y": (4,)}),
    Seed("ScaledSiLU", ROWS, {}, {"alpha": 0.5}),
    Seed("SwiGLU", ROWS, {}, {"limit": 2.0, "activation_alpha": 1.7, "activation_beta": 1.0}),
    Seed("FusedConv", PICTURE, FILTER, {"activation": "Clip", "activation_params": [-0.5, 0.7], "pads": [1] * 4}),
    Seed("FusedGemm", {"x": (3, 4)}, {"w": _floats(5, 4), "b": _floats(5)}, {"transB": 1, "activation": "Elu"}),
    Seed("FusedMatMulActivation", {"x": (3, 4)}, {"w": _floats(4, 5)}, {"activation": "Softmax", "activation_axis": 1}),
    Seed("TransposeMatMul", {"a": (2, 4, 3), "b": (2, 4, 5)}, {}, {"transA": 1, "alpha": 0.5}),
)

NORMS = (
    Seed("GatedRMSNorm", {"x": (2, 5, 8)}, {"g": _floats(8), "gate": _floats(2, 5, 8)}),
    Seed("GroupNorm", WIDE, {"g": _floats(4), "b": _floats(4)}, {"groups": 2, "activation": 1}),
    Seed("SkipGroupNorm", {**WIDE, "skip": (2, 6, 6, 4)}, {"g": _floats(4), "b": _floats(4)},
         {"groups": 2, "activation": 0}, 2, ("x", "g", "b", "skip")),
    Seed("SkipLayerNormalization", {**ROWS, "skip": (2, 5, 8)}, {**NORM, "bias": _floats(8)}, {"epsilon": 1e-3}, 4),
    Seed("SkipSimplifiedLayerNormalization", {**ROWS, "skip": (2, 5, 8)}, {"g": _floats(8)}),
    Seed("EmbedLayerNormalization", {}, {"ids": IDS, "kinds": IDS % 2, **dict(zip("wpsgb", TABLES, strict=True))},
         {}, 2),
    Seed("QEmbedLayerNormalization", {}, {
        "ids": IDS, "kinds": IDS % 2, **{n: _codes(*table.shape) for n, table in zip("wpsgb", TABLES, strict=True)},
        **{f"{name}s": np.float32(0.1) for name in "wpsgb"}, **{f"{name}z": np.uint8(4) for name in "wpsgb"}}, {}, 2,
        ("ids", "kinds", *"wpsgb", "", *(f"{n}s" for n in "wpsgb"), *(f"{n}z" for n in "wpsgb"))),
)  # fmt: skip

MOVEMENT = (
    Seed("ExpandDims", ROWS, {"axis": np.int32(1)}),
    Seed("GatherND", {"x": (3, 4)}, {"i": np.array([[0, 1], [2, 3]])}),
    Seed("Trilu", {"x": (4, 5)}, {"k": np.array(1)}, {"upper": 0}),
    Seed("UnfoldTensor", {"x": (2, 12)}, {}, {"dim": -1, "size": 4, "step": 2}),
    Seed("GridSample", PICTURE, {"grid": _floats(2, 3, 3, 2)}, {"mode": "bilinear", "padding_mode": "border"}),
    Seed("Rfft", {"x": (2, 8)}, {}, {"signal_ndim": 1, "normalized": 0, "onesided": 1}),
    Seed("Irfft", {"x": (2, 5, 2)}, {}, {"signal_ndim": 1, "normalized": 0, "onesided": 1}),
    Seed("ComplexMul", {"x": (2, 3, 2)}, {"c": _floats(2, 3, 2)}),
    Seed("ReduceSumInteger", {"x": (2, 3)}, {}, {"axes": [1], "keepdims": 0}, codes=True),
    Seed("MulInteger", {"x": (2, 3), "y": (2, 3)}, {"z": np.uint8(3), "w": np.uint8(4)}, order=("x", "z", "y", "w"),
         codes=True),
    Seed("MaxPool", PICTURE, {}, POOL, domain=BLOCKED),
    Seed("Upsample", PICTURE, {}, {"scales": [1, 1, 2, 2], "mode": "nearest"}, domain=BLOCKED),
    Seed("ReorderInput", PICTURE, {}, {"channels_last": 0, "block": 8}, domain=BLOCKED),
    Seed("ReorderOutput", {"x": (2, 8, 6, 6)}, {}, {"channels": 4, "channels_last": 1}, domain=BLOCKED),
    Seed("NhwcConv", WIDE, FILTER, {"pads": [1] * 4}),
)  # fmt: skip

ATTENTIONS = (
    Seed("Attention", {**ROWS, "past": (2, 2, 2, 3, 4)}, {"w": _floats(8, 24), "b": _floats(24)},
         {"num_heads": 2, "unidirectional": 1}, 2, ("x", "w", "b", "", "past")),
    Seed("MultiHeadAttention", {"q": (2, 5, 8), "k": (2, 4, 8), "v": (2, 4, 8)}, {"b": _floats(24)},
         {"num_heads": 2}),
    Seed("GroupQueryAttention", {"q": (1, 3, 32), "k": (1, 3, 16), "v": (1, 3, 16)},
         {"n": np.array([2], np.int32), "t": np.int32(3), "cos": _floats(16, 4), "sin": _floats(16, 4)},
         {"num_heads": 4, "kv_num_heads": 2, "do_rotary": 1}, 3, ("q", "k", "v", "", "", "n", "t", "cos", "sin")),
    Seed("QAttention", ROWS, {"w": _codes(8, 24, kind=np.int8), "b": _floats(24), "xs": np.float32(0.02),
         "ws": np.float32(0.01), "xz": np.uint8(120), "wz": np.int8(0)}, {"num_heads": 2},
         order=("x", "w", "b", "xs", "ws", "", "xz", "wz"), codes=True),
    Seed("RotaryEmbedding", {"x": (1, 3, 8)}, {"p": np.array([2]), **CACHES},
         {"num_heads": 2, "rotary_embedding_dim": 4}),
    Seed("GemmaRotaryEmbedding", {"e": (1, 3, 4), **dict.fromkeys(("q", "qr", "k", "kr"), (1, 2, 3, 4))}, outputs=2),
    Seed("DynamicQuantizeLSTM", {"x": (3, 1, 4)}, {
        "W": _codes(1, 4, 12), "R": _codes(1, 3, 12), "B": _floats(1, 24), "ws": np.full(1, 0.1, np.float32),
        "wz": _codes(1), "rs": np.full(1, 0.1, np.float32), "rz": _codes(1)}, {"hidden_size": 3}, 3,
        ("x", "W", "R", "B", "", "", "", "", "ws", "wz", "rs", "rz")),
)  # fmt: skip

CODES = (
    Seed("DynamicQuantizeMatMul", {"x": (3, 4)}, {"w": _codes(4, 5), "ws": np.float32(0.1), "wz": np.uint8(3)}),
    Seed("MatMulIntegerToFloat", {"x": (3, 4)}, {"w": _codes(4, 5), "xs": np.float32(0.1), "ws": np.float32(0.1),
         "xz": np.uint8(9), "wz": np.uint8(3), "b": _floats(5)}, codes=True),
    Seed("MatMulBnb4", {"x": (3, 64)}, {"w": _codes(10 * 32), "m": abs(_floats(20))},
         {"K": 64, "N": 10, "block_size": 32, "quant_type": 1}),
    Seed("MatMulNBits", {"x": (2, 64)}, {"w": _codes(5, 2, 16), "s": _floats(5, 2), "z": _codes(5),
         "g": np.arange(64, dtype=np.int32) // 32}, {"K": 64, "N": 5, "bits": 4, "block_size": 32}),
    Seed("GatherBlockQuantized", {}, {"t": _codes(6, 16), "i": np.array([[0, 1, 5]]), "s": _floats(6, 2)},
         {"gather_axis": 0, "quantize_axis": 1, "block_size": 16, "bits": 4}),
    Seed("QGemm", {"x": (3, 7)}, {**HALF, "w": _codes(5, 7), "ws": np.float32(0.1), "wz": np.uint8(3),
         "b": _codes(5, kind=np.int32), **AFTER}, {"transB": 1}, codes=True),
    Seed("QLinearConv", WIDE, {**HALF, "w": _codes(5, 4, 3, 3), "ws": np.float32(0.1), "wz": np.uint8(3), **AFTER,
         "b": _codes(5, kind=np.int32)}, {"pads": [1] * 4, "channels_last": 1}, codes=True),
    Seed("QLinearAdd", PICTURE, {**HALF, "o": _codes(6), "os": np.float32(0.1), "oz": np.uint8(3), **AFTER},
         codes=True),
    Seed("QLinearLeakyRelu", PICTURE, {**HALF, **AFTER}, {"alpha": 0.2}, codes=True),
    Seed("QLinearSoftmax", {"x": (2, 3, 4)}, {**HALF, **AFTER}, {"opset": 11, "axis": 1}, codes=True),
    Seed("QLinearAveragePool", WIDE, {**HALF, **AFTER}, {**POOL, "channels_last": 1}, codes=True),
    Seed("QLinearGlobalAveragePool", WIDE, {**HALF, **AFTER}, {"channels_last": 1}, codes=True),
    Seed("QLinearConcat", {"x": (2, 3)}, {**HALF, **AFTER}, {"axis": 1},
         order=("ys", "yz", "x", "s", "z", "x", "s", "z"), codes=True),
    Seed("QLinearWhere", {"x": (2, 3)}, {"c": np.array([True, False, True]), **HALF, **AFTER},
         order=("c", "x", "s", "z", "x", "s", "z", "ys", "yz"), codes=True),
    Seed("QLinearReduceMean", PICTURE, {**HALF, **AFTER}, {"axes": [2, 3], "keepdims": 1}, codes=True),
    Seed("NhwcMaxPool", WIDE, {}, POOL, codes=True),
)  # fmt: skip


def microsoft_operators() -> Iterator[onnx.ModelProto]:
    """A model for each."""
    for seed in (*ACTIVATIONS, *NORMS, *MOVEMENT, *ATTENTIONS, *CODES):
        yield seed.model()
