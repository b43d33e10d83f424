"""Panels of an unrolled kernel as x86 assembly: what panel.py says of one, written down instruction by instruction.

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

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from tesa.schedules.cpu.panel import Panel, Scene
from tesa.schedules.types import Core

INSTRUCTION_SETS = ("avx512", "avx2")

_X, _Y, _BIAS, _RESIDUAL, _PARTIAL = "%rdi", "%r8", "%r9", "%r10", "%r11"
_TILE, _END, _READ, _WEIGHTS = "%rcx", "%rdx", "%rax", "%rsi"
_CONSTANTS = {"six": 6.0, "three": 3.0, "sixth": 1 / 6}

MAX_BYTES = 2**31 - 2**20
"""Of an array: displacements have 32 bits."""


def registers(rows: int, vectors: int, core: Core) -> int:
    """Vector registers that a panel needs: sums, X, a weight, and a mask where the instruction set has none apart."""
    return rows * vectors + vectors + (1 if core.name == "avx512" else 2)


def assemble(s: Scene, panels: Sequence[Panel], core: Core) -> str:
    """The text of one object file, for an assembler that takes GNU's syntax.

    Raises ValueError where registers, displacements or the instruction set do not suffice.
    """
    rows = max(len(panel.weights) for panel in panels)
    if core.name not in INSTRUCTION_SETS or registers(rows, s.vectors, core) > core.registers:
        raise ValueError(
            f"no panel of {rows} rows and {s.vectors} vectors with {core.registers} registers of {core.name}"
        )
    reach = max(s.offsets.values(), default=0) + max(s.grid.reads)
    if 4 * max(reach, int(np.prod(s.problem.y_shape))) > MAX_BYTES:
        raise ValueError(f"X or Y of {s.problem.x_shape} and {s.problem.y_shape} is too large for displacements")
    out = _Text(core.name == "avx512")
    out.say('.section .rodata,"a",@progbits', ".p2align 6")
    out.say(".Ltiles:")
    for read, write in s.grid.places():
        out.say(f".quad {4 * read},{4 * write}")
    for name, value in _CONSTANTS.items():
        out.say(f".L{name}: .long {_bits(value)}")
    out.say(".Lmask: .long " + ",".join("-1" if lane < s.grid.lanes else "0" for lane in range(s.lanes)))
    for panel in panels:
        _function(s, panel, out)
    out.say('.section .note.GNU-stack,"",@progbits')
    return "\n".join(out.lines) + "\n"


@dataclass
class _Text:
    """Lines of assembly. wide: AVX-512, with 512 bits, masks, and scalars from memory as operands."""

    wide: bool
    lines: list[str] = field(default_factory=list)

    def say(self, *lines: str) -> None:
        """Add lines."""
        self.lines += lines

    def v(self, index: int) -> str:
        """A vector register."""
        return f"%zmm{index}" if self.wide else f"%ymm{index}"

    def load(self, place: str, index: int, mask: int | None) -> None:
        """A vector from memory; mask: the register that says which lanes, all for None."""
        if mask is None or self.wide:
            self.say(f"vmovups {place},{self.v(index)}" + ("" if mask is None else "{%k1}{z}"))
        else:
            self.say(f"vmaskmovps {place},{self.v(mask)},{self.v(index)}")

    def store(self, index: int, place: str, mask: int | None) -> None:
        """A vector to memory."""
        if mask is None or self.wide:
            self.say(f"vmovups {self.v(index)},{place}" + ("" if mask is None else "{%k1}"))
        else:
            self.say(f"vmaskmovps {self.v(index)},{self.v(mask)},{place}")

    def zero(self, index: int) -> None:
        """Make a register zero."""
        if index < 16:
            self.say(f"vxorps %xmm{index},%xmm{index},%xmm{index}")
        else:
            self.say(f"vpxord {self.v(index)},{self.v(index)},{self.v(index)}")


@dataclass(frozen=True)
class _Registers:
    """Numbers of vector registers. short_loads, short_stores: of X and Y only some lanes are there."""

    vectors: int
    rows: int
    short_loads: bool
    short_stores: bool

    @property
    def loads(self) -> int | None:
        """Which lanes of X are read."""
        return self.w + 1 if self.short_loads else None

    @property
    def stores(self) -> int | None:
        """Which lanes of Y are there."""
        return self.w + 1 if self.short_stores else None

    @property
    def x(self) -> int:
        """The first of the vectors of X."""
        return self.rows * self.vectors

    @property
    def w(self) -> int:
        """A weight, or whatever the epilogue needs."""
        return self.x + self.vectors


def _function(s: Scene, panel: Panel, out: _Text) -> None:
    """A panel: for all its tiles."""
    name, e = panel.name, s.problem.epilogue
    short = s.grid.lanes < s.lanes
    regs = _Registers(s.vectors, len(panel.weights), short and s.masked and not s.packed, short)
    weights = _weights(panel)
    out.say('.section .rodata,"a",@progbits', ".p2align 6", f".L{name}_w:")
    for first in range(0, len(weights), 16):
        out.say(".long " + ",".join(str(v) for v in weights[first : first + 16]))
    out.say(
        ".text", f".globl __tvm_ffi_{name}", f".type __tvm_ffi_{name},@function", ".p2align 6", f"__tvm_ffi_{name}:"
    )
    given = [_X, _Y, *[_BIAS] * e.bias, *[_RESIDUAL] * e.residual, *[_PARTIAL] * s.scratch, _TILE, _END]
    out.say(*(f"movq {16 * i + 8}(%rsi),{register}" for i, register in enumerate(given)))
    out.say(f"leaq .Ltiles(%rip),{_READ}")
    for bound in (_TILE, _END):
        out.say(f"shlq $4,{bound}", f"addq {_READ},{bound}")
    out.say(f"cmpq {_END},{_TILE}", f"jae .L{name}_end")
    if short and out.wide:
        out.say(f"movl ${(1 << s.grid.lanes) - 1},%eax", "kmovw %eax,%k1")
    elif short:
        out.say(f"vmovups .Lmask(%rip),{out.v(regs.w + 1)}")
    out.say(".p2align 5", f".L{name}_tile:")
    out.say(f"movq {_X},{_READ}" if s.packed else f"movq ({_TILE}),{_READ}")
    if not s.packed:
        out.say(f"addq {_X},{_READ}")
    known = _accumulate(s, panel, regs, out)
    if panel.ends:
        _finish(s, panel, regs, known, out)
    else:
        _keep(s, panel, regs, known, out)
    if s.packed:
        out.say(f"addq ${4 * s.packed},{_X}")
    if s.scratch:
        out.say(f"addq ${4 * s.problem.m * s.vectors * s.lanes},{_PARTIAL}")
    out.say(f"addq $16,{_TILE}", f"cmpq {_END},{_TILE}", f"jb .L{name}_tile")
    out.say(f".L{name}_end:", "vzeroupper", "xorl %eax,%eax", "ret", f".size __tvm_ffi_{name},.-__tvm_ffi_{name}")


def _weights(panel: Panel) -> list[int]:
    """The bits of the weights, in the order of their use."""
    columns = np.ascontiguousarray(panel.weights.T, np.float32)
    return [int(v) for v in columns[columns != 0].view(np.uint32)]


def _bits(value: float) -> int:
    return int(np.float32(value).view(np.uint32))


class _Pointer:
    """A register that moves along with what is read through it, in steps, so that displacements stay in `reach`."""

    def __init__(self, register: str, first: int, reach: int, out: _Text) -> None:
        self.register, self.at, self.reach, self.out = register, first, reach, out

    def to(self, place: int) -> str:
        """The operand for that place, in bytes from where the register was."""
        if self.reach and not -self.reach <= place - self.at < self.reach:
            step = place - self.at + self.reach  # the next places are behind this one
            self.out.say(f"addq ${step},{self.register}")
            self.at += step
        return f"{place - self.at}({self.register})"


def _accumulate(s: Scene, panel: Panel, regs: _Registers, out: _Text) -> set[int]:
    """The sums of a tile; the numbers of those that there are."""
    known: set[int] = set()
    if not panel.begins:
        for a in range(regs.rows * regs.vectors):
            out.say(f"vmovups {_partial(s, panel, a)}({_PARTIAL}),{out.v(a)}")
            known.add(a)
    out.say(f"leaq .L{panel.name}_w(%rip),{_WEIGHTS}")
    # a displacement of one byte counts in operands' sizes with AVX-512, in bytes before it
    weights = _Pointer(_WEIGHTS, 0, 512 if out.wide else 128, out)
    x = _Pointer(_READ, 0, 128 * 64 if out.wide and s.packed else 0, out)
    number = 0
    for i, column in enumerate(panel.columns):
        for v, at in enumerate(s.grid.reads):
            place = 4 * (s.offsets[column] + (v * s.lanes if s.packed else at))
            out.load(x.to(place), regs.x + v, regs.loads)
        for r in np.flatnonzero(panel.weights[:, i]):
            w = weights.to(4 * number)
            number += 1
            if out.wide and regs.vectors == 1:
                operand = f"{w}{{1to16}}"
            else:
                out.say(f"vbroadcastss {w},{out.v(regs.w)}")
                operand = out.v(regs.w)
            for v in range(regs.vectors):
                a = int(r) * regs.vectors + v
                verb = "vfmadd231ps" if a in known else "vmulps"
                known.add(a)
                out.say(f"{verb} {operand},{out.v(regs.x + v)},{out.v(a)}")
    return known


def _partial(s: Scene, panel: Panel, a: int) -> int:
    """Bytes from the tile's partial sums to accumulator a of a panel."""
    return 4 * (panel.first * s.vectors + a) * s.lanes


def _zeros(regs: _Registers, known: set[int], out: _Text) -> None:
    """Sums of rows without a weight."""
    for a in range(regs.rows * regs.vectors):
        if a not in known:
            out.zero(a)


def _keep(s: Scene, panel: Panel, regs: _Registers, known: set[int], out: _Text) -> None:
    """Leave the sums to the next block of columns."""
    _zeros(regs, known, out)
    for a in range(regs.rows * regs.vectors):
        out.say(f"vmovups {out.v(a)},{_partial(s, panel, a)}({_PARTIAL})")


def _finish(s: Scene, panel: Panel, regs: _Registers, known: set[int], out: _Text) -> None:
    """Bias, residual, activation, and the way to Y; a late activation finds what there is in the scratch."""
    e, n, direct = s.problem.epilogue, s.problem.n, out.wide and regs.vectors == 1
    _zeros(regs, known, out)
    out.say(f"movq 8({_TILE}),{_READ}")
    # a bias in a register serves all vectors of a row; its place is free for other things where there is but one
    spare = regs.x + 1 if regs.vectors > 1 else regs.w
    if e.activation and not s.late:
        out.zero(regs.x)
    for r in range(regs.rows):
        bias = f"{4 * (panel.first + r)}({_BIAS})"
        if e.bias and not direct:
            out.say(f"vbroadcastss {bias},{out.v(regs.w)}")
        for v, write in enumerate(s.grid.writes):
            a, place = r * regs.vectors + v, f"{4 * ((panel.first + r) * n + write)}"
            if e.bias:
                out.say(f"vaddps {bias + '{1to16}' if direct else out.v(regs.w)},{out.v(a)},{out.v(a)}")
            if e.residual:
                out.load(f"{place}({_RESIDUAL},{_READ})", spare, regs.stores)
                out.say(f"vaddps {out.v(spare)},{out.v(a)},{out.v(a)}")
            if s.late:
                out.say(f"vmovups {out.v(a)},{_partial(s, panel, a)}({_PARTIAL})")
                continue
            out.say(*_activate(e.activation, out.v(a), out.v(regs.x), out.v(spare)))
            if e.activation == "hardswish":
                out.zero(regs.x)
            out.store(a, f"{place}({_Y},{_READ})", regs.stores)


def _activate(name: str | None, a: str, zero: str, spare: str) -> Iterator[str]:
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
