"""The difference that is allowed between two runs of one network: by what its numbers are, and how exact its engine is.

Two engines that both compute a network rightly differ by how they round. How much that is depends on the numbers: sums
in float32 differ in their last bits, 16-bit reals by a step of theirs; a tie that a quantized activation falls on is
rounded to the one side or the other, and moves what follows by a step of 8 bits. Where such a tolerance is not enough,
what the same engine gives for the same network in another order of rounding is the measure: its noise.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.base.compare import magnitude

Array = NDArray[Any]

SUMS = "float16 sums"
"""Networks whose kernels add up in float16: hundreds of terms, each rounded by half a step."""

STEPS = {"float16": 2.0**-10, "bfloat16": 2.0**-7, SUMS: 2.0**-7}
"""The distance of a 16-bit real number from the next one, relative to it, at most; of sums of them, their error."""

CODES = ("int8", "uint8", "int4", "uint4", "int2", "uint2", "int16", "uint16")
"""The types of quantized numbers."""

NOISE = 3.0
"""Times the largest noise of the engine itself: a fault of a network is ten times its noise and more."""

RELATIVE, ABSOLUTE, OF_LARGEST, LEAST = 1e-3, 1e-4, 1e-5, 2.0**-22
"""Of float32: of each value; plus that much, or so much of the largest value; near 0 no less than the last, the error
of a sigmoid or an exponential in float32."""

FLIPS = 2 * 255.0
"""In an int32 sum of products of codes: two codes that are a step apart, times the largest number of 8 bits."""

FEW = 64  # elements: of fewer the mean says nothing that the largest does not


@dataclass(frozen=True)
class Precision:
    """The numbers that a network computes with.

    bits: the fewest that it quantizes an activation to, 32 where it quantizes none. half: "float16" or "bfloat16" where
    it has such numbers, else "". whole: the tensors of whole numbers that no rounding of reals leads to.
    """

    bits: int = 32
    half: str = ""
    whole: frozenset[str] = field(default=frozenset(), repr=False)

    def at(self, tensor: str) -> "Precision":
        """The precision of one tensor: nothing is rounded on the way to a whole one.

        >>> Precision(bits=8, whole=frozenset({"sum"})).at("sum")
        Precision(bits=32, half='')
        """
        return Precision() if tensor in self.whole else self


@dataclass(frozen=True)
class Tolerance:
    """|got - expected| <= atol + rtol * |expected| for every element, and its root mean square at most `mean`.

    why: the reason in words.
    """

    atol: float
    rtol: float
    mean: float = np.inf
    why: str = ""

    def __str__(self) -> str:
        parts = [f"{self.rtol:.2g} of each value"] * bool(self.rtol) + [f"{self.atol:.2g}"] * bool(self.atol)
        return f"{' + '.join(parts) or 'none'}{f' ({self.why})' if self.why else ''}"

    @property
    def exact(self) -> bool:
        """True where every element has to be the same."""
        return not self.atol and not self.rtol

    def holds(self, got: Array, expected: Array) -> bool:
        """True where the arrays agree; a NaN or an infinity in one of them alone never does.

        >>> Tolerance(0.1, 0.0).holds(np.array([1.0, np.inf]), np.array([1.05, np.inf]))
        True
        """
        a, b = got.astype(np.float64), expected.astype(np.float64)
        if not np.isclose(a, b, rtol=self.rtol, atol=self.atol, equal_nan=True).all():
            return False
        both = np.isfinite(a) & np.isfinite(b)
        return bool(a.size < FEW or root_mean_square(a[both] - b[both]) <= self.mean)


def tolerance_of(expected: Array, precision: Precision, noise: Array | None = None) -> Tolerance:
    """The tolerance for a tensor of a network, by its numbers. noise: how far another run of the same engine is off.

    >>> print(tolerance_of(np.array([0.5, -8.0], np.float32), Precision()))
    0.001 of each value + 0.0001 (float32)
    >>> print(tolerance_of(np.array([3, 4], np.int8), Precision(bits=8)))
    1 (one step of the quantized numbers)
    >>> print(tolerance_of(np.array([170000], np.int32), Precision(bits=8)))
    5.1e+02 (two codes a step apart in a sum of products)
    """
    found = _by_numbers(expected, precision)
    if noise is None or not noise.size:
        return found
    finite = noise[np.isfinite(noise)]
    most, mean = float(finite.max(initial=0.0)), root_mean_square(finite)
    if not most:
        return found
    why = f"{found.why}, with {NOISE:g} times onnxruntime's own noise of {most:.1e}"
    return replace(found, atol=found.atol + NOISE * most, mean=found.mean + NOISE * mean, why=why)


def _by_numbers(expected: Array, precision: Precision) -> Tolerance:
    name, largest = expected.dtype.name, magnitude(expected)
    quantized = precision.bits < 32
    if name in CODES:
        # few elements are on a tie: if one in sixteen is a step off, that is a fault
        return (
            Tolerance(1.0, 0.0, 0.25, "one step of the quantized numbers") if quantized else Tolerance(0, 0, why=name)
        )
    if name == "bool" or name in ("int64", "uint64") or (name in ("int32", "uint32") and not quantized):
        return Tolerance(0.0, 0.0, why="whole numbers")
    if name in ("int32", "uint32"):
        atol = min(FLIPS, max(1.0, np.ceil(largest * 2.0 ** (1 - precision.bits))))
        # one code that is a step off moves a whole row of sums by what it is multiplied with
        return Tolerance(float(atol), 0.0, float(atol) / 2, "two codes a step apart in a sum of products")
    plain = Tolerance(max(LEAST, ABSOLUTE * min(largest, 1.0), OF_LARGEST * largest), RELATIVE, why="float32")
    half = precision.half or (name if name in STEPS else "")
    if half:
        step = STEPS[half]
        mean = max(2 * step * root_mean_square(expected), LEAST)
        atol = step * largest if precision.half else plain.atol  # where the engine rounds inside as well
        plain = Tolerance(max(atol, LEAST), 2 * step, mean, f"steps of {half}")
    if quantized:
        step = largest * 2.0 ** (1 - precision.bits)
        if step > plain.atol:
            return Tolerance(step, plain.rtol, step / 8 + min(plain.mean, RELATIVE * largest),
                             f"one step of {precision.bits} bits of the largest value")  # fmt: skip
    return plain


def has_numbers(array: Array) -> bool:
    """True for a tensor that can be compared: not all of its elements are NaN.

    >>> has_numbers(np.array([np.nan, np.nan])), has_numbers(np.array([np.nan, np.inf]))
    (False, True)
    """
    return not array.size or not bool(np.isnan(array.astype(np.float64)).all())


def root_mean_square(values: Array) -> float:
    """The root of the mean square of the finite elements; 0 where there are none.

    >>> root_mean_square(np.array([2.0, -2.0, np.nan]))
    2.0
    """
    wide = values.astype(np.float64)
    wide = wide[np.isfinite(wide)]
    return float(np.sqrt(np.mean(wide * wide))) if wide.size else 0.0
