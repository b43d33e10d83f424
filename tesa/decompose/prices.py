"""What one live block of a weight costs, in milliseconds: from a measured table of this device, or by estimate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol

import numpy as np

from tesa.schedules.registry import families
from tesa.schedules.types import Core, Epilogue, Output, Problem

_SIDE = 256  # rows and columns of the weight that estimates are asked about
_DENSITY = {False: 0.25, True: 0.03}  # of blocks, and of scattered elements


class Prices(Protocol):
    """Where prices come from."""

    def block_price(self, problem: Problem, block: tuple[int, int], density: float) -> float:
        """Milliseconds that one live block (rows, columns) costs where that share of the blocks is live.

        Block (1, 1) is one scattered non-zero.
        """
        ...


_CURRENT: ContextVar[Prices | None] = ContextVar("prices", default=None)


@contextmanager
def use_prices(table: Prices | None) -> Iterator[None]:
    """Inside the block, policies take their prices from the table; None means estimates."""
    token = _CURRENT.set(table)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def block_price(problem: Problem, core: Core, block: tuple[int, int]) -> float:
    """Milliseconds of one live block of a weight of this problem, from the table in use or by estimate.

    >>> p, core = Problem("linear", 512, 512, 256, (512, 256), (512, 256)), Core("avx512", 16, 32)
    >>> block_price(p, core, (32, 32)) < 1024 * block_price(p, core, (1, 1))
    True
    """
    table = _CURRENT.get()
    if table is not None:
        with use_prices(None):  # a table that asks what applies to a weight must not be asked again in turn
            return table.block_price(problem, block, _DENSITY[block == (1, 1)])
    return EstimatedPrices(core).block_price(problem, block, _DENSITY[block == (1, 1)])


@dataclass(frozen=True)
class EstimatedPrices:
    """Prices by the families' own estimates of a small random weight made of such blocks."""

    core: Core

    def block_price(self, problem: Problem, block: tuple[int, int], density: float) -> float:
        """See Prices."""
        k = min(problem.k, _SIDE) if problem.dtype == "float32" else min(problem.k, 4 * _SIDE)
        m = min(problem.m, _SIDE)
        dtype = "int8" if problem.dtype == "mixed" and block != (1, 1) else problem.dtype
        plain = replace(
            problem, op="linear", window=None, m=m, k=k, batch=1, threads=1, epilogue=Epilogue(),
            x_shape=(k, problem.n), y_shape=(m, problem.n), dtype="float32" if dtype == "mixed" else dtype,
            output=Output("int32") if dtype == "int8" else Output(),
        )  # fmt: skip
        return _estimated(plain, self.core, block, density)


@lru_cache(maxsize=512)
def _estimated(problem: Problem, core: Core, block: tuple[int, int], density: float) -> float:
    """What the best family of loops takes for a random weight, for each of its blocks."""
    from tesa.decompose.composite import is_composite

    height, width = min(block[0], problem.m), min(block[1], problem.k)
    tiles = np.random.default_rng(0).random((-(-problem.m // height), -(-problem.k // width))) < density
    tiles.flat[0] = True
    weight = np.kron(tiles, np.ones((height, width), np.float32))[: problem.m, : problem.k].astype(np.float32)
    times = [
        min(family.estimate(problem, weight, core, config) for config in configs)
        for family in families("cpu")
        if not is_composite(family.name) and family.size is None and (configs := family.space(problem, weight, core))
    ]
    empty = np.zeros_like(weight)
    fixed = [
        min(family.estimate(problem, empty, core, config) for config in configs)
        for family in families("cpu")
        if family.name == "indexed" and (configs := family.space(problem, empty, core))
    ]
    whole = min(times)
    blocks = np.count_nonzero(weight) / (height * width)
    return float(max(whole - min([*fixed, whole / 2]), whole / 10) / blocks)
