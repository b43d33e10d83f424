"""One block of waves that runs a kernel of AMD: scalars are arrays over its waves, vectors over waves x lanes.

What a wave asks of memory is under way until its counter is waited for: registers that are still to come must not be
touched, and writes to LDS count as later than a barrier that they were not waited for before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.gpu.amd.text import Instruction, Kernel, Registers
from tests.gpu.faults import Fault
from tests.gpu.memory import Memory
from tests.gpu.shared import Shared

SCALARS = 128
VCC, M0, EXEC = 106, 124, 126
Mask = NDArray[np.bool_]
Step = Callable[["Group"], None]


@dataclass
class Launch:
    """What all blocks of a launch share. arguments: the address of their block."""

    kernel: Kernel
    steps: list[Step]
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared_bytes: int
    arguments: int
    memory: Memory
    counts: Counter[str]


@dataclass
class Request:
    """What one wave has under way: registers to come, or places of LDS that it writes, or reads."""

    registers: Registers | None = None
    writes: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None
    in_order: bool = True


@dataclass
class Hazard:
    """Registers that an instruction is still busy with: nothing may touch them before `until`, in issued slots."""

    registers: Registers
    until: int
    what: str


_UNSET = {"private_segment_buffer": 4, "dispatch_ptr": 2, "queue_ptr": 2}
"""Scalar registers before those of the arguments, which kernels ask for and that none here reads."""


class Group:
    """The state of a block. mask: (waves,) those that take part; lanes: (waves, lanes) those of them that do."""

    def __init__(self, launch: Launch, index: tuple[int, int, int]) -> None:
        kernel = launch.kernel
        self.launch, self.index, self.kernel = launch, index, kernel
        self.count = int(np.prod(launch.block))
        self.number = index[0] + launch.grid[0] * (index[1] + launch.grid[1] * index[2])
        self.wave = kernel.wave
        self.waves = -(-self.count // self.wave)
        shape = (self.waves, self.wave)
        self.thread = np.arange(self.waves * self.wave).reshape(shape)
        sums = kernel.directives.get("accum_offset", 0)
        vectors = kernel.directives.get("next_free_vgpr", 0)
        self.sizes = {"s": SCALARS, "v": min(sums, vectors) if sums else vectors, "a": max(0, vectors - sums)}
        if kernel.target == "gfx908":
            self.sizes["a"] = vectors
        self.vectors = {f: np.zeros((self.sizes[f], *shape), np.uint32) for f in "va"}
        self.known = {f: np.zeros((self.sizes[f], *shape), bool) for f in "va"}
        self.written = {f: np.full(self.sizes[f], -9) for f in "va"}
        self.coming = {f: np.zeros((self.sizes[f], self.waves), bool) for f in "sva"}
        self.scalars = np.zeros((SCALARS, self.waves), np.uint32)
        self.scalars_known = np.zeros((SCALARS, self.waves), bool)
        self.scc = np.zeros(self.waves, bool)
        self.execute = self.thread < self.count
        self.mask: Mask = np.ones(self.waves, bool)
        self.lanes = self.execute
        self.shared = Shared(
            kernel.directives.get("group_segment_fixed_size", 0) + launch.shared_bytes,
            self.waves * self.wave,
            self.wave,
            lockstep=True,
            grain=_grain(kernel),
        )
        self.loads: list[list[Request]] = [[] for _ in range(self.waves)]
        self.stores: list[list[Request]] = [[] for _ in range(self.waves)]
        self.locals: list[list[Request]] = [[] for _ in range(self.waves)]
        self.hazards: list[Hazard] = []
        self.slot = 0
        self.jump: dict[int, Mask] = {}
        self.ends = self.waits = False
        self.at = 0
        self._set_up()

    def _set_up(self) -> None:
        """The registers that a wave finds set."""
        kernel, at = self.kernel, 0
        if kernel.directives.get("private_segment_fixed_size"):
            raise Fault("the interpreter gives no memory of a thread's own")
        for name, count in _UNSET.items():  # in this order, and nobody has set them
            at += count if kernel.directives.get(f"user_sgpr_{name}") else 0
        if kernel.directives.get("user_sgpr_kernarg_segment_ptr"):
            self.set_scalar(at, self.launch.arguments & 0xFFFFFFFF)
            self.set_scalar(at + 1, self.launch.arguments >> 32)
            at += 2
        at = kernel.directives.get("user_sgpr_count", at)
        for axis, index in zip("xyz", self.index, strict=True):
            if kernel.directives.get(f"system_sgpr_workgroup_id_{axis}", int(axis == "x")):
                self.set_scalar(at, index)
                at += 1
        self.execute_to_scalars()
        x, y, _ = self.launch.block
        t = self.thread.astype(np.uint32)
        ids = [t % x, t // x % y, t // x // y]
        wanted = kernel.directives.get("system_vgpr_workitem_id", 0)
        if kernel.target in ("gfx90a", "gfx942", "gfx1100"):
            self._give(0, ids[0] | ids[1] << np.uint32(10) | ids[2] << np.uint32(20))
        else:
            for i in range(wanted + 1):
                self._give(i, ids[i])

    def _give(self, register: int, values: NDArray[np.uint32]) -> None:
        if register >= self.sizes["v"]:
            raise Fault(f".amdhsa_next_free_vgpr leaves v{register} out")
        self.vectors["v"][register] = values
        self.known["v"][register] = True

    # Scalars

    def set_scalar(self, at: int, value: Any) -> None:
        self.scalars[at][self.mask] = np.broadcast_to(np.asarray(value, np.uint64) & np.uint64(0xFFFFFFFF), self.waves)[
            self.mask
        ]
        self.scalars_known[at] |= self.mask

    def scalar(self, registers: Registers) -> NDArray[Any]:
        """(waves,) values of one or two scalar registers. A Fault where they are not set, or still to come."""
        parts = []
        for at in range(registers.first, registers.first + registers.count):
            if self.coming["s"][at][self.mask].any():
                raise Fault(f"s{at} is used before its load was waited for")
            if not self.scalars_known[at][self.mask].all():
                raise Fault(f"s{at} is read before it is set")
            parts.append(self.scalars[at])
        return parts[0] if len(parts) == 1 else parts[0] | parts[1].astype(np.uint64) << np.uint64(32)

    def put_scalar(self, registers: Registers, value: Any) -> None:
        """Set one or two scalar registers."""
        limit = self.kernel.directives.get("next_free_sgpr", 0)
        for i in range(registers.count):
            at = registers.first + i
            if limit <= at < VCC:
                raise Fault(f".amdhsa_next_free_sgpr leaves s{at} out")
            if self.coming["s"][at][self.mask].any():
                raise Fault(f"s{at} is written while a load to it is under way")
            self.set_scalar(at, np.asarray(value, np.uint64) >> np.uint64(32 * i))
        if registers.first + registers.count - 1 >= EXEC:
            self._scalars_to_execute()

    def execute_to_scalars(self) -> None:
        words = self.to_bits(self.execute)
        self.set_scalar(EXEC, words)
        self.set_scalar(EXEC + 1, words >> np.uint64(32))

    def _scalars_to_execute(self) -> None:
        words = self.scalars[EXEC] | self.scalars[EXEC + 1].astype(np.uint64) << np.uint64(32)
        self.execute = np.where(self.mask[:, None], self.from_bits(words), self.execute)
        self.lanes = self.execute & self.mask[:, None]

    def to_bits(self, lanes: Mask) -> NDArray[np.uint64]:
        """(waves, lanes) -> (waves,) numbers, lane 0 the lowest bit."""
        return (lanes.astype(np.uint64) << np.arange(self.wave, dtype=np.uint64)).sum(1, dtype=np.uint64)

    def from_bits(self, words: Any) -> Mask:
        """The opposite of to_bits."""
        wide = np.broadcast_to(np.asarray(words, np.uint64), self.waves)[:, None]
        return (wide >> np.arange(self.wave, dtype=np.uint64) & np.uint64(1)).astype(bool)

    # Vectors

    def vector(self, file: str, at: int, lanes: Mask | None = None, sums: bool = False) -> NDArray[np.uint32]:
        """(waves, lanes) bits of a vector register. sums: they are read as the sums of a matrix instruction."""
        self._there(file, at)
        if self.coming[file][at][self.mask].any():
            raise Fault(f"{file}{at} is used before its load was waited for")
        if not sums:  # whose registers are looked at as a whole
            self.check_hazard(Registers(file, at, 1), False)
        if not self.known[file][at][self.lanes if lanes is None else lanes].all():
            raise Fault(f"{file}{at} is read before it is set")
        return self.vectors[file][at]

    def put_vector(self, file: str, at: int, bits: Any, lanes: Mask | None = None) -> None:
        """Set a vector register in the lanes that take part."""
        self._there(file, at)
        where = self.lanes if lanes is None else lanes
        if self.coming[file][at][self.mask].any():
            raise Fault(f"{file}{at} is written while a load to it is under way")
        self.check_hazard(Registers(file, at, 1), False)
        np.copyto(self.vectors[file][at], np.asarray(bits).astype(np.uint32), where=where)
        self.known[file][at] |= where

    def put_half(self, file: str, at: int, half: int, bits: Any, comes: bool = False) -> None:
        """Set 16 bits of a vector register; the others stay, and are no number where nobody has set them. comes: by a
        load, which may follow one of the other half."""
        self._there(file, at)
        if not comes and self.coming[file][at][self.mask].any():
            raise Fault(f"{file}{at} is written while a load to it is under way")
        self.check_hazard(Registers(file, at, 1), False)
        old = np.where(self.known[file][at], self.vectors[file][at], np.uint32(0x7E017E01))
        word = (np.asarray(bits).astype(np.uint32) & np.uint32(0xFFFF)) << np.uint32(16 * half)
        keep = np.uint32(0xFFFF) if half else np.uint32(0xFFFF0000)
        np.copyto(self.vectors[file][at], old & keep | word, where=self.lanes)
        self.known[file][at] |= self.lanes

    def _there(self, file: str, at: int) -> None:
        if at >= self.sizes[file]:
            raise Fault(f".amdhsa_next_free_vgpr and .amdhsa_accum_offset leave {file}{at} out")

    def check_hazard(self, registers: Registers, sums: bool) -> None:
        """A Fault where an instruction is still busy with one of these.

        sums: they are those that a matrix instruction adds to, which may follow one that has made the very same ones.
        """
        if not self.hazards:
            return
        self.hazards = [h for h in self.hazards if h.until > self.slot]
        for hazard in self.hazards:
            if hazard.registers.overlap(registers) and not (sums and hazard.registers == registers):
                early = hazard.until - self.slot
                raise Fault(f"{registers} is touched {early} slots too early: {hazard.what}")

    def settled(self, registers: Registers) -> None:
        """A Fault where vector arithmetic wrote one of these less than two slots ago: a matrix would miss it."""
        recent = self.written[registers.file][registers.first : registers.first + registers.count]
        if self.slot - recent.max() < 3:
            raise Fault(f"{registers} was written too late for a matrix instruction, which needs 2 slots between")

    # What is under way

    def ask(self, queue: Sequence[list[Request]], requests: dict[int, Request]) -> None:
        """Waves have sent requests; their registers are to come."""
        for wave, request in requests.items():
            queue[wave].append(request)
            if request.registers is not None:
                r = request.registers
                self.coming[r.file][r.first : r.first + r.count, wave] = True

    def settle(self, queue: Sequence[list[Request]], left: int) -> None:
        """The waves of the mask wait until no more than `left` of their requests are under way."""
        for wave in np.flatnonzero(self.mask).tolist():
            if left and not all(request.in_order for request in queue[wave]):
                raise Fault("loads of scalars come in any order: only a wait for 0 says which are there")
            while len(queue[wave]) > left:
                request = queue[wave].pop(0)
                if request.registers is not None:
                    r = request.registers
                    self.coming[r.file][r.first : r.first + r.count, wave] = False

    def barrier(self, waves: Mask) -> None:
        """All waves have met. Their writes to LDS that they did not wait for come later than that."""
        self.shared.barrier(np.flatnonzero(waves).tolist())
        for wave in np.flatnonzero(waves).tolist():
            for request in self.locals[wave]:
                if request.writes is not None:
                    self.shared.again(*request.writes)

    # Running

    def run(self) -> None:
        """All waves from the first instruction to their ends."""
        fronts: dict[int, Mask] = {0: np.ones(self.waves, bool)}
        waiting: list[tuple[int, Mask]] = []
        code = self.kernel.code
        while fronts or waiting:
            if not fronts:
                raise Fault(f"a barrier that not all waves reach, in block {self.index}")
            at = min(fronts)
            self.mask = fronts.pop(at)
            if at >= len(code):
                raise Fault("the code is run past its end")
            self.lanes = self.execute & self.mask[:, None]
            self._one(at, code[at])
            rest: list[tuple[int, Mask]] = []
            if self.waits:
                waiting.append((at, self.mask))
                if sum(int(mask.sum()) for _, mask in waiting) == self.waves:
                    self.barrier(np.ones(self.waves, bool))
                    rest = [(place + 1, mask) for place, mask in waiting]
                    waiting = []
            elif self.ends:
                if waiting:
                    raise Fault("waves end while others wait for them at a barrier")
            else:
                taken = np.logical_or.reduce([*self.jump.values(), np.zeros(self.waves, bool)])
                rest = [*self.jump.items(), (at + 1, self.mask & ~taken)]
            for place, mask in rest:
                if mask.any():
                    fronts[place] = fronts[place] | mask if place in fronts else mask

    def _one(self, at: int, instruction: Instruction) -> None:
        self.at, self.jump, self.ends, self.waits = at, {}, False, False
        try:
            self.launch.steps[at](self)
        except Fault as fault:
            raise Fault(f"{fault}  [{instruction.line}] in block {self.index}") from None
        self.slot += 1
        self.launch.counts[instruction.name] += int(self.mask.sum())


def _grain(kernel: Kernel) -> int:
    """The bytes of the smallest access to LDS, 4 at most."""
    kinds = [instruction.name.split("_") for instruction in kernel.code if instruction.name.startswith("ds_")]
    sizes = {"u8": 1, "i8": 1, "b8": 1, "u16": 2, "i16": 2, "b16": 2}
    return min([4, *(sizes.get(word, 4) for words in kinds for word in words)])
