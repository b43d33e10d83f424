"""Grids: the numbers that a quantized element can be, and how anything is rounded to them.

A grid is scale * (code - zero_point) for the codes of `bits` bits. An operator's scale and zero point make one; so do
an integer type (scale 1), a range of integers (scale 1, fewer bits) and every n-th integer (scale n). Scales are
usually positive but a folded batch norm may turn one around, and a zero point may be a fraction, where the integers
of a fine grid are told apart as coarsely as another grid does.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[Any]
Bits = NDArray[np.int8]

FULL_BITS = 32

TIE = 1e-6  # relative: so close to a tie float arithmetic may round to either side
ON_GRID = 1e-6  # relative: closer to the grid counts as on it, so that rounding adds no error of float arithmetic


@dataclass(frozen=True, eq=False)
class Quantization:
    """real = scale * (code - zero_point). scale and zero_point broadcast to the tensor's shape.

    bits: of the widest element; a TeSA says for each element how many of them it needs. signed: codes are
    -2^(bits-1) .. 2^(bits-1) - 1, otherwise 0 .. 2^bits - 1. Of a tensor of integers, the points of the grid are
    rounded to integers. count: of scales as the file stores them, where each is repeated for a block of elements; 0 for
    as many as `scale` has. It is said, and changes nothing.
    """

    bits: int
    signed: bool
    scale: Values
    zero_point: Values
    count: int = 0

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Quantization):
            return NotImplemented
        alike = (self.bits, self.signed) == (other.bits, other.signed)
        return alike and same(self.scale, other.scale) and same(self.zero_point, other.zero_point)

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        count = min(self.count or self.scale.size, self.scale.size)
        scales = "1 scale" if count == 1 else f"{count} scales"
        return f"{'int' if self.signed else 'uint'}{self.bits}, {scales}"

    def rounded(self, x: Any, bits: Any = None, *, integer: bool | None = None) -> Values:
        """The nearest number of the grid, saturating; ties go to the even code, as in ONNX's QuantizeLinear.

        bits: of each element, where some need fewer than the widest. integer: whether x are integers, by default
        whether its type is one. What is on the grid to float precision stays as it is.

        >>> Quantization(4, True, np.array(0.5), np.array(0)).rounded(np.array([0.3, 1.25, 9.0]))
        array([0.5, 1. , 3.5])
        """
        array = np.asarray(x)
        whole = array.dtype.kind in "iu" if integer is None else integer
        point = self.points(self.codes(array, bits), whole)
        if array.dtype.kind in "iu":  # an uneven grid may end a little outside of the type
            return np.clip(point, np.iinfo(array.dtype).min, np.iinfo(array.dtype).max).astype(array.dtype)
        near = np.abs(point - array) <= ON_GRID * np.maximum(np.abs(self.scale), np.abs(point))
        return np.asarray(np.where(near, array, point).astype(array.dtype))

    def codes(self, x: Any, bits: Any = None) -> Values:
        """The codes of the nearest numbers of the grid, as float64; divided in float32 where x is, as quantize does."""
        array = np.asarray(x)
        kind = np.float32 if array.dtype == np.float32 else np.float64
        low, high = code_range(self.bits if bits is None else np.minimum(bits, self.bits), self.signed)
        zero = np.asarray(self.zero_point, np.float64)
        whole = np.floor(zero)
        part = (zero - whole).astype(kind)
        stored = np.rint(array.astype(kind) / _nonzero(self.scale).astype(kind) + part).astype(np.float64) + whole
        return np.asarray(np.clip(stored, low, high))

    def points(self, codes: Any, integer: bool) -> Values:
        """The numbers that codes stand for, in float64."""
        real = (np.asarray(codes, np.float64) - self.zero_point) * np.asarray(self.scale, np.float64)
        return np.asarray(np.rint(real) if integer else real)


def code_range(bits: Any, signed: bool) -> tuple[Values, Values]:
    """(lowest, highest) code of so many bits, as float64.

    >>> [int(v) for v in code_range(4, True)], [int(v) for v in code_range(4, False)]
    ([-8, 7], [0, 15])
    """
    count = np.exp2(np.asarray(bits, np.float64))
    low = -count / 2 if signed else np.zeros_like(count)
    return np.asarray(low), np.asarray(low + count - 1)


def bits_for(low: Any, high: Any) -> Values:
    """The bits that tell the integers low .. high apart, at least 1."""
    count = np.asarray(high, np.float64) - np.asarray(low, np.float64) + 1
    return np.asarray(np.maximum(np.ceil(np.log2(np.maximum(count, 1))), 1))


def fitted(low: Any, high: Any, scale: Any, zero_point: Any, bits: Any = None) -> tuple[Values, Quantization]:
    """(bits of each element, grid) for codes that are known to lie in low .. high; all arrays broadcast together.

    bits: as few as the codes need unless given. The zero point stays where the codes fit so many bits as they are, else
    they are shifted to fit.

    >>> bits, grid = fitted(-4, 3, np.array(1.0), np.array(0))
    >>> int(bits), str(grid), int(grid.zero_point)
    (3, 'int3, 1 scale', 0)
    >>> int(fitted(-128, -68, np.array(1.0), np.array(0))[1].zero_point)
    96
    """
    low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
    bits = bits_for(low, high) if bits is None else np.asarray(bits, np.float64)
    signed = bool((low < 0).any())
    first, last = code_range(bits, signed)
    shift = np.where((first <= low) & (high <= last), 0, first - low)
    widest = int(bits.max(initial=1))
    return bits.astype(np.int16), Quantization(widest, signed, np.asarray(scale), np.asarray(zero_point + shift))


def codes_between(low: Any, high: Any, scale: Any, zero_point: Any) -> tuple[Values, Values]:
    """(first, last) code that numbers in low .. high can round to, as float64; a tie may fall to either side.

    >>> [int(v) for v in codes_between(0.0, 6.5, np.array(1.0), np.array(0))]
    [0, 7]
    """
    zero = np.asarray(zero_point, np.float64)
    whole = np.floor(zero)
    with np.errstate(invalid="ignore"):
        ends = np.sort(np.stack(np.broadcast_arrays(low / _nonzero(scale), high / _nonzero(scale))), axis=0)
        first = np.ceil(ends[0] + (zero - whole) - 0.5 - TIE * (1 + np.abs(ends[0]))) + whole
        last = np.floor(ends[1] + (zero - whole) + 0.5 + TIE * (1 + np.abs(ends[1]))) + whole
    return first, last


def integer_grid(low: float, high: float, rank: int) -> tuple[Values, Quantization]:
    """`fitted` for a tensor of `rank` axes of integers low .. high."""
    ones = np.ones((1,) * rank)
    return fitted(ones * low, ones * high, ones, np.zeros((1,) * rank))


def compact(array: NDArray[Any]) -> NDArray[Any]:
    """The shortest array that broadcasts to the same content: each axis along which nothing changes gets length 1."""
    for axis, length in enumerate(array.shape):
        if length <= 1:
            continue
        first = array.take([0], axis=axis)
        if array.strides[axis] == 0 or bool((array == first).all()):
            array = first
    return array


def lower_precision(
    bits: Bits, grid: Quantization | None, other_bits: Bits, other: Quantization | None
) -> tuple[Bits, Quantization | None]:
    """Element by element the grid of fewer bits, the first one where they are equal. Arrays have all axes."""
    if grid is None and other is None:
        return np.minimum(bits, other_bits), None
    if grid is None or other is None:  # bits without a grid are no claim that can be kept beside one with a grid
        return (bits, grid) if other is None else (other_bits, other)
    lower = other_bits < bits
    if not lower.any() or lower.all():
        return (other_bits, other) if lower.any() else (bits, grid)
    signed = grid.signed or other.signed
    zeros = [_with_sign(q, b, signed) for q, b in ((grid, bits), (other, other_bits))]
    least = np.where(lower, other_bits, bits).astype(np.int8)
    widest = int(least[least < FULL_BITS].max(initial=1))
    scale, zero = np.where(lower, other.scale, grid.scale), np.where(lower, zeros[1], zeros[0])
    return least, Quantization(widest, signed, compact(scale), compact(zero))


def _with_sign(q: Quantization, bits: Bits, signed: bool) -> Values:
    """The zero point of the same grid with signed codes."""
    return q.zero_point if q.signed or not signed else q.zero_point + code_range(bits, True)[0]


def shortest(q: Quantization, bits: Bits, rank: int) -> Quantization:
    """The same grid with short arrays of `rank` axes, its bits those of the widest element: equal facts are equal."""
    widest = min(q.bits, int(bits[bits < FULL_BITS].max(initial=0)) or q.bits)
    scale, zero = (_laid(np.asarray(v), rank) for v in (q.scale, q.zero_point))
    return replace(q, bits=widest, scale=scale, zero_point=zero)


def _laid(array: Values, rank: int) -> Values:
    if array.size == 1:
        return array.reshape((1,) * rank)
    return compact(array.reshape((1,) * (rank - array.ndim) + array.shape))


def _nonzero(scale: Values) -> Values:
    real = np.asarray(scale, np.float64)
    return np.where(real == 0, 1.0, real)


def same(a: Values, b: Values) -> bool:
    """True for two arrays of one shape and content."""
    return a.shape == b.shape and bool((a == b).all())
