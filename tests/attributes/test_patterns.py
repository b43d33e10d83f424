"""The names of patterns: each is recognised, the most regular one first, and none is claimed wrongly."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tesa.attributes.patterns import BLOCKS, classify, digest, patterns, weight_matrix


def random_mask(rows: int, columns: int, density: float, seed: int = 0) -> Any:
    return np.random.default_rng(seed).random((rows, columns)) < density


def n_of_m(rows: int, groups: int, n: int, m: int) -> Any:
    rng = np.random.default_rng(1)
    order = rng.permuted(np.broadcast_to(np.arange(m), (rows * groups, m)), axis=1)
    return (order < n).reshape(rows, groups * m)


def test_dense_and_empty() -> None:
    assert str(classify(np.ones((3, 5)))) == "dense"
    assert str(classify(np.zeros((3, 5)))) == "empty"
    assert classify(np.zeros((3, 0))).kind == "empty"


def test_channels() -> None:
    weight = np.random.default_rng(0).normal(size=(64, 48))
    weight[[3, 7]] = 0
    weight[:, 40:] = 0
    pattern = classify(weight)
    assert str(pattern) == "channel 62/64 x 40/48"
    assert (pattern.rows, pattern.columns, pattern.nonzeros) == (62, 40, 62 * 40)


@pytest.mark.parametrize("block", BLOCKS)
def test_blocks_of_every_size(block: tuple[int, int]) -> None:
    mask = np.kron(random_mask(20, 20, 0.5), np.ones(block))
    assert classify(mask).block == block


def test_blocks_that_the_edge_cuts() -> None:
    mask = np.kron(random_mask(20, 20, 0.5), np.ones((4, 1)))[:-2]
    assert str(classify(mask)) == "block 4x1"


@pytest.mark.parametrize(("n", "m"), [(1, 2), (1, 4), (2, 4), (1, 8), (2, 8), (4, 8)])
def test_n_of_m(n: int, m: int) -> None:
    assert str(classify(n_of_m(32, 16, n, m))) == f"{n}:{m}"


def test_one_zero_too_many_is_still_n_of_m_but_one_value_is_not() -> None:
    mask = n_of_m(32, 16, 2, 4)
    mask[0, np.flatnonzero(mask[0])[0]] = False
    assert str(classify(mask)) == "2:4"
    mask[1, np.flatnonzero(~mask[1])[0]] = True
    assert str(classify(mask)) == "unstructured"


def test_groups() -> None:
    assert str(classify(np.kron(np.eye(4), np.ones((3, 5))))) == "group 4"


def test_unstructured() -> None:
    assert str(classify(random_mask(64, 64, 0.1))) == "unstructured"


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.integers(0, 100))
def test_the_counts(rows: int, columns: int, density: float, seed: int) -> None:
    mask = random_mask(rows, columns, density, seed)
    pattern = classify(mask * 0.5)
    per_row = mask.sum(axis=1)
    assert pattern.nonzeros == mask.sum()
    assert pattern.sparsity == pytest.approx(1 - mask.mean())
    assert pattern.row_nnz[0] == per_row.min()
    assert pattern.row_nnz[2] == per_row.max()
    if pattern.block is not None:
        height, width = pattern.block
        for i, j in np.argwhere(mask):
            assert mask[i // height * height :, j // width * width :][:height, :width].all()


def test_a_convolution_is_a_matrix() -> None:
    weight = np.ones((8, 4, 3, 3))
    weight[:, 2] = 0
    assert str(classify(weight)) == "channel 8/8 x 27/36"
    assert weight_matrix("relax.nn.conv2d", weight).shape == (8, 36)
    assert weight_matrix("linear", np.zeros((5, 7))).shape == (7, 5)
    with pytest.raises(ValueError, match="no weight matrix for op 'softmax'"):
        weight_matrix("softmax", weight)


def test_the_digest_tells_values_places_and_shapes_apart() -> None:
    base = np.arange(6.0)
    variants = [base, base[::-1], base + 1, base.reshape(2, 3), base.astype(np.float32)]
    digests = [digest(v) for v in variants]
    assert len(set(digests)) == len(variants)
    assert all(len(d) == 16 for d in digests)
    assert digest(base[::2]) == digest(base[::2].copy())


def test_json_and_the_registry() -> None:
    found = json.loads(json.dumps(classify(np.eye(4)).to_json()))
    assert found["text"] == "group 4"
    names = [kind.name for kind in patterns()]
    assert names == ["empty", "dense", "channel", "group", "block", "n:m", "row", "column", "taps", "unstructured"]
    assert all(kind.summary for kind in patterns())
