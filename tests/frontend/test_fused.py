"""Operators that ONNX Runtime's optimizers write: all forms of each, with the numbers of onnxruntime."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from .merged import differences
from .onnx_models import floats
from .test_operators import MS, Op

F = np.float32
X = floats(2, 3, 8, 6)
CONV = {"w": floats(4, 3, 3, 3, seed=1), "b": floats(4, seed=2)}
ACTIVATIONS: dict[str, dict[str, Any]] = {
    "Relu": {}, "Sigmoid": {}, "Tanh": {}, "LeakyRelu": {"activation_params": [0.2]},
    "Clip": {"activation_params": [-0.5, 0.7]}, "HardSigmoid": {"activation_params": [0.3, 0.4]},
}  # fmt: skip
SEQUENCE = floats(2, 5, 8, seed=3)
GEMM = {"activation_alpha": 0.3, "activation_beta": 0.2, "activation_gamma": 1.1}


def fused() -> dict[str, Op]:
    """Convolutions, products, activations and norms."""
    ops = {
        f"conv {kind}": Op("FusedConv", {"x": X}, CONV, attrs={"activation": kind, "pads": [1] * 4, **more}, domain=MS)
        for kind, more in ACTIVATIONS.items()
    }
    ops |= {
        f"gemm {kind}": Op(
            "FusedGemm", {"x": floats(3, 4)}, {"w": floats(5, 4), "b": floats(5)},
            attrs={"transB": 1, "alpha": 0.5, "activation": kind, **({} if kind in PLAIN else GEMM)}, domain=MS,
        )
        for kind in (*PLAIN, "LeakyRelu", "Elu", "HardSigmoid", "Selu", "ThresholdedRelu")
    }  # fmt: skip
    ops["conv sum"] = Op(
        "FusedConv", {"x": X, "z": floats(2, 4, 6, 4)}, CONV, attrs={"activation": "Relu"}, domain=MS,
        order=("x", "w", "b", "z"),
    )  # fmt: skip
    ops["conv sum, no bias"] = Op(
        "FusedConv", {"x": X, "z": floats(2, 4, 6, 4)}, {"w": CONV["w"]}, attrs={"activation": "Relu"}, domain=MS,
        order=("x", "w", "", "z"),
    )  # fmt: skip
    for a, b, sides in TURNED:
        ops[f"product {sides}"] = Op(
            "FusedMatMul", {"a": floats(*a), "b": floats(*b)}, domain=MS,
            attrs={"alpha": 0.5, **dict.fromkeys(sides, 1)},
        )  # fmt: skip
    ops |= ACTIVATED | NORMS
    return ops


PLAIN = ("Relu", "Sigmoid", "Tanh", "Softplus", "Softsign")
TURNED = (
    ((2, 3, 4), (2, 5, 4), ("transB",)), ((2, 4, 3), (2, 5, 4), ("transA", "transB")),
    ((3, 2, 4), (2, 4, 5), ("transBatchA",)), ((4, 2, 3), (2, 4, 5), ("transBatchA", "transA")),
    ((2, 3, 4), (4, 2, 5), ("transBatchB",)), ((2, 3, 4), (5, 2, 4), ("transBatchB", "transB")),
)  # fmt: skip
ACTIVATED = {
    "quick gelu": Op("QuickGelu", {"x": SEQUENCE}, attrs={"alpha": 1.3}, domain=MS),
    "gelu": Op("Gelu", {"x": SEQUENCE}, domain=MS),
    "bias gelu": Op("BiasGelu", {"x": SEQUENCE}, {"b": floats(8)}, domain=MS),
    "fast gelu": Op("FastGelu", {"x": SEQUENCE}, domain=MS),
    "fast gelu, bias": Op("FastGelu", {"x": SEQUENCE}, {"b": floats(8)}, domain=MS),
}  # fmt: skip
NORM = {"g": floats(8, seed=5), "b": floats(8, seed=6)}
SKIP = {"x": SEQUENCE, "s": floats(2, 5, 8, seed=4)}
NORMS = {
    "skip": Op("SkipLayerNormalization", SKIP, {**NORM, "bias": floats(8)}, domain=MS, attrs={"epsilon": 1e-3}),
    "skip sum": Op("SkipLayerNormalization", SKIP, NORM, domain=MS, outputs=4),
    "skip, one row": Op("SkipLayerNormalization", {"x": SEQUENCE, "s": floats(5, 8)}, {"g": NORM["g"]}, domain=MS),
    "skip rms": Op("SkipSimplifiedLayerNormalization", SKIP, {"g": NORM["g"]}, domain=MS),
    "rms": Op("SimplifiedLayerNormalization", {"x": SEQUENCE}, {"g": NORM["g"]}, attrs={"axis": -1}),
    "l1": Op("LpNormalization", {"x": SEQUENCE}, attrs={"p": 1, "axis": 1}),
    "l2": Op("LpNormalization", {"x": np.concatenate([SEQUENCE, 0 * SEQUENCE])}, attrs={"axis": -1}),
    "celu": Op("Celu", {"x": SEQUENCE}, attrs={"alpha": 0.7}),
}  # fmt: skip


def check(ops: dict[str, Op], opset: int = 18) -> None:
    """All of them in one model."""
    ops = {name: replace(op, opset=opset) for name, op in ops.items()}
    wrong = differences({name: op.model() for name, op in ops.items()}, {name: op.inputs for name, op in ops.items()})
    assert not wrong


@pytest.mark.slow
def test_convolutions_products_activations_and_norms() -> None:
    check(fused())
