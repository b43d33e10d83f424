"""One block of threads that runs a kernel of PTX: registers are arrays over its threads.

Threads that part company form fronts, one for each place in the code. The front that is farthest behind goes first, so
that threads meet again where their ways join.

A register that a thread never set may be computed with, as reductions over a warp do in lanes whose result nobody
takes: what comes of it is as unset as it was. It is a Fault where it would matter: as an address, what is stored, a
guard, or what a barrier, a vote or a matrix unit takes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.gpu.faults import Fault
from tests.gpu.memory import Memory
from tests.gpu.ptx.text import BYTES, Instruction, Kernel, Register
from tests.gpu.shared import Shared

WARP = 32
SHARED_WINDOW = 1 << 24
"""The generic addresses of shared memory begin here; its own begin at 0."""

Mask = NDArray[np.bool_]
Step = Callable[["Block"], None]


@dataclass
class Launch:
    """What all blocks of a launch share. constants: the address of the module's const and global variables."""

    kernel: Kernel
    steps: list[Step]
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared_bytes: int
    parameters: bytes
    memory: Memory
    constants: int
    counts: Counter[str]


@dataclass
class Copy:
    """An asynchronous copy of some threads: (n,) threads, (n, size) places and values, and the group of each."""

    threads: NDArray[np.int64]
    places: NDArray[np.int64]
    values: NDArray[np.uint8]
    group: NDArray[np.int64]


class Block:
    """The state of a block while it runs. mask: the threads that take part in the instruction at hand."""

    def __init__(self, launch: Launch, index: tuple[int, int, int]) -> None:
        self.launch, self.index = launch, index
        x, y, z = launch.block
        self.count = x * y * z
        self.threads = np.arange(self.count)
        self.number = index[0] + launch.grid[0] * (index[1] + launch.grid[1] * index[2])
        self.lane, self.warp = self.threads % WARP, self.threads // WARP
        self.mask: Mask = np.ones(self.count, bool)
        self.full = True
        self.values: list[Any] = [None] * len(launch.kernel.registers)
        self.known: list[Any] = [None] * len(launch.kernel.registers)
        self.travels = False
        self.unset: Mask | None = None
        self.cause = ""
        self._causes: dict[int, str] = {}
        static = -(-launch.kernel.shared // 16) * 16
        self.dynamic = static
        self.shared = Shared(
            static + launch.shared_bytes, self.count, WARP, lockstep=False, grain=_grain(launch.kernel)
        )
        self.copies: list[Copy] = []
        # of units of four warps: what they do, groups of it, sums that they have, sums that were written with no fence
        self.products: list[Any] = []
        self.committed: dict[int, int] = {}
        self.under_way: set[tuple[int, int]] = set()
        self.dirty: dict[int, set[int]] = {}
        self.groups = np.zeros(self.count, np.int64)
        self.special = self._special()
        self.jump: dict[int, Mask] = {}
        self.leaves = False
        self.waits: tuple[int, int, bool] | None = None
        self._waiting: dict[int, list[tuple[int, Mask, bool]]] = {}
        self._needed: dict[int, int] = {}

    def _special(self) -> dict[str, Any]:
        x, y, _ = self.launch.block
        t = self.threads.astype(np.uint32)
        found: dict[str, Any] = {"%tid.x": t % x, "%tid.y": t // x % y, "%tid.z": t // x // y}
        for axis, index, block, grid in zip("xyz", self.index, self.launch.block, self.launch.grid, strict=True):
            found |= {f"%ctaid.{axis}": index, f"%ntid.{axis}": block, f"%nctaid.{axis}": grid}
        found |= {"%laneid": self.lane, "%warpid": self.warp, "%lanemask_lt": (1 << self.lane) - 1, "WARP_SZ": WARP}
        return {name: np.asarray(value, np.uint32) for name, value in found.items()}

    @property
    def active(self) -> NDArray[np.int64]:
        """The threads of the mask."""
        return self.threads if self.full else np.flatnonzero(self.mask)

    def whole_warps(self, what: str) -> None:
        """A Fault where only some threads of a warp are here, for instructions of whole warps."""
        if not self.full:
            here = np.bincount(self.warp[self.mask], minlength=self.warp[-1] + 1)
            all_of = np.bincount(self.warp)
            if ((here > 0) & (here < np.minimum(all_of, WARP))).any():
                raise Fault(f"{what} is reached by part of a warp")

    def get(self, register: Register) -> Any:
        """The raw bits of a register, one for each thread.

        Where one of these threads never set it: a Fault, or, in an instruction that only computes, a note in `unset`.
        """
        if self.under_way:
            self._touch(register)
        known = self.known[register.slot]
        if known is True or (known is not None and known[self.mask].all()):
            return self.values[register.slot]
        cause = self._causes.get(register.slot, register.name)
        if not self.travels:
            raise Fault(f"{cause} is read before it is set")
        self.note(self.mask if known is None else self.mask & ~known, cause)
        values = self.values[register.slot]
        return np.zeros(self.count, f"u{BYTES[register.type]}") if values is None else values

    def note(self, unset: Mask, cause: str) -> None:
        """What the instruction at hand computes has no value in these threads. cause: the register where it began."""
        self.cause = cause
        self.unset = unset if self.unset is None else self.unset | unset

    def put(self, register: Register, bits: Any) -> None:
        """Set a register, in the threads of the mask, to raw bits of its size."""
        slot = register.slot
        if self.under_way:
            self._touch(register)
        if self.launch.kernel.groups:
            for group in np.unique(self.warp[self.mask] // 4).tolist():
                self.dirty.setdefault(group, set()).add(slot)
        if self.full and self.unset is None:
            self.values[slot] = bits if np.shape(bits) else np.full(self.count, bits)
            self.known[slot] = True
            return
        old = self.values[slot]
        self.values[slot] = np.where(self.mask, bits, 0 if old is None else old).astype(np.asarray(bits).dtype)
        if self.unset is not None:
            self._causes[slot] = self.cause
            was = (
                np.full(self.count, bool(self.known[slot]))
                if self.known[slot] is None or self.known[slot] is True
                else self.known[slot]
            )
            self.known[slot] = np.where(self.mask, ~self.unset, was)
        elif self.known[slot] is not True:
            was = self.known[slot]
            self.known[slot] = self.mask.copy() if was is None else was | self.mask

    def _touch(self, register: Register) -> None:
        """A Fault where a matrix unit is still adding to a register."""
        for group in np.unique(self.warp[self.mask] // 4).tolist():
            if (group, register.slot) in self.under_way:
                raise Fault(f"{register.name} is touched while a matrix unit adds to it")

    def run(self) -> None:
        """All threads from the first instruction to their ends."""
        fronts: dict[int, Mask] = {0: np.ones(self.count, bool)}
        code, steps = self.launch.kernel.code, self.launch.steps
        while fronts or self._waiting:
            if not fronts:
                raise Fault(f"a barrier that not all threads reach, in block {self.index}: {self._where()}")
            at = min(fronts)
            here = fronts.pop(at)
            if at >= len(code):
                raise Fault("the code is run past its end")
            instruction = code[at]
            try:
                left = self._one(instruction, steps[at], here, at)
            except Fault as fault:
                raise Fault(f"{fault}  [{instruction.line}] in block {self.index}") from None
            for place, mask in left:
                if place in fronts:
                    fronts[place] = fronts[place] | mask
                else:
                    fronts[place] = mask
        if self.products:
            raise Fault(f"the threads of block {self.index} end while a matrix unit is at work")

    def _one(self, instruction: Instruction, step: Step, here: Mask, at: int) -> list[tuple[int, Mask]]:
        """Run an instruction for a front; where its threads go."""
        self.mask, self.full = here, bool(here.all())
        self.travels, self.unset = False, None
        if instruction.guard is not None:
            chosen = self.get(instruction.guard).astype(bool) ^ instruction.negated
            self.mask = here & chosen
            self.full = bool(self.mask.all())
            if not self.mask.any():
                return [(at + 1, here)]
        self.jump, self.leaves, self.waits = {}, False, None
        step(self)
        name = ".".join(instruction.words)
        self.launch.counts[name] += len(np.unique(self.warp[self.mask])) if not self.full else int(self.warp[-1]) + 1
        if self.waits is not None:
            return self._arrive(here, at)
        if self.leaves:
            left = here & ~self.mask
            self._check_left()
            return [(at + 1, left)] if left.any() else []
        if self.jump:
            rest = here & ~self.mask
            return [*self.jump.items(), *([(at + 1, rest)] if rest.any() else [])]
        return [(at + 1, here)]

    def _arrive(self, here: Mask, at: int) -> list[tuple[int, Mask]]:
        """Threads come to a barrier; all of its threads go on when the last has come."""
        assert self.waits is not None
        number, needed, stays = self.waits
        group = self._waiting.setdefault(number, [])
        group.append((at, self.mask, stays))
        if self._needed.setdefault(number, needed) != needed:
            raise Fault(f"barrier {number} is for {self._needed[number]} threads here and {needed} there")
        rest = here & ~self.mask
        left = [(at + 1, rest)] if rest.any() else []
        if not stays:
            left.append((at + 1, self.mask))
        arrived = sum(int(mask.sum()) for _, mask, _ in group)
        if arrived > needed:
            raise Fault(f"barrier {number}: more than {needed} threads came")
        if arrived == needed:
            del self._waiting[number], self._needed[number]
            self.shared.barrier(np.unique(np.concatenate([self.warp[mask] for _, mask, _ in group])).tolist())
            left += [(place + 1, mask) for place, mask, waits in group if waits]
        return left

    def _check_left(self) -> None:
        """Threads end. What waits for them would wait for ever."""
        if self._waiting:
            needed = max(self._needed.values())
            if needed == self.count:
                raise Fault("threads end while others wait for them at a barrier")

    def _where(self) -> str:
        return "; ".join(
            f"{int(mask.sum())} of {self._needed[number]} threads wait at barrier {number}"
            for number, group in self._waiting.items()
            for _, mask, _ in group
        )


@cache
def _smallest(words: tuple[str, ...]) -> int:
    if words[0] == "ldmatrix":
        return 2
    reaches = words[0] in ("ld", "st", "ldu") and not {"global", "param", "const"} & set(words)
    return BYTES[words[-1]] if reaches else 4


def _grain(kernel: Kernel) -> int:
    """The bytes of the smallest access to shared memory, 4 at most."""
    return min(4, *(_smallest(instruction.words) for instruction in kernel.code))
