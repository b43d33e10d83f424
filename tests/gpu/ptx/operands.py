"""Operands of PTX by type: what an instruction reads becomes an array of numbers, what it writes becomes bits."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.gpu.faults import Fault
from tests.gpu.numbers import from_bf16, from_f16, to_bf16, to_f16
from tests.gpu.ptx.machine import Block
from tests.gpu.ptx.text import BYTES, Instruction, Kernel, Operand, Register

Read = Callable[[Block], Any]
Write = Callable[[Block, Any], None]

BITS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def plain(kind: str) -> np.dtype[Any]:
    """NumPy's type of the same bits: integers and floats that it has."""
    if kind in ("pred", "tf32"):
        return np.dtype(np.uint8 if kind == "pred" else np.uint32)
    family = (
        {"u": "u", "s": "i", "b": "u", "f": "f"}[kind[0]] if kind not in ("f16", "bf16", "bf16x2", "f16x2") else "u"
    )
    return np.dtype(f"{family}{BYTES[kind]}")


class Code:
    """An instruction on its way to a step: its words are taken one by one, and whatever is left over is unknown."""

    def __init__(self, kernel: Kernel, instruction: Instruction) -> None:
        self.kernel, self.instruction = kernel, instruction
        self.name = instruction.words[0]
        self.operands = instruction.operands
        self._words = list(instruction.words[1:])

    def fail(self, what: str) -> Fault:
        return Fault(f"{what}  [{self.instruction.line}]")

    def flag(self, *names: str) -> str:
        """The one of these words that is there, taken; "" for none."""
        for name in names:
            if name in self._words:
                self._words.remove(name)
                return name
        return ""

    def must(self, *names: str) -> str:
        """As flag, but one has to be there."""
        found = self.flag(*names)
        if not found:
            raise self.fail(f"{self.name} without one of {', '.join(names)}")
        return found

    def type(self, allowed: str = "") -> str:
        """The last word, which is a type; one of these, if any are given."""
        if not self._words or self._words[-1] not in BYTES:
            raise self.fail(f"{self.name} without a type")
        kind = self._words.pop()
        if allowed and kind not in allowed.split():
            raise self.fail(f"{self.name} of {kind}")
        return kind

    def rest(self) -> list[str]:
        """The words that nobody took, taken."""
        words, self._words = self._words, []
        return words

    def done(self, operands: int | tuple[int, ...]) -> None:
        """A Fault for words that nobody took, and for another number of operands."""
        if self._words:
            raise self.fail(f"unknown modifier .{self._words[0]} of {self.name}")
        if len(self.operands) not in ((operands,) if isinstance(operands, int) else operands):
            raise self.fail(f"{self.name} with {len(self.operands)} operands")

    def bits(self, at: int | Operand, kind: str, wider: bool = False) -> Read:
        """Reader of an operand as NumPy's plain type of the same bits."""
        operand = self.operands[at] if isinstance(at, int) else at
        dtype = plain(kind)
        if isinstance(operand, Register):
            self._fits(operand, kind, wider)
            register, size = operand, dtype.itemsize
            if BYTES[operand.type] == size:
                return lambda block: block.get(register).view(dtype)
            return lambda block: block.get(register).astype(BITS[size]).view(dtype)
        if isinstance(operand, tuple):
            if len(operand) == 2 and operand[0] == "!":
                inner = self.bits(operand[1], kind)
                return lambda block: 1 - inner(block)
            raise self.fail(f"{operand} is no {kind}")
        return self._literal(operand, kind, dtype)

    def _literal(self, text: str, kind: str, dtype: np.dtype[Any]) -> Read:
        if text.startswith("%") or text == "WARP_SZ":
            name = text
            if name not in ("WARP_SZ", "%laneid", "%warpid", "%lanemask_lt") and not re.fullmatch(
                r"%(tid|ntid|ctaid|nctaid)\.[xyz]", name
            ):
                raise self.fail(f"unknown register {name}")
            if kind not in ("u32", "s32", "b32"):
                raise self.fail(f"{name} is of 32 bits")
            return lambda block: np.broadcast_to(block.special[name], block.count).view(dtype)
        if re.fullmatch(r"0[fF][0-9a-fA-F]{8}", text):
            if kind not in ("f32", "b32"):
                raise self.fail(f"{text} is of 32 bits")
            value = np.array(int(text[2:], 16), np.uint32).view(dtype)
        elif re.fullmatch(r"0[dD][0-9a-fA-F]{16}", text) and kind in ("f64", "b64"):
            value = np.array(int(text[2:], 16), np.uint64).view(dtype)
        elif re.fullmatch(r"-?(0[xX][0-9a-fA-F]+|\d+)U?", text):
            if dtype.kind == "f" or kind in ("f16", "bf16", "f16x2", "bf16x2"):
                raise self.fail(f"the integer {text} as {kind}")
            number = int(text.rstrip("U"), 0)
            if not -(1 << 8 * dtype.itemsize - 1) <= number < 1 << 8 * dtype.itemsize:
                raise self.fail(f"{text} is no {kind}")
            value = np.array(number & ((1 << 8 * dtype.itemsize) - 1), BITS[dtype.itemsize]).view(dtype)
        elif text in self.kernel.variables:
            return self._variable(text, dtype)
        else:
            raise self.fail(f"unknown operand {text}")
        return lambda block: value

    def _variable(self, name: str, dtype: np.dtype[Any]) -> Read:
        space, offset = self.kernel.variables[name]
        if space == "shared":
            return lambda block: np.array(block.dynamic if offset is None else offset, dtype)
        return lambda block: np.array(block.launch.constants + (offset or 0), dtype)

    def _fits(self, register: Register, kind: str, wider: bool) -> None:
        have, want = BYTES[register.type], BYTES[kind]
        if (register.type == "pred") != (kind == "pred"):
            raise self.fail(f"{register.name} is a {register.type}, not a {kind}")
        if have != want and not (wider and have > want):
            raise self.fail(f"{register.name} is a {register.type}, not a {kind}")
        both = {_class(register.type), _class(kind)}
        if not wider and both == {"float", "integer"}:
            raise self.fail(f"{register.name} is a {register.type}, not a {kind}")

    def read(self, at: int | Operand, kind: str, wider: bool = False) -> Read:
        """Reader of an operand as numbers: halves as float64 of (threads,), or (threads, 2) for a pair of them."""
        inner = self.bits(at, kind, wider)
        if kind == "f16":
            return lambda block: from_f16(inner(block))
        if kind == "bf16":
            return lambda block: from_bf16(inner(block)).astype(np.float64)
        if kind in ("f16x2", "bf16x2"):
            decode = from_f16 if kind == "f16x2" else from_bf16
            return lambda block: decode(_halves(inner(block))).astype(np.float64)
        if kind == "tf32":
            return lambda block: inner(block).view(np.float32)
        return inner

    def write(self, at: int | Operand, kind: str, wider: bool = False) -> Write:
        """Writer of an operand from numbers of its type, as `read` gives them."""
        operand = self.operands[at] if isinstance(at, int) else at
        if operand == "_":
            return lambda block, value: None
        if not isinstance(operand, Register):
            raise self.fail(f"{operand} cannot be written")
        self._fits(operand, kind, wider)
        register, dtype, size = operand, plain(kind), BYTES[operand.type]

        def put(block: Block, value: Any) -> None:
            if kind == "f16":
                value = to_f16(value)
            elif kind == "bf16":
                value = to_bf16(value)
            elif kind in ("f16x2", "bf16x2"):
                value = np.ascontiguousarray((to_f16 if kind == "f16x2" else to_bf16)(value)).view(np.uint32)[..., 0]
            elif kind != "tf32":
                value = np.asarray(value).astype(dtype)
            bits = np.ascontiguousarray(value)
            if bits.dtype.itemsize != size:  # ld and cvt extend by the sign of their type
                bits = bits.astype(np.dtype(f"{'i' if dtype.kind == 'i' else 'u'}{size}"))
            block.put(register, bits.view(BITS[size]).reshape(np.shape(value)))

        return put

    def address(self, at: int, space: str) -> Read:
        """Reader of the addresses of an operand in brackets, for each thread, as uint64."""
        operand = self.operands[at]
        if not isinstance(operand, tuple) or operand[0] != "[":
            raise self.fail(f"{operand} is not an address")
        base, offset = operand[1], int(str(operand[2]), 0)
        if isinstance(base, Register) and BYTES[base.type] == 4:
            if space not in ("shared", "param"):
                raise self.fail(f"{base.name}: an address of {space} memory has 64 bits")
            inner = self.bits(base, "u32")
        elif not isinstance(base, Register) and base.startswith("%"):
            raise self.fail(f"unknown register {base}")
        else:
            inner = self.bits(base, "u64")
        step = np.uint64(offset & ((1 << 64) - 1))

        def read(block: Block) -> NDArray[np.uint64]:
            with np.errstate(over="ignore"):
                return np.broadcast_to(np.asarray(inner(block)).astype(np.uint64) + step, block.count)

        return read


def _class(kind: str) -> str:
    return {"f": "float", "u": "integer", "s": "integer", "b": "bits", "p": "pred", "t": "bits"}[
        "f" if kind.startswith("bf") else kind[0]
    ]


def _halves(bits: Any) -> NDArray[np.uint16]:
    wide = np.ascontiguousarray(bits)
    return wide.view(np.uint16).reshape(*wide.shape, 2) if wide.shape else wide.reshape(1).view(np.uint16)
