"""Imposed patterns: how they are written, and what they leave of a weight."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tesa.attributes.impose import Imposed, impose, kept, sample
from tesa.attributes.patterns import Imposition, classify, find_pattern, forget, pattern, patterns
from tesa.errors import UsageError

shares = st.integers(0, 99).map(lambda percent: percent / 100)
imposed_patterns = st.one_of(
    st.builds(lambda s: Imposed("unstructured", s), shares),
    st.builds(lambda s: Imposed("channel", s), shares),
    st.builds(lambda s, r, c: Imposed("block", s, (r, c)), shares, st.integers(1, 40), st.integers(1, 40)),
    st.integers(1, 8).flatmap(lambda m: st.integers(1, m).map(lambda n: Imposed("n:m", 1 - n / m, (n, m)))),
)
sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))


@given(imposed_patterns)
def test_text_and_back(imposed: Imposed) -> None:
    again = Imposed.parse(str(imposed))
    assert (again.kind, again.sizes) == (imposed.kind, imposed.sizes)
    assert again.sparsity == pytest.approx(imposed.sparsity, abs=1e-5)


@settings(max_examples=150)
@given(imposed_patterns, sizes, st.integers(0, 99))
def test_what_is_kept_is_what_the_pattern_says(imposed: Imposed, size: tuple[int, int], seed: int) -> None:
    weight = np.random.default_rng(seed).standard_normal(size).astype(np.float32)
    before = weight.copy()
    copy = impose(weight, imposed)
    np.testing.assert_array_equal(weight, before)
    keep = kept(weight, imposed)
    np.testing.assert_array_equal(copy, np.where(keep, weight, 0))
    assert keep.any()
    if imposed.kind == "n:m":
        n, m = imposed.sizes
        for first in range(0, size[1], m):
            group = keep[:, first : first + m]
            assert (group.sum(axis=1) == min(n, group.shape[1])).all()
        return
    rows, columns = {"unstructured": (1, 1), "channel": (1, size[1])}.get(imposed.kind, imposed.block)
    blocks = [keep[i : i + rows, j : j + columns] for i in range(0, size[0], rows) for j in range(0, size[1], columns)]
    assert all(block.all() or not block.any() for block in blocks)
    live = sum(bool(block.any()) for block in blocks)
    assert live == max(1, round((1 - imposed.sparsity) * len(blocks)))


def test_the_largest_stay() -> None:
    weight = np.array([[1, -9, 2, 3], [8, 0, -4, 5]], np.float32)
    assert kept(weight, Imposed.parse("0.5")).sum() == 4
    np.testing.assert_array_equal(impose(weight, Imposed.parse("0.75")), [[0, -9, 0, 0], [8, 0, 0, 0]])
    np.testing.assert_array_equal(impose(weight, Imposed.parse("0.5:channel")), [[0, 0, 0, 0], [8, 1, -4, 5]])


def test_imposing_takes_the_place_of_the_zeros_there_are() -> None:
    rng = np.random.default_rng(0)
    weight = (rng.standard_normal((64, 64)) * (rng.random((64, 64)) > 0.9)).astype(np.float32)
    found = classify(impose(weight, Imposed.parse("0.75:block=4x4")))
    assert found.block == (4, 4)
    assert found.sparsity == 0.75


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no share of zeros"),
        ("1", "is no share of zeros from 0 to below 1"),
        ("-0.1", "is no share"),
        ("ninety", "is no share"),
        ("nan", "is no share"),
        ("0.9:blocks", "unknown pattern 'blocks'"),
        ("0.9:block=0x4", "at least one row"),
        ("5:4", "5:4 keeps 5 of 4"),
        ("0.9:2:4", "2:4 leaves 0.5 of the elements zero, not 0.9"),
    ],
)
def test_errors_say_what_is_expected(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Imposed.parse(text)


@settings(max_examples=40)
@given(imposed_patterns, sizes, st.integers(0, 99))
def test_a_sample_has_the_pattern(imposed: Imposed, size: tuple[int, int], seed: int) -> None:
    made = sample(imposed, size, np.random.default_rng(seed))
    assert made.shape == size
    assert made.dtype == np.float32
    live, (rows, columns) = made != 0, imposed.block
    for i in range(0, size[0], rows):
        for j in range(0, size[1], columns):
            block = live[i : i + rows, j : j + columns]
            assert block.all() or not block.any()
    np.testing.assert_array_equal(made, sample(imposed, size, np.random.default_rng(seed)))


def test_patterns_that_can_be_sampled_without_sizes_have_their_share_of_zeros() -> None:
    for name in ("dense", "unstructured"):
        draw = find_pattern(name).sample
        assert draw is not None
        weight = draw(np.random.default_rng(0), (64, 64), 0.75 if name == "unstructured" else 0.0, ())
        assert classify(weight).kind == name
        assert classify(weight).sparsity == pytest.approx(0.75 if name == "unstructured" else 0.0, abs=0.05)


def test_a_pattern_of_a_user_is_imposed_by_its_form() -> None:
    def first_rows(size: np.ndarray, sparsity: float, sizes: tuple[int, ...]) -> np.ndarray:
        return np.repeat(np.arange(len(size)) % sizes[0] == 0, size.shape[1]).reshape(size.shape)

    rule = Imposition("every=N", first_rows, "0.5:every=2", share=lambda sizes: 1 - 1 / sizes[0])

    @pattern("every", imposition=rule)
    def every(mask: np.ndarray) -> None:
        """One row of each few."""

    try:
        imposed = Imposed.parse("every=4")
        assert (str(imposed), imposed.sparsity, imposed.sizes) == ("0.75:every=4", 0.75, (4,))
        assert np.flatnonzero(impose(np.ones((8, 2), np.float32), imposed).any(axis=1)).tolist() == [0, 4]
        assert patterns()[-1].name == "unstructured"
        with pytest.raises(UsageError, match=r"every=4 leaves 0.75 of the elements zero, not 0.5"):
            Imposed.parse("0.5:every=4")
        with pytest.raises(UsageError, match=r"0.5:every=2"):
            Imposed.parse("0.5:nothing")
    finally:
        forget("every")
