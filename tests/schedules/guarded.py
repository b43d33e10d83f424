"""Arrays that end, or begin, at memory that must not be touched: a kernel that reads too far dies."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest
import tvm_ffi
from numpy.typing import NDArray

from tesa.schedules.cpu import cut
from tests.schedules import reference

_PAGE = mmap.PAGESIZE
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def guarded(array: NDArray[Any], at_end: bool) -> Any:
    """A copy of the array as a tensor, with a page without access behind its last element or before its first."""
    size = -(-max(array.nbytes, 1) // _PAGE) * _PAGE
    memory = mmap.mmap(-1, size + 2 * _PAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for page in (start, start + _PAGE + size):
        if _LIBC.mprotect(page, _PAGE, 0):
            raise OSError(ctypes.get_errno(), "mprotect failed")
    first = _PAGE + (size - array.nbytes if at_end else 0)
    view = np.frombuffer(memory, array.dtype, array.size, first).reshape(array.shape)
    view[...] = array
    return tvm_ffi.from_dlpack(view, require_alignment=array.itemsize)


@contextmanager
def harsh(at_end: bool) -> Iterator[None]:
    """All arrays of a checked kernel are guarded, and even the smallest problem runs on all its threads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "unaligned", partial(guarded, at_end=at_end))
        patch.setattr(cut, "SERIAL_CYCLES", 0)
        yield
