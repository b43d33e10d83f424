"""Numbers that say how alike the patterns of two weights are, cheap enough for every weight of a model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tesa.attributes.patterns import recognise
from tesa.attributes.zeros import Zeros, zeros_of
from tesa.base.told import Untruthful
from tesa.base.typed import typed

SHAPES = (
    (1, 4), (1, 16), (1, 32), (4, 1), (8, 1), (16, 1), (32, 1), (4, 4), (8, 8), (16, 16), (32, 32), (32, 64),
)  # fmt: skip
"""Blocks, rows x columns, of which Statistics.fill tells how many are live."""

LIMIT = math.log(1.25)
"""Largest distance() of two weights that are taken to tell something of each other's times: a quarter more or less of
any one number. It lets sparsity 0.89 speak for 0.90 and 0.95 for 0.94, but not 0.85 for 0.90."""

_DIGITS = 5
_MOST_SHAPES = 64


@dataclass(frozen=True)
class Spread:
    """Non-zeros of a row (or of a column): mean, standard deviation and the most."""

    mean: float
    deviation: float
    most: int

    @staticmethod
    def of(counts: NDArray[np.integer[Any]]) -> Spread:
        """The spread of the counts of all rows; zeros if there is none."""
        if not counts.size:
            return Spread(0.0, 0.0, 0)
        return Spread(_short(counts.mean()), _short(counts.std()), int(counts.max()))

    @property
    def unevenness(self) -> float:
        """1 where all are the same, more where they differ: 1 + deviation / mean."""
        return 1.0 + (self.deviation / self.mean if self.mean else 0.0)


@dataclass(frozen=True)
class Statistics:
    """The pattern of a weight in numbers, as a record keeps them.

    kind: as tesa.attributes.patterns names it ("block 4x4"); sparsity: share of zeros; fill: by "ROWSxCOLUMNS", the
    share of such blocks, aligned, that hold a non-zero (blocks cut off at the edge count); n_m: (2, 4) for 2:4.
    """

    kind: str
    sparsity: float
    nonzeros: int
    fill: Mapping[str, float]
    rows: Spread
    columns: Spread
    n_m: tuple[int, int] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        data = {**asdict(self), "fill": dict(self.fill)}
        return {**data, "n_m": None if self.n_m is None else list(self.n_m)}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Statistics:
        """The inverse of to_json. ValueError if that is not what data is."""
        found = typed(Statistics, data, "statistics")
        numbers = (
            found.sparsity,
            found.nonzeros,
            *found.fill.values(),
            *_numbers(found.rows),
            *_numbers(found.columns),
        )
        if min(numbers) < 0 or len(found.fill) > _MOST_SHAPES:
            raise Untruthful("statistics that no weight has")
        return found


def statistics_of(weight: ArrayLike | Zeros) -> Statistics:
    """The statistics of a weight or mask (m, k), whose zeros are pruned, or of its zeros as they were counted.

    >>> found = statistics_of(np.kron([[1, 0], [0, 0]], np.ones((4, 4))))
    >>> found.kind, found.sparsity, found.fill["4x4"], found.rows.most
    ('channel 4/8 x 4/8', 0.75, 0.25, 4)
    """
    zeros = zeros_of(weight)
    pattern = recognise(zeros)
    return Statistics(
        str(pattern), round(pattern.sparsity, 6), zeros.nonzeros,
        {f"{r}x{c}": _short(zeros.live_share(r, c)) for r, c in SHAPES},
        Spread.of(zeros.per_row), Spread.of(zeros.per_column), pattern.n_m,
    )  # fmt: skip


def distance(one: Statistics, other: Statistics) -> float:
    """The largest difference of any number of two weights of one shape, as a logarithm of their ratio.

    The numbers are those that the time of a kernel follows: the count of non-zeros, the share of live blocks of each
    shape, and how unevenly rows and columns are filled. 0 is alike in all; log(1.1) is 10 % more or less in one of
    them; infinity where one is empty or n:m and the other is not. See LIMIT.
    """
    if one.n_m != other.n_m or (one.nonzeros == 0) != (other.nonzeros == 0):
        return math.inf
    pairs: list[tuple[float, float]] = [(one.nonzeros, other.nonzeros)]
    pairs += [(share, other.fill[name]) for name, share in one.fill.items() if name in other.fill]
    pairs += [(a.unevenness, b.unevenness) for a, b in ((one.rows, other.rows), (one.columns, other.columns))]
    return max(math.log(max(pair) / min(pair)) for pair in pairs if min(pair) > 0) if one.nonzeros else 0.0


def _numbers(spread: Spread) -> tuple[float, ...]:
    return spread.mean, spread.deviation, spread.most


def _short(value: float) -> float:
    """A few digits are enough, and keep a record readable."""
    return float(f"{value:.{_DIGITS}g}")
