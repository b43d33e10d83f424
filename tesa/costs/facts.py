"""The few numbers on the zeros of a weight that a prediction needs and a cost table keeps."""

from __future__ import annotations

from dataclasses import dataclass

from tesa.attributes.zeros import Zeros, zeros_of
from tesa.schedules.types import FloatArray

SHAPES = ((4, 1), (16, 1), (1, 16), (4, 4))
"""Blocks, rows x columns, whose live share is counted."""

FILTER = 64
"""A row of at most so many elements may be the filter of one channel."""


@dataclass(frozen=True)
class Facts:
    """The zeros of a weight (m, k) in numbers, as a cost table keeps them.

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
    def of(weight: FloatArray | Zeros) -> Facts:
        """Count, or take what was counted.

        >>> import numpy as np
        >>> facts = Facts.of(np.eye(4, dtype=np.float32))
        >>> facts.density, facts.spread, facts.live[0]
        (0.25, 0.0, 1.0)
        """
        zeros = zeros_of(weight)
        m, k = zeros.shape
        if not zeros.size:
            return Facts(0.0, 0.0, 0.0, 0.0, 1.0, (0.0,) * len(SHAPES))
        if zeros.nonzeros == zeros.size:
            return Facts.full(k)
        counts = zeros.per_row
        mean = float(counts.mean())
        return Facts(
            density=round(zeros.nonzeros / zeros.size, 7),
            rows=round(zeros.live_rows / m, 7),
            columns=round(zeros.live_columns / k, 7),
            spread=round(float(counts.std() / mean), 6) if mean else 0.0,
            longest=round(float(counts.max() / mean), 6) if mean else 1.0,
            live=tuple(round(zeros.live_share(*shape), 7) for shape in SHAPES),
            masks=zeros.supports if k <= FILTER else 0,
        )

    @staticmethod
    def full(k: int) -> Facts:
        """The facts of a weight with k columns that has no zeros, or whose zeros are computed with."""
        return Facts(1.0, 1.0, 1.0, 0.0, 1.0, (1.0,) * len(SHAPES), int(k <= FILTER))
