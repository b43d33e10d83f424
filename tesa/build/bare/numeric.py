"""Functions of a C library on numbers of 64 bits, as arithmetic: for targets where there is no such library.

Each is a series of Taylor's on a small interval that the argument is brought to by an identity: exp(x) = 2**k exp(r),
log(x) = k log 2 + 2 artanh((m - 1) / (m + 1)), atan(x) = 2 atan(x / (1 + sqrt(1 + x**2))), and so on. Results are right
to some units in the 15th digit, also where a number is nearly 0; of sine, cosine and tangent for arguments up to a
million, beyond which the error grows with the argument. A number that is none (NaN) is left to the caller.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from tvm import tirx
from tvm.ir import PointerType, PrimType
from tvm.tirx import AllocBuffer, BufferLoad, BufferStore, DeclBuffer, IntImm, PrimFunc, Return, Select, SeqStmt, Var

_LN2 = (0.6931471804855391, 7.440617110012397e-11)
_HALF_PI = (1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21)
"""log 2 and pi / 2 in parts, of which the first ones have 33 bits: their product with a small whole number is exact."""


class Block:
    """Statements of a function, in the order in which they are made.

    Each value lies in memory of its own, which LLVM makes a register: what TVM knows of a name it follows through all
    that the name is used for, which takes minutes.
    """

    def __init__(self) -> None:
        self.statements: list[Any] = []
        self.memory: list[Any] = []

    def __call__(self, value: Any) -> Any:
        """The value as something that is computed once, here; of a condition itself."""
        dtype = str(getattr(getattr(value, "ty", None), "dtype", "bool"))
        if dtype == "bool":
            return value
        place = tirx.decl_buffer((1,), dtype, name="v", scope="local")
        self.memory.append(AllocBuffer(place))
        self.statements.append(BufferStore(place, value, [0]))
        return BufferLoad(place, [0])

    def series(self, coefficients: Sequence[float], x: Any) -> Any:
        """The polynomial with these coefficients, the highest first."""
        value: Any = number(coefficients[0])
        for coefficient in coefficients[1:]:
            value = self(value * x + number(coefficient))
        return value


def number(value: float) -> Any:
    """A constant of 64 bits."""
    return tirx.const(float(value), "float64")


_LARGEST = number(1.7976931348623157e308)


def _whole(x: Any) -> Any:
    return tirx.floor(x + number(0.5))


def _power_of_two(exponent: Any) -> Any:
    """2 to a whole number from -1022 to 1023."""
    bits = tirx.shift_left(tirx.Cast("int64", exponent) + tirx.const(1023, "int64"), tirx.const(52, "int64"))
    return tirx.reinterpret("float64", bits)


def _scaled(b: Block, value: Any, exponent: Any) -> Any:
    """value * 2 ** exponent, in two steps, so that what overflows or vanishes does so at the end."""
    half = b(tirx.floor(exponent * number(0.5)))
    return b(value * _power_of_two(half) * _power_of_two(exponent - half))


_EXP = [1 / math.factorial(n) for n in range(14, -1, -1)]


def exp(b: Block, x: Any) -> Any:
    """e to the power x."""
    x = b(tirx.Max(tirx.Min(x, number(800)), number(-800)))
    k = b(_whole(x * number(1 / math.log(2))))
    r = b(x - k * number(_LN2[0]) - k * number(_LN2[1]))
    return _scaled(b, b.series(_EXP, r), k)


def exp2(b: Block, x: Any) -> Any:
    """2 to the power x."""
    x = b(tirx.Max(tirx.Min(x, number(1100)), number(-1100)))
    k = b(_whole(x))
    return _scaled(b, b.series(_EXP, b((x - k) * number(math.log(2)))), k)


def expm1(b: Block, x: Any) -> Any:
    """exp(x) - 1, also where that is small."""
    near = b(b.series(_EXP[:-1], x) * x)
    return b(Select(tirx.abs(x) < number(0.35), near, exp(b, x) - number(1)))


_ARTANH = [1 / n for n in range(23, 0, -2)]


def _twice_artanh(b: Block, f: Any) -> Any:
    return b(number(2) * f * b.series(_ARTANH, b(f * f)))


def log(b: Block, x: Any) -> Any:
    """The natural logarithm: -inf at 0, no number below it."""
    tiny = b(x < number(2.2250738585072014e-308))
    bits = b(tirx.reinterpret("int64", Select(tiny, x * number(2.0**54), x)))
    k = b(tirx.Cast("float64", tirx.shift_right(bits, tirx.const(52, "int64"))) - number(1023))
    fraction = tirx.bitwise_and(bits, tirx.const((1 << 52) - 1, "int64"))
    m = b(tirx.reinterpret("float64", tirx.bitwise_or(fraction, tirx.const(1023 << 52, "int64"))))
    large = b(m > number(math.sqrt(2)))
    m = b(Select(large, m * number(0.5), m))
    k = b(k + Select(large, number(1), number(0)) - Select(tiny, number(54), number(0)))
    value = b(k * number(_LN2[0]) + (_twice_artanh(b, b((m - number(1)) / (m + number(1)))) + k * number(_LN2[1])))
    value = b(Select(x > number(1.7976931348623157e308), x, value))
    value = b(Select(x <= number(0), number(-math.inf), value))
    return b(Select(x < number(0), number(math.nan), value))


def log1p(b: Block, x: Any) -> Any:
    """log(1 + x), also where that is small."""
    near = _twice_artanh(b, b(x / (number(2) + x)))
    small = b(tirx.all(x < number(0.4), x > number(-0.28)))
    return b(Select(small, near, log(b, b(number(1) + x))))


_SIN = [(-1) ** n / math.factorial(2 * n + 1) for n in range(9, -1, -1)]
_COS = [(-1) ** n / math.factorial(2 * n) for n in range(9, -1, -1)]


def _circle(b: Block, x: Any, turn: int) -> Any:
    """The sine of x, moved by so many quarters of a circle."""
    n = b(_whole(x * number(2 / math.pi)))
    r = b(x - n * number(_HALF_PI[0]) - n * number(_HALF_PI[1]) - n * number(_HALF_PI[2]))
    square = b(r * r)
    sine, cosine = b(r * b.series(_SIN, square)), b.series(_COS, square)
    n = b(n + number(turn))
    quarter = b(n - number(4) * tirx.floor(n * number(0.25)))
    odd = b(tirx.any(tirx.EQ(quarter, number(1)), tirx.EQ(quarter, number(3))))
    value = b(Select(odd, cosine, sine))
    return b(Select(quarter >= number(2), -value, value))


def sin(b: Block, x: Any) -> Any:
    """The sine."""
    return _circle(b, x, 0)


def cos(b: Block, x: Any) -> Any:
    """The cosine."""
    return _circle(b, x, 1)


def tan(b: Block, x: Any) -> Any:
    """The tangent."""
    return b(sin(b, x) / cos(b, x))


_ATAN = [(-1) ** n / (2 * n + 1) for n in range(13, -1, -1)]


def atan(b: Block, x: Any) -> Any:
    """The arc whose tangent is x."""
    size = b(tirx.abs(x))
    far = b(size > number(1))
    t = b(Select(far, number(1) / size, size))
    for _ in range(2):
        t = b(t / (number(1) + tirx.sqrt(number(1) + t * t)))
    value = b(number(4) * t * b.series(_ATAN, b(t * t)))
    return _signed(b, x, Select(far, number(math.pi / 2) - value, value))


def _negative(b: Block, x: Any) -> Any:
    """True where the sign bit is set: of -0.0, too."""
    return b(tirx.reinterpret("int64", x) < tirx.const(0, "int64"))


def _signed(b: Block, x: Any, value: Any) -> Any:
    value = b(value)
    return b(Select(_negative(b, x), -value, value))


def asin(b: Block, x: Any) -> Any:
    """The arc whose sine is x."""
    return b(number(2) * atan(b, b(x / (number(1) + tirx.sqrt((number(1) - x) * (number(1) + x))))))


def acos(b: Block, x: Any) -> Any:
    """The arc whose cosine is x."""
    return b(number(2) * atan(b, b(tirx.sqrt((number(1) - x) / (number(1) + x)))))


def atan2(b: Block, y: Any, x: Any) -> Any:
    """The angle of the point (x, y)."""
    a, c = b(tirx.abs(x)), b(tirx.abs(y))
    flat = b(tirx.all(tirx.EQ(a, number(0)), tirx.EQ(c, number(0))))
    far = b(tirx.all(a > _LARGEST, c > _LARGEST))
    ratio = b(Select(flat, number(0), Select(far, number(1), c / a)))
    value = atan(b, ratio)
    value = b(Select(_negative(b, x), number(math.pi) - value, value))
    return _signed(b, y, value)


def hypot(b: Block, x: Any, y: Any) -> Any:
    """The distance of the point (x, y)."""
    far, near = b(tirx.Max(tirx.abs(x), tirx.abs(y))), b(tirx.Min(tirx.abs(x), tirx.abs(y)))
    ratio = b(near / far)
    value = b(far * tirx.sqrt(number(1) + ratio * ratio))
    return b(Select(tirx.any(tirx.EQ(far, number(0)), far > _LARGEST), far, value))


def sinh(b: Block, x: Any) -> Any:
    """The hyperbolic sine."""
    size = b(tirx.abs(x))
    small, large = expm1(b, size), exp(b, b(size * number(0.5)))
    near = (small + small / (small + number(1))) * number(0.5)
    return _signed(b, x, Select(size > number(22), number(0.5) * large * large, near))


def cosh(b: Block, x: Any) -> Any:
    """The hyperbolic cosine."""
    large = exp(b, b(tirx.abs(x) * number(0.5)))
    square = b(large * large)
    far = number(0.5) * large * large
    return b(Select(tirx.abs(x) > number(22), far, (square + number(1) / square) * number(0.5)))


def tanh(b: Block, x: Any) -> Any:
    """The hyperbolic tangent."""
    t = expm1(b, b(number(2) * tirx.Min(tirx.abs(x), number(30))))
    return _signed(b, x, t / (t + number(2)))


def asinh(b: Block, x: Any) -> Any:
    """The number whose hyperbolic sine is x."""
    size = b(tirx.abs(x))
    near = log1p(b, b(size + size * size / (number(1) + tirx.sqrt(number(1) + size * size))))
    far = log(b, size) + number(math.log(2))
    return _signed(b, x, Select(size > number(1e8), far, near))


def acosh(b: Block, x: Any) -> Any:
    """The number, 0 or more, whose hyperbolic cosine is x."""
    t = b(x - number(1))
    near = log1p(b, b(t + tirx.sqrt(t * (t + number(2)))))
    return b(Select(x > number(1e8), log(b, x) + number(math.log(2)), near))


def atanh(b: Block, x: Any) -> Any:
    """The number whose hyperbolic tangent is x."""
    size = b(tirx.abs(x))
    return _signed(b, x, number(0.5) * log1p(b, b(number(2) * size / (number(1) - size))))


def _erf_terms() -> list[float]:
    """2**n / (1 * 3 * ... * (2 n + 1)), the highest first."""
    terms, value = [], Fraction(1)
    for n in range(64):
        value = value * 2 / (2 * n + 1) if n else Fraction(1)
        terms.append(float(value))
    return terms[::-1]


def erf(b: Block, x: Any) -> Any:
    """The error function."""
    size = b(tirx.Min(tirx.abs(x), number(7)))
    square = b(size * size)
    bell = exp(b, b(-square))
    near = b(number(2 / math.sqrt(math.pi)) * bell * size * b.series(_erf_terms(), square))
    rest: Any = size
    for n in range(40, 0, -1):  # a continued fraction of 1 - erf
        rest = b(size + number(n / 2) / rest)
    far = b(number(1) - bell * number(1 / math.sqrt(math.pi)) / rest)
    return _signed(b, x, Select(size < number(3), near, far))


def power(b: Block, x: Any, y: Any) -> Any:
    """x to the power y. An infinite y is whole and even."""
    size = b(tirx.abs(x))
    value = exp(b, b(y * log(b, size)))
    whole = b(tirx.EQ(tirx.floor(y), y))
    odd = b(tirx.all(whole, tirx.NE(tirx.floor(y * number(0.5)) * number(2), y)))
    value = b(Select(tirx.all(_negative(b, x), odd), -value, value))
    below = b(tirx.all(x < number(0), tirx.Not(whole), tirx.Not(size > _LARGEST)))
    value = b(Select(below, number(math.nan), value))
    # of 1, infinite powers too, which are infinity times 0 above
    one = b(tirx.all(tirx.EQ(size, number(1)), tirx.abs(y) > _LARGEST))
    return b(Select(tirx.any(tirx.EQ(y, number(0)), tirx.EQ(x, number(1)), one), number(1), value))


ONE: dict[str, Callable[[Block, Any], Any]] = {
    f.__name__: f
    for f in (
        exp, exp2, expm1, log, log1p, sin, cos, tan, asin, acos, atan, sinh, cosh, tanh, asinh, acosh, atanh, erf
    )
}  # fmt: skip
"""Functions of one argument by their name in C."""

TWO: dict[str, Callable[[Block, Any, Any], Any]] = {"pow": power, "atan2": atan2, "hypot": hypot}
"""Functions of two arguments."""


def function(name: str, symbol: str) -> Any:
    """One of them as a bare function of its arguments and of a pointer to the result."""
    block = Block()
    made = ONE.get(name) or TWO[name]
    arguments = [Var(letter, PrimType("float64")) for letter in ("x" if name in ONE else "xy")]
    value = made(block, *arguments)
    pointer = Var("result_pointer", PointerType(PrimType("float64")))
    result = tirx.decl_buffer((1,), "float64", name="result", data_alignment=8)
    end = [BufferStore(result, value, [0]), Return(IntImm("int32", 0))]
    body = SeqStmt([DeclBuffer(result, data=pointer), *block.memory, *block.statements, *end])
    plain = PrimFunc([*arguments, pointer], body, ret_type=PrimType("int32"))
    return plain.with_attr({"calling_conv": 1, "global_symbol": symbol, "tirx.noalias": True})
