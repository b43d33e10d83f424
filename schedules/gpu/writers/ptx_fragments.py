"""Weights in the order of the fragments of mma.sync: what a lane needs lies one behind the other in memory.

Lane 4 g + q holds, of a 16 x k tile of elements of which p fit into 32 bits, in register r the elements of row
g + 8 (r mod 2) from column p q + 4 p (r div 2) on ("Matrix fragments for mma", PTX ISA).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.schedules.gpu.tiling import Tiling, compress, elements
from tesa.schedules.types import FloatArray

_LANE = np.arange(32)
_G, _Q = _LANE // 4, _LANE % 4


def pack(tiling: Tiling, tiles: FloatArray) -> NDArray[np.uint32]:
    """Tiles (steps, rows, depth) -> (steps, rows / 16, depth / k of the unit, words): 32 lanes x the registers of each.

    Of a sparse unit the 32 words of places follow those of the elements.
    """
    count, rows, depth = tiles.shape
    unit = tiling.unit
    parts = tiles.reshape(count, rows // 16, 16, depth // unit.k, unit.k).swapaxes(2, 3)
    if not unit.sparse:
        return _words(elements(parts, unit.inputs), tiling.per)
    values, places = compress(parts)
    return np.concatenate([_words(elements(values, unit.inputs), tiling.per), _places(places, tiling.bits)], -1)


def cores(tiling: Tiling, tiles: FloatArray) -> NDArray[np.uint32]:
    """Tiles (steps, rows, depth) -> (steps, chunks along k, rows, 4 words): 16 bytes of each row behind each other."""
    found = elements(tiles, tiling.unit.inputs)
    each = 16 // found.itemsize
    chunks = found.reshape(*found.shape[:2], found.shape[2] // each, each).swapaxes(1, 2)
    return np.ascontiguousarray(chunks).view(np.uint32)


def _words(parts: NDArray[Any], per: int) -> NDArray[np.uint32]:
    """(..., 16, k) elements -> (..., 32 x registers)."""
    registers = parts.shape[-1] * 16 // per // 32
    lanes = np.empty((*parts.shape[:-2], 32, registers, per), parts.dtype)
    for r in range(registers):
        for e in range(per):
            lanes[..., r, e] = parts[..., _G + 8 * (r % 2), per * _Q + 4 * per * (r // 2) + e]
    words = np.ascontiguousarray(lanes).view(np.uint32)
    return words.reshape(*parts.shape[:-2], 32 * registers)


def _places(places: NDArray[np.uint32], bits: int) -> NDArray[np.uint32]:
    """(..., 16, k / 4) places -> (..., 32) words, each lane one, for selector 0.

    Of 16 bits, lanes 4 g and 4 g + 1 hold four groups each of rows g and g + 8; of 8 bits, lane 4 g + q holds the
    groups of row g + 8 (q mod 2) from 8 (q div 2) on.
    """
    shift = np.arange(4 if bits == 16 else 8, dtype=np.uint32) * np.uint32(4)
    runs = places.reshape(*places.shape[:-1], places.shape[-1] // len(shift), len(shift))
    words = (runs << shift).sum(-1, dtype=np.uint32)  # (..., 16, runs)
    if bits == 8:
        return np.ascontiguousarray(words[..., _G + 8 * (_Q % 2), _Q // 2])
    run = _Q % 2
    return np.asarray(words[..., _G, run] | words[..., _G + 8, run] << np.uint32(16), np.uint32)
