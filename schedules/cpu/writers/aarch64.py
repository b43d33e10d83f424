"""Spells panels as assembly for 64-bit ARM with NEON: a step of the program is an instruction, or half a load.

    for t in first ... end:                                     x7 ... x8: places of the tiles, from a table
        acc[r, v] = what the block of columns before left       R V registers
        for every live column, as order.py has them:
            x[v] = S[...]                                       from x9, a slot of V registers for each of some columns
            acc[r, v] += w x[v]                                 fmla by element: w is a lane of two registers that x10
                                                                fills, four or eight weights at a time
        store acc to the scratch, or epilogue(acc) to Y
Weights stand in the order of their use. Cores that start instructions in order take one register a load, for a load of
two keeps their only load unit for long; others take two, which columns of a packed tile allow. The first panel of a
tile packs it while it reads X itself, which costs half a store for each vector.

Bias: acc += 1 bias[r], by element, so that it needs no broadcast. Lanes that a narrow tile lacks are neither read nor
written: one and two have loads and stores of their own size, three are two and one.

Parameters come as in a packed call of TVM's FFI: x1 points to values of 16 bytes, the payload of each in the upper 8.
Only instructions of ARMv8.0 are used. Registers d8 ... d15 belong to the caller: they are taken last, and saved.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from tesa.schedules import steps
from tesa.schedules.cpu.writers.aarch64_pointer import STRIDE, Pointer, added, number
from tesa.schedules.cpu.writers.aarch64_results import Results
from tesa.schedules.cpu.writers.registry import check_reach, check_registers, writer
from tesa.schedules.order import WEIGHT_REGISTERS, Add, Means, PackX, ReadWeights, ReadX, order
from tesa.schedules.program import Program
from tesa.schedules.types import Assembly, Core

_POINTERS = {
    "x": "x2", "source": "x0", "y": "x3", "bias": "x4", "residual": "x5", "scratch": "x6", "first": "x7", "end": "x8",
}  # fmt: skip
_X, _SOURCE, _Y, _BIAS, _RESIDUAL, _SCRATCH, _TILE, _END = _POINTERS.values()
_READ, _WEIGHTS, _OUT, _ADDED = "x9", "x10", "x11", "x12"
_PART, _TABLE, _PACKED = "x14", "x15", "x17"

_BY_CHOICE = (*range(8), *range(16, 32), *range(8, 16))
"""Vector registers in the order in which a function takes them."""

_MOST_SLOTS = 8
_SLOT_REGISTERS = 4
_FAR = 4096
_AT_ONCE = 3  # operations that a core starts in a cycle: Neoverse N1, by LLVM's model
_PAIRS = 2048


def registers(rows: int, vectors: int, core: Core) -> int:
    """Vector registers of a panel: sums, slots for columns of X so that one is read ahead, weights."""
    del core
    return rows * vectors + max(vectors, _SLOT_REGISTERS) + WEIGHT_REGISTERS


@writer("aarch64", function_fmas=3000, object_fmas=40_000, effort=2, registers=registers, packs=True)
def write(programs: Sequence[Program], core: Core) -> Assembly:
    """The text of one object file, for an assembler that takes GNU's syntax.

    Raises ValueError where registers, or the reach into arrays, do not suffice.
    """
    frame = programs[0].frame
    check_registers(programs, core)
    if core.lanes != 4 or not core.fma:
        raise ValueError(f"{core.name}: panels are written for NEON, whose vectors have 4 lanes")
    check_reach(frame)
    lines = ['.section .rodata,"a",@progbits', ".p2align 6", ".Ltiles:"]
    lines += [f".quad {4 * read},{4 * stored}" for read, stored in frame.tiles.starts()]
    for one in programs:
        _Function(one, core, lines).write()
    lines.append('.section .note.GNU-stack,"",@progbits')
    return Assembly(programs[0].name, "\n".join(lines) + "\n")


class _Function:
    """Writes one program. Its vector registers: sums, then slots for X, then weights; the latter two become spare."""

    def __init__(self, one: Program, core: Core, lines: list[str]) -> None:
        frame = one.frame
        self.one, self.frame, self.lines = one, frame, lines
        sums, vectors = one.rows * frame.vectors, frame.vectors
        slots = min((core.registers - sums - WEIGHT_REGISTERS) // vectors, _MOST_SLOTS)
        taken = _BY_CHOICE[: sums + max(slots * vectors, _SLOT_REGISTERS) + WEIGHT_REGISTERS]
        self.sums, self.spare = taken[:sums], taken[sums:]
        self.slots, self.weights = self.spare[:-WEIGHT_REGISTERS], self.spare[-WEIGHT_REGISTERS:]
        self.saved = [d for d in range(8, 16, 2) if d in taken or d + 1 in taken]
        self.pairs = not core.in_order
        self.loads, self.values = order(one, Means(slots, frame.lanes, self.pairs, _AT_ONCE if self.pairs else 1))
        self.packs = any(type(step) is PackX for step in self.loads)
        self.bias = [step.row for step in one.results if type(step) is steps.Bias][:1]
        # of the weights that immediates reach from there
        self.middle = _PAIRS // 2 if self.pairs and 4 * len(self.values) > _PAIRS // 2 else 0
        self.stride = 4 * frame.problem.n if self.pairs and vectors == 1 else 0

    def say(self, *lines: str) -> None:
        """Add lines."""
        self.lines += lines

    def write(self) -> None:
        """The function, over all its tiles."""
        name, say, frame = self.one.name, self.say, self.frame
        self._data()
        say(
            ".text", f".globl __tvm_ffi_{name}", f".type __tvm_ffi_{name},%function", ".p2align 6", f"__tvm_ffi_{name}:"
        )
        self._enter()
        say(f".L{name}_tile:", f"ldp {_READ},{_OUT},[{_TILE}],#16")
        if self.packs:
            say(f"mov {_PACKED},{_X}", f"add {_READ},{_READ},{_SOURCE}")
        else:
            say(f"mov {_READ},{_X}" if frame.packed else f"add {_READ},{_READ},{_X}")
        part = Pointer(_PART, self.lines, pairs=self.pairs, dense=True, backwards=True)
        if any(type(step) in (steps.LoadSum, steps.StoreSum) for step in (*self.one.sums, *self.one.results)):
            say(f"mov {_PART},{_SCRATCH}")
        self._sums(part)
        self._results(part)
        if frame.packed:
            say(*added(_X, 4 * frame.packed))
        if frame.scratch:
            say(*added(_SCRATCH, 4 * frame.scratch))
        say(f"cmp {_TILE},{_END}", f"b.lo .L{name}_tile", f".L{name}_end:")
        self._leave()

    def _data(self) -> None:
        """The weights, in the order of their use, up to a whole load."""
        bits = np.array(self.values, np.float32).view(np.uint32).tolist()
        bits += [0] * (-len(bits) % (WEIGHT_REGISTERS * self.frame.lanes))
        self.say('.section .rodata,"a",@progbits', ".p2align 6", f".L{self.one.name}_w:")
        for first in range(0, len(bits), 16):
            self.say(".long " + ",".join(map(str, bits[first : first + 16])))

    def _enter(self) -> None:
        """Parameters into registers; the range of tiles becomes one of the table."""
        say, name = self.say, self.one.name
        for i, d in enumerate(self.saved):
            say(f"stp d{d},d{d + 1},[sp,#{16 * i}]" if i else f"stp d{d},d{d + 1},[sp,#-{16 * len(self.saved)}]!")
        say(*(f"ldr {_POINTERS[given]},[x1,#{16 * i + 8}]" for i, given in enumerate(self.frame.parameters)))
        say(f"adrp {_READ},.Ltiles", f"add {_READ},{_READ},:lo12:.Ltiles")
        say(*(f"add {bound},{_READ},{bound},lsl #4" for bound in (_TILE, _END)))
        say(f"cmp {_TILE},{_END}", f"b.hs .L{name}_end")
        say(f"adrp {_TABLE},.L{name}_w", f"add {_TABLE},{_TABLE},:lo12:.L{name}_w")
        say(*added(_TABLE, self.middle))
        if self.bias and self.bias[0]:
            say(*added(_BIAS, 4 * self.bias[0]))
        if self.stride:
            say(*number(STRIDE, self.stride))

    def _leave(self) -> None:
        for i, d in reversed(list(enumerate(self.saved))):
            self.say(f"ldp d{d},d{d + 1},[sp,#{16 * i}]" if i else f"ldp d{d},d{d + 1},[sp],#{16 * len(self.saved)}")
        self.say("mov w0,#0", "ret", f".size __tvm_ffi_{self.one.name},.-__tvm_ffi_{self.one.name}")

    def _sums(self, part: Pointer) -> None:
        """Everything up to the sums."""
        frame, lines, pairs = self.frame, self.lines, self.pairs
        waiting = [step for step in self.one.sums if type(step) is steps.LoadSum]
        part.load([(self.sums[step.sum], 4 * step.at) for step in waiting])
        known = {step.sum for step in waiting}
        lanes = frame.source_lanes if self.packs else frame.x_lanes
        # worth it where immediates reach few rows
        far = frame.problem.pointwise and (self.stride % 16 or self.stride > _FAR)
        dense = bool(frame.packed) and not self.packs
        read = Pointer(_READ, lines, pairs=pairs, dense=dense, stride=self.stride if far else 0)
        packed = Pointer(_PACKED, lines, pairs=True, dense=True, backwards=True)
        weights = self._weights()
        ahead = self._ahead()
        for step in self.loads:
            match step:
                case Add(row, slot, weight):
                    self._add(row, slot, weight, known)
                case ReadX(columns):
                    found = self._of_columns(columns)
                    read.load(found, lanes, ahead.get(found[-1][1], 0))
                case PackX(columns):
                    packed.store(self._of_columns(columns))
                case ReadWeights(first, count):
                    at = first // frame.lanes % WEIGHT_REGISTERS
                    chosen = self.weights[at : at + count]
                    weights.load([(w, 4 * first + 16 * i) for i, w in enumerate(chosen)])
        for one in self.one.sums:
            if type(one) is steps.Zero:
                self.say(f"movi v{self.sums[one.sum]}.2d,#0")

    def _weights(self) -> Pointer:
        """The pointer to the weights, which need not move where immediates reach all of them."""
        register = _TABLE
        if 4 * len(self.values) > (_PAIRS if self.pairs else 1 << 16):
            register = _WEIGHTS
            self.say(f"mov {_WEIGHTS},{_TABLE}")
        return Pointer(register, self.lines, pairs=self.pairs, dense=True, backwards=True, at=self.middle)

    def _ahead(self) -> dict[int, int]:
        """The place in X that is read after another one."""
        places = [4 * at for step in self.loads if type(step) is ReadX for _, read in step.columns for at in read]
        return dict(pairwise(places))

    def _add(self, row: int, slot: int, weight: int, known: set[int]) -> None:
        vectors, lanes = self.frame.vectors, self.frame.lanes
        w = f"v{self.weights[weight // lanes % WEIGHT_REGISTERS]}.s[{weight % lanes}]"
        for v in range(vectors):
            a = row * vectors + v
            verb = "fmla" if a in known else "fmul"
            self.say(f"{verb} v{self.sums[a]}.4s,v{self.slots[slot * vectors + v]}.4s,{w}")
            known.add(a)

    def _of_columns(self, columns: Sequence[tuple[int, tuple[int, ...]]]) -> list[tuple[int, int]]:
        """The register and the place of each vector of columns in slots."""
        vectors = self.frame.vectors
        return [(self.slots[slot * vectors + v], 4 * at) for slot, places in columns for v, at in enumerate(places)]

    def _results(self, part: Pointer) -> None:
        """The sums into the scratch, or the epilogue and Y."""
        if self.one.ends:
            results = Results(self.one, self.sums, self.spare, self.lines)
            results.bias(Pointer(_BIAS, self.lines, pairs=self.pairs))
            if self.frame.problem.epilogue.residual:
                self.say(f"add {_ADDED},{_RESIDUAL},{_OUT}")
            self.say(f"add {_OUT},{_OUT},{_Y}")
            residual, out = (Pointer(r, self.lines, pairs=self.pairs, stride=self.stride) for r in (_ADDED, _OUT))
            results.finish(residual, out)
        kept = [(self.sums[step.sum], 4 * step.at) for step in self.one.results if type(step) is steps.StoreSum]
        part.store(kept)
