"""Features and heads are removed over networks of matrix products; quantized models stay quantized."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from tesa.frontend import import_onnx

from .shrink import dense, model, node, operators, port, shapes, shrink, weights, without

TOKENS = port("x", [1, 5, 8])


def linear(x: str, name: str, y: str) -> list[Any]:
    return [node("MatMul", [x, f"{name}.weight"], f"{y}.product"), node("Add", [f"{y}.product", f"{name}.bias"], y)]


def layer(name: str, k: int, n: int, seed: int = 0) -> dict[str, Any]:
    return {f"{name}.weight": dense(k, n, seed=seed) - 1, f"{name}.bias": dense(n, seed=seed + 1) - 1}


def gelu(x: str, y: str) -> list[Any]:
    return [
        node("Div", [x, "root2"], f"{y}.scaled"), node("Erf", [f"{y}.scaled"], f"{y}.erf"),
        node("Add", [f"{y}.erf", "one"], f"{y}.plus"), node("Mul", [x, f"{y}.plus"], f"{y}.product"),
        node("Mul", [f"{y}.product", "half"], y),
    ]  # fmt: skip


NUMBERS = {"root2": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5)}


def test_constants_of_a_feed_forward_block_go_into_the_bias_that_follows() -> None:
    """The bias is added by a node of its own; GELU is written with operators of opset 17."""
    nodes = [*linear("x", "up", "t"), *gelu("t", "g"), *linear("g", "down", "y")]
    constants = {**layer("up", 8, 12), **layer("down", 12, 8, 5), **NUMBERS}
    constants["up.weight"] = without(constants["up.weight"], 0, 5, 11, axis=1)
    found = shrink(model(nodes, [TOKENS], ["y"], constants))
    made = shapes(found)
    assert made["up.weight"] == (8, 9)
    assert made["down.weight"] == (9, 8)
    assert made["down.bias"] == (8,)
    assert operators(found) == ["MatMul", "Add", "Div", "Erf", "Add", "Mul", "Mul", "MatMul", "Add"]
    assert "Gelu" in [n.op_type for n in import_onnx(found.proto).graph.nodes]


def attention(heads: int, size: int) -> tuple[list[Any], dict[str, Any]]:
    """Self-attention as exporters write it, between two linear layers of width heads * size, and a residual sum."""
    width = heads * size
    nodes: list[Any] = []
    constants: dict[str, Any] = {
        "split": np.array([1, 5, heads, size]), "merged": np.array([1, 5, width]), "scale": np.float32(size**0.5)
    }  # fmt: skip
    for seed, (name, perm) in enumerate((("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3]))):
        nodes += [*linear("x", name, f"{name}0"), node("Reshape", [f"{name}0", "split"], f"{name}1")]
        nodes += [node("Transpose", [f"{name}1"], f"{name}2", perm=perm)]
        constants |= layer(name, 8, width, 10 * seed)
    nodes += [
        node("MatMul", ["q2", "k2"], "scores"), node("Div", ["scores", "scale"], "scaled"),
        node("Softmax", ["scaled"], "p", axis=-1), node("MatMul", ["p", "v2"], "c0"),
        node("Transpose", ["c0"], "c1", perm=[0, 2, 1, 3]), node("Reshape", ["c1", "merged"], "c2"),
        *linear("c2", "out", "o"), node("Add", ["o", "x"], "r"),
        node("LayerNormalization", ["r", "gamma", "beta"], "y", axis=-1),
    ]  # fmt: skip
    constants |= {**layer("out", width, 8, 50), "gamma": dense(8), "beta": dense(8)}
    return nodes, constants


def head_columns(size: int, *heads: int) -> list[int]:
    return [h * size + j for h in heads for j in range(size)]


def test_a_head_that_nobody_reads_goes_whole() -> None:
    nodes, constants = attention(4, 3)
    constants["out.weight"] = without(constants["out.weight"], *head_columns(3, 1, 2))
    made = shapes(shrink(model(nodes, [TOKENS], ["y"], constants)))
    for name in "qkv":
        assert made[f"{name}.weight"] == (8, 6)
        assert made[f"{name}.bias"] == (6,)
    assert made["out.weight"] == (6, 8)


def test_heads_lose_equally_many_features() -> None:
    """Of queries and keys 2, 1, 1, 2 features of the four heads could go: one of each does. Of values 2, 1, 1, 0."""
    nodes, constants = attention(4, 3)
    for end in ("weight", "bias"):
        constants[f"q.{end}"] = without(constants[f"q.{end}"], 0, 1, 4, 8, 9, axis=-1)
        constants[f"k.{end}"] = without(constants[f"k.{end}"], 9, 10, axis=-1)
        constants[f"v.{end}"] = without(constants[f"v.{end}"], 0, 1, 3, 7, axis=-1)
    found = shrink(model(nodes, [TOKENS], ["y"], constants))
    made = shapes(found)
    assert made["q.weight"] == made["k.weight"] == (8, 8)
    assert made["v.weight"] == (8, 12)
    assert made["out.weight"] == (12, 8)
    assert "v: 4 of 12 stay on axis 2: the groups must stay equally large" in found.kept


def test_a_head_may_go_and_the_others_lose_features() -> None:
    nodes, constants = attention(3, 4)
    constants["out.weight"] = without(constants["out.weight"], *head_columns(4, 1), 0, 11)
    made = shapes(shrink(model(nodes, [TOKENS], ["y"], constants)))
    assert (made["q.weight"], made["v.weight"], made["out.weight"]) == ((8, 8), (8, 6), (6, 8))


def test_one_linear_layer_for_queries_keys_and_values() -> None:
    """As vision transformers have it: one reshape to (3, heads, size), then a Gather for each."""
    nodes = [
        *linear("x", "qkv", "a"), node("Reshape", ["a", "split"], "b"),
        node("Transpose", ["b"], "c", perm=[2, 0, 3, 1, 4]),
        *(node("Gather", ["c", f"i{k}"], name, axis=0) for k, name in enumerate("qkv")),
        node("Transpose", ["k"], "kt", perm=[0, 1, 3, 2]), node("MatMul", ["q", "kt"], "s"),
        node("Softmax", ["s"], "p"),
        node("MatMul", ["p", "v"], "o"), node("Transpose", ["o"], "o1", perm=[0, 2, 1, 3]),
        node("Reshape", ["o1", "merged"], "o2"), *linear("o2", "out", "y"),
    ]  # fmt: skip
    constants = {**layer("qkv", 8, 36), **layer("out", 12, 8, 5), "split": np.array([1, 5, 3, 4, 3]),
                 "merged": np.array([1, 5, 12]), **{f"i{k}": np.array(k) for k in range(3)}}  # fmt: skip
    constants["out.weight"] = without(constants["out.weight"], *head_columns(3, 0, 2))
    made = shapes(shrink(model(nodes, [TOKENS], ["y"], constants)))
    assert (made["qkv.weight"], made["qkv.bias"], made["out.weight"]) == ((8, 18), (18,), (6, 8))


def test_columns_of_an_embedding() -> None:
    nodes = [node("Gather", ["table", "ids"], "e"), *linear("e", "out", "y")]
    constants = {"table": dense(9, 6), **layer("out", 6, 3)}
    constants["out.weight"] = without(constants["out.weight"], 1, 4)
    found = shrink(model(nodes, [port("ids", [1, 4], "int64")], ["y"], constants))
    assert shapes(found)["table"] == (9, 4)
    assert "e: table axis 1: 6 -> 4" in [str(row) for row in found.removed]


def test_a_gemm_as_pytorch_writes_it() -> None:
    """transB, alpha and beta; constants fold into C."""
    nodes = [
        node("Gemm", ["x", "a", "c"], "t", transB=1, name="a"), node("Sigmoid", ["t"], "s"),
        node("Gemm", ["s", "b", "d"], "y", transB=1, alpha=0.5, beta=2.0, name="b"),
    ]  # fmt: skip
    constants = {"a": without(dense(6, 8), 0, 3), "c": dense(6), "b": dense(4, 6), "d": dense(4)}
    made = weights(shrink(model(nodes, [port("x", [3, 8])], ["y"], constants)).proto)
    assert (made["a"].shape, made["b"].shape) == ((4, 8), (4, 4))
    assert not np.allclose(made["d"], constants["d"])


@pytest.mark.parametrize("count", [7, 10])
def test_two_constants_of_a_product_of_activations(count: int) -> None:
    """q and k are both constant in some features: they add a constant to the scores, if that is worth an addition."""
    nodes, constants = attention(2, 12)
    for name in "qk":
        gone = [*range(count), *range(12, 12 + count)]
        constants[f"{name}.weight"] = without(constants[f"{name}.weight"], *gone, axis=1)
    found = shrink(model(nodes, [TOKENS], ["y"], constants))
    assert shapes(found)["q.weight"] == ((8, 24) if count == 7 else (8, 4))
    assert any("costs more" in line for line in found.kept) == (count == 7)


def test_a_sum_of_constants_stays() -> None:
    """ReduceSum may lose zeros, nothing else."""
    nodes = [*linear("x", "a", "t"), node("ReduceSum", ["t", "axes"], "s"), node("Add", ["s", "x"], "y")]
    constants = {**layer("a", 8, 6), "axes": np.array([2])}
    constants["a.weight"] = without(constants["a.weight"], 0, 1, axis=1)
    constants["a.bias"] = without(constants["a.bias"], 0)
    found = shrink(model(nodes, [TOKENS], ["y"], constants))
    assert shapes(found)["a.weight"] == (8, 5)
    assert any("cannot be folded" in line for line in found.kept)


def test_dead_elements_that_stay_are_0() -> None:
    """Row 1 of the first weight meets a feature that only column 0 of the second one reads, and it is cut off there."""
    nodes = [
        node("MatMul", ["x", "a.weight"], "t"),
        node("MatMul", ["t", "b.weight"], "u"),
        node("MatMul", ["u", "c.weight"], "y"),
    ]
    last = dense(4, 3)
    last[0] = 0
    constants = {"a.weight": dense(8, 5), "b.weight": without(dense(5, 4), 2, axis=1), "c.weight": last}
    found = shrink(model(nodes, [TOKENS], ["y"], constants))
    assert shapes(found) == {"a.weight": (8, 5), "b.weight": (5, 2), "c.weight": (2, 3)}


@pytest.mark.parametrize("per_channel", [True, False])
def test_a_quantized_model_stays_quantized(per_channel: bool) -> None:
    """The integers and the scales of each channel are cut."""
    rng = np.random.default_rng(0)
    stored = rng.integers(-120, 120, (6, 3, 3, 3)).astype(np.int8)
    stored[[1, 4]] = 0
    scale = dense(6) / 100 if per_channel else np.float32(0.01)
    zero = np.zeros(scale.shape, np.int8)
    pair = ["s", "z"]
    nodes = [
        node("QuantizeLinear", ["x", *pair], "xq"), node("DequantizeLinear", ["xq", *pair], "xd"),
        node("DequantizeLinear", ["a.weight", "a.scale", "a.zero"], "a.real", **({"axis": 0} if per_channel else {})),
        node("Conv", ["xd", "a.real"], "t", name="/a/Conv"), node("Relu", ["t"], "r"),
        node("QuantizeLinear", ["r", *pair], "rq"), node("DequantizeLinear", ["rq", *pair], "rd"),
        node("Conv", ["rd", "b.weight"], "y", name="/b/Conv"),
    ]  # fmt: skip
    constants = {"s": np.float32(0.05), "z": np.int8(3), "a.weight": stored, "a.scale": scale, "a.zero": zero,
                 "b.weight": dense(2, 6, 1, 1)}  # fmt: skip
    found = shrink(model(nodes, [port("x", [1, 3, 6, 6])], ["y"], constants), tolerance=0.02)
    made = weights(found.proto)
    assert made["a.weight"].dtype == np.int8
    np.testing.assert_array_equal(made["a.weight"], np.delete(stored, [1, 4], axis=0))
    assert sorted(a.shape for n, a in made.items() if n.endswith("scale")) == [(4,) if per_channel else ()]
    imported = import_onnx(found.proto)
    assert [q.bits for q in imported.quantization.values()] == [8]


def test_a_weight_that_the_file_has_transposed_stays_so() -> None:
    nodes = [node("Transpose", ["a.weight"], "at", perm=[1, 0]), node("MatMul", ["x", "at"], "t", name="/a/MatMul"),
             node("MatMul", ["t", "b.weight"], "y", name="/b/MatMul")]  # fmt: skip
    constants = {"a.weight": without(dense(6, 8), 2), "b.weight": dense(6, 3)}
    found = shrink(model(nodes, [TOKENS], ["y"], constants))
    assert shapes(found) == {"a.weight": (5, 8), "b.weight": (5, 3)}
    assert [str(row) for row in found.removed] == ["a: a.weight axis 0: 6 -> 5", "b: b.weight axis 0: 6 -> 5"]


@pytest.mark.parametrize("mix", ["CumSum", "Trilu"])
def test_an_operator_that_mixes_or_is_not_known_pins_what_it_reads(mix: str) -> None:
    nodes = [
        node("MatMul", ["x", "a.weight"], "t"),
        node(mix, ["t", "axis"], "u"),
        node("MatMul", ["u", "b.weight"], "y"),
    ]
    constants = {"a.weight": without(dense(8, 6), 0, axis=1), "b.weight": dense(6, 3), "axis": np.array(2)}
    found = shrink(model(nodes, [TOKENS], ["y"], constants))
    assert found.removed == ()


def test_the_given_model_is_left_as_it_is() -> None:
    nodes = [node("MatMul", ["x", "a.weight"], "t"), node("MatMul", ["t", "b.weight"], "y")]
    proto = model(nodes, [TOKENS], ["y"], {"a.weight": without(dense(8, 6), 0, axis=1), "b.weight": dense(6, 3)})
    before = onnx.ModelProto.FromString(proto.SerializeToString())
    shrink(proto)
    assert proto == before


def test_parts_of_a_stacked_product_are_taken_apart_by_slices_of_one() -> None:
    """As OCR networks write attention: one product for all parts, an axis that counts them, a slice and a squeeze."""
    nodes = [*linear("x", "qkv", "t"), node("Reshape", ["t", "apart"], "r")]
    nodes += [node("Transpose", ["r"], "p", perm=[2, 0, 3, 1, 4])]
    constants: dict[str, Any] = {**layer("qkv", 8, 12), "apart": np.array([1, 5, 3, 2, 2]), **layer("out", 2, 8, 3)}
    for i, name in enumerate("qkv"):
        constants |= {f"{name}.from": np.array([i]), f"{name}.to": np.array([i + 1]), "first": np.array([0])}
        nodes += [node("Slice", ["p", f"{name}.from", f"{name}.to", "first"], f"{name}1")]
        nodes += [node("Squeeze", [f"{name}1", "first"], name)]
    nodes += [node("Mul", ["q", "k"], "qk"), node("Add", ["qk", "v"], "sum"), *linear("sum", "out", "y")]
    gone = (2, 3, 6, 7, 10, 11)  # the second head of each part
    constants["qkv.weight"] = without(constants["qkv.weight"], *gone, axis=1)
    constants["qkv.bias"] = without(constants["qkv.bias"], *gone)
    assert shapes(shrink(model(nodes, [TOKENS], ["y"], constants)))["out.weight"] == (2, 8)
