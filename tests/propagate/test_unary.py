"""Element-wise operators are asked for f(0), whatever they are called."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tvm import relax, te
from tvm.relax import op as R

from tesa.attributes.attribute import Quantization, from_constant, from_mask, from_quantization, unknown
from tesa.propagate import rules
from tesa.propagate.executor import _PROGRAMS
from tesa.propagate.rules.unary import covered, elementwise_rule

from .calls import alive, call, network

F = "float32"
POINTS = np.array([0, 0.5, -2, 3, 1, np.inf, -np.inf], F)
ERF = np.vectorize(math.erf, otypes=[float])
FUNCTIONS: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "abs": (R.abs, np.abs), "negative": (R.negative, np.negative), "sqrt": (R.sqrt, np.sqrt), "log": (R.log, np.log),
    "rsqrt": (R.rsqrt, lambda x: 1 / np.sqrt(x)), "square": (R.square, np.square), "exp": (R.exp, np.exp),
    "tanh": (R.tanh, np.tanh), "atan": (R.atan, np.arctan), "floor": (R.floor, np.floor), "sign": (R.sign, np.sign),
    "cos": (R.cos, np.cos), "acosh": (R.acosh, np.arccosh), "erf": (R.erf, ERF), "isnan": (R.isnan, np.isnan),
    "isinf": (R.isinf, np.isinf), "sigmoid": (R.sigmoid, lambda x: 1 / (1 + np.exp(-x))),
    "relu": (R.nn.relu, lambda x: np.maximum(x, 0)), "silu": (R.nn.silu, lambda x: x / (1 + np.exp(-x))),
    "gelu": (R.nn.gelu, lambda x: x * 0.5 * (1 + ERF(x / math.sqrt(2)))),
    "softplus": (R.nn.softplus, lambda x: np.logaddexp(x, 0)),
    "clip": (lambda x: R.clip(x, 0.5, 6), lambda x: np.clip(x, 0.5, 6)),
    "leakyrelu": (lambda x: R.nn.leakyrelu(x, 0.1), lambda x: np.where(x > 0, x, 0.1 * x)),
    "astype": (lambda x: R.astype(x, "float16"), lambda x: x.astype(np.float16)),
    "prelu": (lambda x: R.nn.prelu(x, relax.const(np.array([0.25], F)), 0), lambda x: np.where(x > 0, x, 0.25 * x)),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_constant_becomes_f_of_it(name: str) -> None:
    """NaN is not known; infinities may be. What the operator makes NaN and NumPy not is left unknown as well."""
    function, reference = FUNCTIONS[name]
    node = call(function, (POINTS.shape, F))
    rule = elementwise_rule(node)
    assert rule is not None
    given = from_constant(POINTS)
    constants = [from_constant(c) for c in node.operator.constants[1:] if c is not None]
    (found,) = rule.forward(node.operator, (given, *constants))
    with np.errstate(all="ignore"):
        expected = np.asarray(reference(POINTS.astype(np.float64)), np.float64)
    known, value = (np.broadcast_to(a, POINTS.shape) for a in (found.known, found.value))
    assert known[np.isfinite(expected) & np.isfinite(POINTS)].all()
    assert not known[np.isnan(expected)].any()
    np.testing.assert_allclose(value[known].astype(float), expected[known], rtol=1e-3 if name == "astype" else 1e-6)


def test_the_logarithm_of_zero_is_known_and_infinite() -> None:
    node = call(R.log, ((1, 2), F))
    (found,) = _rule(node).forward(node.operator, (from_mask(np.array([[0, 1]])),))
    assert found.known.tolist() == [[True, False]]
    assert found.value[0, 0] == -np.inf


@pytest.mark.parametrize(
    ("function", "dtype", "given", "expected"),
    [
        (R.negative, "int8", [0, 5], [0, -5]),
        (R.bitwise_not, "int32", [0, 5], [-1, -6]),
        (R.logical_not, "bool", [False, True], [True, False]),
        (R.sigmoid, "float16", [0, 0], [0.5, 0.5]),
        (R.exp, "float64", [0, 1], [1, math.e]),
        (lambda x: R.astype(x, F), "int32", [0, 7], [0, 7]),
        (lambda x: R.astype(x, "int8"), F, [0.0, 7.9], [0, 7]),
    ],
)
def test_other_types(function: Any, dtype: str, given: Any, expected: Any) -> None:
    node = call(function, ((2,), dtype))
    (found,) = _rule(node).forward(node.operator, (from_constant(np.array(given, dtype)),))
    assert found.known.all()
    np.testing.assert_allclose(np.broadcast_to(found.value, (2,)).astype(float), expected, rtol=1e-6)


def test_a_number_that_an_integer_cannot_hold_is_not_known_after_a_cast() -> None:
    node = call(lambda x: R.astype(x, "int8"), ((3,), F))
    (found,) = _rule(node).forward(node.operator, (from_constant(np.array([1e9, -np.inf, 3], F)),))
    assert found.known.tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("function", "types"),
    [
        (R.triu, [((3, 3), F)]),  # what an element becomes depends on its place
        (lambda x: R.permute_dims(x, [1, 0]), [((3, 3), F)]),
        (lambda x: R.flip(x, 0), [((3, 3), F)]),
        (lambda x: R.cumsum(x, 1), [((3, 3), F)]),
        (R.nn.softmax, [((3, 3), F)]),
        (R.zeros_like, [((3, 3), F)]),  # knows more than f(c) says
        (R.add, [((3, 3), F), ((3, 3), F)]),
        (lambda x: R.sum(x, 1), [((3, 3), F)]),
        (lambda x: R.nn.prelu(x, relax.const(np.array([1, 2, 3], F))), [((3, 3), F)]),
    ],
)
def test_what_is_not_element_wise_is_not_taken_for_it(function: Any, types: Any) -> None:
    assert elementwise_rule(call(function, *types)) is None


def test_a_custom_kernel_that_is_element_wise_needs_no_rule() -> None:
    def swoosh(x: Any) -> Any:
        half = te.compute(x.shape, lambda *i: x(*i) - 1.0)
        return te.compute(x.shape, lambda *i: x(*i) * te.sigmoid(half(*i)))

    node = network(lambda b, x: b.call_te(swoosh, x, primfunc_name_hint="swoosh"), ((1, 3), F)).nodes[0]
    (found,) = _rule(node).forward(node.operator, (from_mask(np.array([[0, 1, 0]])),))
    assert found.zero.tolist() == [[True, False, True]]


def test_liveness_passes_in_place() -> None:
    node = call(R.tanh, ((1, 3), F))
    live = [[True, False, True]]
    (need,) = _rule(node).backward(node.operator, (unknown((1, 3)),), (alive((1, 3), live),))
    assert need.tolist() == live


def test_nothing_is_compiled_while_nothing_is_known() -> None:
    before = len(_PROGRAMS)
    node = call(R.tan, ((3, 77), F))
    rule = _rule(node)
    (found,) = rule.forward(node.operator, (unknown((3, 77)),))
    rule.backward(node.operator, (unknown((3, 77)),), (found,))
    assert found.trivial
    assert len(_PROGRAMS) == before


def grid(zero_point: int) -> Quantization:
    return Quantization(8, True, np.array([[0.1]]), np.array([[zero_point]]))


def test_relu_keeps_the_grid_of_a_quantized_tensor() -> None:
    node, shape = call(R.nn.relu, ((2, 3), F)), (2, 3)
    rule = _rule(node)
    quantized = from_quantization(shape, grid(3))
    (found,) = rule.forward(node.operator, (quantized,))
    assert found.bits.max() == 8
    assert found.quantization == quantized.quantization
    assert rule.precision is not None
    (need,) = rule.precision(node.operator, (unknown(shape),), (quantized,))
    assert need is not None
    assert (need.bits.max(), need.quantization) == (8, quantized.quantization)


def test_a_grid_without_zero_does_not_pass_relu() -> None:
    node, shape = call(R.nn.relu, ((2, 3), F)), (2, 3)
    rule = _rule(node)
    shifted = from_quantization(shape, grid(200))
    assert rule.forward(node.operator, (shifted,))[0].bits.max() == 32
    assert rule.precision is not None
    assert rule.precision(node.operator, (unknown(shape),), (shifted,)) == (None,)


def test_no_other_function_passes_a_grid() -> None:
    for function in (R.nn.silu, R.abs, R.negative):
        node = call(function, ((2, 3), F))
        rule = _rule(node)
        assert rule.precision is None
        assert rule.forward(node.operator, (from_quantization((2, 3), grid(0)),))[0].bits.max() == 32


def test_the_listing_shows_what_is_covered() -> None:
    found = covered()
    assert {"relax.erf", "relax.nn.relu", "relax.isnan", "relax.bitwise_not", "relax.astype", "relax.nn.leakyrelu",
            "relax.logical_not", "relax.trunc"} <= set(found)  # fmt: skip
    assert not {"relax.add", "relax.triu", "relax.nn.softmax", "relax.cumsum"} & set(found)
    listed = dict(rules())
    assert listed["relax.erf"].summary.startswith("Element-wise")


def _rule(node: Any) -> Any:
    found = elementwise_rule(node)
    assert found is not None
    return found
