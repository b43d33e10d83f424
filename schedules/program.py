"""The neutral program of a panel: what a straight-line kernel does with one tile, step by step, for any machine.

A step works on whole vectors: sums a0, a1, ... that stay in registers, vectors x0, x1, ... of X, one weight w, and
arrays that pointers reach. No x is used once results begin, and a bias in w serves all vectors of a row: their
registers are free for what the writer needs. A writer (cpu/writers) spells the steps as code of one machine.

    >>> from tesa.schedules.panels import panels
    >>> from tesa.schedules.tiles import tiles
    >>> from tesa.schedules.types import Problem
    >>> problem = Problem("linear", 1, 2, 40, (1, 2, 40), (1, 1, 40), epilogue=Epilogue(bias=True, activation="relu"))
    >>> frame = Frame(problem, tiles(1, 40, 40, 16, 1), 16, {0: 0, 1: 40})
    >>> ((panel,),) = panels(np.array([[1, 2]], np.float32), {"rows": 1, "kblock": 0}, 1, "p", 1000)
    >>> print(program(frame, panel))
    p0_0: 1 rows x 1 vectors of 16 lanes
    x0 = X[0]
    w = 1.0
    a0 = w * x0
    x0 = X[40]
    w = 2.0
    a0 += w * x0
    w = bias[0]
    a0 += w
    a0 = relu(a0)
    Y[0] = a0
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import get_args

import numpy as np

from tesa.schedules.panels import Panel
from tesa.schedules.tiles import Tiles
from tesa.schedules.types import Epilogue, Problem


@dataclass(frozen=True, slots=True)
class LoadX:
    """x[vector] = elements of X from `at` on, counted from the tile's start."""

    vector: int
    at: int

    def __str__(self) -> str:
        return f"x{self.vector} = X[{self.at}]"


@dataclass(frozen=True, slots=True)
class Weight:
    """w = a number in all lanes."""

    value: float

    def __str__(self) -> str:
        return f"w = {self.value}"


@dataclass(frozen=True, slots=True)
class Multiply:
    """a[sum] = w * x[vector]."""

    sum: int
    vector: int

    def __str__(self) -> str:
        return f"a{self.sum} = w * x{self.vector}"


@dataclass(frozen=True, slots=True)
class MultiplyAdd:
    """a[sum] += w * x[vector]."""

    sum: int
    vector: int

    def __str__(self) -> str:
        return f"a{self.sum} += w * x{self.vector}"


@dataclass(frozen=True, slots=True)
class Zero:
    """a[sum] = 0."""

    sum: int

    def __str__(self) -> str:
        return f"a{self.sum} = 0"


@dataclass(frozen=True, slots=True)
class LoadSum:
    """a[sum] = elements of the scratch from `at` on, counted from the tile's part of it."""

    sum: int
    at: int

    def __str__(self) -> str:
        return f"a{self.sum} = scratch[{self.at}]"


@dataclass(frozen=True, slots=True)
class StoreSum:
    """The opposite of LoadSum."""

    sum: int
    at: int

    def __str__(self) -> str:
        return f"scratch[{self.at}] = a{self.sum}"


@dataclass(frozen=True, slots=True)
class Bias:
    """w = bias[row] in all lanes."""

    row: int

    def __str__(self) -> str:
        return f"w = bias[{self.row}]"


@dataclass(frozen=True, slots=True)
class AddBias:
    """a[sum] += w."""

    sum: int

    def __str__(self) -> str:
        return f"a{self.sum} += w"


@dataclass(frozen=True, slots=True)
class AddResidual:
    """a[sum] += elements of the residual from `at` on, counted as those of Y."""

    sum: int
    at: int

    def __str__(self) -> str:
        return f"a{self.sum} += residual[{self.at}]"


@dataclass(frozen=True, slots=True)
class Activate:
    """a[sum] = name(a[sum]), one of cpu/activations.py's INLINE."""

    sum: int
    name: str

    def __str__(self) -> str:
        return f"a{self.sum} = {self.name}(a{self.sum})"


@dataclass(frozen=True, slots=True)
class Store:
    """Elements of Y from `at` on, counted from the tile's start, = a[sum]."""

    sum: int
    at: int

    def __str__(self) -> str:
        return f"Y[{self.at}] = a{self.sum}"


SumStep = LoadX | Weight | Multiply | MultiplyAdd | Zero | LoadSum
ResultStep = Bias | AddBias | AddResidual | Activate | Store | StoreSum
STEPS = (*get_args(SumStep), *get_args(ResultStep))
"""The kinds of steps, each of which a writer has to spell."""


@dataclass(frozen=True)
class Frame:
    """What all panels of a kernel share.

    lanes: of a vector. offsets: where column k of the operand begins, in a packed tile or in X. masked: a row of X is
    shorter than a vector. packed: elements of a packed tile, 0 where tiles lie in X. blocked: sums wait in a scratch
    between blocks of columns. late: for their activation, which a loop of its own applies.
    """

    problem: Problem
    tiles: Tiles
    lanes: int
    offsets: Mapping[int, int]
    masked: bool = False
    packed: int = 0
    blocked: bool = False
    late: bool = False

    @property
    def vectors(self) -> int:
        """Of a tile."""
        return len(self.tiles.reads)

    @property
    def x_lanes(self) -> int:
        """Lanes of a vector that may be read from X."""
        return self.tiles.lanes if self.masked and not self.packed else self.lanes

    @property
    def scratch(self) -> int:
        """Elements of the scratch for one tile; 0 where sums never wait there."""
        return self.problem.m * self.vectors * self.lanes if self.blocked or self.late else 0

    @property
    def parameters(self) -> tuple[str, ...]:
        """Of the function of a panel: pointers to where the batch item begins, then a range of tiles."""
        e = self.problem.epilogue
        wanted = {"x": True, "y": True, "bias": e.bias, "residual": e.residual, "scratch": bool(self.scratch)}
        return (*(name for name, there in wanted.items() if there), "first", "end")

    @property
    def reach(self) -> int:
        """Elements of the largest of X and Y, as far as panels reach into them."""
        x = max(self.offsets.values(), default=0) + max(self.tiles.reads)
        return max(x, int(np.prod(self.problem.y_shape)))


@dataclass(frozen=True)
class Program:
    """What a panel does with a tile: `sums` from X and the weights, then `results` of them.

    rows: of the panel; sum r * vectors + v belongs to row r and vector v. ends: the results go to Y, and not to the
    scratch for the next block of columns.
    """

    name: str
    frame: Frame = field(repr=False)
    rows: int
    ends: bool
    sums: tuple[SumStep, ...]
    results: tuple[ResultStep, ...]

    def __str__(self) -> str:
        head = f"{self.name}: {self.rows} rows x {self.frame.vectors} vectors of {self.frame.lanes} lanes"
        return "\n".join([head, *map(str, self.sums), *map(str, self.results)])


def program(frame: Frame, panel: Panel) -> Program:
    """The program of one panel."""
    rows = len(panel.weights)
    results = _finish(frame, panel) if panel.ends else _keep(frame, panel)
    return Program(panel.name, frame, rows, panel.ends, tuple(_sums(frame, panel)), tuple(results))


def _sums(frame: Frame, panel: Panel) -> Iterator[SumStep]:
    vectors, count = frame.vectors, len(panel.weights) * frame.vectors
    known = set() if panel.begins else set(range(count))
    yield from (LoadSum(a, _waiting(frame, panel, a)) for a in sorted(known))
    for i, column in enumerate(panel.columns):
        start = frame.offsets[column]
        for v, at in enumerate(frame.tiles.reads):
            yield LoadX(v, start + (v * frame.lanes if frame.packed else at))
        weights = panel.weights[:, i]
        for r in np.flatnonzero(weights).tolist():
            yield Weight(float(weights[r]))
            for v in range(vectors):
                a = r * vectors + v
                yield MultiplyAdd(a, v) if a in known else Multiply(a, v)
                known.add(a)
    yield from (Zero(a) for a in range(count) if a not in known)


def _waiting(frame: Frame, panel: Panel, a: int) -> int:
    """Where a sum of the panel waits in the tile's scratch."""
    return (panel.first * frame.vectors + a) * frame.lanes


def _keep(frame: Frame, panel: Panel) -> Iterator[ResultStep]:
    """Leave the sums to the next block of columns."""
    for a in range(len(panel.weights) * frame.vectors):
        yield StoreSum(a, _waiting(frame, panel, a))


def _finish(frame: Frame, panel: Panel) -> Iterator[ResultStep]:
    """The epilogue and Y; where the activation is late, the scratch takes what it is applied to."""
    e: Epilogue = frame.problem.epilogue
    for r in range(len(panel.weights)):
        row = panel.first + r
        if e.bias:
            yield Bias(row)
        for v, write in enumerate(frame.tiles.writes):
            a, at = r * frame.vectors + v, row * frame.problem.n + write
            if e.bias:
                yield AddBias(a)
            if e.residual:
                yield AddResidual(a, at)
            if frame.late:
                yield StoreSum(a, _waiting(frame, panel, a))
                continue
            if e.activation:
                yield Activate(a, e.activation)
            yield Store(a, at)
