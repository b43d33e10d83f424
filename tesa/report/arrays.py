"""A summary of the arrays that a model returned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from tesa.report.numbers import NOTHING, dims
from tesa.report.table import table


@dataclass(frozen=True)
class Summary:
    """An array in a few numbers. The range and mean leave NaN out, and are None where nothing else is there."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    low: float | None
    high: float | None
    mean: float | None
    nans: int


def summaries(arrays: Mapping[str, NDArray[Any]]) -> tuple[Summary, ...]:
    """One for each array.

    >>> summaries({"y": np.array([1.0, 3.0])})[0].mean
    2.0
    """
    found = []
    for name, array in arrays.items():
        numbers = array.astype(np.float64)
        known = numbers[~np.isnan(numbers)]
        low, high, mean = map(float, (known.min(), known.max(), known.mean())) if known.size else (None, None, None)
        found.append(Summary(name, array.dtype.name, array.shape, low, high, mean, int(numbers.size - known.size)))
    return tuple(found)


def arrays_table(found: Sequence[Summary]) -> Table:
    """One row per array."""
    rows = [
        (s.name, s.dtype, dims(s.shape), _number(s.low), _number(s.high), _number(s.mean), str(s.nans)) for s in found
    ]
    return table(("output", "dtype", "shape", "min", "max", "mean", "NaN"), rows, right=("min", "max", "mean", "NaN"))


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.4g}"
