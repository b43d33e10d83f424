"""Panels as functions of TVM, for any GPU: what the writers of text are held against.

A function for each panel, on the same grid of blocks and threads. The steps say what each thread does for its own
columns, so that a thread's stage is an array of its own here; only the exchange of sums is shared. The code between two
meetings of a block is written for one group of threads after the other, and the meeting once for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from tesa.schedules.cpu.loops import flat, function, parameter
from tesa.schedules.gpu import steps
from tesa.schedules.gpu.arrays import barrier, keep, local, shared
from tesa.schedules.gpu.ending import activate
from tesa.schedules.gpu.program import SLOTS, Grid, Panel
from tesa.schedules.gpus import GpuTir


def write(entry: str, grid: Grid, panels: Sequence[Panel]) -> GpuTir:
    """A function ENTRY_p0, ENTRY_p1, ... for each panel, of the arrays that `arguments` names, X to Y."""
    made = tuple((f"{entry}_p{i}", _function(f"{entry}_p{i}", grid, panel)) for i, panel in enumerate(panels))
    return GpuTir(entry, made)


def _function(symbol: str, grid: Grid, panel: Panel) -> Any:
    problem, e = grid.problem, grid.problem.epilogue
    shapes = {"x": problem.x_shape, **({"bias": (problem.m,)} if e.bias else {})}
    shapes |= {**({"residual": problem.y_shape} if e.residual else {}), "y": problem.y_shape}
    with function(symbol) as builder:
        shaped = {name: parameter(name, shape) for name, shape in shapes.items()}
        arrays = {name: flat(buffer) for name, buffer in shaped.items()}
        with (
            T.launch_thread("blockIdx.x", grid.across) as block,
            T.launch_thread("threadIdx.y", grid.groups) as group,
            T.launch_thread("threadIdx.x", grid.threads) as thread,
        ):
            columns = [_column(grid, c, block, thread) for c in range(grid.columns)]
            spelling = _Spelling(grid, panel, arrays, columns, thread)
            parts = [_between(program) for program in panel.programs]
            for turn in range(len(parts[0])):
                if turn:
                    barrier()
                for number, part in enumerate(parts):
                    if grid.groups == 1:
                        spelling.all(part[turn])
                    elif part[turn]:
                        with T.If(group == number), T.Then():
                            spelling.all(part[turn])
    return builder.get()


def _between(program: Sequence[steps.Step]) -> list[list[steps.Step]]:
    """The steps between meetings of the block."""
    found: list[list[steps.Step]] = [[]]
    for step in program:
        if isinstance(step, steps.Meet):
            found.append([])
        else:
            found[-1].append(step)
    return found


@dataclass(frozen=True)
class _Column:
    """A column of a thread: where it begins in X and in Y, and whether it is one; top, left: of its window."""

    x: Any
    y: Any
    there: Any
    top: Any = 0
    left: Any = 0


def _column(grid: Grid, c: int, block: Any, thread: Any) -> _Column:
    view, problem = grid.view, grid.problem
    number = keep(f"number{c}", block * (grid.threads * grid.columns) + thread + grid.threads * c)
    known = keep(f"known{c}", T.min(number, view.columns - 1))
    item = keep(f"item{c}", tirx.truncdiv(known, T.int32(view.n)))
    p = keep(f"p{c}", known - item * view.n)
    y, border = keep(f"y{c}", item * (problem.m * view.n) + p), view.border
    if border is None:
        return _Column(keep(f"x{c}", item * view.item + p), y, number < view.columns)
    row = tirx.truncdiv(p, T.int32(border.out_width))
    top = keep(f"top{c}", row * border.stride[0] - border.padding[0])
    left = keep(f"left{c}", (p - row * border.out_width) * border.stride[1] - border.padding[1])
    return _Column(keep(f"x{c}", item * view.item + top * border.width + left), y, number < view.columns, top, left)


@dataclass
class _Spelling:
    """The statements of steps. Each kind has a method; sums, elements and values stay in arrays of the thread."""

    grid: Grid
    panel: Panel
    arrays: dict[str, Any]
    columns: list[_Column]
    thread: Any
    x: Any = field(init=False)
    stage: Any = field(init=False)
    sums: Any = field(init=False)
    values: Any = field(init=False)
    exchange: Any = field(init=False)

    def __post_init__(self) -> None:
        grid, kind = self.grid, "float16" if self.grid.pairs == "float16" else "float32"
        if grid.pairs not in ("", "float16"):
            raise ValueError(f"no functions of TVM for pairs of {grid.pairs}")
        count = self.grid.columns
        self.x, self.sums = local("x", SLOTS * count, kind), local("sums", self.panel.rows * count, kind)
        self.stage = local("stage", grid.stage_rows * count, "float32") if grid.staged else None
        self.values = local("values", self.panel.rows * count, "float32")
        places = 2 * grid.exchanged * max(grid.groups - 1, 0) * count * grid.threads
        self.exchange = shared("exchange", places, "float32") if places else None

    def all(self, program: Sequence[steps.Step]) -> None:
        """The statements of steps, in their order."""
        for step in program:
            for c in range(self.grid.columns):
                self._step(step, c)

    def _step(self, step: steps.Step, c: int) -> None:
        n = self.grid.columns
        match step:
            case steps.Load(slot, at, tap):
                self._x(slot, c, self._read(c, at, tap))
            case steps.Copy(row, at, tap):
                T.buffer_store(self.stage, self._read(c, at, tap), [row * n + c])
            case steps.CopyRows(row, first, count):
                for i in range(count):
                    at = int(self.grid.view.offsets[first + i])
                    T.buffer_store(self.stage, self._read(c, at, None), [(row + i) * n + c])
            case steps.Read(slot, row):
                self._x(slot, c, self.stage[row * n + c])
            case steps.Multiply(number, slot, weight):
                T.buffer_store(self.sums, self._weight(weight) * self.x[slot * n + c], [number * n + c])
            case steps.MultiplyAdd(number, slot, weight):
                total = self.sums[number * n + c] + self._weight(weight) * self.x[slot * n + c]
                T.buffer_store(self.sums, total, [number * n + c])
            case steps.Zero(number):
                T.buffer_store(self.sums, self._weight(0.0), [number * n + c])
            case steps.Widen(number):
                T.buffer_store(self.values, T.Cast("float32", self.sums[number * n + c]), [number * n + c])
            case steps.Commit() | steps.Arrive() | steps.Together():
                pass  # a copy is there at once, and nobody else reads it
            case _:
                self._result(step, c)

    def _result(self, step: steps.Step, c: int) -> None:
        n, own = self.grid.columns, self.columns[c]
        match step:
            case steps.Give(number, place):
                T.buffer_store(self.exchange, self.values[number * n + c], [self._place(place, c)])
            case steps.Take(number, place):
                self._value(number, c, lambda value: value + self.exchange[self._place(place, c)])
            case steps.Bias(number, row):
                self._value(number, c, lambda value: value + self.arrays["bias"][row])
            case steps.Residual(number, row):
                at = own.y + row * self.grid.view.n
                self._value(number, c, lambda value: value + self.arrays["residual"][at])
            case steps.Activate(number, name):
                self._value(number, c, lambda value: activate(name, value))
            case steps.Store(number, row):
                with T.If(own.there), T.Then():
                    T.buffer_store(self.arrays["y"], self.values[number * n + c], [own.y + row * self.grid.view.n])
            case _:
                raise ValueError(f"no function of TVM does {step}")

    def _value(self, number: int, c: int, change: Callable[[Any], Any]) -> None:
        at = number * self.grid.columns + c
        T.buffer_store(self.values, change(self.values[at]), [at])

    def _x(self, slot: int, c: int, value: Any) -> None:
        kind = "float16" if self.grid.pairs else "float32"
        T.buffer_store(self.x, T.Cast(kind, value) if self.grid.pairs else value, [slot * self.grid.columns + c])

    def _weight(self, value: float) -> Any:
        return tirx.FloatImm("float16" if self.grid.pairs else "float32", value)

    def _place(self, place: int, c: int) -> Any:
        return (place * self.grid.columns + c) * self.grid.threads + self.thread

    def _read(self, c: int, at: int, tap: steps.Tap) -> Any:
        own, border = self.columns[c], self.grid.view.border
        value = self.arrays["x"][own.x + at]
        if tap is None or border is None:
            return value
        row, column = own.top + border.rows[tap[0]][0], own.left + border.columns[tap[1]][0]
        inside = tirx.all(row >= 0, row < border.height, column >= 0, column < border.width)
        return T.if_then_else(inside, value, T.float32(0))
