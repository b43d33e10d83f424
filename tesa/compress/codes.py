"""The grid of a quantized weight in a file: its codes as real numbers, and the code that means zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.attributes.attribute import Values


@dataclass(frozen=True, eq=False)
class Codes:
    """scale * (code - zero). scale, zero: one number, one for each index along the axis, or for each block there."""

    scale: Values
    zero: Values
    axis: int
    block: int = 0

    def values(self, codes: Values) -> NDArray[np.float32]:
        """The codes as real numbers."""
        scale = self._wide(self.scale, codes.shape).astype(np.float32)
        return np.asarray((codes.astype(np.float32) - self.zeros(codes.shape).astype(np.float32)) * scale, np.float32)

    def zeros(self, shape: tuple[int, ...]) -> Values:
        """The code of 0 for each element of a weight of this shape."""
        return self._wide(self.zero, shape)

    def _wide(self, given: Values, shape: tuple[int, ...]) -> Values:
        array: Any = np.asarray(given)
        if array.size == 1:
            return np.broadcast_to(array.reshape(()), shape)
        axis = self.axis % len(shape)
        if self.block:
            wide = np.repeat(array, self.block, axis=axis)
            return wide[tuple(slice(0, n) for n in shape)]
        if array.ndim == 1:
            array = array.reshape([-1 if a == axis else 1 for a in range(len(shape))])
        return np.broadcast_to(array, shape)
