"""The largest tensor that a model may have: a file of a few bytes can declare one of terabytes.

Every size is looked at before anything of it is allocated: of inputs, of sparse tensors that are written out, of what
an operator makes, and of all that is computed from constants at import together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import prod
from typing import Any

import numpy as np

from tesa.errors import ModelError, UsageError

LARGEST = 2 << 30
"""Bytes of one tensor, unless something else is asked for."""

ALLOW = "if they are meant, --max-tensor SIZE, or tesa.largest_tensor, allows them"

GROWING = {
    "ConstantOfShape", "Expand", "Tile", "Pad", "Range", "Resize", "OneHot", "MelWeightMatrix", "EyeLike", "Upsample",
    "CenterCropPad", "HannWindow", "HammingWindow", "BlackmanWindow", "DFT", "AffineGrid", "MaxUnpool",
}  # fmt: skip
"""Operators whose result may be much larger than their inputs; without a known shape they are not evaluated."""

GROWTH = 16
"""Times the constants of a file that may be computed from them: weights are converted, turned, cut."""

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_LARGEST: ContextVar[int] = ContextVar("largest tensor", default=LARGEST)


def largest() -> int:
    """The bytes that one tensor may have now."""
    return _LARGEST.get()


@contextmanager
def largest_tensor(size: int) -> Iterator[None]:
    """Let the tensors of models that are read inside have up to `size` bytes each; by default 2 GiB.

    >>> with largest_tensor(64 << 30):
    ...     readable(largest())
    '64 GiB'
    """
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise UsageError(f"the largest tensor is given as {size!r}, expected a number of bytes above 0")
    token = _LARGEST.set(size)
    try:
        yield
    finally:
        _LARGEST.reset(token)


def readable(size: int) -> str:
    """A number of bytes in words.

    >>> readable(3), readable(1 << 42), readable(1536)
    ('3 bytes', '4 TiB', '1.5 KiB')
    """
    power = min(max(size.bit_length() - 1, 0) // 10, len(_UNITS) - 1)
    return f"{round(size / (1 << 10 * power), 1):g} {_UNITS[power]}"


def bytes_of(shape: Iterable[int], dtype: Any) -> int:
    """The bytes of a tensor. Python's whole numbers have no largest one, as those of NumPy do."""
    return prod(map(int, shape)) * int(np.dtype(dtype).itemsize)


def check_size(shape: Iterable[int], dtype: Any, where: str) -> None:
    """Raise a ModelError for a tensor that is too large. where: the file and what has this shape."""
    sizes = list(shape)
    size = bytes_of(sizes, dtype)
    if size > largest():
        raise ModelError(
            f"{where} would have the shape {sizes}, which is {readable(size)}; at most {readable(largest())} is "
            f"allocated for one tensor. Check the sizes; {ALLOW}"
        )


def check_possible(shape: Iterable[int], dtype: Any, where: str) -> None:
    """check_size, and a ModelError for sizes below 0, as a window that is larger than what it slides over leaves."""
    sizes = list(shape)
    if min(sizes, default=0) < 0:
        raise ModelError(
            f"{where} would have the shape {sizes}, with a size below 0. Check the windows, pads and slices before it"
        )
    check_size(sizes, dtype, where)
