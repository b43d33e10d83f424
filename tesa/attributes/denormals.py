"""Subnormal numbers among weights: so small that float32 has no leading one for them, and CPUs are slow with them.

Weight decay leaves weights of 1e-40 where zeros were meant. To a kernel they are numbers as any other, so that nothing
is gained by their place; as zeros they cost nothing, and beside ordinary numbers no product of theirs with an input
below 1e30 can be told from 0.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

TINY = float(np.finfo(np.float32).tiny)
"""The least number of float32 that is not subnormal, 1.18e-38."""


def subnormals(array: NDArray[Any]) -> int:
    """Count the elements of a float32 or float64 array that are subnormal in float32.

    >>> subnormals(np.array([1e-41, 0.0, 1.0], np.float32))
    1
    """
    return int(np.count_nonzero(_mask(array))) if array.dtype in (np.float32, np.float64) else 0


def flushed(array: NDArray[Any]) -> NDArray[Any]:
    """The array with zeros in place of its subnormal elements; the very same array where it has none.

    >>> flushed(np.array([1e-41, -2.0], np.float32)).tolist()
    [0.0, -2.0]
    """
    return np.where(_mask(array), np.zeros((), array.dtype), array) if subnormals(array) else array


def told_of(count: int, size: int) -> str:
    """The sentence about a weight with so many subnormal elements out of `size`.

    >>> told_of(3, 10)
    '3 of 10 weights are subnormal (below 1.2e-38), which are no zeros to a kernel'
    """
    return f"{count:,} of {size:,} weights are subnormal (below 1.2e-38), which are no zeros to a kernel"


def _mask(array: NDArray[Any]) -> NDArray[np.bool_]:
    return np.asarray((array != 0) & (np.abs(array) < TINY))
