"""The cover: never dearer than the plain ways by its own prices, and SparTA's mixed weights are found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tesa.decompose import find_policy
from tesa.decompose.composite import space_of
from tesa.decompose.cover import cover
from tesa.decompose.prices import EstimatedPrices, block_price
from tesa.schedules.pieces import part
from tesa.schedules.registry import find
from tesa.schedules.types import Problem
from tests.decompose.running import TARGET, linear, mask

SIZES = [(1, 4), (4, 4), (8, 8), (16, 16), (4, 16)]


@settings(max_examples=120, deadline=None)
@given(
    st.integers(1, 50), st.integers(1, 50), st.sampled_from(["blocks", "scattered", "rows", "dense"]),
    st.dictionaries(st.sampled_from(SIZES), st.floats(0.5, 300), min_size=1), st.integers(0, 99),
)  # fmt: skip
def test_price_and_owners(m: int, k: int, kind: str, prices: dict[tuple[int, int], float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    live = mask(m, k, kind, rng) | mask(m, k, "scattered", rng)
    found = cover(live, prices, 1.0)
    assert not (found.owner >= 0)[~live].any()
    touched = {
        size: {(r // size[0], c // size[1]) for r, c in np.argwhere(found.owner == i)} for i, size in enumerate(prices)
    }
    single = int((live & (found.owner < 0)).sum())
    price = single + sum(prices[size] * len(blocks) for size, blocks in touched.items())
    assert found.price == pytest.approx(price)
    assert found.price <= live.sum() + 1e-6
    for (height, width), each in prices.items():
        blocks = {(r // height, c // width) for r, c in np.argwhere(live)}
        assert found.price <= len(blocks) * each + 1e-6


def test_the_cheapest_block_comes_first_and_the_rest_is_counted_again() -> None:
    live = np.zeros((8, 8), bool)
    live[:4] = True
    live[4, 0] = True
    found = cover(live, {(8, 8): 20.0, (4, 8): 10.0}, 1.0)
    assert (found.owner[:4] == 1).all()
    assert found.owner[4, 0] == -1
    assert found.price == 11.0


@pytest.mark.parametrize("sparsity", [0.7, 0.8, 0.9])
def test_blocks_with_scattered_elements_are_told_apart(sparsity: float) -> None:
    rng = np.random.default_rng(7)
    tiles = rng.random((16, 16)) >= sparsity
    blocks = np.kron(tiles, np.ones((32, 32), bool))
    live = blocks | (rng.random(blocks.shape) < 0.01)
    values = np.where(live, rng.standard_normal(live.shape), 0).astype(np.float32)
    problem = linear(512, 512, 256)
    space = find_policy("cover").space(problem, values, TARGET.core)
    made = find_policy("cover").split(problem, values, space[0])
    scattered = [piece for piece in made if piece.block == (1, 1)]
    assert len(scattered) == 1
    np.testing.assert_array_equal(scattered[0].weight != 0, live & ~blocks)


def test_configurations_decide_whatever_the_prices_are() -> None:
    """What a log has recorded means the same with another table."""

    class Cheap:
        def block_price(self, problem: Problem, block: tuple[int, int], density: float) -> float:
            return 1e-6 * block[0] * block[1] * (0.1 if block != (1, 1) else 1.0)

    rng = np.random.default_rng(2)
    problem = linear(64, 64, 64)
    live = mask(64, 64, "blocks", rng) | mask(64, 64, "scattered", rng)
    values = live.astype(np.float32)
    found = find_policy("cover")
    plain = find_policy("cover").space(problem, values, TARGET.core)[0]
    before = [piece.weight for piece in found.split(problem, values, plain)]
    assert block_price(Cheap(), problem, (8, 8)) == pytest.approx(6.4e-6)
    cheap = found.space(problem, values, TARGET.core, Cheap())
    after = [piece.weight for piece in found.split(problem, values, plain)]
    offered = space_of(find("cover"), problem, values, TARGET.core, Cheap())
    assert {tuple(part("cover", config).items()) for config in offered} == {tuple(config.items()) for config in cheap}
    assert plain not in list(cheap)
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("dtype", ["float32", "int8", "mixed"])
def test_estimated_prices_make_sense(dtype: str) -> None:
    prices = EstimatedPrices(TARGET.core)
    problem = linear(512, 512, 256, dtype=dtype)
    single = prices.block_price(problem, (1, 1), 0.03)
    small, large = (prices.block_price(problem, size, 0.25) for size in ((8, 8), (32, 32)))
    assert 0 < single < small < large
    assert large < 1024 * single
    assert large < 16.5 * small


@pytest.mark.parametrize("density", [0.1, 0.2, 0.3, 0.5])
@pytest.mark.parametrize(("m", "k"), [(256, 64), (512, 512), (768, 3072)])
def test_chance_is_no_structure(m: int, k: int, density: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """That some blocks of scattered elements are fuller than others: seen before prices are asked for."""

    def refuse(*_: object) -> float:
        raise AssertionError("asked for a price")

    monkeypatch.setattr("tesa.decompose.cover.block_price", refuse)
    values = (np.random.default_rng(5).random((m, k)) < density).astype(np.float32)
    assert find_policy("cover").space(linear(m, k, 196), values, TARGET.core) == ()


def test_structure_is_seen_in_a_large_weight_too() -> None:
    """Of which only bands are looked at."""
    rng = np.random.default_rng(5)
    live = np.kron(rng.random((64, 64)) < 0.3, np.ones((32, 32), bool)) | (rng.random((2048, 2048)) < 0.01)
    problem, values = linear(2048, 2048, 64), live.astype(np.float32)
    (config, *_) = find_policy("cover").space(problem, values, TARGET.core)
    made = find_policy("cover").split(problem, values, config)
    assert sum(piece.nonzeros for piece in made if piece.block != (1, 1)) >= 0.9 * live.sum()
