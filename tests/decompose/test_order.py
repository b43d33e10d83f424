"""Orders of rows: permutations that bring similar supports together."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tesa.decompose import find_policy
from tesa.decompose.order import equal_supports, live_columns, similar
from tests.decompose.running import TARGET, linear, mask


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(["rows", "scattered", "n:m"]), st.integers(2, 8))
def test_orders_are_permutations(m: int, k: int, kind: str, rows: int) -> None:
    live = mask(m, k, kind, np.random.default_rng(m + k))
    for order in (similar(live, rows), equal_supports(live)[0]):
        assert np.array_equal(np.sort(order), np.arange(m))
    count = live_columns(live, np.arange(m), rows)
    brute = sum(int(live[i : i + rows].any(axis=0).sum()) for i in range(0, m, rows))
    assert count == brute


def test_rows_that_were_shuffled_are_brought_together_again() -> None:
    rng = np.random.default_rng(1)
    supports = np.repeat(rng.random((16, 200)) < 0.2, 8, axis=0)
    noisy = supports ^ (rng.random(supports.shape) < 0.01)
    shuffled = noisy[rng.permutation(len(noisy))]
    tidy = live_columns(noisy, np.arange(128), 8)
    assert live_columns(shuffled, np.arange(128), 8) > 2 * tidy
    assert live_columns(shuffled, similar(shuffled, 8), 8) < 1.1 * tidy


def test_exactly_equal_rows_are_groups_and_similar_ones_an_order() -> None:
    rng = np.random.default_rng(1)
    supports = (np.repeat(rng.random((16, 200)) < 0.2, 8, axis=0))[rng.permutation(128)]
    problem = linear(128, 200, 64)
    exact = np.where(supports, 1 + rng.random(supports.shape), 0).astype(np.float32)
    noisy = np.where(supports ^ (rng.random(supports.shape) < 0.01), 1, 0).astype(np.float32)
    for values, name, other in ((exact, "groups", "order"), (noisy, "order", "groups")):
        space = find_policy(name).space(problem, values, TARGET.core)
        assert space
        assert not find_policy(other).space(problem, values, TARGET.core)
        (piece,) = find_policy(name).split(problem, values, space[0])
        assert piece.order is not None
        assert live_columns(values != 0, piece.order, 8) < 0.5 * live_columns(values != 0, np.arange(128), 8)


def test_rows_that_lie_together_already_are_left_to_the_block_form() -> None:
    supports = np.repeat(np.random.default_rng(0).random((16, 100)) < 0.2, 8, axis=0)
    problem = linear(128, 100, 64)
    for name in ("groups", "order"):
        assert not find_policy(name).space(problem, supports.astype(np.float32), TARGET.core)
