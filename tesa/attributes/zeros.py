"""The zeros of a weight, counted once: everything that patterns, records, cost tables and the search ask of them.

A weight (m, k) is packed to one bit an element. Blocks of r rows come from r to 2r by one OR of neighbouring rows, and
blocks of c columns are c neighbouring bits, so that the live blocks of all common shapes of a 4096 x 4096 weight are
counted in some tens of milliseconds.
"""

from __future__ import annotations

import hashlib
import math
import weakref
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Mask = NDArray[np.bool_]
Counts = NDArray[np.intp]

_Packed = NDArray[np.uint8]
_BITS = np.array([bin(byte).count("1") for byte in range(256)], dtype=np.uint8)
_FROZEN: dict[int, tuple[weakref.ref[NDArray[Any]], Zeros]] = {}


def digest(weight: ArrayLike) -> str:
    """16 hexadecimal digits that identify shape, type and content of an array.

    A zero is a zero: what is pruned as weight * mask holds negative ones too.

    >>> digest(np.float32([1.0, -0.0])) == digest(np.float32([1.0, 0.0]))
    True
    """
    array = np.ascontiguousarray(weight)
    if array.dtype.kind == "f":
        array = array + array.dtype.type(0)
    head = f"{array.dtype.str}{array.shape}".encode()
    return hashlib.sha256(head + array.tobytes()).hexdigest()[:16]


def frozen(weight: NDArray[Any]) -> NDArray[Any]:
    """A read-only view of a weight that nobody changes any more, so that zeros_of() counts it once.

    >>> weight = frozen(np.eye(2))
    >>> frozen(weight) is weight, zeros_of(weight) is zeros_of(weight), zeros_of(weight.copy()) is zeros_of(weight)
    (True, True, False)
    """
    if _known(weight) is not None:
        return weight
    view = weight.view()
    view.flags.writeable = False
    name = id(view)
    _FROZEN[name] = weakref.ref(view, lambda _: _FROZEN.pop(name, None)), Zeros(weight)
    return view


def zeros_of(weight: ArrayLike | Zeros) -> Zeros:
    """The zeros of a weight (m, k), or (m, ...) whose other axes are k; of a frozen() one always the same value."""
    if isinstance(weight, Zeros):
        return weight
    return (_known(weight) if isinstance(weight, np.ndarray) else None) or Zeros(weight)


def _known(weight: NDArray[Any]) -> Zeros | None:
    found = _FROZEN.get(id(weight))
    return found[1] if found is not None and found[0]() is weight else None


class Zeros:
    """The zeros of one weight in numbers. Everything is counted when it is first asked for.

    matrix: the weight as (m, k). shape: (m, k).
    """

    def __init__(self, weight: ArrayLike) -> None:
        array = np.asarray(weight)
        self.shape = (1, array.size) if array.ndim < 2 else (array.shape[0], math.prod(array.shape[1:]))
        self.matrix = array.reshape(self.shape)
        self.size = array.size

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits that identify shape, values and places, see digest()."""
        return digest(self.matrix)

    @property
    def mask(self) -> Mask:
        """(m, k): where the weight is not zero. It is made anew each time: the counts are what is kept."""
        return np.asarray(self.matrix != 0)

    @cached_property
    def per_row(self) -> Counts:
        """(m,): non-zeros of each row."""
        return np.asarray(np.count_nonzero(self.matrix, axis=1))

    @cached_property
    def per_column(self) -> Counts:
        """(k,): non-zeros of each column."""
        return np.asarray(np.count_nonzero(self.matrix, axis=0))

    @cached_property
    def nonzeros(self) -> int:
        """Elements that are not zero."""
        return int(self.per_row.sum())

    @cached_property
    def live_rows(self) -> int:
        """Rows that have a non-zero."""
        return int(np.count_nonzero(self.per_row))

    @cached_property
    def live_columns(self) -> int:
        """Columns that have a non-zero."""
        return int(np.count_nonzero(self.per_column))

    @cached_property
    def supports(self) -> int:
        """Different sets of live columns that the rows have."""
        return len(np.unique(self.mask, axis=0))

    def live(self, height: int, width: int) -> int:
        """Aligned blocks that hold a non-zero. Both sizes are powers of 2; the width is at most 64."""
        if not self.nonzeros:
            return 0
        rows = self._rows(height)
        return int(_BITS[_fold(rows, width)].sum()) if width < 8 else int(np.count_nonzero(_wide(rows, width)))

    def live_share(self, height: int, width: int) -> float:
        """The share of the aligned blocks, cut off at the edges included, that hold a non-zero; 0 if there are none.

        >>> Zeros(np.eye(4)).live_share(2, 2)
        0.5
        """
        m, k = self.shape
        return self.live(height, width) / (-(-m // height) * -(-k // width) or 1)

    def covered(self, height: int, width: int) -> int:
        """Elements that lie in live blocks. The sizes are those of live()."""
        rows, (m, k) = self._rows(height), self.shape
        if width < 8:
            bits = _fold(rows, width)
            counts = _BITS[bits].sum(axis=1, dtype=np.int64)
            last = bits[:, (k - 1) // 8] >> (7 - (k - 1) % 8 // width * width) & 1
        else:
            blocks = _wide(rows, width) != 0
            counts = np.count_nonzero(blocks, axis=1).astype(np.int64)
            last = blocks[:, (k - 1) // width].astype(np.uint8)
        wide: NDArray[np.int64] = counts * width - last.astype(np.int64) * (-k % width)
        total: int = int(wide.sum()) * height - int(wide[-1]) * (-m % height)
        return total

    def groups(self, m: int) -> Counts:
        """(m + 1,): how many aligned groups of m neighbours along k have 0, 1, ... non-zeros. m divides 8.

        Groups of zeros behind the last column count, too.
        """
        bytes_ = np.bincount(self._packed[1].reshape(-1), minlength=256)
        return np.asarray((_groups(m) * bytes_[:, None]).sum(axis=0))

    @cached_property
    def _packed(self) -> dict[int, _Packed]:
        """By height: the packed mask with each height rows made one."""
        return {1: _pack(self.mask)}

    def _rows(self, height: int) -> _Packed:
        if height not in self._packed:
            half = self._rows(height // 2)
            even, odd = half[0::2], half[1::2]
            both = even.copy()
            both[: len(odd)] |= odd
            self._packed[height] = both
        return self._packed[height]


def _pack(mask: Mask) -> _Packed:
    """One bit an element, the first in the highest bit; each row is filled up to whole words of 64 bits."""
    packed = np.packbits(mask, axis=1)
    missing = -packed.shape[1] % 8
    return np.pad(packed, ((0, 0), (0, missing))) if missing else packed


def _fold(rows: _Packed, width: int) -> _Packed:
    """One bit for each block of 1, 2 or 4 columns: its first column's; the others are 0."""
    if width == 1:
        return rows
    pairs: _Packed = (rows | rows << np.uint8(1)) & np.uint8(0b10101010)
    if width == 2:
        return pairs
    fours: _Packed = (pairs | pairs << np.uint8(2)) & np.uint8(0b10001000)
    return fours


def _wide(rows: _Packed, width: int) -> NDArray[np.unsignedinteger[Any]]:
    """One number for each block of 8, 16, 32 or 64 columns, 0 where it is dead."""
    return rows.view(f"u{width // 8}")


def _groups(m: int) -> Counts:
    """(256, m + 1): in how many groups of m bits a byte has 0, 1, ... ones."""
    table = np.zeros((256, m + 1), dtype=np.intp)
    for byte in range(256):
        for first in range(0, 8, m):
            table[byte, bin(byte >> first & (1 << m) - 1).count("1")] += 1
    return table
