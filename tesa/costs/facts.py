"""What a prediction needs to know of a weight: a few numbers, cheap to count, that say how its zeros lie."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.schedules.types import FloatArray

SHAPES = ((4, 1), (16, 1), (1, 16), (4, 4))
"""Blocks, rows x columns, whose live share is counted."""

FILTER = 64
"""A row of at most so many elements may be the filter of one channel."""


@dataclass(frozen=True)
class Facts:
    """How the zeros of a weight (m, k) lie.

    density: share of elements that are not zero; rows, columns: share that hold any; spread: deviation of the
    non-zeros of a row over their mean; longest: the most of a row over the mean; live: the share of the blocks of each
    of SHAPES that hold any; masks: how many different supports the rows have, counted for filters only (k of at most
    FILTER), else 0.
    """

    density: float
    rows: float
    columns: float
    spread: float
    longest: float
    live: tuple[float, ...]
    masks: int = 0

    @staticmethod
    def of(weight: FloatArray) -> Facts:
        """Count.

        >>> facts = Facts.of(np.eye(4, dtype=np.float32))
        >>> facts.density, facts.spread, facts.live[0]
        (0.25, 0.0, 1.0)
        """
        mask = weight != 0
        if not mask.size:
            return Facts(0.0, 0.0, 0.0, 0.0, 1.0, (0.0,) * len(SHAPES))
        counts = np.count_nonzero(mask, axis=1)
        mean = float(counts.mean())
        if mask.all():
            return Facts.full(mask.shape[1])
        return Facts(
            density=round(float(counts.sum() / mask.size), 7),
            rows=round(float((counts > 0).mean()), 7),
            columns=round(float(mask.any(axis=0).mean()), 7),
            spread=round(float(counts.std() / mean), 6) if mean else 0.0,
            longest=round(float(counts.max() / mean), 6) if mean else 1.0,
            live=tuple(round(_live(mask, *shape), 7) for shape in SHAPES),
            masks=len(np.unique(mask, axis=0)) if mask.shape[1] <= FILTER else 0,
        )

    @staticmethod
    def full(k: int) -> Facts:
        """Of a weight with k columns that has no zeros, or whose zeros are computed with."""
        return Facts(1.0, 1.0, 1.0, 0.0, 1.0, (1.0,) * len(SHAPES), int(k <= FILTER))

    def to_json(self) -> dict[str, Any]:
        """Plain data for json.dump."""
        return {**asdict(self), "live": list(self.live)}

    @staticmethod
    def from_json(data: dict[str, Any]) -> Facts:
        """The inverse of to_json."""
        return Facts(**{**data, "live": tuple(data["live"])})


def _live(mask: NDArray[np.bool_], rows: int, columns: int) -> float:
    """Share of the blocks that hold a non-zero; those cut off at the edge count too."""
    if rows > 1:
        mask = np.logical_or.reduceat(mask, range(0, mask.shape[0], rows), axis=0)
    if columns > 1:
        mask = np.logical_or.reduceat(mask, range(0, mask.shape[1], columns), axis=1)
    return float(mask.mean())
