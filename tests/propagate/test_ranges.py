"""Ranges: every number lies between the ends that were found, and integers get the bits that hold them."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from tesa.frontend import import_onnx
from tesa.propagate import propagate
from tesa.propagate.bits.intervals import type_range
from tesa.propagate.bits.ranges import ranges

from ..frontend.onnx_models import model, node
from .interpreter import run
from .qdq_models import bits, feeds_of, random_qdq, solved


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_number_lies_in_its_range(seed: int) -> None:
    found = propagate(import_onnx(random_qdq(seed)))
    bounds, overflows = ranges(found.network, found.tesa)
    assert overflows == ()
    for name, values in run(found.network, feeds_of(found, seed, 5.0)).items():
        low, high = bounds[name]
        if name not in ("x", *found.network.constants) and not found.tesa[name].dead.any():
            assert low <= values.min(), name
            assert values.max() <= high, name


def test_the_range_of_a_type() -> None:
    assert type_range("uint8") == (0, 255)
    assert type_range("int16") == (-(2**15), 2**15 - 1)
    assert type_range("bool") == (0, 1)
    assert type_range("bfloat16") == (-np.inf, np.inf)


def test_integer_products_hold_their_sums() -> None:
    """100 products of uint8 - 3 and a weight of -8 .. 7; and of a type that cannot hold them."""
    weight = np.full((100, 2), -8, np.int8)
    weight[0] = 7
    nodes = [node("QuantizeLinear", ["x", "s", "z"], "q"), node("MatMulInteger", ["q", "w", "z"], "y")]
    found = solved(nodes, {"w": weight, "s": np.float32(1), "z": np.uint8(3)}, (1, 100))
    low, high = -(99 * 8 * 252 + 7 * 3), 99 * 8 * 3 + 7 * 252
    (name,) = found.network.outputs
    assert bits(found, name) == int(np.ceil(np.log2(high - low + 1)))
    worst = np.full((1, 100), 300.0)
    worst[0, 0] = -300
    values = run(found.network, {"x": worst})
    assert values[name].min() == low
    np.testing.assert_array_equal(found.tesa[name].rounded(values[name].astype(np.int32)), values[name])
    assert ranges(found.network, found.tesa)[1] == ()


def test_a_sum_that_may_overflow_is_listed_and_keeps_its_bits() -> None:
    nodes = [node("MatMulInteger", ["x", "w"], "y", name="sum")]
    x = helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 2**17])
    found = propagate(import_onnx(model(nodes, [x], ["y"], {"w": np.full((2**17, 1), 127, np.int8)})))
    (risk,) = ranges(found.network, found.tesa)[1]
    assert (risk.layer, risk.dtype, risk.bits) == ("sum", "int32", 33)
    assert "wraps around" in str(risk)
    assert bits(found, found.network.outputs[0]) == 32


def test_a_product_behind_dynamic_quantization_has_bits() -> None:
    nodes = [helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], "dynamic"),
             node("MatMulInteger", ["q", "w", "z"], "m"),
             node("Cast", ["m"], "f", to=1), node("Mul", ["f", "s"], "y")]  # fmt: skip
    found = solved(nodes, {"w": np.array([[-3], [4]], np.int8)}, (3, 2))
    codes = {n.operator.dtypes[0]: n.var for n in found.network.nodes if n.operator.op == "relax.astype"}
    assert bits(found, codes["int32"]) == 12  # within 7 * 255 on either side
    assert ranges(found.network, found.tesa)[0][codes["int32"]] == (-1785, 1785)
