"""NumPy arrays as the tensors that a compiled model takes, and back; bfloat16 too, which NumPy cannot exchange."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.runtime.library import runtime

BFLOAT16 = "bfloat16"


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The dtype of a name; that of bfloat16 is the package ml_dtypes'.

    >>> numpy_dtype("bfloat16").itemsize
    2
    """
    if name == BFLOAT16:
        import ml_dtypes

        bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return bfloat16
    return np.dtype(name)


def from_numpy(array: NDArray[Any]) -> Any:
    """A tensor on the memory of a contiguous array."""
    if array.dtype.name == BFLOAT16:
        return _seen_as(runtime().from_dlpack(array.view(np.uint16)), BFLOAT16)
    return runtime().from_dlpack(array)


def to_numpy(tensor: Any) -> NDArray[Any]:
    """An array of its own memory with the content of a tensor."""
    if str(tensor.dtype) == BFLOAT16:
        return np.array(np.from_dlpack(_seen_as(tensor, "uint16"))).view(numpy_dtype(BFLOAT16))
    return np.array(np.from_dlpack(tensor))


def _seen_as(tensor: Any, dtype: str) -> Any:
    """The memory of a tensor as elements of another type of the same size."""
    ffi = runtime()
    view = ffi.get_global_func("runtime.TVMTensorCreateView")
    return view(tensor, ffi.Shape(tuple(tensor.shape)), ffi.dtype(dtype), 0)
