"""Facts through matrix products: all ranks, weights on either side, two activations, integers, infinities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tesa.attributes.attribute import TeSA, from_constant, from_mask, unknown
from tesa.propagate.engine import solve
from tesa.propagate.labels import matmul_axes
from tesa.propagate.network import Network, Node
from tesa.propagate.registry import Operator
from tesa.propagate.rules.algebra import any_product, on_diagonal, sum_product

from .one_rule import FLOATS, backward, case, check_dead, check_known, forward, some_facts, some_live, some_weight

SEEDS = st.integers(0, 2**32 - 1)
many = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
SHAPES: list[Any] = [
    ((2, 3), (3, 4)), ((3,), (3, 4)), ((2, 3), (3,)), ((3,), (3,)), ((2, 2, 3), (3, 4)), ((2, 3), (2, 3, 4)),
    ((2, 1, 2, 3), (3, 3, 2)), ((1, 2, 3), (2, 3, 2)), ((2, 2, 3), (3,)), ((3,), (2, 3, 2)), ((1, 1), (1, 1)),
]  # fmt: skip
INFINITE = (*FLOATS, np.inf, -np.inf)


def operand(rng: Any, shape: tuple[int, ...], values: Any) -> Any:
    extra = [v for v in values if np.isinf(v)][:1]
    return some_facts(rng, shape, values) if rng.random() < 0.5 else some_weight(rng, shape, extra)


def product(a: Any, b: Any, dtype: str = "float32") -> Any:
    shapes = [x.shape for x in (a, b)]
    return case("relax.matmul", np.matmul, (a, b), np.matmul(*map(np.zeros, shapes)).shape, dtype)


@given(SEEDS, st.sampled_from(SHAPES), st.sampled_from([FLOATS, INFINITE]))
@many
def test_claims_against_numpy(seed: int, shapes: Any, values: Any) -> None:
    rng = np.random.default_rng(seed)
    it = product(*(operand(rng, shape, values) for shape in shapes))
    check_known(it, rng)
    check_dead(it, rng, some_live(rng, it.op.outputs[0]))


@given(SEEDS)
@many
def test_a_tensor_times_itself(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = some_facts(rng, (3, 3))
    check_dead(product(x, x), rng, some_live(rng, (3, 3)), twins=(0, 1))


@given(SEEDS)
@many
def test_all_that_a_dense_check_finds_is_found(seed: int) -> None:
    """On two activations of zeros and unknowns the rule is exact: known where all terms are cut off, dead likewise."""
    rng = np.random.default_rng(seed)
    a, b = some_facts(rng, (2, 3), (0.0,)), some_facts(rng, (3, 2), (0.0,))
    zero_a, zero_b = (np.broadcast_to(t.zero, t.shape) for t in (a, b))
    it = product(a, b)
    terms = ~zero_a[:, :, None] & ~zero_b[None]
    np.testing.assert_array_equal(np.broadcast_to(forward(it).zero, (2, 2)), ~terms.any(axis=1))
    live = np.broadcast_to(some_live(rng, (2, 2)), (2, 2))
    need = np.broadcast_to(backward(it, live)[0], (2, 3))
    lean = np.where(zero_a, live.any(axis=1, keepdims=True), (live[:, None] & ~zero_b[None]).any(axis=2))
    np.testing.assert_array_equal(need, lean)


def test_facts_by_channel_stay_short() -> None:
    weight = np.ones((6, 8))
    weight[:, 3] = 0
    x = from_mask(np.ones((1, 1, 6)) * (np.arange(6) != 2))
    x = TeSA((2, 5, 6), x.known, x.value, x.live, x.bits)
    it = product(x, weight)
    assert forward(it).known.shape == (1, 1, 8)
    live = np.ones((1, 1, 8), bool)
    live[..., 5] = False
    need_x, need_w = backward(it, live)
    assert need_x.tolist() == [[[True, True, False, True, True, True]]]  # the weights that read the zero are gone
    assert [bool(row) for row in need_w.any(axis=1)] == [True, True, False, True, True, True]
    assert not need_w[:, 5].any()


def test_a_constant_channel_of_a_pruned_row_is_summed_up() -> None:
    x = from_constant(np.full((1, 3), 0.5))
    weight = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, -4.0]])
    np.testing.assert_allclose(forward(product(x, weight)).value, [[1.5, -2.0]])


@given(SEEDS)
@many
def test_weights_of_a_softmax_hand_constants_on(seed: int) -> None:
    rng = np.random.default_rng(seed)

    def attend(logits: Any, v: Any) -> Any:
        power = np.exp(logits)
        return power / power.sum(axis=-1, keepdims=True) @ v

    v = some_facts(rng, (2, 3, 2), (0.0, 2.0, 2.0, -1.0), share=0.7)
    it = case("relax.matmul", attend, (unknown((2, 4, 3)), v), (2, 4, 2), attrs={"rows_sum_to_one": True})
    found = check_known(it, rng)
    known, value = (np.broadcast_to(a, v.shape) for a in (v.known, v.value))
    constant = known.all(axis=1) & (value == value[:, :1]).all(axis=1)
    assert (np.broadcast_to(found.known, (2, 4, 2)) == constant[:, None]).all()


def test_zero_times_infinity_is_not_claimed() -> None:
    x = from_constant(np.array([[0.0, 1.0]]))
    weight = np.array([[np.inf, 0.0], [1.0, 1.0]])
    found = forward(product(x, weight))
    assert found.known.tolist() == [[False, True]]
    need = backward(product(x, weight), np.ones((1, 2), bool))
    assert need[1][0].tolist() == [True, False]  # without the infinite weight the NaN would be gone


def test_integers_are_exact_and_overflow_is_unknown() -> None:
    a = from_constant(np.array([[100, -3]], np.int32))
    b = np.array([[7, 2**30], [5, 0]], np.int32)
    found = forward(product(a, b, "int32"))
    assert found.known.tolist() == [[True, False]]
    assert found.value.dtype == np.int32
    assert found.value[0, 0] == 685


def test_vectors_and_batches_have_the_axes_of_numpy() -> None:
    assert matmul_axes((3,), (3,)).out == ()
    assert matmul_axes((2, 1, 4, 3), (5, 3, 6)).sizes == {"b1": 2, "b0": 5, "m": 4, "k": 3, "n": 6}


def test_products_over_no_elements_are_zero() -> None:
    a, b = unknown((2, 0)), unknown((0, 3))
    found = forward(product(a, b))
    assert found.zero.all()
    assert not any_product([(np.ones((1, 1), bool), ("m", "k"))], ("m",), {"m": 2, "k": 0}).any()


def test_copies_along_a_short_axis_count() -> None:
    operands = [(np.array([[2.0]]), ("m", "k")), (np.array([[3.0]]), ("k", "n"))]
    total = sum_product(operands, (), {"m": 2, "k": 5, "n": 7})
    assert float(total) == 2 * 3 * 2 * 5 * 7


def test_a_mask_on_the_diagonal() -> None:
    mask = on_diagonal(np.array([[True, False]]), ("i", "j", "i"), (3, 2, 3))
    assert mask[:, 0].tolist() == np.eye(3, dtype=bool).tolist()
    assert not mask[:, 1].any()


def _matmul(layer: str, a: str, b: str, constants: Any = (None, None)) -> Node:
    op = Operator("relax.matmul", layer, ((2, 2), (2, 2)), ((2, 2),), constants, ("float32",))
    return Node(op, layer, (a, b), (layer,))


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_two_zero_features_do_not_remove_each_other(seed: int | None) -> None:
    """p @ q with a feature that is zero in both: one at least must stay what it is."""
    left, right = np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([[1.0, 1.0], [0.0, 0.0]])
    net = Network(
        [
            _matmul("p", "x", "p#1", (None, left)), _matmul("q", "q#0", "z", (right, None)),
            _matmul("y", "p", "q"),
        ],
        dict.fromkeys(("x", "z", "p", "q", "y", "p#1", "q#0"), (2, 2)), {"p#1": left, "q#0": right}, ("y",),
    )  # fmt: skip
    facts = solve(net, seed=seed).tesa
    assert facts["p"].zero.tolist() == [[False, True]]
    assert facts["q"].zero.tolist() == [[False], [True]]
    assert facts["p"].live.all()
    assert facts["q"].live.all()
