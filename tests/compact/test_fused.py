"""Channels that go through products of integers, and through operators that others were fused into."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from tesa.frontend import import_onnx

from .shrink import dense, model, node, port, shapes, shrink

HIDDEN, LEFT = 16, 8


def codes(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(-127, 128, shape).astype(np.int8)


def dynamic(source: str, weight: str, out: str, op: str = "MatMulInteger", **options: Any) -> list[Any]:
    """A product as onnxruntime quantizes it: the input by its own range, the weight in the file."""
    quantize = helper.make_node("DynamicQuantizeLinear", [source], [f"{out}q", f"{out}s", f"{out}z"])
    return [
        quantize,
        node(op, [f"{out}q", weight, f"{out}z"], f"{out}i", **options),
        node("Cast", [f"{out}i"], f"{out}f", to=TensorProto.FLOAT),
        node("Mul", [f"{out}s", "ws"], f"{out}t"),
        node("Mul", [f"{out}f", f"{out}t"], out),
    ]


def test_hidden_units_between_two_products_of_integers_go() -> None:
    first, second, bias = codes(12, HIDDEN), codes(HIDDEN, 12, seed=1), dense(HIDDEN)
    first[:, ::2], bias[::2] = 0, 0
    nodes = [
        *dynamic("x", "first", "a"),
        node("Add", ["a", "bias"], "b"),
        node("Relu", ["b"], "r"),
        *dynamic("r", "second", "y"),
    ]
    arrays = {"first": first, "second": second, "bias": bias, "ws": np.float32(0.01)}
    made = shapes(shrink(model(nodes, [port("x", [4, 12])], ["y"], arrays)))
    assert (made["first"], made["second"], made["bias"]) == ((12, LEFT), (LEFT, 12), (LEFT,))


def test_channels_between_two_convolutions_of_integers_go() -> None:
    first, second = codes(HIDDEN, 3, 3, 3), codes(4, HIDDEN, 3, 3, seed=1)
    first[::2] = 0
    nodes = [
        *dynamic("x", "first", "a", "ConvInteger", pads=[1] * 4),
        node("Relu", ["a"], "r"),
        *dynamic("r", "second", "y", "ConvInteger", pads=[1] * 4),
    ]
    arrays = {"first": first, "second": second, "ws": np.float32(0.01)}
    made = shapes(shrink(model(nodes, [port("x", [1, 3, 5, 5])], ["y"], arrays)))
    assert (made["first"], made["second"]) == ((LEFT, 3, 3, 3), (4, LEFT, 3, 3))


def test_codes_that_somebody_reads_as_numbers_stay() -> None:
    """A code of 0 is its zero point, which is known at run time only."""
    first = codes(12, HIDDEN)
    first[:, ::2] = 0
    nodes = [
        *dynamic("x", "first", "a"),
        helper.make_node("DynamicQuantizeLinear", ["a"], ["q", "s", "z"]),
        node("Cast", ["q"], "c", to=TensorProto.FLOAT),
        node("ReduceSum", ["c", "axis"], "y", keepdims=0),
    ]
    arrays = {"first": first, "ws": np.float32(0.01), "axis": np.array([1])}
    found = shrink(model(nodes, [port("x", [4, 12])], ["y"], arrays))
    assert found.removed == ()
    assert "DynamicQuantizeLinear" in found.kept[0]


def microsoft(proto: Any) -> Any:
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    for item in proto.graph.node:
        if item.op_type not in ("MatMul", "Relu", "Add", "Transpose"):
            item.domain = "com.microsoft"
    return proto


@pytest.mark.parametrize("middle", ["BiasGelu", "FastGelu", "SkipLayerNormalization"])
def test_features_go_through_fused_operators(middle: str) -> None:
    """A norm mixes the features, so they stay; the others pass them one by one."""
    first, bias = dense(12, HIDDEN), dense(HIDDEN)
    first[:, ::2], bias[::2] = 0, 0
    second = dense(5, HIDDEN)
    inputs = ["a", "bias"] if middle != "SkipLayerNormalization" else ["a", "a", "bias"]
    nodes = [
        node("FusedMatMul", ["x", "first"], "a", alpha=0.5),
        node(middle, inputs, "r"),
        node("FusedMatMul", ["r", "second"], "y", transB=1),
    ]
    arrays = {"first": first, "second": second, "bias": bias}
    found = shrink(microsoft(model(nodes, [port("x", [2, 4, 12])], ["y"], arrays)))
    made = shapes(found)
    left = HIDDEN if middle == "SkipLayerNormalization" else LEFT
    assert (made["first"], made["second"], made["bias"]) == ((12, left), (5, left), (left,))


def test_hidden_units_of_fused_products_go() -> None:
    """Such a node is written out as several, which all belong to its layer."""
    first, second, bias = dense(12, HIDDEN), dense(HIDDEN, 12, seed=1), dense(HIDDEN)
    first[:, ::2], bias[::2] = 0, 0
    fused = {"domain": "com.microsoft", "activation": "Relu", "alpha": 1.0, "beta": 1.0}
    nodes = [
        node("FusedGemm", ["x", "first", "bias"], "a", name="up", **fused),
        node("FusedMatMul", ["a", "second"], "y", name="down", domain="com.microsoft", alpha=0.5),
    ]
    proto = model(nodes, [port("x", [4, 12])], ["y"], {"first": first, "second": second, "bias": bias})
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    made = shapes(shrink(proto))
    assert sorted(shape for shape in made.values() if len(shape) == 2) == [(LEFT, 12), (12, LEFT)]


def test_channels_of_fused_convolutions_go() -> None:
    """The convolution, the sum and the activation are of one layer; its weight is traced and cut."""
    first, second, bias = dense(HIDDEN, 3, 3, 3), dense(4, HIDDEN, 3, 3, seed=1), dense(HIDDEN)
    first[::2], bias[::2] = 0, 0
    nodes = [
        node("FusedConv", ["x", "first", "bias"], "a", domain="com.microsoft", activation="Relu", pads=[1] * 4),
        node("FusedConv", ["a", "second"], "y", domain="com.microsoft", activation="Tanh"),
    ]
    arrays = {"first": first, "second": second, "bias": bias}
    given = microsoft(model(nodes, [port("x", [1, 3, 6, 6])], ["y"], arrays))
    assert {name: use.layer for name, (use,) in import_onnx(given).weights.items()} == {"first": "a", "second": "y"}
    made = shapes(shrink(given))
    assert (made["first"], made["second"]) == ((LEFT, 3, 3, 3), (4, LEFT, 3, 3))
