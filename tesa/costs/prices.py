"""The price of one block of a weight, for a cover of the weight by blocks of several sizes."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from tesa.attributes.patterns.tiles import whole_blocks
from tesa.costs.prediction import Priced
from tesa.schedules.types import Epilogue, FloatArray, Problem

Rank = Callable[[Problem, FloatArray], Sequence[Priced]]

_ELEMENTS = 1 << 16  # of the weight that a price is taken from: a block's price hardly depends on the rows around
_FLOOR = 0.25  # of the mean price: a difference of two predictions can come out too small, or below zero


def price(rank: Rank, problem: Problem, block: tuple[int, int], density: float) -> float:
    """Milliseconds for one more live block at a share `density` of live ones: the slope of the predicted time.

    Random weights of that density and of half of it are predicted, with the sparse kernel that is best for each; what
    both have in common, such as storing the result, is no part of the price. rank(problem, weight): the kernels of a
    weight that are no decompositions, the fastest first.
    """
    problem = smaller(_plain(problem, block), block)
    counts, times = [], []
    for share in (density / 2, density):
        weight, count = _scattered(problem, block, share)
        ranked = rank(problem, weight)
        sparse = [row for row in ranked if not row.dense] or ranked
        counts.append(count)
        times.append(sparse[0].prediction.ms)
    mean = times[1] / counts[1]
    slope = (times[1] - times[0]) / (counts[1] - counts[0]) if counts[1] > counts[0] else mean
    return float(min(max(slope, _FLOOR * mean), mean))


def _plain(problem: Problem, block: tuple[int, int]) -> Problem:
    """The bare product of the layer: what comes before and behind it is no part of a block's price.

    Of a weight with two precisions blocks are whole numbers, and scattered elements are real ones.
    """
    dtype = problem.dtype if problem.dtype != "mixed" else "float32" if block == (1, 1) else "int8"
    return Problem(
        "linear", problem.m, problem.k, problem.n, (1, problem.k, problem.n), (1, problem.m, problem.n),
        dtype=dtype, threads=problem.threads, epilogue=Epilogue(scale=dtype == "int8"),
    )  # fmt: skip


def smaller(problem: Problem, block: tuple[int, int], elements: int = _ELEMENTS) -> Problem:
    """The same layer with fewer rows, a multiple of the block's, where its weight has more than so many elements."""
    if problem.op == "depthwise" or problem.m * problem.k <= elements:
        return problem
    rows = max(8 * block[0], elements // problem.k // block[0] * block[0], 64)
    if rows >= problem.m:
        return problem
    return replace(problem, m=rows, y_shape=(problem.batch, rows, problem.n))


def _scattered(problem: Problem, block: tuple[int, int], share: float) -> tuple[FloatArray, int]:
    """A weight with that share of aligned blocks live, at least one, and how many these are."""
    rows, columns = block
    grid = (-(-problem.m // rows), -(-problem.k // columns))
    total = grid[0] * grid[1]
    count = min(max(1, math.ceil(share * total)), total)
    rng = np.random.default_rng(0)
    live = np.zeros(total, bool)
    live[rng.permutation(total)[:count]] = True
    mask = whole_blocks(live.reshape(grid), block, (problem.m, problem.k))
    values = rng.integers(1, 100, mask.shape).astype(np.float32)
    if problem.dtype != "int8":
        values /= np.float32(100)
    return np.where(mask, values, np.float32(0)).astype(np.float32), count
