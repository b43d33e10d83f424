"""Weights in the order of the lanes of AMD's matrix instructions: what a lane needs lies one behind the other.

MFMA, waves of 64: lane l holds e neighbouring elements of row l mod 16, from e (l div 16) on. WMMA, waves of 32: lane l
holds all 16 elements of row l mod 16, in both halves of the wave.
"""

import numpy as np
from numpy.typing import NDArray

from tesa.schedules.gpu.tiling import Tiling, elements
from tesa.schedules.types import FloatArray


def lane_elements(tiling: Tiling, wave: int) -> int:
    """Elements along k that a lane holds of a tile of 16 x k."""
    return tiling.unit.k if wave == 32 else tiling.unit.k // 4


def pack(tiling: Tiling, tiles: FloatArray, wave: int) -> NDArray[np.uint32]:
    """Tiles (steps, rows, depth) -> (steps, rows / 16, depth / k of the unit, lanes, words)."""
    count, rows, depth = tiles.shape
    deep, each = tiling.unit.k, lane_elements(tiling, wave)
    parts = elements(tiles.reshape(count, rows // 16, 16, depth // deep, deep).swapaxes(2, 3), tiling.unit.inputs)
    lane = np.arange(wave)
    first = np.zeros(wave, np.int64) if wave == 32 else each * (lane // 16)
    lanes = parts[..., (lane % 16)[:, None], first[:, None] + np.arange(each)]
    words = np.ascontiguousarray(lanes).view(np.uint32)
    return words.reshape(count, rows // 16, depth // deep, wave, each // tiling.per)
