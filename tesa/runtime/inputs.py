"""Checks the arrays that a compiled model is called with, and hands on memory that its kernels can read."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.errors import UsageError
from tesa.runtime.arguments import writable
from tesa.runtime.manifest import TensorInfo
from tesa.runtime.tensors import BFLOAT16, numpy_dtype

Array = NDArray[Any]


def by_name(feeds: Any, infos: Sequence[TensorInfo]) -> dict[str, Any]:
    """The values for all inputs by name, given that way, in order, or as the only one.

    UsageError where one is missing, one is unknown, or feeds holds no values at all.
    """
    if isinstance(feeds, Mapping):
        values = dict(feeds)
    else:
        several = list(feeds) if isinstance(feeds, Sequence) and not isinstance(feeds, str | bytes) else [feeds]
        if len(several) != len(infos):
            raise UsageError(f"the model has {len(infos)} input(s) {_names(infos)}, got {len(several)} array(s)")
        values = {info.name: value for info, value in zip(infos, several, strict=True)}
    missing = [info.name for info in infos if info.name not in values]
    unknown = [str(name) for name in values if name not in {info.name for info in infos}]
    if missing or unknown:
        parts = [f"missing {', '.join(missing)}"] * bool(missing) + [f"unknown {', '.join(unknown)}"] * bool(unknown)
        raise UsageError(f"wrong inputs: {'; '.join(parts)}; the model takes {_names(infos)}")
    return values


def checked(value: Any, info: TensorInfo) -> Array:
    """The array for an input, aligned, contiguous and writeable; a copy only where strides or address demand one.

    UsageError for what is no array, or one of another shape or dtype, byte order included, and for an index that the
    model's tables have no row for: kernels would read beside them.
    """
    wanted = f"input {info.name!r}: expected {info.dtype} of shape {list(info.shape)}"
    if not isinstance(value, np.ndarray | np.generic) and not hasattr(value, "__array__"):
        raise UsageError(f"{wanted}, got {type(value).__name__}; make an array of it: numpy.asarray(x, {info.dtype!r})")
    array = np.asarray(value)
    if info.dtype == BFLOAT16 and array.dtype == np.dtype("V2"):  # as a file of NumPy gives it back
        array = array.view(numpy_dtype(BFLOAT16))
    if array.shape != info.shape or array.dtype != numpy_dtype(info.dtype):
        raise UsageError(f"{wanted}, got {_dtype(array)} of shape {list(array.shape)}")
    if info.bounds is not None and array.size:
        _inside(array, info)
    if not array.flags.c_contiguous or not array.flags.aligned:
        return array.copy(order="C")
    return writable(array)


def _inside(array: Array, info: TensorInfo) -> None:
    """UsageError for an index beside a table."""
    bounds = info.bounds or ()
    for place, (low, high) in enumerate(bounds):
        part = array[..., place] if len(bounds) > 1 else array
        for number in (part.min(), part.max()):
            if not low - 1 < number < high + 1:  # reals are cut towards zero
                where = f" at place {place} of its last axis" if len(bounds) > 1 else ""
                raise UsageError(
                    f"input {info.name!r} holds {number}{where}: the model's table takes indices from {low} to {high}"
                )


def _dtype(array: Array) -> str:
    """The name of a dtype, with the byte order where it is not this machine's."""
    return array.dtype.name if array.dtype.isnative else f"{array.dtype.name} in the other byte order ({array.dtype})"


def _names(infos: Sequence[TensorInfo]) -> str:
    return ", ".join(f"{info.name} {info.dtype}{list(info.shape)}" for info in infos)
