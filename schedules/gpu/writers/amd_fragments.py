"""Weights in the order of the lanes of AMD's matrix instructions: what a lane needs lies one behind the other.

MFMA, waves of 64: lane l holds e neighbouring elements of row l mod 16, from e (l div 16) on. WMMA, waves of 32: lane l
holds all 16 elements of row l mod 16, in both halves of the wave. SMFMAC: lane l holds the two of each four of row
l mod 16 that are kept, of e neighbours from e (l div 16) on, and in a word of its own where they lie, two bits each.
"""

import numpy as np
from numpy.typing import NDArray

from tesa.schedules.gpu.tiling import Tiling, compress, elements
from tesa.schedules.types import FloatArray


def lane_elements(tiling: Tiling, wave: int) -> int:
    """Elements along k that a lane holds of a tile of 16 x k."""
    return tiling.unit.k if wave == 32 else tiling.unit.k // 4


def pack(tiling: Tiling, tiles: FloatArray, wave: int) -> NDArray[np.uint32]:
    """Tiles (steps, rows, depth) -> (steps, rows / 16, depth / k of the unit, words): lanes x the words of each.

    Of a sparse unit a word of places for each lane follows those of the elements.
    """
    count, rows, depth = tiles.shape
    deep, each = tiling.unit.k, lane_elements(tiling, wave)
    whole = tiles.reshape(count, rows // 16, 16, depth // deep, deep).swapaxes(2, 3)
    lane = np.arange(wave)
    if tiling.unit.sparse:
        return _sparse(tiling, whole, lane)
    parts = elements(whole, tiling.unit.inputs)
    first = np.zeros(wave, np.int64) if wave == 32 else each * (lane // 16)
    lanes = parts[..., (lane % 16)[:, None], first[:, None] + np.arange(each)]
    words = np.ascontiguousarray(lanes).view(np.uint32)
    return words.reshape(count, rows // 16, depth // deep, wave * each // tiling.per)


def _sparse(tiling: Tiling, whole: FloatArray, lane: NDArray[np.int64]) -> NDArray[np.uint32]:
    values, places = compress(whole)
    parts = elements(values, tiling.unit.inputs)
    row, part = (lane % 16)[:, None], (lane // 16)[:, None]
    kept, groups = parts.shape[-1] // 4, places.shape[-1] // 4
    words = np.ascontiguousarray(parts[..., row, kept * part + np.arange(kept)]).view(np.uint32)
    nibbles = places[..., row, groups * part + np.arange(groups)]
    where = (nibbles << (4 * np.arange(groups, dtype=np.uint32))).sum(-1, dtype=np.uint32)
    shape = whole.shape[:3]
    return np.concatenate([words.reshape(*shape, -1), where.reshape(*shape, -1)], -1)
