"""Quantized models that get smaller: integer products stay integer products, packed weights stay small."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from tesa.frontend import import_onnx

from .shrink import dense, model, node, operators, port, shapes, shrink, weights, without


def dynamic(x: str, weight: str, out: str) -> list[Any]:
    """A layer as dynamic quantization writes it."""
    codes = [f"{out}.{part}" for part in ("codes", "scale", "zero")]
    return [
        helper.make_node("DynamicQuantizeLinear", [x], codes, f"{out}.quantize"),
        node("MatMulInteger", [codes[0], weight, codes[2]], f"{out}.sum"),
        node("Cast", [f"{out}.sum"], f"{out}.real", to=1),
        node("Mul", [codes[1], f"{weight}.scale"], f"{out}.factor"),
        node("Mul", [f"{out}.real", f"{out}.factor"], out),
    ]


def feed_forward(bias: Any) -> Any:
    """x W1 + bias, ReLU, W2, with columns of W1 that are 0."""
    rng = np.random.default_rng(0)
    first, second = (rng.integers(-127, 128, shape).astype(np.int8) for shape in ((6, 8), (8, 5)))
    first[:, ::2] = 0
    nodes = [
        *dynamic("x", "w1", "a"), node("Add", ["a", "bias"], "b"), node("Relu", ["b"], "r"), *dynamic("r", "w2", "y")
    ]  # fmt: skip
    given = {"w1": first, "w2": second, "bias": bias, "w1.scale": np.float32(0.1), "w2.scale": np.float32(0.01)}
    return model(nodes, [port("x", [3, 6])], ["y"], given)


def test_hidden_units_go_through_integer_products() -> None:
    found = shrink(feed_forward(without(dense(8), *range(0, 8, 2))))
    assert {name: shape for name, shape in shapes(found).items() if shape} == {"w1": (6, 4), "w2": (4, 5), "bias": (4,)}
    assert operators(found).count("MatMulInteger") == 2
    assert [str(row).split(": ", 1)[1] for row in found.removed] == ["w1 axis 1: 8 -> 4", "w2 axis 0: 8 -> 4"]


def test_constants_other_than_0_stay_as_they_make_the_range() -> None:
    assert shrink(feed_forward(dense(8) * 100)).removed == ()


def test_what_a_weight_of_zeros_reads_goes() -> None:
    """Its numbers are dead, codes, scale and zero point with them."""
    proto = feed_forward(dense(8))
    second = next(tensor for tensor in proto.graph.initializer if tensor.name == "w2")
    second.raw_data = bytes(8 * 5)
    found = shrink(proto)
    assert "w2 axis 0: 8 -> 1" in "; ".join(map(str, found.removed))


@pytest.mark.parametrize("reader", ["output", "Cast", "other zero point"])
def test_codes_that_are_read_for_themselves_stay(reader: str) -> None:
    proto = feed_forward(without(dense(8), *range(0, 8, 2)))
    if reader == "output":
        proto.graph.output.append(helper.make_tensor_value_info("y.codes", TensorProto.UINT8, [3, 8]))
    elif reader == "Cast":
        proto.graph.node.append(node("Cast", ["y.codes"], "z", to=1))
        proto.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [3, 8]))
    else:
        next(n for n in proto.graph.node if n.output[0] == "y.sum").input[2] = "a.zero"
    assert shrink(proto).removed == ()


def test_channels_go_through_integer_convolutions() -> None:
    rng = np.random.default_rng(0)
    first, second = (rng.integers(1, 255, shape).astype(np.uint8) for shape in ((8, 3, 3, 3), (4, 8, 1, 1)))
    zero = np.uint8(120)
    first[::2] = zero
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        node("ConvInteger", ["q", "w1", "z", "zero"], "a", pads=[1] * 4),
        node("Cast", ["a"], "b", to=1), node("Mul", ["b", "s"], "c"),
        helper.make_node("DynamicQuantizeLinear", ["c"], ["q2", "s2", "z2"]),
        node("ConvInteger", ["q2", "w2", "z2"], "d"), node("Cast", ["d"], "e", to=1), node("Mul", ["e", "s2"], "y"),
    ]  # fmt: skip
    given = {"w1": first, "w2": second, "zero": zero}
    found = shrink(model(nodes, [port("x", [1, 3, 5, 5])], ["y"], given))
    assert shapes(found) == {"w1": (4, 3, 3, 3), "w2": (4, 4, 1, 1), "zero": ()}


@pytest.mark.parametrize("level", [None, 7])
def test_packed_weights_stay_small(level: int | None) -> None:
    """Channels go, and what is left is in blocks of 4 bits as it was."""
    rng = np.random.default_rng(0)
    packed = {
        "a": rng.integers(0, 256, (64, 2, 16)).astype(np.uint8),
        "b": rng.integers(0, 256, (8, 2, 16)).astype(np.uint8),
    }
    middle = 8 if level is None else level
    packed["a"][::2] = middle * 17
    given = {
        **packed,
        "a.scale": dense(128) / 9,
        "b.scale": dense(16) / 9,
        "bias": without(dense(64), *range(0, 64, 2)),
    }
    levels = [] if level is None else ["a.zero"]
    if level is not None:
        given["a.zero"] = np.full(64, level * 17, np.uint8)
    sizes = {"domain": "com.microsoft", "bits": 4, "block_size": 32, "K": 64}
    nodes = [
        node("MatMulNBits", ["x", "a", "a.scale", *levels], "s", N=64, **sizes), node("Add", ["s", "bias"], "t"),
        node("Relu", ["t"], "r"), node("MatMulNBits", ["r", "b", "b.scale"], "y", N=8, **sizes),
    ]  # fmt: skip
    proto = model(nodes, [port("x", [3, 64])], ["y"], given)
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    found = shrink(proto)
    made = weights(found.proto)
    assert made["a"].shape == (64, 32)
    assert {made[name].dtype.name for name in "ab"} == {"uint4"}
    assert found.proto.ByteSize() < proto.ByteSize()
    assert {q.bits for q in import_onnx(found.proto).quantization.values()} == {4}


def test_codes_of_16_bits_of_onnxruntimes_own_operators_are_of_onnx_now() -> None:
    weight = without(dense(4, 6), 1, 3, axis=0).T
    pair = ["scale", "zero"]
    microsoft = {"domain": "com.microsoft"}
    nodes = [
        node("MatMul", ["x", "w"], "a"), node("Relu", ["a"], "r"),
        node("QuantizeLinear", ["r", *pair], "q", **microsoft),
        node("DequantizeLinear", ["q", *pair], "d", **microsoft),
        node("MatMul", ["d", "v"], "y"),
    ]  # fmt: skip
    given = {"w": weight, "v": dense(4, 5), "scale": np.float32(1e-3), "zero": np.uint16(0)}
    proto = model(nodes, [port("x", [3, 6])], ["y"], given)
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    assert {name: shape for name, shape in shapes(shrink(proto)).items() if shape} == {"w": (6, 2), "v": (2, 5)}
