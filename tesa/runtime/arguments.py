"""Checks arrays before generated code gets their addresses: quickly where all is well, in full where it is not."""

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.errors import UsageError

FLOAT32 = np.dtype(np.float32)


def is_plain(array: Any, shape: tuple[int, ...], dtype: np.dtype[Any] = FLOAT32) -> bool:
    """True for an array that the generated code can take as it is."""
    # carray: contiguous, aligned, writeable
    return isinstance(array, np.ndarray) and array.shape == shape and array.dtype == dtype and array.flags.carray


def are_apart(out: NDArray[Any], arrays: Sequence[NDArray[Any]]) -> bool:
    """True if out shares no memory with the arrays."""
    return not any(np.may_share_memory(array, out) for array in arrays)


def check_array(name: str, array: Any, shape: tuple[int, ...], dtype: np.dtype[Any] = FLOAT32) -> None:
    """UsageError, with what was expected and what was given, if generated code cannot take the array."""
    wanted = f"{name}: expected a contiguous {dtype} array of shape {shape}"
    if not isinstance(array, np.ndarray):
        raise UsageError(f"{wanted}, got {type(array).__name__}")
    if array.shape != shape or array.dtype != dtype:
        raise UsageError(f"{wanted}, got {array.dtype} of shape {array.shape}")
    if not array.flags.c_contiguous:
        raise UsageError(f"{wanted}, got one with strides {array.strides}: pass np.ascontiguousarray({name})")
    if not array.flags.aligned:
        raise UsageError(f"{wanted}, got one whose address is not a multiple of {dtype.itemsize}: pass {name}.copy()")


def checked_input(name: str, array: Any, shape: tuple[int, ...], dtype: np.dtype[Any] = FLOAT32) -> NDArray[Any]:
    """The array, checked. DLPack hands over no read-only array, so such a one gets a second view of its memory."""
    check_array(name, array, shape, dtype)
    return writable(array)


def writable(array: NDArray[Any]) -> NDArray[Any]:
    """The array, or the memory of a read-only one without the mark that DLPack refuses. Kernels only read inputs."""
    if array.flags.writeable:
        return array
    if array.size == 0:
        return array.copy(order="C")
    memory: Any = (ctypes.c_char * array.nbytes).from_address(array.ctypes.data)
    memory.owner = array  # the view outlives the caller's name for the array
    return np.frombuffer(memory, array.dtype).reshape(array.shape)
