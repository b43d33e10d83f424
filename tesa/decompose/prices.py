"""Prices of the blocks of a weight, in milliseconds: from a measured table of this device, or by estimate."""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol

import numpy as np

from tesa.attributes.patterns.tiles import random_blocks
from tesa.decompose.registry import is_composite
from tesa.schedules.registry import families
from tesa.schedules.types import Core, Epilogue, Gpu, Output, Problem

_SIDE = 256  # rows and columns of the weight that estimates are asked about
_DENSITY = {False: 0.25, True: 0.03}  # of blocks, and of scattered elements


class Prices(Protocol):
    """A source of prices: a cost table, or estimates."""

    def block_price(self, problem: Problem, block: tuple[int, int], density: float) -> float:
        """Milliseconds that one live block (rows, columns) costs where that share of the blocks is live.

        Block (1, 1) is one scattered non-zero.
        """
        ...


def block_price(prices: Prices, problem: Problem, block: tuple[int, int]) -> float:
    """Milliseconds of one live block of a weight of this problem, where as many are live as decompositions take.

    >>> p, core = Problem("linear", 512, 512, 256, (512, 256), (512, 256)), Core("avx512", 16, 32)
    >>> block_price(EstimatedPrices(core), p, (32, 32)) < 1024 * block_price(EstimatedPrices(core), p, (1, 1))
    True
    """
    return prices.block_price(problem, block, _DENSITY[block == (1, 1)])


@dataclass(frozen=True)
class EstimatedPrices:
    """Prices by the families' own estimates of a small random weight made of such blocks."""

    core: Core | Gpu
    kind: str = "cpu"

    def block_price(self, problem: Problem, block: tuple[int, int], density: float) -> float:
        """See Prices."""
        k = min(problem.k, _SIDE) if problem.dtype == "float32" else min(problem.k, 4 * _SIDE)
        m = min(problem.m, _SIDE)
        dtype = "int8" if problem.dtype == "mixed" and block != (1, 1) else problem.dtype
        plain = replace(
            problem, op="linear", window=None, depth=None, m=m, k=k, batch=1, threads=1, epilogue=Epilogue(),
            x_shape=(k, problem.n), y_shape=(m, problem.n), dtype="float32" if dtype == "mixed" else dtype,
            output=Output("int32") if dtype == "int8" else Output(),
        )  # fmt: skip
        return _estimated(plain, self.core, self.kind, block, density)


@lru_cache(maxsize=512)
def _estimated(problem: Problem, core: Core | Gpu, kind: str, block: tuple[int, int], density: float) -> float:
    """The milliseconds that the best family of loops takes for a random weight, for each of its blocks."""
    height, width = min(block[0], problem.m), min(block[1], problem.k)
    live = random_blocks(np.random.default_rng(0), (problem.m, problem.k), density, (height, width))
    weight = live.astype(np.float32)
    times = [
        min(family.estimate(problem, weight, core, config) for config in configs)
        for family in families(kind)
        if not is_composite(family.name) and family.size is None and (configs := family.space(problem, weight, core))
    ]
    empty = np.zeros_like(weight)
    fixed = [
        min(family.estimate(problem, empty, core, config) for config in configs)
        for family in families(kind)
        if family.block_of_k and (configs := family.space(problem, empty, core))
    ]
    whole = min(times)
    blocks = np.count_nonzero(weight) / (height * width)
    return float(max(whole - min([*fixed, whole / 2]), whole / 10) / blocks)
