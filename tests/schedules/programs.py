"""The neutral programs of a kernel, and an interpreter that runs one on NumPy arrays: what writers are held against."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

import tesa.schedules.cpu  # noqa: F401  (registers the families and the writers)
from tesa.schedules import steps
from tesa.schedules.cpu.writers.registry import find_writer, forget_writer, writer
from tesa.schedules.cpu.writers.tir import write as write_tir
from tesa.schedules.program import Program
from tesa.schedules.registry import find
from tesa.schedules.types import Config, Core, FloatArray, Problem, Tir
from tests.schedules.reference import activate


@contextmanager
def recorded(core: Core) -> Iterator[list[Program]]:
    """The programs that are written for cores whose writer is "recorded" meanwhile, which packs as the core's does."""
    found: list[Program] = []

    @writer("recorded", function_fmas=3000, object_fmas=40_000, effort=1, packs=find_writer(core).packs)
    def write(programs: Sequence[Program], core: Core) -> Tir:
        found.extend(programs)
        return write_tir(programs, core)

    try:
        yield found
    finally:
        forget_writer("recorded")


def programs_of(problem: Problem, weight: FloatArray, core: Core, config: Config, symbol: str = "s") -> list[Program]:
    """The programs of an unrolled kernel, in the order in which they run."""
    with recorded(core) as found:
        find("unrolled").emit(problem, weight, replace(core, writer="recorded"), config, symbol)
    return found


def interpret(one: Program, arrays: Mapping[str, FloatArray]) -> None:
    """Run a program on all its tiles.

    arrays: flat "x", "y", and "bias", "residual" and "scratch" (tiles x Frame.scratch) where the program has them.
    """
    frame = one.frame
    for number, (x_start, y_start) in enumerate(frame.tiles.starts()):
        starts = {"x": number * frame.packed if frame.packed else x_start, "y": y_start, "residual": y_start}
        tile = _Tile(one, arrays, starts | {"scratch": number * frame.scratch, "source": x_start})
        for step in one.sums:
            tile.run(step)
        tile.x = {}
        for result in one.results:
            tile.run(result)


class _Tile:
    def __init__(self, one: Program, arrays: Mapping[str, FloatArray], starts: Mapping[str, int]) -> None:
        self.frame, self.arrays, self.starts = one.frame, arrays, starts
        self.sums: dict[int, FloatArray] = {}
        self.x: dict[int, FloatArray] = {}
        self.w = np.float32(0)

    def _part(self, name: str, at: int, lanes: int) -> FloatArray:
        start = self.starts[name] + at
        part = self.arrays[name][start : start + lanes]
        assert start >= 0
        assert len(part) == lanes, f"{name}[{start}] is out of bounds"
        return part

    def _load(self, name: str, at: int, lanes: int) -> FloatArray:
        value = np.zeros(self.frame.lanes, np.float32)
        value[:lanes] = self._part(name, at, lanes)
        return value

    def run(self, step: object) -> None:
        lanes, kept = self.frame.lanes, self.frame.tiles.lanes
        match step:
            case steps.LoadX(vector, at):
                self.x[vector] = self._load("x", at, self.frame.x_lanes)
            case steps.LoadSource(vector, at):
                self.x[vector] = self._load("source", at, self.frame.source_lanes)
            case steps.Pack(vector, at):
                self._part("x", at, self.frame.lanes)[:] = self.x[vector]
            case steps.Weight(value):
                self.w = np.float32(value)
            case steps.Multiply(a, vector):
                self.sums[a] = self.w * self.x[vector]
            case steps.MultiplyAdd(a, vector):
                self.sums[a] = self.sums[a] + self.w * self.x[vector]
            case steps.Zero(a):
                self.sums[a] = np.zeros(lanes, np.float32)
            case steps.LoadSum(a, at):
                self.sums[a] = self._load("scratch", at, lanes)
            case steps.StoreSum(a, at):
                self._part("scratch", at, lanes)[:] = self.sums[a]
            case steps.Bias(row):
                self.w = self.arrays["bias"][row]
            case steps.AddBias(a):
                self.sums[a] = self.sums[a] + self.w
            case steps.AddResidual(a, at):
                self.sums[a] = self.sums[a] + self._load("residual", at, kept)
            case steps.Activate(a, name):
                self.sums[a] = activate(self.sums[a].astype(np.float64), name).astype(np.float32)
            case steps.Store(a, at):
                self._part("y", at, kept)[:] = self.sums[a][:kept]
            case _:
                raise AssertionError(f"unknown step {step}")
