"""float32 exp, log, erf, tanh and others as plain arithmetic: no call of a C library, so that loops vectorize.

Every function takes a float32 expression and returns one; a loop of kind "vectorized" around it turns all of it into
vector instructions. Not-a-number goes in and comes out; infinities give the limits.
"""

import math
from collections.abc import Sequence
from typing import Any

from tvm import tirx

EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
_ERF_NEAR = (-5.96761703e-4, 4.99119423e-3, -2.67681349e-2, 1.12819925e-1, -3.76125336e-1, 1.28379166e-1)
_ERF_FAR = (-1.06777877e-1, -6.34846687e-1, -1.28717512e-1)
_SHARE_END = 5.515
_SHARE = (
    -0.000255544466, 0.000667677319, -0.000522664341, 0.00070900406, -0.00250802841, 0.00475420756, -0.00691164425,
    0.010324534, -0.0151206767, 0.0204618294, -0.026092235, 0.0320582464, -0.0387274437, 0.0476237163, -0.0640019923,
    0.128202856,
)  # fmt: skip
_TANH_TOP = (
    -2.76076847742355e-16,
    2.00018790482477e-13,
    -8.60467152213735e-11,
    5.12229709037114e-08,
    1.48572235717979e-05,
    6.37261928875436e-04,
    4.89352455891786e-03,
)
_TANH_BOTTOM = (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03)

_LOG = (
    7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1,
    2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
)  # fmt: skip
_ATAN = (8.05374449538e-2, -1.38776856032e-1, 1.99777106478e-1, -3.33329491539e-1)
_SINH = (2.03721912945e-4, 8.33028376239e-3, 1.66667160211e-1)
_LEAST = 1.17549435e-38
"""The least normal number."""


class Steps:
    """Names for values that an expression uses more than once, in the order in which they are computed.

    One flat chain `let a = ..; let b = f(a); result`: a chain inside the value of another one would be analysed again
    at every level, which takes seconds at the depth of erf. The expression of `result` may be used only once.
    """

    def __init__(self) -> None:
        self._chain: list[tuple[Any, Any]] = []

    def __call__(self, value: Any) -> Any:
        """A name for the value."""
        name = tirx.Var("t", value.ty.dtype)
        self._chain.append((name, value))
        return name

    def result(self, value: Any) -> Any:
        """The value with all the names in front of it."""
        for name, step in reversed(self._chain):
            value = tirx.Let(name, step, value)
        return value


def exp(x: Any) -> Any:
    """e to the power x; relative error below 2e-7 where the result is a normal number.

    Cephes' expf: x = i ln 2 + r, a polynomial in r, and 2**i put together out of exponent bits. The power is applied
    in two halves, so that overflow gives infinity and small results go through the subnormal numbers down to 0.
    """
    steps = Steps()
    return steps.result(_exp(steps, steps(clamp(x, -105.0, 89.0))))


def erf(x: Any) -> Any:
    """The error function; absolute error below 1.2e-7.

    Norbert Juffa's erff: an odd polynomial for |x| <= 0.921875, else 1 - exp(polynomial of |x|).
    """
    steps = Steps()
    # 1 - erf(4) is 1.5e-8, less than half a unit in the last place of 1; squares of larger arguments could overflow
    x = steps(clamp(x, -4.0, 4.0))
    square, size = steps(x * x), steps(tirx.abs(x))
    near = steps(horner(_ERF_NEAR, square) * x + x)
    low, high = horner((-1.72853470e-5, 3.83197126e-4), size), horner((-3.88396438e-3, 2.42546219e-2), size)
    power = steps(horner(_ERF_FAR, size, first=low * square + high) * size - size)
    far = steps(f32(1) - _exp(steps, power))
    signed = tirx.Select(x < f32(0), f32(0) - far, far)
    return steps.result(tirx.Select(size > f32(0.921875), signed, near))


def normal_share(x: Any) -> Any:
    """The share of a standard normal distribution below x, (1 + erf(x / sqrt 2)) / 2; absolute error below 2e-7.

    One polynomial of x**2, moved to -1 ... 1, where its coefficients stay small; it is a minimax one by Lawson's
    iteration of least squares, for |x| <= 5.515, behind which the share is 0 or 1 as float32 has it. Half of the
    instructions of 1 + erf(x), none of which waits for an exponential. All coefficients are larger by 1.2e-7 than the
    best ones, so that no rounding leaves anything of a share of 0, which large x would be multiplied by.
    """
    steps = Steps()
    x = steps(clamp(x, -_SHARE_END, _SHARE_END))
    moved = steps(x * x * f32(2 / _SHARE_END**2) - f32(1))
    return steps.result(tirx.Max(f32(0), horner(_SHARE, moved) * x + f32(0.5)))


def tanh(x: Any) -> Any:
    """The hyperbolic tangent; relative error below 4e-7, absolute value at most 1.

    Eigen's rational approximation of degree 13 / 6; from |x| = 9 on the result is 1.
    """
    steps = Steps()
    x = steps(clamp(x, -9.0, 9.0))
    square = steps(x * x)
    ratio = x * (horner(_TANH_TOP, square) / horner(_TANH_BOTTOM, square))
    return steps.result(clamp(ratio, -1.0, 1.0))


def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)); relative error below 4e-7 where the result is a normal number."""
    return f32(1) / (f32(1) + exp(f32(0) - x))


def log(x: Any) -> Any:
    """The natural logarithm; relative error below 2e-7, absolute error below that near 1.

    Cephes' logf: x = 2**e m with m from sqrt(1/2) to sqrt(2), and a polynomial in m - 1.
    """
    steps = Steps()
    x = steps(x)
    tiny = x < f32(_LEAST)
    bits = steps(tirx.reinterpret("int32", tirx.Select(tiny, x * f32(2.0**23), x)))
    twos = steps(tirx.shift_right(bits - tirx.IntImm("int32", 0x3F3504F3), tirx.IntImm("int32", 23)))
    f = steps(tirx.reinterpret("float32", bits - tirx.shift_left(twos, tirx.IntImm("int32", 23))) - f32(1))
    e = steps(tirx.Cast("float32", twos) - tirx.Select(tiny, f32(23), f32(0)))
    square = steps(f * f)
    small = horner(_LOG, f) * f * square + e * f32(-2.12194440e-4) - square * f32(0.5)
    value = f + small + e * f32(0.693359375)
    beyond = tirx.Select(x == f32(0), f32(-math.inf), tirx.Select(x < f32(0), f32(math.nan), x))
    normal = tirx.And(x > f32(0), x < f32(math.inf))
    return steps.result(tirx.Select(normal, value, beyond))


def atan(x: Any) -> Any:
    """The arc tangent; relative error below 3e-7.

    Cephes' atanf: beyond tan(3 pi / 8) by way of -1 / x, beyond tan(pi / 8) of (x - 1) / (x + 1).
    """
    steps = Steps()
    x = steps(x)
    size = steps(tirx.abs(x))
    far, middle = size > f32(2.414213562373095), size > f32(0.4142135623730950)
    above = tirx.Select(far, f32(-1), tirx.Select(middle, size - f32(1), size))
    below = tirx.Select(far, size, tirx.Select(middle, size + f32(1), f32(1)))
    z = steps(above / below)
    square = steps(z * z)
    start = tirx.Select(far, f32(math.pi / 2), tirx.Select(middle, f32(math.pi / 4), f32(0)))
    value = steps(start + (horner(_ATAN, square) * square * z + z))
    return steps.result(tirx.Select(x < f32(0), f32(0) - value, value))


def sinh(x: Any) -> Any:
    """The hyperbolic sine; relative error below 5e-7 where the result is a normal number."""
    steps = Steps()
    x = steps(x)
    square = steps(x * x)
    near = horner(_SINH, square) * square * x + x
    grown = steps(_exp(steps, steps(clamp(tirx.abs(x) * f32(0.5), -105.0, 89.0))))
    far = steps(f32(0.5) * grown * grown - f32(0.5) / grown / grown)
    signed = tirx.Select(x < f32(0), f32(0) - far, far)
    return steps.result(tirx.Select(tirx.abs(x) > f32(1), signed, near))


def cosh(x: Any) -> Any:
    """The hyperbolic cosine; relative error below 5e-7."""
    steps = Steps()
    grown = steps(_exp(steps, steps(clamp(tirx.abs(x) * f32(0.5), -105.0, 89.0))))
    return steps.result(f32(0.5) * grown * grown + f32(0.5) / grown / grown)


def clamp(x: Any, low: float, high: float) -> Any:
    """x limited to low..high. The constants come first, so that a not-a-number (it compares as false) goes through."""
    return tirx.Min(f32(high), tirx.Max(f32(low), x))


def horner(coefficients: Sequence[float], x: Any, first: Any = None) -> Any:
    """The polynomial with these coefficients, the highest power first; first is one more in front of them."""
    value = first
    for c in coefficients:
        value = f32(c) if value is None else value * x + f32(c)
    return value


def f32(value: float) -> Any:
    """A float32 constant."""
    return tirx.FloatImm("float32", value)


def _exp(steps: Steps, x: Any) -> Any:
    """exp for -105 <= x <= 89."""
    i = steps(tirx.floor(x * f32(1.44269504088896341) + f32(0.5)))
    # ln 2 in two parts: i times the first one is exact
    r = steps(x - i * f32(0.693359375) - i * f32(-2.12194440e-4))
    half = steps(tirx.floor(i * f32(0.5)))
    value = horner(EXP, r) * (r * r) + r + f32(1)
    return value * _power(half) * _power(i - half)


def _power(i: Any) -> Any:
    """2**i for a whole number -126 <= i <= 127."""
    bits = tirx.shift_left(tirx.Cast("int32", i) + 127, tirx.IntImm("int32", 23))
    return tirx.reinterpret("float32", bits)
