"""The law of bits: every tensor on its grid at once, and no output changes."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tesa.attributes.attribute import Origin, TeSA, from_quantization, unknown
from tesa.attributes.quantization import Quantization
from tesa.frontend import import_onnx
from tesa.propagate import propagate
from tesa.propagate.bits.common_grid import common_grid, nested_grid
from tesa.propagate.engine import solve

from ..frontend.onnx_models import floats, model, node, port
from .qdq_models import bits, check_law_of_bits, feeds_of, quantizer, random_qdq, solved

SEEDS = st.integers(0, 2**32 - 1)
many = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
few = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@given(SEEDS)
@many
def test_the_law_of_bits(seed: int) -> None:
    found = propagate(import_onnx(random_qdq(seed)))
    for scale in (0.3, 3.0):
        check_law_of_bits(found, feeds_of(found, seed, scale))


@pytest.mark.slow
@pytest.mark.long
@given(SEEDS)
@settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_law_of_bits_on_many(seed: int) -> None:
    found = propagate(import_onnx(random_qdq(seed)))
    check_law_of_bits(found, feeds_of(found, seed, 2.0))


@given(SEEDS, SEEDS)
@few
def test_bits_do_not_depend_on_the_order_and_a_second_run_adds_nothing(seed: int, order: int) -> None:
    found = propagate(import_onnx(random_qdq(seed)))
    first = {name: found.tesa[name] for name in found.network.shapes}
    for again in (solve(found.network, first), propagate(found.imported, seed=order)):
        for name, facts in first.items():
            assert again.tesa[name] == facts, name


@given(SEEDS)
@few
def test_the_law_of_bits_with_what_the_user_knows_of_an_input(seed: int) -> None:
    imported = import_onnx(random_qdq(seed))
    grid = Quantization(3, True, np.full((1,) * 4, 0.5), np.zeros((1,) * 4))
    after = propagate(imported, given={"x": from_quantization(imported.inputs[0].shape, grid)})
    assert bits(after, "x") <= 3
    feeds = {"x": grid.rounded(feeds_of(after, seed)["x"])}
    check_law_of_bits(after, feeds)


def test_the_random_models_exercise_the_rules() -> None:
    """The laws above would hold of a propagation that finds nothing."""
    lower = 0
    for seed in range(40):
        found = propagate(import_onnx(random_qdq(seed)))
        widths = {name: bits(found, name) for name in found.network.shapes if name not in found.network.constants}
        lower += sum(width < 8 for width in widths.values())
        assert not found.unruled
    assert lower > 150


def test_a_clip_of_the_codes_says_how_many_bits_there_are() -> None:
    nodes, constants = quantizer("x", "d", 0.1, bits=3)
    found = solved([*nodes, node("Tanh", ["d"], "y")], constants)
    assert [bits(found, name) for name in ("x", "d_q", "d_c", "d", "y")] == [3, 3, 3, 3, 32]
    check_law_of_bits(found, feeds_of(found, 0))


def test_all_codes_of_a_type_need_all_its_bits() -> None:
    nodes, constants = quantizer("x", "d", 0.1)
    weight = np.arange(-128, 128, dtype=np.int8).reshape(64, 4)
    constants |= {"w": weight, "w.s": np.float32(0.1)}
    nodes += [node("DequantizeLinear", ["w", "w.s"], "w.r"), node("MatMul", ["d", "w.r"], "y")]
    found = solved(nodes, constants, (2, 64))
    assert [bits(found, name) for name in ("x", "d_q", "d", "y#1")] == [8, 8, 8, 8]


@pytest.mark.parametrize(
    ("content", "expected"),
    [([-8, 7, 0, 1], 4), ([-9, 7, 0, 1], 5), ([0, 1, 0, 1], 1), ([-127, 127, 0, 0], 2), ([-128, 127, 3, 0], 8),
     ([100, 103, 0, 0], 7), ([-2, 2, 4, 0], 2), ([-1, 1, 0, 0], 2)],
)  # fmt: skip
def test_a_weight_needs_the_bits_of_its_content(content: list[int], expected: int) -> None:
    constants = {"w": np.array(content, np.int8).reshape(2, 2), "s": np.float32(0.3)}
    nodes = [node("DequantizeLinear", ["w", "s"], "r"), node("MatMul", ["x", "r"], "y")]
    found = solved(nodes, constants, (1, 2))
    assert bits(found, "y#1") == expected
    weight = found.network.constants["y#1"]
    np.testing.assert_allclose(found.tesa["y#1"].rounded(weight * 1.001 + 1e-3), weight, rtol=1e-6)


def test_a_weight_that_is_no_multiple_of_its_scale_is_not_on_a_grid() -> None:
    from tesa.propagate.bits.constant_grid import constant_grid

    grid = Quantization(8, True, np.ones((1, 1)), np.zeros((1, 1), int))
    assert constant_grid(from_quantization((1, 2), grid), np.array([[1.0, 2.4]])) is None
    assert constant_grid(unknown((1, 2)), np.array([[1.0, 2.0]])) is None


def test_relu6_leaves_only_some_codes() -> None:
    """A step of 0.2 from 0: relu6 leaves 0 .. 30; int8 with a zero point of -128 leaves -128 .. -98."""
    for zero, signed in ((0, False), (-128, True)):
        tail, constants = quantizer("h", "d", 0.2, zero=zero, signed=signed)
        constants |= {"low": np.float32(0), "high": np.float32(6)}
        found = solved([node("Clip", ["x", "low", "high"], "h"), *tail, node("Tanh", ["d"], "y")], constants)
        assert [bits(found, name) for name in ("x", "h", "d_q", "d")] == [5, 5, 5, 5]
        check_law_of_bits(found, feeds_of(found, 0))


def test_relu_drops_the_sign() -> None:
    nodes, constants = quantizer("x", "d", 0.1)
    found = solved([*nodes, node("Relu", ["d"], "r"), node("Tanh", ["r"], "y")], constants)
    assert [bits(found, name) for name in ("x", "d_q", "d", "r")] == [7, 7, 7, 7]
    check_law_of_bits(found, feeds_of(found, 0, 20))


@pytest.mark.parametrize(("fine", "coarse"), [(0.0625, 0.5), (6 / 127, 6 / 15), (0.05, 0.35)])
def test_codes_quantized_again_need_the_bits_of_the_second_time(fine: float, coarse: float) -> None:
    """But what is quantized first does not: 0.49 and 0.51 steps are told apart by the first rounding alone."""
    first, constants = quantizer("h", "a", fine, bits=7, signed=False)
    second, more = quantizer("a", "b", coarse, bits=4, signed=False)
    found = solved([node("Tanh", ["x"], "t"), node("Mul", ["t", "six"], "h"), *first, *second,
                    node("Tanh", ["b"], "y")], constants | more | {"six": np.float32(6)})  # fmt: skip
    assert [bits(found, name) for name in ("h", "a_c", "a", "b_c", "b")] == [7, 4, 4, 4, 4]
    check_law_of_bits(found, {"x": np.random.default_rng(0).normal(size=(2, 6))})
    at = np.linspace(-1, 1, 2001)
    rounded = found.tesa["h"].rounded(at)
    again = Quantization(4, False, np.array(np.float32(coarse)), np.array(0))
    assert (again.rounded(rounded) != again.rounded(at)).any(), "two roundings are not one"


def test_codes_of_a_coarse_grid_are_as_few() -> None:
    """4 bits, then 7: the codes of 7 bits are 16 different ones. If the steps divide each other so are the numbers."""
    for fine, coarse, real in ((0.0625, 0.5, 4), (6 / 127, 6 / 15, 7)):
        first, constants = quantizer("x", "a", coarse, bits=4, signed=False)
        second, more = quantizer("a", "b", fine, bits=7, signed=False)
        found = solved([*first, *second, node("Tanh", ["b"], "y")], constants | more)
        assert [bits(found, name) for name in ("x", "a", "b_q", "b_c", "b")] == [4, 4, 4, 4, real]
        check_law_of_bits(found, feeds_of(found, 1))


def test_two_readers_that_round_differently_need_everything() -> None:
    first, constants = quantizer("h", "a", 0.1)
    second, more = quantizer("h", "b", 0.13)
    tail = [node("Tanh", ["x"], "h"), *first, *second, node("Add", ["a", "b"], "y")]
    assert bits(solved(tail, constants | more), "h") == 32
    second, more = quantizer("h", "b", 0.1, bits=4)
    found = solved([node("Sinh", ["x"], "h"), *first, *second, node("Add", ["a", "b"], "y")], constants | more)
    assert bits(found, "h") == 8, "the same steps, more range"
    check_law_of_bits(found, feeds_of(found, 0))


def test_two_readers_of_codes_get_the_finer_grid_if_each_code_passes() -> None:
    fine = from_quantization((1,), Quantization(4, False, np.array([0.5]), np.array([0])))
    coarse = from_quantization((1,), Quantization(3, False, np.array([1.0]), np.array([0])))
    assert common_grid(fine, coarse) is None
    assert nested_grid(fine, coarse, np.array([0.0, 0.5, 1.0, 1.5, 6.9])) == fine
    assert nested_grid(fine, coarse, np.array([0.0, 0.74, 1.4])) is None, "1.4 is 1.5 first, and then 2"


def test_an_output_of_the_model_is_needed_as_it_is() -> None:
    nodes, constants = quantizer("x", "d", 0.1, bits=4)
    found = propagate(
        import_onnx(model([node("Tanh", ["x"], "h"), *quantizer("h", "d", 0.1)[0], node("Relu", ["d"], "y")],
                          [port("x", [2, 3])], ["y", "h"], quantizer("h", "d", 0.1)[1]))
    )  # fmt: skip
    assert bits(found, "h") == 32
    assert nodes
    assert constants


def test_concat_keeps_a_grid_for_each_part() -> None:
    first, constants = quantizer("x", "a", 0.1, bits=4)
    second, more = quantizer("x", "b", 0.25, bits=6)
    found = solved([*first, *second, node("Concat", ["a", "b"], "c", axis=1), node("Relu", ["c"], "r"),
                    node("Tanh", ["r"], "y")], constants | more)  # fmt: skip
    np.testing.assert_array_equal(np.unique(found.tesa["c"].bits), [3, 5])
    check_law_of_bits(found, feeds_of(found, 0))


def test_quantized_zeros_are_zero() -> None:
    """The code of 0 is the zero point, and a weight with this code is pruned."""
    weight = np.array([[3, 3], [3, 9]], np.int8)
    nodes, constants = quantizer("h", "d", 0.1, zero=7)
    constants |= {"w": weight, "w.s": np.float32(0.5), "w.z": np.int8(3), "v": floats(2, 2)}
    found = solved([node("DequantizeLinear", ["w", "w.s", "w.z"], "r"), node("MatMul", ["x", "r"], "h", name="l"),
                    *nodes, node("MatMul", ["d", "v"], "y", name="m")], constants, (1, 2))  # fmt: skip
    np.testing.assert_array_equal(found.tesa["d"].zero.reshape(-1), [True, False])
    np.testing.assert_array_equal(found.tesa["d_q"].value.reshape(-1), [7, 0])
    assert not found.weights["m"].effective_weight[0].any()


def test_why_is_told() -> None:
    nodes, constants = quantizer("x", "d", 0.1, bits=3)
    found = solved([*nodes, node("Tanh", ["d"], "y")], constants)
    assert Origin("bits", "rule", "relax.quantize", "d.q") in found.tesa["x"].origins
    assert "3 bits (int3, 1 scale) (rule relax.quantize of d.q)" in str(found.tesa["x"])


def test_facts_without_bits_stay_as_they_are() -> None:
    found = solved([node("MatMul", ["x", "w"], "y")], {"w": floats(6, 2)})
    assert all(isinstance(t, TeSA) and (t.bits == 32).all() for t in found.tesa.values())


def test_types_of_four_bits() -> None:
    """int4 of opset 21: quantized to it, and a weight that is stored in it."""
    four = np.dtype(ml_dtypes.int4)
    constants = {"s": np.float32(0.1), "z": np.zeros((), four), "w": np.array([[-8, 1], [7, 0]]).astype(four)}
    nodes = [node("QuantizeLinear", ["x", "s", "z"], "q"), node("DequantizeLinear", ["q", "s", "z"], "d"),
             node("DequantizeLinear", ["w", "s", "z"], "r"), node("MatMul", ["d", "r"], "y")]  # fmt: skip
    found = propagate(import_onnx(model(nodes, [port("x", [3, 2])], ["y"], constants, opset=21)))
    quantized = next(n for n in found.network.nodes if n.operator.op == "relax.quantize")
    assert [bits(found, name) for name in ("x", quantized.var, "d", "y#1")] == [4, 4, 4, 4]
    check_law_of_bits(found, feeds_of(found, 0))
