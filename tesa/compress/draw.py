"""Says how far least squares may go where samples are few: by the error on samples that it has not seen.

With less than some ten rows of inputs for each unknown, exact least squares fits these very rows. Part of the samples
is held out, weights are solved for on the others with several draws towards the dense weights, and the draw with the
least error on those held out is taken for all samples (a ridge by hold-out validation: Hoerl and Kennard, 1970).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tesa.attributes.zeros import Mask
from tesa.compress.gram import Gram
from tesa.compress.solve import solve

Floats = NDArray[np.float64]

DRAWS = (0.0, 0.01, 0.03, 0.1, 0.3)
"""Shares of the diagonal of the products that are tried."""
SAMPLED = 24
"""Rows of a weight that the draw is chosen by."""


@dataclass(frozen=True, eq=False)
class Trial:
    """The sums of one group of a layer, (k, k) each, over the samples that are solved on and over those held out."""

    products: Floats
    cross: Floats
    held_products: Floats
    held_cross: Floats


def best_draw(weight: Floats, mask: Mask, trials: list[Trial]) -> float:
    """The draw with the least error on what was held out. weight, mask: (m, k); trials: one for each group of rows.

    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.standard_normal((12, 8)), rng.standard_normal((400, 8))
    >>> sums = x.T @ x, x.T @ (x + 2 * rng.standard_normal(x.shape)), y.T @ y, y.T @ y
    >>> best_draw(np.ones((2, 8)), np.ones((2, 8), bool), [Trial(*sums)]) > 0
    True
    """
    each = len(weight) // len(trials)
    rows = _sample(len(weight))
    errors = np.zeros(len(DRAWS))
    for number, trial in enumerate(trials):
        mine = rows[rows // each == number]
        if not len(mine):
            continue
        part, live = weight[mine], mask[mine]
        scale = np.maximum(np.einsum("mk,mk->m", part @ trial.held_products, part), np.finfo(np.float32).tiny)
        for place, draw in enumerate(DRAWS):
            try:
                made = solve(part, live, trial.products, trial.cross, draw)
            except np.linalg.LinAlgError:
                errors[place] = np.inf
                continue
            square = np.einsum("mk,mk->m", made @ trial.held_products, made)
            both = np.einsum("mk,mk->m", made @ trial.held_cross, part)
            errors[place] += float(np.sum((square - 2 * both) / scale))
    return DRAWS[int(np.argmin(errors))]


def _sample(rows: int) -> NDArray[np.int64]:
    """Some of the rows, in stretches of neighbours, which may share their support."""
    if rows <= SAMPLED:
        return np.arange(rows)
    stretch = SAMPLED // 3
    starts = np.linspace(0, rows - stretch, 3).astype(np.int64)
    return np.unique((starts[:, None] + np.arange(stretch)).reshape(-1))


def trials_of(sums: Gram, biased: bool) -> list[Trial]:
    """The sums of each group that a draw is chosen by; none where nothing was held out. biased: without their means."""
    part = sums.part
    if part is None:
        return []
    count = sums.count - part.count
    mean, dense = (
        (whole * sums.count - less * part.count) / count
        for whole, less in ((sums.mean, part.mean), (sums.mean_dense, part.mean_dense))
    )
    held = Gram(count, sums.now - part.now, sums.cross - part.cross, mean, dense, sums.power)
    both = [one.centered() if biased else (one.now, one.cross) for one in (part, held)]
    return [Trial(*arrays) for arrays in zip(*both[0], *both[1], strict=True)]
