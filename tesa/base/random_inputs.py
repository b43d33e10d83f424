"""Random arrays for the inputs of a network: numbers that it can compute with."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST = 100
"""Integers are drawn below it."""

REALS = ("float", "bfloat")


def random_array(
    name: str, shape: Sequence[int], dtype: str, rng: np.random.Generator, limits: tuple[int, int] | None = None
) -> NDArray[Any]:
    """Standard normal reals, ones for masks, else integers 0 to 99.

    limits: the least and the largest number that every table that is read by this input has a row for.

    >>> random_array("tokens", (4,), "int64", np.random.default_rng(0), (0, 0))
    array([0, 0, 0, 0])
    """
    kind = _dtype(dtype)
    low, high = limits or (0, MOST - 1)
    if dtype.startswith(REALS) and limits is None:
        return rng.standard_normal(tuple(shape)).astype(kind)
    if dtype == "bool" or ("mask" in name and low <= 1 <= high):
        return np.ones(tuple(shape), kind)
    if low <= 0 <= high:
        low, high = 0, min(high, MOST - 1)
    high = max(low, min(high, _largest(kind)))
    return rng.integers(low, high + 1, tuple(shape)).astype(kind)


def _largest(kind: Any) -> int:
    return int(np.iinfo(kind).max) if kind.kind in "iu" else MOST


def _dtype(name: str) -> Any:
    if name == "bfloat16" or "int4" in name or "int2" in name:
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, name))
    return np.dtype(name)
