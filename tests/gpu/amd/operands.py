"""Operands of AMD's instructions by type, and the builder that takes an instruction to pieces."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.gpu.amd.machine import Group, Step
from tests.gpu.amd.text import Instruction, Kernel, Operand, Registers
from tests.gpu.faults import Fault
from tests.gpu.numbers import from_f16, to_f16

Read = Callable[[Group], Any]
Write = Callable[[Group, Any], None]

DTYPES = {"b32": "u4", "u32": "u4", "i32": "i4", "f32": "f4", "b64": "u8", "u64": "u8", "i64": "i8", "f64": "f8"}
DTYPES |= {"u16": "u2", "i16": "i2", "b16": "u2", "f16": "u2", "u24": "u4", "i24": "i4"}


class Code:
    """An instruction on its way to a step. Modifiers and words are taken; what is left over is unknown."""

    def __init__(self, kernel: Kernel, instruction: Instruction, at: int) -> None:
        self.kernel, self.instruction, self.at = kernel, instruction, at
        self.name = re.sub(r"_(e32|e64|dpp)$", "", instruction.name)
        self.operands = instruction.operands
        self._modifiers = dict(instruction.modifiers)
        self._words = list(instruction.words)

    def fail(self, what: str) -> Fault:
        return Fault(f"{what}  [{self.instruction.line}]")

    def modifier(self, name: str, default: str = "") -> str:
        return self._modifiers.pop(name, default)

    def bits(self, name: str, default: str, count: int) -> list[int]:
        """A modifier like op_sel:[0,1], as so many bits."""
        text = self.modifier(name, default)
        found = [int(b) for b in re.findall(r"\d", text)]
        return (found + [0] * count)[:count]

    def word(self, *names: str) -> str:
        for name in names:
            if name in self._words:
                self._words.remove(name)
                return name
        return ""

    def done(self, operands: int | tuple[int, ...]) -> None:
        """A Fault for modifiers that nobody took, and for another number of operands."""
        left = [*self._words, *(f"{name}:{value}" for name, value in self._modifiers.items())]
        if left:
            raise self.fail(f"unknown modifier {left[0]} of {self.name}")
        if len(self.operands) not in ((operands,) if isinstance(operands, int) else operands):
            raise self.fail(f"{self.name} with {len(self.operands)} operands")

    # Sources

    def number(self, text: str, kind: str) -> Any:
        """A literal or an inline constant as a NumPy number of that kind."""
        if kind == "f16":
            return from_f16(np.array(self._word(text, kind), np.uint16))
        dtype = np.dtype(DTYPES[kind])
        raw = self._word(text, kind)
        if dtype.itemsize == 8:
            if kind == "f64":
                return np.float64(float(text)) if "." in text else np.array(raw, np.uint64).view(np.float64)
            return np.array(raw & (1 << 64) - 1, np.uint64).view(dtype)
        if dtype.itemsize == 2:
            return np.array(raw & 0xFFFF, np.uint16).view(dtype)
        return np.array(raw & 0xFFFFFFFF, np.uint32).view(dtype)

    def _word(self, text: str, kind: str) -> int:
        if re.fullmatch(r"-?(0[xX][0-9a-fA-F]+|\d+)", text):
            return int(text, 0)
        if re.fullmatch(r"-?\d+\.\d+(e[-+]?\d+)?", text):
            if kind in ("f16", "b16"):
                return int(np.array(float(text), np.float16).view(np.uint16))
            return int(np.array(float(text), np.float32).view(np.uint32))
        if (value := self._expression(text)) is not None:
            return value
        raise self.fail(f"unknown operand {text}")

    def _expression(self, text: str) -> int | None:
        """Differences of labels, where an instruction counts as 4 bytes, which only s_getpc_b64 can be held against."""
        labels = self.kernel.labels
        if found := re.fullmatch(r"([\w.$]+)-([\w.$]+)", text):
            if found[1] in labels and found[2] in labels:
                return 4 * (labels[found[1]] - labels[found[2]])
        elif (found := re.fullmatch(r"([\w.$]+)@rel32@(lo\+4|hi\+12)", text)) and found[1] in labels:
            base = self.at if found[2] == "lo+4" else self.at - 1
            value = 4 * (labels[found[1]] - base)
            return value if found[2] == "lo+4" else value >> 32
        return None

    def source(self, at: int | Operand, kind: str) -> Read:
        """Reader of an operand: (waves, lanes) for a vector, (waves, 1) for a scalar, a number for a constant."""
        operand = self.operands[at] if isinstance(at, int) else at
        registers = operand.registers
        if (operand.negated or operand.absolute) and kind not in ("f32", "f16", "f64"):
            raise self.fail(f"a sign of {kind}")
        if registers is None:
            value = self.number(operand.text, kind)
            return lambda group: value
        dtype = np.dtype(DTYPES[kind])
        wanted = 2 if dtype.itemsize == 8 else 1
        if registers.count != wanted:
            raise self.fail(f"{operand.text} where {wanted} registers are taken")
        if operand.half is not None and dtype.itemsize != 2:
            raise self.fail(f"{operand.text} where 32 bits are taken")

        def raw(group: Group) -> NDArray[Any]:
            if registers.file == "s":
                return group.scalar(registers)[:, None]
            low = group.vector(registers.file, registers.first)
            if operand.half:
                return low >> np.uint32(16)
            if wanted == 1:
                return low
            return low | group.vector(registers.file, registers.first + 1).astype(np.uint64) << np.uint64(32)

        def read(group: Group) -> Any:
            bits = raw(group)
            if kind == "f16":
                value = from_f16((bits & np.uint32(0xFFFF)).astype(np.uint16))
            elif dtype.itemsize == 2:
                value = (bits & np.uint32(0xFFFF)).astype(np.uint16).view(dtype)
            else:
                value = np.ascontiguousarray(bits).view(dtype)
            value = np.abs(value) if operand.absolute else value
            return -value if operand.negated else value

        return read

    def target(self, at: int, kind: str) -> Write:
        """Writer of a vector operand from numbers of a kind."""
        registers = self.registers(at, "va")
        dtype = np.dtype(DTYPES[kind])
        if registers.count != (2 if dtype.itemsize == 8 else 1):
            raise self.fail(f"{self.operands[at].text} where another number of registers is written")
        half = self.operands[at].half
        if half is not None and dtype.itemsize != 2:
            raise self.fail(f"{self.operands[at].text} where 32 bits are written")

        def write(group: Group, value: Any) -> None:
            group.written[registers.file][registers.first : registers.first + registers.count] = group.slot
            if kind == "f16":
                value = to_f16(value)
            bits = np.ascontiguousarray(np.asarray(value).astype(dtype))
            if half is not None:
                group.put_half(registers.file, registers.first, half, bits.view(np.uint16))
            elif dtype.itemsize == 8:
                whole = bits.view(np.uint64)
                group.put_vector(registers.file, registers.first, whole & np.uint64(0xFFFFFFFF))
                group.put_vector(registers.file, registers.first + 1, whole >> np.uint64(32))
            else:
                group.put_vector(registers.file, registers.first, bits.view(f"u{dtype.itemsize}"))

        return write

    def registers(self, at: int, files: str) -> Registers:
        """The registers of an operand, of one of these files."""
        found = self.operands[at].registers
        if found is None or found.file not in files:
            raise self.fail(f"{self.operands[at].text} where a register is taken")
        return found

    def half(self, at: int) -> str:
        """The kind of a source of 16 bits: "b16" where a half of a register is named, else all of it, "b32"."""
        return "b32" if self.operands[at].half is None else "b16"

    # Scalars

    def scalar(self, at: int, kind: str) -> Read:
        """Reader of a scalar operand: (waves,) or a number."""
        operand = self.operands[at]
        dtype = np.dtype(DTYPES[kind])
        if operand.registers is None:
            value = self.number(operand.text, kind)
            return lambda group: value
        registers = self.registers(at, "s")
        if registers.count != (2 if dtype.itemsize == 8 else 1):
            raise self.fail(f"{operand.text} has not the bits of {kind}")
        return lambda group: np.ascontiguousarray(group.scalar(registers)).view(dtype)

    def put(self, at: int) -> Write:
        """Writer of a scalar operand of 32 or 64 bits; of null, which drops what is written."""
        if self.operands[at].text == "null":
            return lambda group, value: None
        registers = self.registers(at, "s")

        def write(group: Group, value: Any) -> None:
            array = np.asarray(value)
            wide = array.astype(np.int64).view(np.uint64) if array.dtype.kind == "i" else array.astype(np.uint64)
            group.put_scalar(registers, wide)

        return write


Builder = Callable[[Code], Step]
TABLE: dict[str, Builder] = {}


def instruction(*names: str) -> Callable[[Builder], Builder]:
    """Register the builder of these instructions."""

    def register(builder: Builder) -> Builder:
        for name in names:
            assert name not in TABLE, name
            TABLE[name] = builder
        return builder

    return register


def build(kernel: Kernel, found: Instruction, at: int) -> Step:
    """The step of an instruction. A Fault where it, a modifier or an operand of it is unknown."""
    code = Code(kernel, found, at)
    if code.name not in TABLE:
        raise Fault(f"unknown instruction {found.name}  [{found.line}]")
    step = TABLE[code.name](code)
    if found.second is None:
        return step
    return _both(build(kernel, Instruction(**{**found.__dict__, "second": None}), at), build(kernel, found.second, at))


def _both(first: Step, second: Step) -> Step:
    """Two halves of a dual instruction: both read before either writes."""

    def step(group: Group) -> None:
        writes: list[tuple[Any, ...]] = []
        original = group.put_vector
        group.put_vector = lambda *args: writes.append(args)  # type: ignore[method-assign]
        try:
            first(group)
            second(group)
        finally:
            group.put_vector = original  # type: ignore[method-assign]
        for args in writes:
            original(*args)

    return step
