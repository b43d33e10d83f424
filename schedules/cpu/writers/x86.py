"""Spells panels as x86 assembly, for AVX-512 and for AVX2 with FMA: a step of the program is an instruction or two.

Such code has nothing left to optimize: which register a value is in is known, and the order of instructions hardly
matters to a core that executes them out of order. TVM and LLVM take a millisecond for each instruction of it all the
same, an assembler some microseconds. The kernels are 5 to 25 % faster, too: their code is a third shorter.

    for t in first ... end:                                     rcx ... rdx: places of the tiles, from a table
        acc[r, v] = what the block of columns before left       zmm0 ... R V - 1 for row r and vector v: r V + v
        for every live column:
            x[v] = S[...]                                       the next V registers, from rax
            acc[r, v] += w x[v]                                 w from rsi: with one vector an operand of the FMA, else
                                                                in the next register
        store acc to the scratch, or epilogue(acc) to Y
Weights stand in the order of their use. rsi and rax move along with what they point to where that makes displacements
fit into a byte: an instruction then takes 7 bytes and not 10.

Parameters come as in a packed call of TVM's FFI: rsi points to values of 16 bytes, the payload of each in the upper 8.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from tesa.schedules import steps
from tesa.schedules.cpu.writers.registry import check_reach, check_registers, writer
from tesa.schedules.cpu.writers.x86_text import Pointer, Text
from tesa.schedules.program import Program
from tesa.schedules.types import Assembly, Core

_POINTERS = {
    "x": "%rdi", "y": "%r8", "bias": "%r9", "residual": "%r10", "scratch": "%r11", "first": "%rcx", "end": "%rdx",
}  # fmt: skip
_X, _Y, _BIAS, _RESIDUAL, _SCRATCH, _TILE, _END = _POINTERS.values()
_READ, _WEIGHTS = "%rax", "%rsi"
_CONSTANTS = {"six": 6.0, "three": 3.0, "sixth": 1 / 6}


@writer("x86", function_fmas=3000, object_fmas=40_000, effort=1)
def write(programs: Sequence[Program], core: Core) -> Assembly:
    """The text of one object file, for an assembler that takes GNU's syntax.

    Raises ValueError where registers, displacements or the core's instructions do not suffice.
    """
    frame = programs[0].frame
    check_registers(programs, core)
    if (core.lanes, core.masks) not in ((16, True), (8, False)) or not core.fma:
        raise ValueError(f"{core.name}: panels are written for AVX-512, and for AVX2 with FMA")
    check_reach(frame)
    out = Text(core.lanes == 16)
    out.say('.section .rodata,"a",@progbits', ".p2align 6")
    out.say(".Ltiles:")
    for read, stored in frame.tiles.starts():
        out.say(f".quad {4 * read},{4 * stored}")
    for name, value in _CONSTANTS.items():
        out.say(f".L{name}: .long {_bits(value)}")
    out.say(".Lmask: .long " + ",".join("-1" if lane < frame.tiles.lanes else "0" for lane in range(frame.lanes)))
    for one in programs:
        _Function(one, out).write()
    out.say('.section .note.GNU-stack,"",@progbits')
    return Assembly(programs[0].name, "\n".join(out.lines) + "\n")


class _Function:
    """Writes one program. Registers: sums, then the vectors of X from x on, then w, then a mask."""

    def __init__(self, one: Program, out: Text) -> None:
        frame = one.frame
        self.one, self.frame, self.out = one, frame, out
        self.x = one.rows * frame.vectors
        self.w = self.x + frame.vectors
        # a bias in a register serves all vectors of a row; its place is free for other things where there is but one
        self.spare = self.x + 1 if frame.vectors > 1 else self.w
        self.direct = out.wide and frame.vectors == 1  # w is an operand in memory
        self.operand = ""  # w
        self.loads = self.w + 1 if frame.x_lanes < frame.lanes else None
        self.stores = self.w + 1 if frame.tiles.lanes < frame.lanes else None
        # a displacement of one byte counts in operands' sizes with AVX-512, in bytes before it
        self.weights = Pointer(_WEIGHTS, 512 if out.wide else 128, out)
        self.read = Pointer(_READ, 128 * 64 if out.wide and frame.packed else 0, out)
        self.number = 0  # of the next weight

    def write(self) -> None:
        """The function, over all its tiles."""
        name, say = self.one.name, self.out.say
        self._data()
        say(
            ".text", f".globl __tvm_ffi_{name}", f".type __tvm_ffi_{name},@function", ".p2align 6", f"__tvm_ffi_{name}:"
        )
        self._enter()
        say(".p2align 5", f".L{name}_tile:")
        say(f"movq {_X},{_READ}" if self.frame.packed else f"movq ({_TILE}),{_READ}")
        if not self.frame.packed:
            say(f"addq {_X},{_READ}")
        self._tile()
        if self.frame.packed:
            say(f"addq ${4 * self.frame.packed},{_X}")
        if self.frame.scratch:
            say(f"addq ${4 * self.frame.scratch},{_SCRATCH}")
        say(f"addq $16,{_TILE}", f"cmpq {_END},{_TILE}", f"jb .L{name}_tile")
        say(f".L{name}_end:", "vzeroupper", "xorl %eax,%eax", "ret", f".size __tvm_ffi_{name},.-__tvm_ffi_{name}")

    def _data(self) -> None:
        """The weights, in the order of their use."""
        values = np.array([step.value for step in self.one.sums if type(step) is steps.Weight], np.float32)
        bits = values.view(np.uint32).tolist()
        self.out.say('.section .rodata,"a",@progbits', ".p2align 6", f".L{self.one.name}_w:")
        for first in range(0, len(bits), 16):
            self.out.say(".long " + ",".join(map(str, bits[first : first + 16])))

    def _enter(self) -> None:
        """Parameters into registers; the range of tiles becomes one of the table."""
        say = self.out.say
        say(*(f"movq {16 * i + 8}(%rsi),{_POINTERS[name]}" for i, name in enumerate(self.frame.parameters)))
        say(f"leaq .Ltiles(%rip),{_READ}")
        for bound in (_TILE, _END):
            say(f"shlq $4,{bound}", f"addq {_READ},{bound}")
        say(f"cmpq {_END},{_TILE}", f"jae .L{self.one.name}_end")
        if self.stores is not None:
            if self.out.wide:
                say(f"movl ${(1 << self.frame.tiles.lanes) - 1},%eax", "kmovw %eax,%k1")
            else:
                say(f"vmovups .Lmask(%rip),{self.out.v(self.stores)}")

    def _tile(self) -> None:
        waiting = sum(type(step) is steps.LoadSum for step in self.one.sums)  # they come first
        for step in self.one.sums[:waiting]:
            self._step(step)
        self.out.say(f"leaq .L{self.one.name}_w(%rip),{_WEIGHTS}")
        for step in self.one.sums[waiting:]:
            self._step(step)
        if self.one.ends:
            self.out.say(f"movq 8({_TILE}),{_READ}")
            if self.frame.problem.epilogue.activation and not self.frame.late:
                self.out.zero(self.x)
        for result in self.one.results:
            self._step(result)

    def _step(self, step: steps.SumStep | steps.ResultStep) -> None:
        out, say, v = self.out, self.out.say, self.out.v
        match step:
            case steps.Weight():
                self._broadcast(self.weights.to(4 * self.number))
                self.number += 1
            case steps.MultiplyAdd(a, vector):
                say(f"vfmadd231ps {self.operand},{v(self.x + vector)},{v(a)}")
            case steps.LoadX(vector, at):
                out.load(self.read.to(4 * at), self.x + vector, self.loads)
            case steps.Multiply(a, vector):
                say(f"vmulps {self.operand},{v(self.x + vector)},{v(a)}")
            case steps.Zero(a):
                out.zero(a)
            case steps.LoadSum(a, at):
                say(f"vmovups {4 * at}({_SCRATCH}),{v(a)}")
            case steps.StoreSum(a, at):
                say(f"vmovups {v(a)},{4 * at}({_SCRATCH})")
            case steps.Bias(row):
                self._broadcast(f"{4 * row}({_BIAS})")
            case steps.AddBias(a):
                say(f"vaddps {self.operand},{v(a)},{v(a)}")
            case steps.AddResidual(a, at):
                out.load(f"{4 * at}({_RESIDUAL},{_READ})", self.spare, self.stores)
                say(f"vaddps {v(self.spare)},{v(a)},{v(a)}")
            case steps.Activate(a, name):
                say(*_activation(name, v(a), v(self.x), v(self.spare)))
                if name == "hardswish":
                    out.zero(self.x)
            case steps.Store(a, at):
                out.store(a, f"{4 * at}({_Y},{_READ})", self.stores)

    def _broadcast(self, place: str) -> None:
        self.operand = place + "{1to16}"
        if not self.direct:
            self.operand = self.out.v(self.w)
            self.out.say(f"vbroadcastss {place},{self.operand}")


def _bits(value: float) -> int:
    return int(np.float32(value).view(np.uint32))


def _activation(name: str, a: str, zero: str, spare: str) -> Iterator[str]:
    """A not-a-number goes through: of two operands that do not compare, the instructions answer the last in order.

    zero: a register that is 0, and anything after "hardswish".
    """
    if name == "relu":
        yield f"vmaxps {a},{zero},{a}"
    elif name == "relu6":
        yield f"vmaxps {a},{zero},{a}"
        yield f"vbroadcastss .Lsix(%rip),{spare}"
        yield f"vminps {a},{spare},{a}"
    elif name == "hardswish":  # a min(max(a + 3, 0), 6) / 6
        yield f"vbroadcastss .Lthree(%rip),{spare}"
        yield f"vaddps {spare},{a},{spare}"
        yield f"vmaxps {spare},{zero},{spare}"
        yield f"vbroadcastss .Lsix(%rip),{zero}"
        yield f"vminps {spare},{zero},{spare}"
        yield f"vmulps {spare},{a},{a}"
        yield f"vbroadcastss .Lsixth(%rip),{spare}"
        yield f"vmulps {spare},{a},{a}"
