"""Grids of integers for real numbers: the range that one covers, and the codes of weights on it.

Three methods say which range: "minmax" covers all numbers, "percentile" all but the outermost few, and "mse" the range
for which the mean squared error, of rounding inside and of clipping outside, is least. 0 is on every grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
METHODS = ("minmax", "percentile", "mse")

_LEAST = float(np.finfo(np.float32).tiny) * 2**24  # of a scale: its product with another one stays a normal number
_SHARES = np.linspace(1.0, 0.3, 71)  # of the full range, tried by mse


@dataclass(frozen=True)
class Grid:
    """The numbers scale * (code - zero) for codes 0 ... 255."""

    scale: float
    zero: int

    @staticmethod
    def over(low: float, high: float) -> Grid:
        """The grid of uint8 codes that covers low ... high, and 0.

        >>> Grid.over(-1.0, 24.5).zero
        10
        """
        low, high = min(low, 0.0), max(high, 0.0)
        scale = float(np.float32(max((high - low) / 255, _LEAST)))
        return Grid(scale, int(np.clip(np.rint(-low / scale), 0, 255)))


@dataclass
class Histogram:
    """The numbers of a tensor: least, largest, and how many lie in each of equal bins between."""

    low: float
    high: float
    counts: Array

    @property
    def centres(self) -> Array:
        """The middle of each bin."""
        edges = np.linspace(self.low, self.high, len(self.counts) + 1)
        middles: Array = (edges[:-1] + edges[1:]) / 2
        return middles

    def add(self, values: Array) -> None:
        """Count more numbers, all within the range."""
        self.counts += np.histogram(values, len(self.counts), (self.low, self.high))[0]


def chosen_range(found: Histogram, method: str, percentile: float) -> tuple[float, float]:
    """The range that a grid should cover, by a method, for the numbers that were seen."""
    low, high = min(found.low, 0.0), max(found.high, 0.0)
    if method == "minmax" or found.low == found.high:
        return low, high
    if method == "percentile":
        share = np.cumsum(found.counts) / found.counts.sum()
        outside = (100 - percentile) / 100
        centres = found.centres
        upper = centres[min(int(np.searchsorted(share, 1 - outside)), len(centres) - 1)]
        lower = centres[int(np.searchsorted(share, outside))]
        return min(float(lower), 0.0) if low < 0 else 0.0, max(float(upper), 0.0) if high > 0 else 0.0
    return _least_error(found, low, high)


def _least_error(found: Histogram, low: float, high: float) -> tuple[float, float]:
    """The range with the least squared error: both ends are drawn in together, then each alone."""
    centres, counts = found.centres, found.counts

    def error(a: float, b: float) -> float:
        grid = Grid.over(a, b)
        codes = np.clip(np.rint(centres / grid.scale) + grid.zero, 0, 255)
        return float(counts @ (centres - grid.scale * (codes - grid.zero)) ** 2)

    def best(ranges: Callable[[float], tuple[float, float]]) -> tuple[float, float]:
        return min((ranges(share) for share in _SHARES), key=lambda r: error(*r))

    low, high = best(lambda share: (low * share, high * share))
    if low < 0 < high:
        low, high = best(lambda share: (low * share, high))
        low, high = best(lambda share: (low, high * share))
    return low, high


def weight_scales(rows: Array, bits: int, method: str, percentile: float) -> Array:
    """The scale of each row of weights (rows, any) for codes of so many bits, the same range on both sides of 0.

    A row of zeros gets the median of the others, so that its bias has a scale of use.

    >>> weight_scales(np.array([[0.0, 1.27], [0.0, 0.0]]), 8, "minmax", 100.0)
    array([0.01, 0.01])
    """
    largest = 2.0 ** (bits - 1) - 1
    size = np.abs(rows.astype(np.float64))
    top = size.max(axis=1, initial=0.0)
    if method == "percentile":
        live = [row[row > 0] for row in size]
        top = np.array([np.percentile(row, percentile) if len(row) else 0.0 for row in live])
    elif method == "mse":
        top = _least_weight_error(size, top, largest)
    scales = top / largest
    scales[scales < _LEAST] = 0.0
    usual = float(np.median(scales[scales > 0])) if (scales > 0).any() else 1.0
    return np.where(scales > 0, scales, usual)


def _least_weight_error(size: Array, top: Array, largest: float) -> Array:
    """For each row the end of the range with the least squared error."""
    best, least = top.copy(), np.full(len(top), np.inf)
    for share in _SHARES:
        scale = np.where(top > 0, top * share / largest, 1.0)[:, None]
        error = ((size - scale * np.clip(np.rint(size / scale), 0, largest)) ** 2).sum(axis=1)
        better = error < least
        best[better], least[better] = top[better] * share, error[better]
    return best


def weight_codes(rows: Array, scales: Array, bits: int) -> Array:
    """int8 codes of weights (rows, any) with one scale for each row. The code of 0 is 0."""
    largest = 2 ** (bits - 1) - 1
    scale = scales.astype(np.float32)[:, None].astype(np.float64)
    codes: Array = np.clip(np.rint(rows / scale), -largest, largest).astype(np.int8)
    return codes
