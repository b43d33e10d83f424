"""Spells panels of int8 as x86 assembly, for AVX-512 and AVX2 with VNNI: a step is an instruction or two.

    for each tile:                                              rcx counts down
        acc[r, v] = 0, or what the block before left            zmm0 ... R V - 1 for row r and vector v: r V + v
        for every live group of four columns:
            x[v] = S[...]                                       the next V registers, from rax
            acc[r, v] += dot(w, x[v])                           w from rsi: with one vector an operand of vpdpbusd, else
                                                                in the next register
        store acc to the scratch, or its codes to Y
The signed factor of vpdpbusd is the one that may be in memory, so weights are read as they are used. Codes of four rows
are put together by three packs, which saturate, and a shuffle of bytes: one store for four sums.

While a tile is computed, a part of what lies behind the panel's own code and weights is asked for, the next panel: it
is in the second-level cache by then where its kernel comes from beyond.

Parameters come as in a packed call of TVM's FFI: rsi points to values of 16 bytes, the payload of each in the upper 8.
"""

from collections.abc import Sequence

from tesa.schedules import dots
from tesa.schedules.cpu.writers.registry import dot_writer
from tesa.schedules.cpu.writers.x86_text import Pointer, Text
from tesa.schedules.dots import GROUP, DotProgram
from tesa.schedules.types import Assembly, Core

_POINTERS = {
    "x": "%rdi", "y": "%r8", "bias": "%r9", "scale": "%r10", "scratch": "%r11", "count": "%rcx",
}  # fmt: skip
_X, _Y, _BIAS, _SCALE, _SCRATCH, _COUNT = _POINTERS.values()
_READ, _WEIGHTS, _AHEAD, _AHEAD_32 = "%rax", "%rsi", "%rdx", "%edx"
_CODE_BYTES = 7  # of a dot product
_LINE = 64
_PACKS = {"uint8": "vpackuswb", "int8": "vpacksswb"}


def _registers(rows: int, vectors: int, core: Core) -> int:
    """Sums, X, and a weight that serves several vectors, or that cannot be an operand."""
    return rows * vectors + vectors + (0 if core.lanes == 16 and vectors == 1 else 1)


@dot_writer("x86", function_dots=4000, object_dots=40_000, effort=1, registers=_registers)
def write(programs: Sequence[DotProgram], core: Core) -> Assembly:
    """The text of one object file, for an assembler that takes GNU's syntax.

    Raises ValueError where registers or the core's instructions do not suffice.
    """
    frame, rows = programs[0].frame, max(one.rows for one in programs)
    if _registers(rows, frame.vectors, core) > core.registers:
        raise ValueError(f"no panel of {rows} rows and {frame.vectors} vectors in {core.registers} registers")
    if core.lanes not in (16, 8) or core.dot is None or core.dot.group != GROUP or not core.dot.adds:
        raise ValueError(f"{core.name}: panels of int8 are written for AVX-512 and AVX2 with VNNI")
    out = Text(core.lanes == 16)
    out.say('.section .rodata,"a",@progbits', ".p2align 6")
    quarters = frame.lanes // GROUP
    if frame.together:
        out.say(".Lorder: .long " + ",".join(str(GROUP * (i % quarters) + i // quarters) for i in range(frame.lanes)))
    else:
        out.say(".Lorder: .byte " + ",".join([str(GROUP * (i % GROUP) + i // GROUP) for i in range(16)] * quarters))
    if frame.codes is not None:
        for name, value in (("low", frame.codes.low), ("high", frame.codes.high)):
            if value is not None:
                out.say(".p2align 6", f".L{name}: .float " + ",".join([repr(value)] * frame.lanes))
    for one in programs:
        _Function(one, out).write()
    out.say('.section .note.GNU-stack,"",@progbits')
    return Assembly(programs[0].name, "\n".join(out.lines) + "\n")


class _Function:
    """Writes one program. Registers: sums, then the vectors of X from x on, then w."""

    def __init__(self, one: DotProgram, out: Text) -> None:
        self.one, self.frame, self.out = one, one.frame, out
        self.x = one.rows * one.frame.vectors
        self.w = self.x + one.frame.vectors
        self.direct = out.wide and one.frame.vectors == 1  # w is an operand in memory
        self.operand = ""  # w
        self.weights = Pointer(_WEIGHTS, 512 if out.wide else 128, out)
        self.read = Pointer(_READ, 128 * 64 if out.wide else 128, out)
        self.data: list[int] = []

    def write(self) -> None:
        """The function, over all its tiles."""
        name, say, frame = self.one.name, self.out.say, self.frame
        say(
            ".text", f".globl __tvm_ffi_{name}", f".type __tvm_ffi_{name},@function", ".p2align 6", f"__tvm_ffi_{name}:"
        )
        say(*(f"movq {16 * i + 8}(%rsi),{_POINTERS[given]}" for i, given in enumerate(frame.parameters)))
        say(f"testq {_COUNT},{_COUNT}", f"jle .L{name}_end")
        if frame.ahead:
            say(f"xorl {_AHEAD_32},{_AHEAD_32}")
        say(".p2align 5", f".L{name}_tile:", f"movq {_X},{_READ}", f"leaq .L{name}_w(%rip),{_WEIGHTS}")
        for step in (*self.one.sums, *self.one.results):
            self._step(step)
        for pointer, size in ((_X, frame.packed), (_Y, frame.out), (_SCRATCH, frame.scratch)):
            if size:
                say(f"addq ${4 * size},{pointer}")
        self._ask()
        say(f"decq {_COUNT}", f"jnz .L{name}_tile")
        say(f".L{name}_end:", "vzeroupper", "xorl %eax,%eax", "ret", f".size __tvm_ffi_{name},.-__tvm_ffi_{name}")
        say('.section .rodata,"a",@progbits', ".p2align 6", f".L{name}_w:")
        for first in range(0, len(self.data), 16):
            say(".long " + ",".join(map(str, self.data[first : first + 16])))

    def _ask(self) -> None:
        """Ask for a part of what lies behind the panel's code and weights, which is about as long as they are."""
        dots_, tiles = sum(type(step) is dots.Dot for step in self.one.sums), self.frame.ahead
        if not tiles:
            return
        say, name = self.out.say, self.one.name
        lines = -(-dots_ * _CODE_BYTES // (_LINE * tiles))
        say(f"leaq .L{name}_end(%rip),{_READ}", f"leaq .L{name}_w+{4 * len(self.data)}(%rip),{_WEIGHTS}")
        for i in range(lines):
            say(f"prefetcht1 {_LINE * i}({_READ},{_AHEAD})")
        for i in range(-(-lines * 4 // _CODE_BYTES)):
            say(f"prefetcht1 {_LINE * i}({_WEIGHTS},{_AHEAD})")
        say(f"addq ${_LINE * lines},{_AHEAD}")

    def _next(self, value: int) -> str:
        """The place of a number that is read now."""
        self.data.append(value)
        return self.weights.to(4 * (len(self.data) - 1))

    def _step(self, step: dots.DotStep | dots.ResultStep) -> None:
        out, say, v = self.out, self.out.say, self.out.v
        match step:
            case dots.Begin(a, value):
                if value:
                    say(f"vpbroadcastd {self._next(value)},{v(a)}")
                else:
                    out.zero(a)
            case dots.LoadSum(a, at):
                say(f"vmovups {4 * at}({_SCRATCH}),{v(a)}")
            case dots.LoadX(vector, at):
                say(f"vmovups {self.read.to(4 * at)},{v(self.x + vector)}")
            case dots.Weights():
                self._weights(step)
            case dots.Dot(a, vector):
                say(f"{'' if out.wide else '{vex} '}vpdpbusd {self.operand},{v(self.x + vector)},{v(a)}")
            case dots.StoreSum(a, at):
                say(f"vmovups {v(a)},{4 * at}({_SCRATCH})")
            case _:
                self._result(step)

    def _weights(self, step: dots.Weights) -> None:
        place = self._next(step.bits)
        self.operand = place + "{1to16}"
        if not self.direct:
            self.operand = self.out.v(self.w)
            self.out.say(f"vpbroadcastd {place},{self.operand}")

    def _result(self, step: dots.ResultStep) -> None:
        """A step between sums and codes: X is not needed any more, and its first register has the scale."""
        say, v, wide = self.out.say, self.out.v, self.out.wide
        match step:
            case dots.Scale(row):
                say(f"vbroadcastss {4 * row}({_SCALE}),{v(self.x)}")
                if not wide:
                    say(f"vbroadcastss {4 * row}({_BIAS}),{v(self.w)}")
            case dots.Real(a, row):
                bias = f"{4 * row}({_BIAS}){{1to16}}" if wide else v(self.w)
                say(f"vcvtdq2ps {v(a)},{v(a)}", f"vfmadd213ps {bias},{v(self.x)},{v(a)}")
            case dots.Within(a, low, _):
                if low is not None:
                    say(f"vmaxps .Llow(%rip),{v(a)},{v(a)}")
                say(f"vminps .Lhigh(%rip),{v(a)},{v(a)}")
            case dots.Nearest(a):
                say(f"vcvtps2dq {v(a)},{v(a)}")
            case dots.StoreCodes(sums, at):
                self._codes([v(a) for a in sums], at)

    def _codes(self, sums: Sequence[str], at: int) -> None:
        assert self.frame.codes is not None  # else nothing stores them
        a, b, c, d = (*sums, *[sums[0]] * (GROUP - len(sums)))  # what is missing may be anything
        say = self.out.say
        say(f"vpackssdw {b},{a},{a}")
        if len(sums) > 2:
            say(f"vpackssdw {d},{c},{c}")
        say(f"{_PACKS[self.frame.codes.dtype]} {c},{a},{a}")
        if self.frame.together:
            say(f"vmovups .Lorder(%rip),{self.out.v(self.x)}", f"vpermd {a},{self.out.v(self.x)},{a}")
        else:
            say(f"vpshufb .Lorder(%rip),{a},{a}")
        say(f"vmovups {a},{4 * at}({_Y})")
