"""Slices of rows that share their columns, in the permuted family: bytes of X are gathered once for all lanes.

Before, as in permuted_last.py:
    for every step of the slice:
        for q:  acc[q] += dot(permute(X[q][base .. base + window], place), w)        2 instructions
After:
    for every window of the slice:
        place, target = which bytes of the window are wanted, and where they go
        for q:  G[q][target ...] = permute(X[q][base .. base + 63], place)           2 instructions
    for every four columns of the slice:
        w = the next 4 L codes
        for q:  acc[q] += dot(G[q][the next four bytes] in all lanes, w)             1 instruction and a load
A window is permuted once, however many of its columns are live, and a step costs what a dense one does: vectors are
permuted by one of the two units that multiply bytes, or as slowly as they multiply. What a store leaves behind the
bytes of its window, the next one overwrites; behind the last one it meets codes of 0.

Registers: Q sums, the codes, four bytes in all lanes; a window's places.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx
from tvm.tirx.script import builder as T

from tesa.schedules.cpu import cost
from tesa.schedules.cpu.epilogue import Names
from tesa.schedules.cpu.gathering import LINE, Gathering
from tesa.schedules.cpu.loops import named, span
from tesa.schedules.cpu.narrow import prefetch
from tesa.schedules.cpu.nest import Builder
from tesa.schedules.cpu.permuted_steps import SharedSteps
from tesa.schedules.cpu.windows import GROUP
from tesa.schedules.types import FloatArray, Problem

_AHEAD = 2048  # bytes from the codes that are read to those that are asked for
_GATHERED = 1.6  # cycles of a window and a column: a load, a permutation and a store, which may lie in two cache lines
_LEAST = 0.6  # share of the codes of a slice's columns that are not zero, below which lanes of their own are better


@dataclass(frozen=True)
class Shared:
    """Writes the sums of a slice. All but way, stored and pitch are constants: see SharedSteps. pitch: bytes from a
    column of the buffer to the next."""

    way: Gathering
    stored: int
    pitch: int
    codes: int
    starts: int
    places: int
    bases: int
    targets: int
    windows: int

    @staticmethod
    def of(builder: Builder, way: Gathering, steps: SharedSteps) -> "Shared":
        """Adds the constants."""
        return Shared(
            way,
            steps.stored,
            (-(-steps.longest // LINE) | 1) * LINE,
            builder.constant(steps.codes.reshape(-1)),
            builder.constant(steps.starts),
            builder.constant(steps.places.view(np.int8).reshape(-1)),
            builder.constant(steps.bases),
            builder.constant(steps.targets),
            builder.constant(steps.windows),
        )

    def buffer(self, columns: int) -> Any:
        """The buffer of a tile's gathered bytes."""
        return named("near", T.alloc_buffer((columns * self.pitch,), "uint8", align=64))

    def gather(self, names: Names, near: Any, source: Any, start: Any, offsets: tuple[int, ...], number: Any) -> None:
        """Put the bytes of a slice together. start: of the tile's first column in the source; offsets: of all."""
        windows = names.constants[self.windows]
        with span("window", windows[number], windows[number + 1]) as window:
            (where,) = self.way.places(T.Bind(names.constants[self.places][T.ramp(window * LINE, 1, LINE)]))
            base = T.Bind(start + names.constants[self.bases][window])
            target = T.Bind(names.constants[self.targets][window])
            for q, offset in enumerate(offsets):
                found = self.way.found(self.way.seen(source, base + offset), (where,))
                if self.stored < LINE:
                    found = T.Shuffle([found], list(range(self.stored)))
                value = tirx.reinterpret(f"uint8x{self.stored}", found)
                T.buffer_store(near, value, [T.ramp(target + q * self.pitch, 1, self.stored)])

    def add(self, names: Names, near: Any, acc: Any, columns: int, number: Any) -> None:
        """acc[q] += the products of a slice."""
        starts, lanes = names.constants[self.starts], self.way.core.lanes
        first, lane = T.Bind(starts[number]), T.ramp(0, 1, lanes)
        with span("step", 0, starts[number + 1] - first) as step:
            at = (first + step) * (GROUP * lanes)
            prefetch(names.constants[self.codes], at + _AHEAD)
            w = T.Bind(names.constants[self.codes][T.ramp(at, 1, GROUP * lanes)])
            for q in range(columns):
                four = tirx.reinterpret("int32", near[T.ramp(q * self.pitch + step * GROUP, 1, GROUP)])
                found = tirx.reinterpret(f"int8x{GROUP * lanes}", tirx.Broadcast(four, lanes))
                T.buffer_store(acc, self.way.plus(acc[q, lane], found, w), [q, lane])


def shares(way: Gathering, weight: FloatArray) -> bool:
    """True where the rows of a slice have most of their weights in the same columns, as far as some slices tell."""
    if not way.reorders or len(weight) < way.width:
        return False
    slices = weight[: len(weight) // way.width * way.width].reshape(-1, way.width, weight.shape[1])
    some = slices[np.unique(np.linspace(0, len(slices) - 1, 4).astype(np.int64))]
    return bool(np.count_nonzero(some) > _LEAST * way.width * np.count_nonzero(some.any(axis=1)))


def shared_cycles(problem: Problem, way: Gathering, columns: int, steps: float, windows: float) -> float:
    """Cycles of so many steps and windows with a tile of columns."""
    read = GROUP * way.width / cost.weight_rate(problem, way.core)
    return steps * (cost.together(columns / way.core.rates.fmas, read) + 2.0) + windows * (columns * _GATHERED + 4.0)
