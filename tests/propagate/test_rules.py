"""What single rules find: the cases that the published systems merge or miss."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm

from tesa.attributes.attribute import ContradictionError, Origin, from_constant, from_mask
from tesa.frontend import ImportedModel, import_onnx
from tesa.propagate import PropagateTeSA, TesaModel, propagate, rule, rules
from tesa.propagate.registry import find
from tesa.propagate.rules.common import all_needed, nothing
from tesa.propagate.rules.movement import reshape_short

from ..frontend.onnx_models import floats, model, node, port


def solved(
    nodes: list[Any], shape: list[int], constants: dict[str, Any], output: str = "y", **options: Any
) -> TesaModel:
    return propagate(import_onnx(model(nodes, [port("x", shape)], [output], constants)), **options)


def channels(mask: Any) -> list[bool]:
    return list(np.asarray(mask).reshape(-1))


def pruned_pair(activation: list[Any], bias: Any = None) -> TesaModel:
    """conv a (output channel 1 of 3 pruned) -> activation -> conv b."""
    weight = floats(3, 2, 1, 1)
    weight[1] = 0
    constants = {"a.weight": weight, "b.weight": floats(4, 3, 1, 1)}
    inputs = ["x", "a.weight"]
    if bias is not None:
        constants["a.bias"] = np.asarray(bias, np.float32)
        inputs.append("a.bias")
    nodes = [node("Conv", inputs, "a"), *activation, node("Conv", ["h", "b.weight"], "y", name="b")]
    return solved(nodes, [1, 2, 5, 5], constants)


def test_a_pruned_channel_kills_the_next_layers_column() -> None:
    found = pruned_pair([node("Relu", ["a"], "h")])
    assert channels(found.tesa["h"].zero) == [False, True, False]
    assert not found.weights["b"].effective_weight[:, 1].any()
    assert found.weights["b"].effective_weight[:, [0, 2]].all()
    assert any("after propagation" in fact for fact in found.weights["b"].facts)
    assert any("relax.nn.relu" in str(origin) for origin in found.tesa["h"].origins)


def test_sigmoid_of_zero_is_one_half_and_not_pruned() -> None:
    found = pruned_pair([node("Sigmoid", ["a"], "h")])
    assert not found.tesa["h"].zero.any()
    assert channels(found.tesa["h"].value) == [0, 0.5, 0]
    assert found.weights["b"].effective_weight.all()
    weight, shift = found.folded("b") or pytest.fail("the constant channel must fold")
    assert not weight[:, 1].any()
    np.testing.assert_allclose(shift, 0.5 * found.weights["b"].weight[:, 1, 0, 0], rtol=1e-6)


def test_a_bias_turns_a_pruned_row_into_a_constant() -> None:
    found = pruned_pair([node("Relu", ["a"], "h")], bias=[0.5, 2.0, -1.0])
    assert channels(found.tesa["h"].known) == [False, True, False]
    assert channels(found.tesa["h"].value) == [0, 2, 0]
    negative = pruned_pair([node("Relu", ["a"], "h")], bias=[0.5, -2.0, -1.0])
    assert channels(negative.tesa["h"].zero) == [False, True, False]


def test_clip_whose_bounds_exclude_zero() -> None:
    clip = [node("Clip", ["a", "low", "high"], "h")]
    weight = np.zeros((1, 1, 1, 1), np.float32)
    constants = {"w": weight, "low": np.float32(1), "high": np.float32(6), "b.weight": floats(1, 1, 1, 1)}
    found = solved(
        [node("Conv", ["x", "w"], "a"), *clip, node("Conv", ["h", "b.weight"], "y")], [1, 1, 2, 2], constants
    )
    assert float(found.tesa["h"].value.reshape(-1)[0]) == 1.0


def test_an_unused_channel_kills_the_row_that_makes_it() -> None:
    weight = floats(4, 3, 1, 1)
    weight[:, 2] = 0
    constants = {"a.weight": floats(3, 2, 3, 3), "a.bias": floats(3), "b.weight": weight}
    nodes = [node("Conv", ["x", "a.weight", "a.bias"], "a"), node("Relu", ["a"], "h"),
             node("Conv", ["h", "b.weight"], "y", name="b")]  # fmt: skip
    found = solved(nodes, [1, 2, 5, 5], constants)
    assert channels(found.tesa["a"].dead) == [False, False, True]
    assert not found.weights["a"].effective_weight[2].any()
    assert found.tesa["a_add#1"].dead.reshape(-1)[2]


def test_softmax_mixes_its_row() -> None:
    weight = floats(4, 6)
    weight[:, 2] = 0
    constants = {"w": weight, "v": np.diag([1, 1, 0, 0, 1, 1]).astype(np.float32)}
    nodes = [node("MatMul", ["x", "w"], "a"), node("Softmax", ["a"], "s"), node("MatMul", ["s", "v"], "y")]
    found = solved(nodes, [1, 4], constants)
    assert channels(found.tesa["a"].zero) == [False, False, True, False, False, False]
    assert not found.tesa["s"].known.any()
    assert found.tesa["a"].live.all()
    assert channels(found.tesa["s"].dead) == [False, False, True, True, False, False]


def test_a_residual_needs_both_branches_zero() -> None:
    a, b = floats(3, 3), floats(3, 3)
    a[:, [0, 1]], b[:, [1, 2]] = 0, 0
    nodes = [node("MatMul", ["x", "a"], "p"), node("MatMul", ["x", "b"], "q"), node("Add", ["p", "q"], "y")]
    found = solved(nodes, [1, 3], {"a": a, "b": b})
    assert channels(found.tesa["y"].zero) == [False, True, False]


def test_zero_times_zero_does_not_kill_both_sides() -> None:
    a, b = floats(3, 3), floats(3, 3)
    a[:, [0, 1]], b[:, [0, 2]] = 0, 0
    nodes = [
        node("MatMul", ["x", "a"], "p"), node("MatMul", ["x", "b"], "q"),
        node("Sigmoid", ["p"], "s"), node("Mul", ["s", "q"], "m"), node("Mul", ["p", "m"], "y"),
    ]  # fmt: skip
    found = solved(nodes, [1, 3], {"a": a, "b": b})
    assert found.tesa["y"].zero.all()
    both = channels(found.tesa["p"].live), channels(found.tesa["m"].live)
    assert both[0][0]
    assert both[1][0]
    assert channels(found.tesa["m"].dead)[1]  # only p is 0 there
    assert channels(found.tesa["p"].dead)[2]  # only m is 0 there, and s is cut off as well


def test_a_tensor_with_two_consumers_is_dead_only_if_both_ignore_it() -> None:
    a, b = floats(3, 2), floats(3, 2)
    a[[0, 1]], b[[1, 2]] = 0, 0
    nodes = [node("Relu", ["x"], "h"), node("MatMul", ["h", "a"], "p"), node("MatMul", ["h", "b"], "q"),
             node("Add", ["p", "q"], "y")]  # fmt: skip
    found = solved(nodes, [1, 3], {"a": a, "b": b})
    assert channels(found.tesa["h"].dead) == [False, True, False]
    assert channels(found.tesa["x"].dead) == [False, True, False]


def test_a_weight_of_two_layers_is_judged_in_each() -> None:
    shared = floats(2, 2)
    mask = np.array([[1, 0], [0, 0]], np.float32)
    nodes = [node("MatMul", ["x", "mask"], "h"), node("MatMul", ["h", "s"], "a", name="one"),
             node("MatMul", ["x", "s"], "b", name="two"), node("Add", ["a", "b"], "y")]  # fmt: skip
    found = solved(nodes, [1, 2], {"mask": mask, "s": shared})
    assert not found.weights["one"].effective_weight[1].any()
    np.testing.assert_array_equal(found.weights["two"].effective_weight, shared)


def test_attention_a_zero_query_feature_kills_the_key_feature() -> None:
    query, key = floats(4, 4), floats(4, 4, seed=1)
    query[:, 1] = 0
    nodes = [node("MatMul", ["x", "q.weight"], "q"), node("MatMul", ["x", "k.weight"], "k"),
             node("Transpose", ["k"], "kt", perm=[0, 2, 1]), node("MatMul", ["q", "kt"], "y")]  # fmt: skip
    found = solved(nodes, [1, 5, 4], {"q.weight": query, "k.weight": key})
    assert not found.weights["k"].effective_weight[:, 1].any()
    assert found.tesa["q"].live.all()


def test_taps_that_only_read_padding_are_dead() -> None:
    nodes = [node("Conv", ["x", "w"], "y", pads=[1, 1, 1, 1])]
    found = solved(nodes, [1, 2, 1, 4], {"w": floats(3, 2, 3, 3)})
    effective = found.weights["y"].effective_weight
    assert not effective[:, :, [0, 2]].any()
    assert effective[:, :, 1].all()


def test_padding_breaks_a_constant_channel() -> None:
    nodes = [node("Sigmoid", ["z"], "h"), node("Conv", ["h", "b.weight"], "y", name="b", pads=[1, 1, 1, 1])]
    nodes.insert(0, node("Mul", ["x", "zeros"], "z"))
    constants = {"zeros": np.zeros((1, 2, 1, 1), np.float32), "b.weight": floats(3, 2, 3, 3)}
    found = solved(nodes, [1, 2, 4, 4], constants)
    assert found.tesa["h"].known.all()
    assert found.folded("b") is None


def test_embedding_columns_that_nobody_reads_are_dead() -> None:
    weight = floats(4, 2)
    weight[1] = 0
    nodes = [node("Gather", ["table", "x"], "e"), node("MatMul", ["e", "w"], "y")]
    imported = import_onnx(model(nodes, [port("x", [3], "int64")], ["y"], {"table": floats(9, 4), "w": weight}))
    found = propagate(imported)
    assert channels(found.tesa["e#0"].dead) == [False, True, False, False]


def test_quantized_activations_carry_their_bits() -> None:
    parameters = {"s": np.float32(0.1), "z": np.int8(0)}
    nodes = [node("QuantizeLinear", ["x", "s", "z"], "q"), node("DequantizeLinear", ["q", "s", "z"], "d"),
             node("Relu", ["d"], "r"), node("Reshape", ["r", "shape"], "f"), node("Tanh", ["f"], "y")]  # fmt: skip
    found = solved(nodes, [2, 3], {**parameters, "shape": np.array([6])})
    for name, bits in (("q", 7), ("d", 7), ("r", 7), ("f", 7)):  # behind the relu no code is below 0
        assert found.tesa[name].bits.max() == bits, name
        assert found.tesa[name].quantization is not None
    assert found.tesa["y"].bits.max() == 32


def test_bits_of_a_quantized_weight_come_with_its_mask() -> None:
    nodes = [node("DequantizeLinear", ["w", "s"], "r"), node("MatMul", ["x", "r"], "y")]
    constants = {"w": np.arange(1, 7, dtype=np.int8).reshape(2, 3), "s": np.float32(0.5)}
    imported = import_onnx(
        model(nodes, [port("x", [1, 2])], ["y"], constants), masks={"w": np.array([[1, 1, 0], [1, 0, 1]])}
    )
    facts = propagate(imported).tesa["y#1"]
    assert facts.bits.max() == 3  # its codes are 1 to 6
    assert facts.sparsity == pytest.approx(2 / 6)
    assert {"user", "qdq"} <= {origin.kind for origin in facts.origins}


def test_facts_of_the_user_count_and_contradictions_name_both() -> None:
    nodes = [node("Relu", ["x"], "h"), node("MatMul", ["h", "w"], "y")]
    constants = {"w": floats(3, 2)}
    found = solved(nodes, [1, 3], constants, given={"x": from_mask(np.array([[True, False, True]]))})
    assert channels(found.tesa["h"].zero) == [False, True, False]
    assert not found.weights["y"].effective_weight[1].any()
    wrong = {"x": from_mask(np.zeros((1, 3))), "h": from_constant(np.ones((1, 3)), Origin("value", "user"))}
    with pytest.raises(ContradictionError, match="the user's mask"):
        solved(nodes, [1, 3], constants, given=wrong)


@pytest.mark.parametrize(
    ("short", "old", "new", "expected"),
    [
        ((1, 1, 6), (1, 128, 6), (1, 128, 2, 3), (1, 1, 2, 3)),
        ((1, 1, 2, 3), (1, 128, 2, 3), (1, 128, 6), (1, 1, 6)),
        ((1, 5, 1, 1), (1, 5, 4, 4), (1, 5, 16), (1, 5, 1)),
        ((1, 5, 1, 1), (1, 5, 4, 4), (1, 80), (1, 80)),
        ((1, 1), (6, 4), (3, 8), (1, 1)),
        ((1,), (1,), (), ()),
        ((), (), (1, 1), (1, 1)),
    ],
)
def test_reshaping_short_arrays(short: Any, old: Any, new: Any, expected: Any) -> None:
    array = np.arange(int(np.prod(short)), dtype=float).reshape(short)
    moved = reshape_short(array, old, new)
    assert moved.shape == expected
    np.testing.assert_array_equal(np.broadcast_to(moved, new), np.broadcast_to(array, old).reshape(new))


def test_the_pass_runs_in_a_sequence_and_leaves_its_facts() -> None:
    weight = floats(3, 4)
    weight[:, 1] = 0
    imported = import_onnx(model([node("MatMul", ["x", "w"], "y")], [port("x", [1, 3])], ["y"], {"w": weight}))
    step = PropagateTeSA()
    after = tvm.transform.Sequential([step, tvm.relax.transform.CanonicalizeBindings()])(imported.mod)
    assert str(after["main"].attrs["tesa"]["y"]) == "25.0% known to be 0 (rule relax.matmul of y)"
    assert step.results[-1].weights["y"].sparsity == pytest.approx(0.25)
    assert "tesa" not in (imported.mod["main"].attrs or {})


def test_the_registry() -> None:
    listed = dict(rules())
    assert "relax.nn.conv2d" in listed
    assert all(entry.summary for entry in listed.values())
    assert find("relax.no_such") is None
    with pytest.raises(ValueError, match="has two rules"):
        rule("relax.matmul", backward=all_needed)(nothing)


def test_results_print_well() -> None:
    found = pruned_pair([node("Relu", ["a"], "h")])
    assert repr(found) == f"TesaModel({len(found.tesa)} tensors, 2 weights, 0 without a rule)"
    assert repr(found.weights["a"]) == "WeightFacts(a: relax.nn.conv2d 3x2x1x1, 33.3% -> 33.3% sparse)"
    assert isinstance(found.imported, ImportedModel)
