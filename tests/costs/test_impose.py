"""Imposed patterns: how they are written, and what they leave of a weight."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tesa.analyze.imposition import Rules
from tesa.attributes.impose import Imposed, impose, kept
from tesa.attributes.patterns import classify
from tesa.errors import UsageError

shares = st.integers(0, 99).map(lambda percent: percent / 100)
patterns = st.one_of(
    st.builds(lambda s: Imposed("unstructured", s), shares),
    st.builds(lambda s: Imposed("channel", s), shares),
    st.builds(lambda s, r, c: Imposed("block", s, block=(r, c)), shares, st.integers(1, 40), st.integers(1, 40)),
    st.integers(1, 8).flatmap(lambda m: st.integers(1, m).map(lambda n: Imposed("n:m", 1 - n / m, n_m=(n, m)))),
)
sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))


@given(patterns)
def test_text_and_back(imposed: Imposed) -> None:
    again = Imposed.parse(str(imposed))
    assert (again.kind, again.block, again.n_m) == (imposed.kind, imposed.block, imposed.n_m)
    assert again.sparsity == pytest.approx(imposed.sparsity, abs=1e-5)


@settings(max_examples=150)
@given(patterns, sizes, st.integers(0, 99))
def test_what_is_kept_is_what_the_pattern_says(imposed: Imposed, size: tuple[int, int], seed: int) -> None:
    weight = np.random.default_rng(seed).standard_normal(size).astype(np.float32)
    before = weight.copy()
    copy = impose(weight, imposed)
    np.testing.assert_array_equal(weight, before)
    keep = kept(weight, imposed)
    np.testing.assert_array_equal(copy, np.where(keep, weight, 0))
    assert keep.any()
    if imposed.kind == "n:m":
        n, m = imposed.n_m
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


def test_rules_for_all_and_for_one() -> None:
    rules = Rules.parse(["0.9:block=4x4", "conv1=0.5", "a=b=0.8:block=8x1"])
    assert str(rules.of("anything")) == "0.9:block=4x4"
    assert str(rules.of("conv1")) == "0.5:unstructured"
    assert str(rules.of("a=b")) == "0.8:block=8x1"
    assert not Rules.parse([])
    with pytest.raises(UsageError, match="two patterns are imposed on all layers"):
        Rules.parse(["0.9", "0.8"])
    with pytest.raises(UsageError, match="two patterns are imposed on conv1"):
        Rules.parse(["conv1=0.9", "conv1=0.8"])
    with pytest.raises(UsageError, match=r"NAME=0.9:block=4x4"):
        Rules.parse(["conv1=most"])
