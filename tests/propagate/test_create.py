"""Tensors out of nothing, triangles, one-hot rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import relax
from tvm.relax import op as R

from tesa.attributes.attribute import from_constant, unknown

from .single import Case, agrees_with_tvm, check, check_bits, floats, rule_of

X = floats(2, 3, 4)
CASES: dict[str, Case] = {
    "zeros": Case(lambda: R.zeros((2, 3), "float32"), (), lambda: np.zeros((2, 3))),
    "zeros_like": Case(R.zeros_like, (X,), np.zeros_like),
    "ones": Case(lambda: R.ones((2, 3), "int64"), (), lambda: np.ones((2, 3))),
    "ones_like": Case(R.ones_like, (X,), np.ones_like),
    "full": Case(lambda: R.full((2, 3), relax.const(2.5), "float32"), (), lambda v: np.full((2, 3), v)),
    "full of an input": Case(
        lambda x: R.full((2, 3), x, "float32"), (np.array(2.5, np.float32),), lambda x: np.full((2, 3), x)
    ),
    "full_like": Case(
        lambda x, v: R.full_like(x, v), (X, np.array(2.5, np.float32)), lambda x, v: np.full(x.shape, v)
    ),
    "arange": Case(lambda: R.arange(1, 10, 2, "int64"), (), lambda: np.arange(1, 10, 2)),
    "arange of floats": Case(lambda: R.arange(0.5, 3, 0.25, "float32"), (), lambda: np.arange(0.5, 3, 0.25)),
    "eye": Case(lambda: R.eye(3, 4, 1, "float32"), (), lambda: np.eye(3, 4, 1)),
    "eye_like": Case(lambda x: R.eye_like(x, -1), (floats(3, 4),), lambda x: np.eye(3, 4, -1)),
    "hamming_window": Case(lambda: R.hamming_window(6, True, 0.54, 0.46, "float32"), (), lambda: np.hamming(7)[:-1]),
    "hamming_window, symmetric": Case(
        lambda: R.hamming_window(6, False, 0.54, 0.46, "float32"), (), lambda: np.hamming(6)
    ),
    "tril": Case(lambda x: R.tril(x, 1), (X,), lambda x: np.tril(x, 1), True),
    "triu": Case(lambda x: R.triu(x, -1), (X,), lambda x: np.triu(x, -1), True),
    "size": Case(R.size, (X,), lambda x: np.array(x.size)),
    "one_hot": Case(
        lambda i: R.one_hot(i, relax.prim_value(2.0), relax.prim_value(-1.0), 4, -1), (np.array([[0, 3], [1, 1]]),),
        lambda i: np.where(i[..., None] == np.arange(4), 2.0, -1.0),
    ),
    "one_hot in front": Case(
        lambda i: R.one_hot(i, relax.prim_value(1.0), relax.prim_value(0.0), 3, 0), (np.array([0, 5, 2]),),
        lambda i: (i == np.arange(3)[:, None]).astype(float),
    ),
}  # fmt: skip
SEEDS = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("name", [name for name in CASES if name != "size"])
def test_the_reference_is_what_tvm_computes(name: str) -> None:
    agrees_with_tvm(CASES[name])


@pytest.mark.parametrize("name", CASES)
@given(seed=SEEDS)
@settings(max_examples=12, deadline=None)
def test_the_rule(name: str, seed: int) -> None:
    check(CASES[name], seed, (0.0, 1.0, np.inf))


@pytest.mark.parametrize("name", ["tril", "triu"])
def test_bits_of_a_triangle(name: str) -> None:
    assert sum(check_bits(CASES[name], seed) for seed in range(12)) > 12


@pytest.mark.parametrize("name", ["zeros_like", "ones_like", "eye_like", "full_like", "size"])
def test_nothing_is_needed_of_a_tensor_that_lends_its_shape(name: str) -> None:
    node, _ = CASES[name].node()
    inputs = tuple(unknown(shape) for shape in node.operator.inputs)
    outputs = tuple(unknown(shape) for shape in node.operator.outputs)
    assert not rule_of(node).backward(node.operator, inputs, outputs)[0].any()


@pytest.mark.parametrize("name", ["zeros", "ones", "full", "arange", "eye", "hamming_window"])
def test_constants_are_known(name: str) -> None:
    node, _ = CASES[name].node()
    facts = tuple(from_constant(c) for c in node.operator.constants if c is not None)
    assert rule_of(node).forward(node.operator, facts)[0].known.all()
