"""The bits that the numbers of a constant need, whatever type the file stores it in."""

from typing import Any

import numpy as np

from tesa.attributes.attribute import TeSA, Values
from tesa.attributes.quantization import ON_GRID, fitted
from tesa.propagate.bits.grids import claimed, only_bits

STORED = 1e-4  # of a step: a weight that a folded batch norm has scaled in float32 is that close to its code


def constant_grid(facts: TeSA, numbers: Values) -> TeSA | None:
    """The grid of fewest bits that the numbers of a constant lie on; None if it is not stored as integers.

    Integers are their own codes; of real numbers that were dequantized, the codes of `facts.quantization`. The codes
    need only tell apart what is there: all integers between the ends, or every n-th of them. One step for the tensor,
    or for each scale; the number 0 stays on the grid.

    >>> from tesa.attributes.attribute import unknown
    >>> print(constant_grid(unknown((4,)), np.array([-8, 0, 3, 7], np.int8)))
    4 bits (int4, 1 scale)
    >>> print(constant_grid(unknown((3,)), np.array([-127, 0, 127], np.int8)))
    2 bits (int2, 1 scale)
    """
    if numbers.size == 0:
        return None
    if numbers.dtype.kind in "iu" or numbers.dtype.name.startswith(("int", "uint")):
        one = np.ones((1,) * numbers.ndim)
        return _fewest(facts, numbers.astype(np.int64), one, 0 * one)
    q = facts.quantization
    if q is None or not claimed(facts) or numbers.dtype.kind != "f" or (np.asarray(q.scale) == 0).any():
        return None
    codes = np.rint(numbers / np.asarray(q.scale, np.float64)) + q.zero_point
    error = np.abs(q.points(codes, False) - numbers)
    if not (error <= np.abs(q.scale) * STORED + ON_GRID * np.abs(numbers)).all():
        return None
    return _fewest(facts, codes.astype(np.int64), q.scale, q.zero_point)


def _fewest(facts: TeSA, codes: Any, scale: Values, zero: Values) -> TeSA:
    steps = codes - np.rint(zero).astype(np.int64)
    each = max(int(np.gcd.reduce(steps, axis=None)), 1)
    low, high = np.full(scale.shape, steps.min() // each), np.full(scale.shape, steps.max() // each)
    if each == 1:  # the codes as they are stored, so that the zero point is the one of the file
        low, high = (np.full(scale.shape, bound) for bound in (codes.min(), codes.max()))
        return only_bits(facts.shape, *fitted(low, high, scale, np.asarray(zero, np.float64)))
    return only_bits(facts.shape, *fitted(low, high, scale * each, np.zeros(scale.shape)))
