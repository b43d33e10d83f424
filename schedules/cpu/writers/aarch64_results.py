"""The end of a panel on 64-bit ARM: bias, residual, activation and Y for its sums, in an order without waiting."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tesa.schedules import steps
from tesa.schedules.cpu.writers.aarch64_pointer import LANES, SPARE, Pointer, number
from tesa.schedules.program import Program

_CONSTANTS: dict[str | None, dict[str, str]] = {
    None: {},
    "relu": {"zero": "movi v{}.2d,#0"},
    "relu6": {"zero": "movi v{}.2d,#0", "six": "fmov v{}.4s,#6.0"},
    "hardswish": {"zero": "movi v{}.2d,#0", "six": "fmov v{}.4s,#6.0", "three": "fmov v{}.4s,#3.0", "sixth": ""},
}
_AT_A_TIME = 12
_SIXTH = int(np.float32(1 / 6).view(np.uint32))


@dataclass(frozen=True)
class Results:
    """The vector registers of a panel when its sums are done, and the lines that follow.

    sums: registers of the sums; spare: registers that are free, six at least.
    """

    one: Program
    sums: Sequence[int]
    spare: Sequence[int]
    lines: list[str]

    def bias(self, biases: Pointer) -> None:
        """sums += bias: 1 times an element, so that it needs no broadcast. biases: at the first row's.

        Four rows a load; the last load of several meets rows again rather than what lies behind the bias.
        """
        rows = [step.row for step in self.one.results if type(step) is steps.Bias]
        if not rows:
            return
        ones, *registers = self.spare[:3]
        self.lines.append(f"fmov v{ones}.4s,#1.0")
        if len(rows) < LANES:
            for r in range(len(rows)):
                biases.load([(registers[0], 4 * r)], 1)
                self._add_bias(ones, registers[0], r, [r])
            return
        starts = [min(r, len(rows) - LANES) for r in range(0, len(rows), LANES)]
        for at in range(0, len(starts), 2):
            found = list(zip(registers, starts[at : at + 2], strict=False))
            biases.load([(register, 4 * first) for register, first in found])
            for register, first in found:
                done = (at if register == registers[0] else at + 1) * LANES
                self._add_bias(ones, register, first, range(max(first, done), first + LANES))

    def _add_bias(self, ones: int, register: int, first: int, rows: Sequence[int]) -> None:
        vectors = self.one.frame.vectors
        for r in rows:
            for a in self.sums[r * vectors : (r + 1) * vectors]:
                self.lines.append(f"fmla v{a}.4s,v{ones}.4s,v{register}.s[{r - first}]")

    def finish(self, residual: Pointer, out: Pointer) -> None:
        """Residual, activation and Y, some sums at a time so that no instruction waits for the one before it."""
        lanes = self.one.frame.tiles.lanes
        stores = [4 * step.at for step in self.one.results if type(step) is steps.Store]
        added = [4 * step.at for step in self.one.results if type(step) is steps.AddResidual]
        activation = self.one.frame.problem.epilogue.activation if stores else None
        constants = dict(zip(_CONSTANTS[activation], self.spare, strict=False))
        temporary = self.spare[len(constants) :]
        self.lines.extend(line for name, index in constants.items() for line in _constant(activation, name, index))
        size = len(temporary) if added or activation == "hardswish" else _AT_A_TIME
        for first in range(0, len(self.sums), size):
            sums = self.sums[first : first + size]
            chosen, ahead = added[first : first + size], added[first + size : first + size + 1]
            residual.load(list(zip(temporary, chosen, strict=False)), lanes, *ahead)
            self.lines.extend(f"fadd v{a}.4s,v{a}.4s,v{t}.4s" for a, t, _ in zip(sums, temporary, chosen, strict=False))
            self.lines.extend(_activation(activation, constants, sums, temporary))
            chosen, ahead = stores[first : first + size], stores[first + size : first + size + 1]
            out.store(list(zip(sums, chosen, strict=False)), lanes, *ahead)


def _constant(activation: str | None, name: str, index: int) -> Iterator[str]:
    if name != "sixth":
        yield _CONSTANTS[activation][name].format(index)
        return
    word = "w" + SPARE[1:]
    yield from number(word, _SIXTH)
    yield f"dup v{index}.4s,{word}"


def _activation(
    name: str | None, constants: Mapping[str, int], sums: Sequence[int], temporary: Sequence[int]
) -> Iterator[str]:
    """An activation of some sums, step by step; a not-a-number goes through fmax and fmin."""
    c = {key: f"v{index}.4s" for key, index in constants.items()}
    a, t = [f"v{index}.4s" for index in sums], [f"v{index}.4s" for index in temporary]
    if name == "hardswish":  # a min(max(a + 3, 0), 6) / 6
        both = list(zip(a, t, strict=False))
        yield from (f"fadd {one},{value},{c['three']}" for value, one in both)
        yield from (f"fmax {one},{one},{c['zero']}" for _, one in both)
        yield from (f"fmin {one},{one},{c['six']}" for _, one in both)
        yield from (f"fmul {value},{value},{one}" for value, one in both)
        yield from (f"fmul {value},{value},{c['sixth']}" for value, _ in both)
        return
    if name in ("relu", "relu6"):
        yield from (f"fmax {value},{value},{c['zero']}" for value in a)
    if name == "relu6":
        yield from (f"fmin {value},{value},{c['six']}" for value in a)
