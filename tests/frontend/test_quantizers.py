"""What onnxruntime's own quantizers write, in all configurations: right numbers, and the zeros of the float weights."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from tesa.propagate import propagate

from .onnx_models import floats, model, node, port
from .test_quantized import both

pytestmark = pytest.mark.slow

QDQ, OPERATORS = QuantFormat.QDQ, QuantFormat.QOperator
I4, U4, I8, U8, I16, U16 = (getattr(QuantType, f"Q{sign}Int{bits}") for bits in (4, 8, 16) for sign in ("", "U"))
SYMMETRIC = {"ActivationSymmetric": True, "WeightSymmetric": True, "AddQDQPairToWeight": True, "DedicatedQDQPair": True}
OWN = {"UseQDQContribOps": True}
UNEVEN = {"WeightSymmetric": False, "QDQKeepRemovableActivations": True}

STATIC: dict[str, tuple[int, dict[str, Any]]] = {
    "QDQ": (17, {"quant_format": QDQ}),
    "QDQ, signed, symmetric": (17, {"activation_type": I8, "extra_options": SYMMETRIC}),
    "QDQ, by channel": (17, {"quant_format": QDQ, "per_channel": True, "reduce_range": True}),
    "QDQ, by channel, uneven": (17, {"per_channel": True, "activation_type": I8, "extra_options": UNEVEN}),
    "QDQ, unsigned weights": (17, {"weight_type": U8, "activation_type": U8}),
    "QDQ, 16 bits": (17, {"activation_type": U16, "weight_type": I8, "per_channel": True, "extra_options": OWN}),
    "QDQ, 16 bits, signed": (17, {"activation_type": I16, "weight_type": I8, "extra_options": SYMMETRIC | OWN}),
    "operators": (17, {"quant_format": OPERATORS}),
    "operators, signed": (17, {"quant_format": OPERATORS, "activation_type": I8, "reduce_range": True}),
    "operators, by channel": (17, {"quant_format": OPERATORS, "activation_type": U8, "per_channel": True}),
    "operators, unsigned weights": (17, {"quant_format": OPERATORS, "activation_type": U8, "weight_type": U8}),
    "4 bits": (21, {"weight_type": I4, "activation_type": U8}),
    "4 bits, unsigned, by channel": (21, {"weight_type": U4, "activation_type": U16, "per_channel": True}),
    "16 bits": (21, {"weight_type": I16, "activation_type": U16}),
    "16 bits, unsigned": (21, {"weight_type": U16, "activation_type": U16, "per_channel": True}),
}
DYNAMIC: dict[str, dict[str, Any]] = {
    "dynamic": {"weight_type": I8},
    "dynamic, unsigned": {"weight_type": U8},
    "dynamic, by channel": {"weight_type": I8, "per_channel": True, "reduce_range": True},
    "dynamic, by channel, unsigned": {"weight_type": U8, "per_channel": True},
}


def network(opset: int) -> onnx.ModelProto:
    """A small network of images with about half of its weights pruned, and an attention behind it."""
    weights: Mapping[str, Any] = {
        "conv.weight": floats(4, 3, 3, 3), "mix.weight": floats(8, 4, 1, 1, seed=1), "fc.weight": floats(6, 8, seed=2),
        "query": floats(6, 6, seed=3), "value": floats(6, 6, seed=4),
    }  # fmt: skip
    pruned = {name: np.where(np.random.default_rng(5).random(w.shape) < 0.5, 0, w) for name, w in weights.items()}
    given = {**pruned, "conv.bias": floats(4), "fc.bias": floats(6), "norm": np.ones(6, np.float32),
             "shift": np.zeros(6, np.float32), "axis": np.array([1]), "six": np.float32(6),
             "zero": np.float32(0)}  # fmt: skip
    nodes = [
        node("Conv", ["x", "conv.weight", "conv.bias"], "a", pads=[1] * 4), node("Relu", ["a"], "b"),
        node("MaxPool", ["b"], "c", kernel_shape=[2, 2], strides=[2, 2]), node("Conv", ["c", "mix.weight"], "d"),
        node("Clip", ["d", "zero", "six"], "e"), node("Add", ["d", "e"], "f"), node("LeakyRelu", ["f"], "g"),
        node("GlobalAveragePool", ["g"], "h"), node("Flatten", ["h"], "i"),
        node("Gemm", ["i", "fc.weight", "fc.bias"], "j", transB=1), node("Sigmoid", ["j"], "k"),
        node("LayerNormalization", ["k", "norm", "shift"], "l"), node("Unsqueeze", ["l", "axis"], "m"),
        node("MatMul", ["m", "query"], "n"), node("Transpose", ["m"], "o", perm=[0, 2, 1]),
        node("MatMul", ["n", "o"], "p"), node("Softmax", ["p"], "q", axis=-1), node("MatMul", ["m", "value"], "r"),
        node("MatMul", ["q", "r"], "s"), node("Mul", ["s", "n"], "y"),
    ]  # fmt: skip
    proto = model(nodes, [port("x", [1, 3, 6, 6])], ["y"], given, opset=opset)
    proto.ir_version = 10
    return onnx.shape_inference.infer_shapes(proto)


class Images(CalibrationDataReader):
    def __init__(self) -> None:
        self.images = iter([{"x": floats(1, 3, 6, 6, seed=seed)} for seed in range(8)])

    def get_next(self) -> Any:
        return next(self.images, None)


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """Its advice to prepare the model first."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def joined(models: Mapping[str, onnx.ModelProto]) -> onnx.ModelProto:
    """Several models of one input side by side."""
    parts = [onnx.compose.add_prefix(m, f"m{i}/", rename_inputs=False) for i, m in enumerate(models.values())]
    graphs = [part.graph for part in parts]
    whole = helper.make_graph(
        [n for g in graphs for n in g.node], "joined", list(graphs[0].input), [o for g in graphs for o in g.output],
        [t for g in graphs for t in g.initializer],
    )  # fmt: skip
    opsets = {o.domain: o.version for part in parts for o in part.opset_import}
    return helper.make_model(whole, opset_imports=[helper.make_opsetid(*o) for o in opsets.items()], ir_version=10)


def check(models: Mapping[str, onnx.ModelProto], tolerances: Mapping[str, float], layers: int) -> None:
    """Each model is right to the tolerance of its largest output, and each of its pruned weights is known as such."""
    image = floats(1, 3, 6, 6, seed=9)
    imported, ours, theirs = both(joined(models), {"x": image})
    for name, found, expected in zip(models, ours, theirs, strict=True):
        assert np.abs(expected).max() > 0.1, name
        assert np.abs(found - expected).max() <= tolerances[name] * np.abs(expected).max(), name
    weights = propagate(imported).weights
    assert len(weights) == len(imported.quantization) == layers * len(models)
    for var, facts in weights.items():
        assert facts.given_sparsity > 0.3, (var, facts)


@pytest.mark.parametrize("opset", [17, 21])
def test_static_quantization(opset: int, tmp_path: Path) -> None:
    onnx.save(network(opset), tmp_path / "float.onnx")
    models = {}
    for name, (version, options) in STATIC.items():
        if version == opset:
            quantize_static(tmp_path / "float.onnx", tmp_path / "q.onnx", Images(), **options)
            models[name] = onnx.load(tmp_path / "q.onnx")
    check(models, {name: 1e-3 if "16" in name else 0.02 for name in models}, 5)


def test_dynamic_quantization(tmp_path: Path) -> None:
    onnx.save(network(17), tmp_path / "float.onnx")
    models = {}
    for name, options in DYNAMIC.items():
        quantize_dynamic(tmp_path / "float.onnx", tmp_path / "q.onnx", **options)
        models[name] = onnx.load(tmp_path / "q.onnx")
    check(models, dict.fromkeys(models, 1e-5), 5)
