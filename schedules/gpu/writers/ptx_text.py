"""Spelling of PTX: numbers, the head of a module, and the operations of activations."""

import numpy as np

from tesa.schedules.gpu.activations import Operand
from tesa.schedules.gpus import Gpu

VERSIONS = {"sm_75": "7.0", "sm_80": "7.0", "sm_86": "7.1", "sm_89": "7.8", "sm_90": "7.8", "sm_100": "8.6"}
"""The oldest version of PTX that knows an architecture: a driver refuses text that is newer than itself."""


def head(gpu: Gpu) -> list[str]:
    """The lines that a module begins with."""
    return [f".version {VERSIONS.get(gpu.name, '8.6')}", f".target {gpu.name}", ".address_size 64"]


def number(value: float) -> str:
    """A float32, bit by bit.

    >>> number(1.0)
    '0f3F800000'
    """
    return f"0f{int(np.float32(value).view(np.uint32)):08X}"


def pair(value: float, kind: str) -> str:
    """A number of 16 bits twice, as the bits of a register. kind: "float16" or "bfloat16".

    >>> pair(1.0, "float16"), pair(1.0, "bfloat16")
    ('0x3C003C00', '0x3F803F80')
    """
    if kind == "float16":
        bits = int(np.float16(value).view(np.uint16))
    else:
        wide = int(np.float32(value).view(np.uint32))
        bits = (wide + 0x7FFF + (wide >> 16 & 1)) >> 16 & 0xFFFF  # to the nearest, ties to even
    return f"0x{bits << 16 | bits:08X}"


class Registers:
    """Operations on float32 registers as lines of PTX; results are %f0, %f1, ..."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        self.count = 0

    def new(self) -> str:
        """A register that nothing has used."""
        self.count += 1
        return f"%f{self.count - 1}"

    def add(self, a: Operand, b: Operand) -> str:
        return self._made("add.rn.f32", a, b)

    def multiply(self, a: Operand, b: Operand) -> str:
        return self._made("mul.rn.f32", a, b)

    def fma(self, a: Operand, b: Operand, c: Operand) -> str:
        return self._made("fma.rn.f32", a, b, c)

    def exp2(self, a: str) -> str:
        return self._made("ex2.approx.f32", a)

    def reciprocal(self, a: str) -> str:
        return self._made("rcp.approx.f32", a)

    def absolute(self, a: str) -> str:
        return self._made("abs.f32", a)

    def signed(self, a: str, sign: str) -> str:
        return self._made("copysign.f32", sign, a)

    def at_least(self, a: str, low: float) -> str:
        self._lines.append(f"setp.lt.f32 %q, {a}, {number(low)};")
        return self._made("selp.f32", low, a, "%q")

    def at_most(self, a: str, high: float) -> str:
        self._lines.append(f"setp.gt.f32 %q, {a}, {number(high)};")
        return self._made("selp.f32", high, a, "%q")

    def _made(self, operation: str, *operands: Operand) -> str:
        made = self.new()
        said = ", ".join(one if isinstance(one, str) else number(one) for one in operands)
        self._lines.append(f"{operation} {made}, {said};")
        return made
