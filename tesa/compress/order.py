"""SparseGPT's order: the columns of a weight are pruned from left to right, and each pays for those before it.

What a column loses is made up for by the columns to its right, through the inverse of the inputs' products, so that
the mask of a later column is chosen for the weights as they are by then (Frantar and Alistarh, 2023, algorithm 1).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tesa.attributes.impose import Imposed
from tesa.attributes.zeros import Mask
from tesa.compress.budget import keep

Floats = NDArray[np.float64]
BLOCK = 128
"""Columns for which a mask is chosen at once."""
DAMPING = 0.01
"""Added to the diagonal, as a share of its mean."""


def damped(products: Floats) -> Floats:
    """The products of the inputs with a little on the diagonal, so that they have an inverse.

    >>> damped(np.array([[2.0, 2.0], [2.0, 2.0]])).diagonal().tolist()
    [2.02, 2.02]
    """
    return np.asarray(products + DAMPING * np.mean(np.diagonal(products)) * np.eye(len(products)))


def ordered_mask(weight: Floats, products: Floats, imposed: Imposed, budget: str) -> Mask | None:
    """(m, k): the mask that SparseGPT gives a weight. products: (k, k) of its inputs, damped.

    None for a pattern whose units span all columns, as whole rows do, and where the products have no inverse.
    """
    unit = imposed.imposition.unit
    k = weight.shape[1]
    columns = (
        imposed.sizes[1] if imposed.kind == "n:m" else 1 if unit is None else unit(len(weight), k, imposed.sizes)[1]
    )
    if columns >= k or (unit is not None and unit(len(weight), k, imposed.sizes)[0] >= len(weight) > 1):
        return None
    try:
        upper = np.linalg.cholesky(np.linalg.inv(products)).T
    except np.linalg.LinAlgError:
        return None
    left, mask = weight.copy(), np.ones(weight.shape, bool)
    step = max(columns, BLOCK // columns * columns)
    shares = _Shares(imposed, columns, k)
    for begin in range(0, k, step):
        end = min(begin + step, k)
        own, inner = left[:, begin:end], upper[begin:end, begin:end]
        scores = np.square(own / np.diagonal(inner))
        mask[:, begin:end] = keep(scores, shares.until(end), budget) if shares.any(end) else False
        errors = np.zeros_like(own)
        for i in range(end - begin):
            errors[:, i] = np.where(mask[:, begin + i], 0.0, own[:, i]) / inner[i, i]
            own[:, i:] -= np.outer(errors[:, i], inner[i, i:])
        left[:, end:] -= errors @ upper[begin:end, end:]
    return mask


class _Shares:
    """The pattern for each stretch of columns, such that the shares of all of them together are what is asked for."""

    def __init__(self, imposed: Imposed, columns: int, k: int) -> None:
        self.imposed, self.columns, self.begin, self.kept = imposed, columns, 0, 0
        self.k = k

    def _units(self, end: int) -> tuple[int, int]:
        total = math.ceil((end - self.begin) / self.columns)
        return total, round((1 - self.imposed.sparsity) * math.ceil(end / self.columns)) - self.kept

    def any(self, end: int) -> bool:
        """True if anything of the stretch up to `end` stays."""
        return self.imposed.imposition.share is not None or self._units(end)[1] > 0

    def until(self, end: int) -> Imposed:
        """The pattern of the stretch from the last one's end up to `end`."""
        if self.imposed.imposition.share is not None:
            return self.imposed
        total, stay = self._units(end)
        self.begin, self.kept = end, self.kept + stay
        return Imposed(self.imposed.kind, max(0.0, 1 - stay / total), self.imposed.sizes)
