"""Numbers of GPUs that NumPy has no type for, as arrays of bits and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def from_bf16(bits: NDArray[Any]) -> NDArray[np.float32]:
    """bfloat16 (uint16) -> float32 of the same shape."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def to_bf16(values: NDArray[Any]) -> NDArray[np.uint16]:
    """float -> the nearest bfloat16, even ones of two, as uint16 of the same shape.

    >>> from_bf16(to_bf16(np.array([1.00390625, 1.01171875])))
    array([1.      , 1.015625], dtype=float32)
    """
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(values), 0x7FFF, rounded).astype(np.uint16)


def to_tf32(values: NDArray[Any]) -> NDArray[np.float32]:
    """float32 -> the nearest number with 10 bits of fraction, ties away from zero, as cvt.rna does."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)


def cut_tf32(values: NDArray[Any]) -> NDArray[np.float32]:
    """float32 as a matrix unit reads it for tf32: the low 13 bits count for nothing."""
    return (np.ascontiguousarray(values, np.float32).view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)


def to_f16(values: NDArray[Any]) -> NDArray[np.uint16]:
    """float -> the nearest float16, as uint16 of the same shape."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values).astype(np.float16).view(np.uint16)


def from_f16(bits: NDArray[Any]) -> NDArray[np.float64]:
    """float16 (uint16) -> float64 of the same shape."""
    return np.ascontiguousarray(bits).astype(np.uint16).view(np.float16).astype(np.float64)


def flush(values: NDArray[Any]) -> NDArray[Any]:
    """float32 with subnormal numbers as zeros of their sign."""
    return np.where(np.abs(values) < np.finfo(np.float32).tiny, np.copysign(np.float32(0), values), values)
