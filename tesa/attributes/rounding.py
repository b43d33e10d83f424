"""Real numbers rounded to 16 bits, as float32 again."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

STORAGES = ("float32", "float16", "bfloat16")
"""The types that a kernel may keep a float32 weight in."""


def rounded(array: NDArray[np.float32], storage: str) -> NDArray[np.float32]:
    """A float32 array rounded to the numbers of a storage type; infinite where one is too large for it.

    >>> rounded(np.array([1.0001, 70000.0], np.float32), "float16")
    array([ 1., inf], dtype=float32)
    """
    if storage == "float32":
        return array
    if storage == "float16":
        with np.errstate(over="ignore"):
            return array.astype(np.float16).astype(np.float32)
    bits = array.view(np.uint32)
    # to the nearest, ties to even
    nearest: NDArray[Any] = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return nearest.astype(np.uint32).view(np.float32)
