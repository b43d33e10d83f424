"""Codes and outliers: found by facts, by a scale, or in the values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tesa.attributes.attribute import Quantization, TeSA, from_quantization
from tesa.attributes.codes import find_scale
from tesa.decompose import find_policy, in_codes
from tesa.errors import UsageError
from tests.decompose.running import TARGET, linear


def real(m: int, k: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(weights, scale, where the outliers are)."""
    rng = np.random.default_rng(seed)
    scale = (0.01 * (1 + rng.random(m))).astype(np.float32)
    codes = rng.integers(-127, 128, (m, k))
    codes[:, 0], codes[:, 1] = 127, 126
    weight = (scale[:, None] * codes).astype(np.float32)
    out = rng.random((m, k)) < share
    out[:, :2] = False
    weight[out] = (5 * rng.standard_normal(int(out.sum()))).astype(np.float32)
    return weight, scale, out


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(30, 80), st.sampled_from([0.0, 0.02, 0.05]), st.integers(0, 99))
def test_outliers_are_what_the_grid_does_not_hold(m: int, k: int, share: float, seed: int) -> None:
    weight, scale, out = real(m, k, share, seed)
    codes = in_codes(weight, scale)
    assert codes.outliers[~out].sum() == 0
    assert codes.outliers[out].mean() > 0.8 if out.sum() > 20 else True
    np.testing.assert_allclose(codes.weight.astype(float) * codes.scale[:, None], weight, rtol=2e-5, atol=1e-9)
    assert np.array_equal(np.rint(codes.weight[~codes.outliers]), codes.weight[~codes.outliers])


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.sampled_from([0.0, 0.03]), st.integers(0, 99))
def test_the_scale_is_found_in_the_values(m: int, share: float, seed: int) -> None:
    weight, scale, _ = real(m, 400, share, seed)
    np.testing.assert_allclose(find_scale(weight), scale, rtol=1e-4)
    assert in_codes(weight).outliers.mean() <= share + 0.03


def test_a_row_without_a_grid_has_none() -> None:
    weight = np.random.default_rng(0).standard_normal((2, 200)).astype(np.float32)
    assert find_scale(weight).tolist() == [1.0, 1.0]
    assert find_scale(np.zeros((1, 4), np.float32)).tolist() == [1.0]


def test_facts_say_which_elements_are_outliers() -> None:
    grid = Quantization(8, True, np.array([0.5]), np.array([0]))
    facts = from_quantization((1, 4), grid)
    bits = np.array([[8, 8, 32, 8]], np.int8)
    facts = TeSA(facts.shape, facts.known, facts.value, facts.live, bits, facts.quantization, facts.origins)
    weight = np.array([[0.5, -64.0, 3.7, 63.5]], np.float32)
    codes = in_codes(weight, facts=facts)
    assert codes.scale.tolist() == [0.5]
    assert codes.outliers.tolist() == [[False, False, True, False]]
    with pytest.raises(UsageError, match=r"facts of shape \(1, 4\) do not belong to a weight of \(2, 4\)"):
        in_codes(np.zeros((2, 4), np.float32), facts=facts)


@pytest.mark.parametrize("scale", [[0.0], [-1.0], [np.nan], [1.0, 2.0]])
def test_a_scale_that_is_none(scale: list[float]) -> None:
    with pytest.raises(UsageError, match="scale: expected 1 or 3 positive numbers"):
        in_codes(np.ones((3, 4), np.float32), np.array(scale, np.float32))


def test_only_mixed_problems_are_split() -> None:
    values = np.array([[1, 2], [3, 0.5]], np.float32)
    found = find_policy("precision")
    for problem in (linear(2, 2, 16), linear(2, 2, 16, dtype="int8")):
        assert not found.space(problem, values, TARGET.core)
        assert not found.split(problem, values, {})
    made = found.split(linear(2, 2, 16, dtype="mixed"), values, {})
    assert [piece.bits for piece in made] == [8, 32]
    only = found.split(linear(2, 2, 16, dtype="mixed"), np.rint(values), {})
    assert [piece.bits for piece in only] == [8]
