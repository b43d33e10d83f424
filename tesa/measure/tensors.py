"""Copies of arrays as a kernel's arguments, at addresses that are aligned no better than it may count on."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def placed(array: NDArray[Any], alignment: int) -> Any:
    """A copy of the array as a tensor, aligned to 64 bytes, or to 16 and not to 32 where alignment is less."""
    import tvm
    import tvm_ffi

    return tvm.runtime.tensor(array) if alignment >= 64 else tvm_ffi.from_dlpack(unaligned(array))


def unaligned(array: NDArray[Any]) -> NDArray[Any]:
    """A copy that is aligned to 16 bytes and not to 32, as arrays of NumPy may be."""
    room = np.empty(array.nbytes + 64, np.uint8)
    start = (16 - room.ctypes.data) % 64
    copy = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy
