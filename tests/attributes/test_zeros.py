"""The zeros of a weight are counted right, and once where nobody changes it."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tesa.attributes import zeros as module
from tesa.attributes.zeros import Zeros, digest, frozen, zeros_of

heights = st.sampled_from((1, 2, 4, 8, 16))


@given(st.integers(1, 40), st.integers(1, 70), heights, heights, st.integers(0, 2**32 - 1))
def test_live_blocks(m: int, k: int, r: int, c: int, seed: int) -> None:
    mask = np.random.default_rng(seed).random((m, k)) < 0.1
    blocks = [mask[i : i + r, j : j + c] for i in range(0, m, r) for j in range(0, k, c)]
    zeros = Zeros(mask)
    assert zeros.live(r, c) == sum(bool(block.any()) for block in blocks)
    assert zeros.covered(r, c) == sum(block.size for block in blocks if block.any())
    assert zeros.live_share(r, c) == pytest.approx(np.mean([block.any() for block in blocks]))


def test_rows_columns_and_supports() -> None:
    zeros = Zeros(np.array([[1, 0, 2], [0, 0, 0], [3, 0, 4]]))
    assert (zeros.per_row.tolist(), zeros.per_column.tolist()) == ([2, 0, 2], [2, 0, 2])
    assert (zeros.nonzeros, zeros.live_rows, zeros.live_columns, zeros.supports) == (4, 2, 2, 2)
    assert Zeros(np.zeros((0, 4))).live_share(4, 4) == 0.0


def test_a_weight_that_may_change_is_counted_anew() -> None:
    weight = np.eye(4, dtype=np.float32)
    before = zeros_of(weight).digest
    weight[0, 1] = 3
    assert zeros_of(weight).digest == digest(weight) != before


def test_a_frozen_weight_is_counted_once() -> None:
    weight = frozen(np.eye(4, dtype=np.float32))
    assert zeros_of(weight) is zeros_of(weight)
    assert zeros_of(weight).digest == digest(weight)
    with pytest.raises(ValueError, match="read-only"):
        weight[0, 1] = 3
    assert zeros_of(weight[:2]).shape == (2, 4)


def test_nothing_is_kept_of_weights_that_are_gone() -> None:
    gc.collect()
    before = len(module._FROZEN)
    weights = [frozen(np.eye(4)) for _ in range(3)]
    assert [zeros_of(weight).nonzeros for weight in weights] == [4, 4, 4]
    assert len(module._FROZEN) == before + 3
    weights.clear()
    gc.collect()
    assert len(module._FROZEN) == before
