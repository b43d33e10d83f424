"""Spells panels as assembly for 64-bit ARM with NEON: a step of the program is an instruction, or half a load.

    for t in first ... end:                                     x7 ... x8: places of the tiles, from a table
        acc[r, v] = what the block of columns before left       R V registers
        for every live column, as order.py has them:
            x[v] = S[...]                                       from x9, a slot of V registers for each of some columns
            acc[r, v] += w x[v]                                 fmla by element: w is a lane of two registers that x10
                                                                fills, four or eight weights at a time
        store acc to the scratch, or epilogue(acc) to Y
Weights stand in the order of their use. Cores that start instructions in order take one register a load, for a load of
two keeps their only load unit for long; others take two. An immediate of a load of one register reaches 64 KiB if it is
a multiple of the register's size, of a load of two 1 KiB; pointers move on where that does not suffice.

Bias: acc += 1 bias[r], by element, so that it needs no broadcast. Lanes that a narrow tile lacks are neither read nor
written: one and two have loads and stores of their own size, three are two and one.

Parameters come as in a packed call of TVM's FFI: x1 points to values of 16 bytes, the payload of each in the upper 8.
Only instructions of ARMv8.0 are used. Registers d8 ... d15 belong to the caller: they are taken last, and saved.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from tesa.schedules import steps
from tesa.schedules.cpu.writers.registry import check_reach, check_registers, writer
from tesa.schedules.order import WEIGHT_REGISTERS, Add, Means, ReadWeights, ReadX, order
from tesa.schedules.program import Program
from tesa.schedules.types import Assembly, Core

_POINTERS = {
    "x": "x2", "y": "x3", "bias": "x4", "residual": "x5", "scratch": "x6", "first": "x7", "end": "x8",
}  # fmt: skip
_X, _Y, _BIAS, _RESIDUAL, _SCRATCH, _TILE, _END = _POINTERS.values()
_READ, _WEIGHTS, _OUT, _ADDED, _SPARE, _PART, _TABLE, _BIASES = (f"x{i}" for i in range(9, 17))

_BY_CHOICE = (*range(8), *range(16, 32), *range(8, 16))
"""Vector registers in the order in which a function takes them."""

_MOST_SLOTS = 8
_SLOT_REGISTERS = 4
_PREFIX = {4: "s", 8: "d", 16: "q"}


def registers(rows: int, vectors: int, core: Core) -> int:
    """Vector registers of a panel: sums, slots for columns of X so that one is read ahead, weights."""
    del core
    return rows * vectors + max(vectors, _SLOT_REGISTERS) + WEIGHT_REGISTERS


@writer("aarch64", function_fmas=3000, object_fmas=40_000, effort=1, registers=registers)
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


class _Pointer:
    """A register that moves along with what is read or written through it where an immediate does not reach.

    dense: what is read lies close together, so that a step serves many pairs. paired: it lies in pairs, for which
    immediates reach backwards too.
    """

    def __init__(self, register: str, lines: list[str], dense: bool = False, paired: bool = False) -> None:
        self.register, self.at, self.lines = register, 0, lines
        self.dense, self.behind = dense, 1024 if paired else 0

    def move(self, step: int) -> None:
        """Add a step to the register, in bytes."""
        self.lines += _added(self.register, step)
        self.at += step

    def one(self, verb: str, index: int, place: int, size: int = 16) -> None:
        """Load ("ld") or store ("st") so many bytes of a vector register at a place."""
        distance, register = place - self.at, f"{_PREFIX[size]}{index}"
        if not _scaled(distance, size) and not _near(distance):
            if distance % size == 0:
                self.move(distance // 4096 * 4096)  # one instruction, and the reach is ahead
            elif abs(distance) < 4096 - 256:
                self.move(distance + 256)
            else:
                self._far(verb, register, distance)
                return
            distance = place - self.at
        form = "r" if _scaled(distance, size) else "ur"
        self.lines.append(f"{verb}{form} {register},[{self.register},#{distance}]")

    def _far(self, verb: str, register: str, distance: int) -> None:
        if not 0 <= distance < 1 << 16:
            self.move(distance // 4096 * 4096)
            distance %= 4096
        self.lines += [f"mov {_SPARE},#{distance}", f"{verb}r {register},[{self.register},{_SPARE}]"]

    def two(self, verb: str, first: int, second: int, place: int) -> None:
        """Load or store two vector registers one behind the other."""
        distance = place - self.at
        if not _paired(distance) and (self.dense or abs(distance) < 4096 - 1024):
            self.move(distance + self.behind)
            distance = place - self.at
        if _paired(distance):
            self.lines.append(f"{verb}p q{first},q{second},[{self.register},#{distance}]")
        else:
            self.one(verb, first, place)
            self.one(verb, second, place + 16)

    def part(self, verb: str, index: int, place: int, lanes: int) -> None:
        """Load or store the first lanes of a vector register and no more."""
        if lanes != 3:
            self.one(verb, index, place, 4 * lanes)
            return
        self.one(verb, index, place, 8)
        self.lines += _added(_SPARE, place + 8 - self.at, self.register)
        self.lines.append(f"{verb}1 {{v{index}.s}}[2],[{_SPARE}]")


def _scaled(distance: int, size: int) -> bool:
    return distance % size == 0 and 0 <= distance <= 4095 * size


def _near(distance: int) -> bool:
    return -256 <= distance <= 255


def _paired(distance: int) -> bool:
    return distance % 16 == 0 and -1024 <= distance <= 1008


def _added(register: str, step: int, source: str = "") -> Iterator[str]:
    """register = source, by default itself, + step."""
    source, size, verb = source or register, abs(step), "add" if step >= 0 else "sub"
    if size >> 24:
        yield f"mov {_SPARE},#{size & 0xFFFF}"
        yield f"movk {_SPARE},#{size >> 16},lsl #16"
        yield f"{verb} {register},{source},{_SPARE}"
        return
    for part, shift in ((size >> 12, ",lsl #12"), (size & 4095, "")):
        if part:
            yield f"{verb} {register},{source},#{part}{shift}"
            source = register
    if not step and register != source:
        yield f"mov {register},{source}"


class _Function:
    """Writes one program. Its vector registers: sums, then slots for X, then weights; the latter two become spare."""

    def __init__(self, one: Program, core: Core, lines: list[str]) -> None:
        frame = one.frame
        self.one, self.frame, self.lines = one, frame, lines
        sums, vectors = one.rows * frame.vectors, frame.vectors
        room = (core.registers - sums - WEIGHT_REGISTERS) // vectors
        slots = min(room, _MOST_SLOTS)
        count = sums + max(slots * vectors, _SLOT_REGISTERS) + WEIGHT_REGISTERS
        taken = _BY_CHOICE[:count]
        self.sums, self.spare = taken[:sums], taken[sums:]
        self.slots, self.weights = self.spare[:-WEIGHT_REGISTERS], self.spare[-WEIGHT_REGISTERS:]
        self.saved = [d for d in range(8, 16, 2) if d in taken or d + 1 in taken]
        self.means = Means(slots, frame.lanes, not core.in_order)
        self.known: set[int] = set()
        self.part = _Pointer(_PART, lines, dense=True, paired=True)

    def say(self, *lines: str) -> None:
        """Add lines."""
        self.lines += lines

    def write(self) -> None:
        """The function, over all its tiles."""
        name, say, frame = self.one.name, self.say, self.frame
        loads, values = order(self.one, self.means)
        self._data(values)
        say(
            ".text", f".globl __tvm_ffi_{name}", f".type __tvm_ffi_{name},%function", ".p2align 6", f"__tvm_ffi_{name}:"
        )
        self._enter()
        say(f".L{name}_tile:", f"ldp {_READ},{_OUT},[{_TILE}],#16")
        say(f"mov {_READ},{_X}" if frame.packed else f"add {_READ},{_READ},{_X}", f"mov {_WEIGHTS},{_TABLE}")
        if any(type(step) in (steps.LoadSum, steps.StoreSum) for step in (*self.one.sums, *self.one.results)):
            say(f"mov {_PART},{_SCRATCH}")
        self._sums(loads)
        self._results()
        if frame.packed:
            say(*_added(_X, 4 * frame.packed))
        if frame.scratch:
            say(*_added(_SCRATCH, 4 * frame.scratch))
        say(f"cmp {_TILE},{_END}", f"b.lo .L{name}_tile", f".L{name}_end:")
        self._leave()

    def _data(self, values: Sequence[float]) -> None:
        """The weights, in the order of their use, up to a whole load."""
        bits = np.array(values, np.float32).view(np.uint32).tolist()
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

    def _leave(self) -> None:
        for i, d in reversed(list(enumerate(self.saved))):
            self.say(f"ldp d{d},d{d + 1},[sp,#{16 * i}]" if i else f"ldp d{d},d{d + 1},[sp],#{16 * len(self.saved)}")
        self.say("mov w0,#0", "ret", f".size __tvm_ffi_{self.one.name},.-__tvm_ffi_{self.one.name}")

    def _sums(self, ordered: Sequence[ReadX | ReadWeights | Add]) -> None:
        """Everything up to the sums."""
        waiting = [step for step in self.one.sums if type(step) is steps.LoadSum]
        self._vectors("ld", self.part, [(self.sums[step.sum], 4 * step.at) for step in waiting])
        self.known = {step.sum for step in waiting}
        read = _Pointer(_READ, self.lines, dense=bool(self.frame.packed))
        weights = _Pointer(_WEIGHTS, self.lines, dense=True, paired=True)
        for step in ordered:
            match step:
                case Add(row, slot, number):
                    self._add(row, slot, number)
                case ReadX(columns):
                    self._read(read, columns)
                case ReadWeights(first, count):
                    at = first // self.frame.lanes % WEIGHT_REGISTERS
                    chosen = self.weights[at : at + count]
                    self._vectors("ld", weights, [(w, 4 * first + 16 * i) for i, w in enumerate(chosen)])
        for one in self.one.sums:
            if type(one) is steps.Zero:
                self.say(f"movi v{self.sums[one.sum]}.2d,#0")

    def _add(self, row: int, slot: int, number: int) -> None:
        vectors, lanes = self.frame.vectors, self.frame.lanes
        w = f"v{self.weights[number // lanes % WEIGHT_REGISTERS]}.s[{number % lanes}]"
        for v in range(vectors):
            a = row * vectors + v
            verb = "fmla" if a in self.known else "fmul"
            self.say(f"{verb} v{self.sums[a]}.4s,v{self.slots[slot * vectors + v]}.4s,{w}")
            self.known.add(a)

    def _read(self, read: _Pointer, columns: Sequence[tuple[int, tuple[int, ...]]]) -> None:
        found = [
            (self.slots[slot * self.frame.vectors + v], 4 * at)
            for slot, places in columns
            for v, at in enumerate(places)
        ]
        self._vectors("ld", read, found, self.frame.x_lanes)

    def _vectors(self, verb: str, pointer: _Pointer, found: Sequence[tuple[int, int]], lanes: int = 4) -> None:
        """Load or store (register, place in bytes), neighbours together where the core likes that."""
        at = 0
        while at < len(found):
            (index, place), after = found[at], found[at + 1 : at + 2]
            if lanes < self.frame.lanes:
                pointer.part(verb, index, place, lanes)
            elif self.means.pairs and after and after[0][1] == place + 16:
                pointer.two(verb, index, after[0][0], place)
                at += 1
            else:
                pointer.one(verb, index, place)
            at += 1

    def _results(self) -> None:
        """The sums into the scratch, or the epilogue and Y."""
        kept = [(self.sums[step.sum], 4 * step.at) for step in self.one.results if type(step) is steps.StoreSum]
        if self.one.ends:
            self._bias()
            self._finish()
        self._vectors("st", self.part, kept)

    def _bias(self) -> None:
        """acc += bias, of four rows a load; the last load of several meets rows again rather than what is behind."""
        rows = [step.row for step in self.one.results if type(step) is steps.Bias]
        if not rows:
            return
        vectors, lanes = self.frame.vectors, self.frame.lanes
        ones, *places = self.spare[:3]
        biases = _Pointer(_BIASES, self.lines)
        self.say(f"fmov v{ones}.4s,#1.0", *_added(_BIASES, 4 * rows[0], _BIAS))
        whole = len(rows) >= lanes
        for number in range(0, len(rows), lanes if whole else 1):
            first, register = min(number, len(rows) - lanes) if whole else number, places[number // lanes % 2]
            biases.one("ld", register, 4 * first, 16 if whole else 4)
            for r in range(number, min(number + lanes, len(rows)) if whole else number + 1):
                for v in range(vectors):
                    a = self.sums[r * vectors + v]
                    self.say(f"fmla v{a}.4s,v{ones}.4s,v{register}.s[{r - first}]")

    def _finish(self) -> None:
        """Residual, activation and Y, some sums at a time so that no instruction waits for the one before it."""
        e, lanes = self.frame.problem.epilogue, self.frame.tiles.lanes
        stores = [step for step in self.one.results if type(step) is steps.Store]
        added = [step for step in self.one.results if type(step) is steps.AddResidual]
        activation = e.activation if stores else None
        constants = dict(zip(_CONSTANTS[activation], self.spare, strict=False))
        temporary = self.spare[len(constants) :]
        self.say(*(line for name, index in constants.items() for line in self._constant(name, index)))
        if e.residual:
            self.say(f"add {_ADDED},{_RESIDUAL},{_OUT}")
        self.say(f"add {_OUT},{_OUT},{_Y}")
        residual, out = _Pointer(_ADDED, self.lines), _Pointer(_OUT, self.lines)
        for first in range(0, len(self.sums), len(temporary)):
            places = [(t, 4 * step.at) for t, step in zip(temporary, added[first:], strict=False)]
            self._vectors("ld", residual, places, lanes)
            sums = self.sums[first : first + len(temporary)]
            self.say(*(f"fadd v{a}.4s,v{a}.4s,v{t}.4s" for a, (t, _) in zip(sums, places, strict=False)))
            self.say(*_activation(activation, constants, sums, temporary))
            chosen = [(self.sums[step.sum], 4 * step.at) for step in stores[first : first + len(temporary)]]
            self._vectors("st", out, chosen, lanes)

    def _constant(self, name: str, index: int) -> Iterator[str]:
        if name == "zero":
            yield f"movi v{index}.2d,#0"
        elif name == "sixth":
            yield f"mov w{_SPARE[1:]},#{_SIXTH & 0xFFFF}"
            yield f"movk w{_SPARE[1:]},#{_SIXTH >> 16},lsl #16"
            yield f"dup v{index}.4s,w{_SPARE[1:]}"
        else:
            yield f"fmov v{index}.4s,#{'6.0' if name == 'six' else '3.0'}"


_CONSTANTS: dict[str | None, tuple[str, ...]] = {
    None: (), "relu": ("zero",), "relu6": ("zero", "six"), "hardswish": ("zero", "six", "three", "sixth"),
}  # fmt: skip
_SIXTH = int(np.float32(1 / 6).view(np.uint32))


def _activation(
    name: str | None, constants: dict[str, int], sums: Sequence[int], temporary: Sequence[int]
) -> Iterator[str]:
    """An activation of some sums, step by step; a not-a-number goes through fmax and fmin."""
    c = {key: f"v{index}.4s" for key, index in constants.items()}
    a, t = [f"v{index}.4s" for index in sums], [f"v{index}.4s" for index in temporary]
    if name == "hardswish":  # a min(max(a + 3, 0), 6) / 6
        pairs = list(zip(a, t, strict=False))
        yield from (f"fadd {one},{value},{c['three']}" for value, one in pairs)
        yield from (f"fmax {one},{one},{c['zero']}" for _, one in pairs)
        yield from (f"fmin {one},{one},{c['six']}" for _, one in pairs)
        yield from (f"fmul {value},{value},{one}" for value, one in pairs)
        yield from (f"fmul {value},{value},{c['sixth']}" for value, _ in pairs)
        return
    if name in ("relu", "relu6"):
        yield from (f"fmax {value},{value},{c['zero']}" for value in a)
    if name == "relu6":
        yield from (f"fmin {value},{value},{c['six']}" for value in a)
