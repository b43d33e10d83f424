"""The algebra of binary operators: how two constants combine, and which operand decides the result all by itself.

0 * x is 0 and inf + x is inf for every finite x, False & x is False, max of x and the type's largest number is that
number. An unknown element is taken as finite, no more: -3.4e38, the mask of many exports, does not take up what is
added to it, for that may be such a mask too, put there at run time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tesa.attributes.attribute import Bools, Values

FLOATS = ("float16", "float32", "float64")
NEAR = 1e-5  # two constants closer than this may be equal in the model's own arithmetic

Evaluate = Callable[[Values, Values], Any]
Sure = Callable[[Values, Values], Any]
Decides = Callable[[Values, str], tuple[Any, Any]]


@dataclass(frozen=True)
class Algebra:
    """A binary operator on float64, int64 or bool arrays.

    evaluate(a, b): the result, NaN where it has none. sure(a, b): where the result is certain in spite of rounding, and
    defined. left(value, dtype), right(value, dtype): where this operand alone decides the result, and the result. The
    other operand is dead there, unless it must not take every value: the divisor, `keeps_right`. compares: the
    result is a bool, the operands may be numbers.
    """

    evaluate: Evaluate
    sure: Sure | None = None
    left: Decides | None = None
    right: Decides | None = None
    keeps_right: bool = False
    compares: bool = False


def is_float(dtype: str) -> bool:
    """True if the type has fractions."""
    return "float" in dtype


def integer_range(dtype: str) -> tuple[int, int]:
    """The smallest and the largest number of a type of integers, or bool.

    >>> integer_range("uint4"), integer_range("int8")
    ((0, 15), (-128, 127))
    """
    width = 1 if dtype == "bool" else int(dtype.lstrip("uint"))
    return (-(1 << width - 1), (1 << width - 1) - 1) if dtype.startswith("int") else (0, (1 << width) - 1)


def largest_unknown(dtype: str) -> float:
    """The magnitude that an unknown element of the type does not exceed: its largest finite number."""
    return float(np.finfo(dtype if dtype in FLOATS else "float64").max)


def absorbs(value: Values, dtype: str) -> Bools:
    """A mask where value + x is value for every unknown x: infinity.

    >>> absorbs(np.array([np.inf, np.finfo(np.float32).min, 0.0]), "float32")
    array([ True, False, False])
    """
    return np.asarray(np.isinf(value) & is_float(dtype))


def _zero(value: Values, dtype: str) -> tuple[Any, Any]:
    return value == 0, value


def _itself(value: Values, dtype: str) -> tuple[Any, Any]:
    return absorbs(value, dtype), value


def _top(value: Values, dtype: str) -> tuple[Any, Any]:
    """The value that no other one exceeds."""
    return value >= (largest_unknown(dtype) if is_float(dtype) else integer_range(dtype)[1]), value


def _bottom(value: Values, dtype: str) -> tuple[Any, Any]:
    return value <= (-largest_unknown(dtype) if is_float(dtype) else integer_range(dtype)[0]), value


def _one_modulus(value: Values, dtype: str) -> tuple[Any, Any]:
    return (value == 1) & (not is_float(dtype)), np.zeros_like(value)


def _all_ones(value: Values, dtype: str) -> tuple[Any, Any]:
    low, high = integer_range(dtype)
    return value == (-1 if low < 0 else high), value


def _false(value: Values, dtype: str) -> tuple[Any, Any]:
    return ~value.astype(bool), np.zeros(value.shape, bool)


def _true(value: Values, dtype: str) -> tuple[Any, Any]:
    return value.astype(bool), np.ones(value.shape, bool)


def _quotient(a: Values, b: Values) -> Values:
    """As in C: integers are divided towards 0."""
    if a.dtype.kind == "f":
        return np.asarray(a / b)
    safe = np.where(b == 0, 1, b)
    return np.asarray(np.sign(a) * np.sign(safe) * (np.abs(a) // np.abs(safe)))


def _floor_quotient(a: Values, b: Values) -> Values:
    return np.floor(a / b) if a.dtype.kind == "f" else np.asarray(a // np.where(b == 0, 1, b))


def _remainder(a: Values, b: Values) -> Values:
    return np.asarray(np.fmod(a, b)) if a.dtype.kind == "f" else np.asarray(a - b * _quotient(a, b))


def _divisible(a: Values, b: Values) -> Values:
    """The divisor is not 0; and a rounded quotient is not so near an integer that the model's may lie beyond it."""
    if a.dtype.kind != "f":
        return np.asarray(b != 0)
    quotient = a / b
    off = np.abs(quotient - np.rint(quotient))
    exact = (a == np.rint(a)) & (b == np.rint(b))
    return np.asarray((b != 0) & np.isfinite(quotient) & (exact | (off > NEAR * np.maximum(1, np.abs(quotient)))))


def _apart(a: Values, b: Values) -> Values:
    """Equal, or so far apart that rounding does not matter."""
    if a.dtype.kind != "f":
        return np.ones((1,) * a.ndim, bool)
    far = np.abs(a - b) > NEAR * np.maximum(1, np.maximum(np.abs(a), np.abs(b)))
    return np.asarray((a == b) | far | (np.isinf(a) != np.isinf(b)))


def _whole_power(a: Values, b: Values) -> Values:
    return np.ones((1,) * a.ndim, bool) if a.dtype.kind == "f" else np.asarray(b >= 0)


def _shift_in_range(a: Values, b: Values) -> Values:
    return np.asarray((b >= 0) & (b < 8))  # in the range of every integer type


BINARY: dict[str, Algebra] = {
    "add": Algebra(np.add, None, _itself, _itself),
    "subtract": Algebra(np.subtract, None, _itself, lambda x, dtype: (absorbs(x, dtype), -x)),
    "multiply": Algebra(np.multiply, None, _zero, _zero),
    "divide": Algebra(
        _quotient, lambda a, b: b != 0, _zero, lambda x, dtype: (np.isinf(x), np.zeros_like(x)), keeps_right=True
    ),
    "floor_divide": Algebra(_floor_quotient, _divisible, _zero, None, keeps_right=True),
    "mod": Algebra(_remainder, _divisible, _zero, _one_modulus, keeps_right=True),
    "floor_mod": Algebra(lambda a, b: a - b * _floor_quotient(a, b), _divisible, _zero, _one_modulus, keeps_right=True),
    "power": Algebra(
        lambda a, b: np.power(a.astype(np.float64), b.astype(np.float64)), _whole_power,
        lambda x, dtype: (x == 1, np.ones_like(x)), lambda x, dtype: (x == 0, np.ones_like(x)),
    ),
    "maximum": Algebra(np.maximum, None, _top, _top),
    "minimum": Algebra(np.minimum, None, _bottom, _bottom),
    "atan2": Algebra(np.arctan2, lambda a, b: (a != 0) | (b > 0)),  # a 0 may be -0: atan2(0, -1) is then -pi
    "log_add_exp": Algebra(np.logaddexp, lambda a, b: np.isfinite(a) & np.isfinite(b)),
    **{
        name: Algebra(getattr(np, name), _apart, compares=True)
        for name in ("less", "less_equal", "greater", "greater_equal", "equal", "not_equal")
    },
    "logical_and": Algebra(np.logical_and, None, _false, _false),
    "logical_or": Algebra(np.logical_or, None, _true, _true),
    "logical_xor": Algebra(np.logical_xor),
    "bitwise_and": Algebra(np.bitwise_and, None, _zero, _zero),
    "bitwise_or": Algebra(np.bitwise_or, None, _all_ones, _all_ones),
    "bitwise_xor": Algebra(np.bitwise_xor),
    "left_shift": Algebra(np.left_shift, _shift_in_range, _zero, None, keeps_right=True),
    "right_shift": Algebra(
        np.right_shift, _shift_in_range, lambda x, dtype: ((x == 0) | (x == -1), x), None, keeps_right=True
    ),
}  # fmt: skip
