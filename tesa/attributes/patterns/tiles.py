"""Masks made of aligned blocks of rows x columns, those at the edge cut off: the best of a weight, and random ones."""

import numpy as np
from numpy.typing import NDArray

from tesa.attributes.patterns.registry import Sizes
from tesa.attributes.zeros import Mask
from tesa.schedules.types import FloatArray


def whole_blocks(live: Mask, block: Sizes, shape: tuple[int, int]) -> Mask:
    """(m, k): the elements of the live blocks. live: a flag for each block; those at the edge are cut off.

    >>> whole_blocks(np.array([[True, False]]), (2, 2), (2, 3)).tolist()
    [[True, True, False], [True, True, False]]
    """
    return live.repeat(block[0], axis=0)[: shape[0]].repeat(block[1], axis=1)[:, : shape[1]]


def best_blocks(size: FloatArray, rows: int, columns: int, sparsity: float) -> Mask:
    """(m, k): the elements that stay if the blocks of the least mean magnitude go, until that share of them is gone.

    size: (m, k), magnitudes. The blocks at the edge are ranked by what they hold, and at least one block stays.
    """
    if not size.size:
        return np.zeros(size.shape, bool)
    score = block_scores(size, rows, columns).ravel()
    count = max(1, round((1 - sparsity) * score.size))
    keep = np.zeros(score.size, bool)
    keep[np.argpartition(-score, count - 1)[:count] if count < score.size else slice(None)] = True
    return whole_blocks(keep.reshape(-(-len(size) // rows), -1), (rows, columns), (size.shape[0], size.shape[1]))


def balanced_blocks(size: FloatArray, rows: int, columns: int, sparsity: float) -> Mask:
    """(m, k): as best_blocks, but each group of `rows` rows keeps equally many blocks, the best of its own.

    >>> balanced_blocks(np.array([[4, 3, 2], [1, 1, 2]], np.float32), 1, 1, 0.67).tolist()
    [[True, False, False], [False, False, True]]
    """
    if not size.size:
        return np.zeros(size.shape, bool)
    score = block_scores(size, rows, columns)
    count = max(1, round((1 - sparsity) * score.shape[1]))
    keep = np.zeros(score.shape, bool)
    np.put_along_axis(keep, np.argsort(-score, axis=1, kind="stable")[:, :count], True, axis=1)
    return whole_blocks(keep, (rows, columns), (size.shape[0], size.shape[1]))


def block_scores(size: FloatArray, rows: int, columns: int) -> NDArray[np.float64]:
    """(groups of rows, groups of columns): the mean of what each block holds; those at the edge are cut off."""
    if (rows, columns) == (1, 1):
        return size.astype(np.float64)
    m, k = size.shape
    total = np.add.reduceat(np.add.reduceat(size, range(0, m, rows), axis=0), range(0, k, columns), axis=1)
    return np.asarray(total / np.outer(_extents(m, rows), _extents(k, columns)), np.float64)


def _extents(total: int, step: int) -> NDArray[np.int64]:
    """Lengths of the pieces of at most `step` that make up `total`."""
    return np.diff(np.append(np.arange(0, total, step), total))


def random_blocks(rng: np.random.Generator, shape: tuple[int, int], density: float, block: Sizes) -> Mask:
    """(m, k): each block is live with that probability, the first one always."""
    live = rng.random((-(-shape[0] // block[0]), -(-shape[1] // block[1]))) < density
    live.flat[0] = True
    return whole_blocks(live, block, shape)
