"""Statistics: counted as NumPy counts, named as patterns are, and a distance that behaves like one."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tesa.attributes.patterns import classify
from tesa.attributes.statistics import LIMIT, SHAPES, Statistics, distance, statistics_of
from tests.attributes import mask_patterns


def mask(m: int, k: int, block: tuple[int, int], density: float, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    live = rng.random((-(-m // block[0]), -(-k // block[1]))) < density
    return np.kron(live, np.ones(block))[:m, :k]


@st.composite
def weights(draw: st.DrawFn) -> Any:
    side = st.sampled_from((1, 2, 4, 8, 16, 32))
    size = st.integers(1, 80)
    found = mask(
        draw(size), draw(size), (draw(side), draw(side)), draw(st.sampled_from((0.03, 0.1, 0.5, 0.9))),
        draw(st.integers(0, 99)),
    )  # fmt: skip
    return found * draw(st.sampled_from((1, (np.arange(len(found)) % 3 > 0)[:, None])))


@given(weights())
def test_counted_as_numpy_counts(weight: Any) -> None:
    found = statistics_of(weight)
    live = weight != 0
    assert found.nonzeros == live.sum()
    for (r, c), share in zip(SHAPES, found.fill.values(), strict=True):
        blocks = [live[i : i + r, j : j + c].any() for i in range(0, len(live), r) for j in range(0, live.shape[1], c)]
        assert share == pytest.approx(np.mean(blocks), rel=1e-4)
    for spread, counts in ((found.rows, live.sum(axis=1)), (found.columns, live.sum(axis=0))):
        assert (spread.mean, spread.deviation) == pytest.approx((counts.mean(), counts.std()), rel=1e-4)
        assert spread.most == counts.max()


@given(weights())
def test_recognised_by_counts_as_by_masks(weight: Any) -> None:
    found, (kind, structure) = classify(weight), mask_patterns.recognised(weight != 0)
    assert found.kind == kind
    assert {name: getattr(found, name) for name in structure} == structure


@given(weights())
def test_named_as_patterns_are_named(weight: Any) -> None:
    found, pattern = statistics_of(weight), classify(weight)
    assert found.kind == str(pattern)
    assert found.sparsity == round(pattern.sparsity, 6)
    assert found.n_m == pattern.n_m


@pytest.mark.parametrize(("n", "m"), [(1, 2), (1, 4), (2, 4), (1, 8), (2, 8), (4, 8)])
@pytest.mark.parametrize("groups", [3, 4, 7, 16])
@pytest.mark.parametrize("short", [0, 1, 5])
def test_n_of_m_is_named_with_a_few_short_groups_and_empty_rows(n: int, m: int, groups: int, short: int) -> None:
    order = np.random.default_rng(1).permuted(np.broadcast_to(np.arange(m), (12 * groups, m)), axis=1)
    weight = (order < n).reshape(12, groups * m)
    weight[3] = False
    weight[5, : short * m] = False
    kind, structure = mask_patterns.recognised(weight != 0)
    assert classify(weight).kind == kind
    assert statistics_of(weight).n_m == structure.get("n_m")


@pytest.mark.parametrize(
    "weight", [np.zeros((3, 4)), np.ones((3, 4)), np.kron(np.eye(4), np.ones((3, 5))), np.zeros((3, 0)), np.ones(5)]
)
def test_the_plain_kinds(weight: Any) -> None:
    assert statistics_of(weight).kind == str(classify(weight))


def test_no_rows_at_all() -> None:
    assert statistics_of(np.zeros((0, 3))).kind == "empty"


@given(weights())
def test_survives_json(weight: Any) -> None:
    found = statistics_of(weight)
    assert Statistics.from_json(json.loads(json.dumps(found.to_json()))) == found


@given(weights(), weights())
def test_a_distance(one: Any, other: Any) -> None:
    a, b = statistics_of(one), statistics_of(other)
    assert distance(a, a) == 0
    assert distance(a, b) == distance(b, a) >= 0


def test_near_and_far() -> None:
    def of(block: tuple[int, int], density: float, seed: int = 0) -> Statistics:
        return statistics_of(mask(256, 256, block, density, seed))

    base = of((1, 1), 0.10)
    assert distance(base, of((1, 1), 0.11, 1)) < LIMIT
    assert distance(base, of((1, 1), 0.15, 1)) > LIMIT
    assert distance(base, of((4, 4), 0.10, 1)) > LIMIT
    assert distance(base, of((1, 16), 0.10, 1)) > LIMIT
    assert distance(of((4, 4), 0.1), of((4, 4), 0.1, 1)) < LIMIT
    two_of_four = np.tile([[1, 1, 0, 0], [0, 1, 0, 1]], (32, 16))
    half = mask(64, 64, (1, 1), 0.5, 0)
    assert math.isinf(distance(statistics_of(two_of_four), statistics_of(half)))
    assert math.isinf(distance(statistics_of(half * 0), statistics_of(half)))
