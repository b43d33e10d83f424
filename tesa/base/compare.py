"""The difference between the numbers of two arrays, NaN and infinities included."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def largest_difference(got: NDArray[Any], expected: NDArray[Any]) -> float:
    """The largest |got - expected| of two arrays of one shape, in float64.

    Equal infinities and two NaN differ by 0, anything else that is not finite by infinity.

    >>> largest_difference(np.array([1.0, np.inf, np.nan]), np.array([1.5, np.inf, np.nan]))
    0.5
    """
    a, b = got.astype(np.float64), expected.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    difference = np.full(a.shape, math.inf)
    np.subtract(a, b, out=difference, where=np.isfinite(a) & np.isfinite(b))
    return float(np.where(same, 0.0, np.abs(difference)).max(initial=0.0))


def magnitude(array: NDArray[Any]) -> float:
    """The largest absolute value among the finite elements; 0 where there are none."""
    wide = np.abs(array.astype(np.float64))
    return float(wide[np.isfinite(wide)].max(initial=0.0))
