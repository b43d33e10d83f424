"""The activations in a few operations that each writer spells: on float32 registers of a thread.

exp and 1/x are the instructions that every GPU has for 2**x and 1/x, good to two units in the last place. erf is
7.1.26 of Abramowitz and Stegun, good to 1.5e-7. Not-a-number goes in and comes out.
"""

from typing import Protocol

LOG2E = 1.4426950408889634

Operand = str | float
"""A register, or a number."""


class Operations(Protocol):
    """Instructions of one target; each gives a new register."""

    def add(self, a: Operand, b: Operand) -> str:
        """a + b."""

    def multiply(self, a: Operand, b: Operand) -> str:
        """a * b."""

    def fma(self, a: Operand, b: Operand, c: Operand) -> str:
        """a * b + c."""

    def exp2(self, a: str) -> str:
        """2 to the power a."""

    def reciprocal(self, a: str) -> str:
        """1 / a."""

    def absolute(self, a: str) -> str:
        """|a|."""

    def signed(self, a: str, sign: str) -> str:
        """|a| with the sign of `sign`."""

    def at_least(self, a: str, low: float) -> str:
        """The larger of both; not-a-number stays."""

    def at_most(self, a: str, high: float) -> str:
        """The smaller of both; not-a-number stays."""


def activate(ops: Operations, name: str, x: str) -> str:
    """An activation of types.ACTIVATIONS. ValueError for another one."""
    if name not in _FUNCTIONS:
        raise ValueError(f"no activation {name!r}; there are {', '.join(_FUNCTIONS)}")
    return _FUNCTIONS[name](ops, x)


def _relu(ops: Operations, x: str) -> str:
    return ops.at_least(x, 0.0)


def _relu6(ops: Operations, x: str) -> str:
    return ops.at_most(ops.at_least(x, 0.0), 6.0)


def _hardswish(ops: Operations, x: str) -> str:
    return ops.multiply(x, ops.multiply(_relu6(ops, ops.add(x, 3.0)), 1 / 6))


def _sigmoid(ops: Operations, x: str) -> str:
    return ops.reciprocal(ops.add(ops.exp2(ops.multiply(x, -LOG2E)), 1.0))


def _silu(ops: Operations, x: str) -> str:
    return ops.multiply(x, _sigmoid(ops, x))


def _tanh(ops: Operations, x: str) -> str:
    """1 - 2 / (e**2|x| + 1), with the sign of x."""
    size = ops.exp2(ops.multiply(ops.absolute(x), 2 * LOG2E))
    return ops.signed(ops.fma(ops.reciprocal(ops.add(size, 1.0)), -2.0, 1.0), x)


def _erf(ops: Operations, x: str) -> str:
    size = ops.absolute(x)
    t = ops.reciprocal(ops.fma(size, 0.3275911, 1.0))
    series = ops.fma(t, 1.061405429, -1.453152027)
    for factor in (1.421413741, -0.284496736, 0.254829592):
        series = ops.fma(series, t, factor)
    falling = ops.exp2(ops.multiply(ops.multiply(size, size), -LOG2E))
    return ops.signed(ops.fma(ops.multiply(series, t), ops.multiply(falling, -1.0), 1.0), x)


def _gelu(ops: Operations, x: str) -> str:
    return ops.multiply(ops.multiply(x, 0.5), ops.add(_erf(ops, ops.multiply(x, 0.7071067811865476)), 1.0))


def _gelu_tanh(ops: Operations, x: str) -> str:
    inner = ops.multiply(x, ops.fma(ops.multiply(x, x), 0.035677408136300125, 0.7978845608028654))
    return ops.multiply(ops.multiply(x, 0.5), ops.add(_tanh(ops, inner), 1.0))


_FUNCTIONS = {
    "relu": _relu, "relu6": _relu6, "hardswish": _hardswish, "sigmoid": _sigmoid, "silu": _silu, "tanh": _tanh,
    "gelu": _gelu, "gelu_tanh": _gelu_tanh,
}  # fmt: skip
