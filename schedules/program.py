"""The neutral program of a panel: what a straight-line kernel does with one tile, step by step, for any machine.

Steps are those of steps.py. A writer (cpu/writers) spells them as code of one machine.

    >>> from tesa.schedules.panels import panels
    >>> from tesa.schedules.tiles import tiles
    >>> from tesa.schedules.types import Problem
    >>> problem = Problem("linear", 1, 2, 40, (1, 2, 40), (1, 1, 40), epilogue=Epilogue(bias=True, activation="relu"))
    >>> frame = Frame(problem, tiles(1, 40, 40, 16, 1), 16, {0: 0, 1: 40})
    >>> ((panel,),) = panels(np.array([[1, 2]], np.float32), {"rows": 1, "kblock": 0}, 1, "p", 1000)
    >>> print(program(frame, panel))
    p_p0_0: 1 rows x 1 vectors of 16 lanes
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

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from tesa.schedules import steps
from tesa.schedules.panels import Panel
from tesa.schedules.tiles import Tiles
from tesa.schedules.types import Epilogue, FloatArray, Problem


@dataclass(frozen=True)
class Frame:
    """The facts that all panels of a kernel share.

    lanes: of a vector. offsets: where column k of the operand begins, in a packed tile or in X. masked: a row of X is
    shorter than a vector. packed: elements of a packed tile, 0 where tiles lie in X. sources: where column k begins in
    what panels pack, none where something else packs. blocked: sums wait in a scratch between blocks of columns. late:
    for their activation, which a loop of its own applies.
    """

    problem: Problem
    tiles: Tiles
    lanes: int
    offsets: Mapping[int, int]
    masked: bool = False
    packed: int = 0
    sources: Mapping[int, int] = field(default_factory=dict)
    blocked: bool = False
    late: bool = False

    @property
    def vectors(self) -> int:
        """The vectors of a tile."""
        return len(self.tiles.reads)

    @property
    def x_lanes(self) -> int:
        """Lanes of a vector that may be read from X."""
        return self.source_lanes if not self.packed else self.lanes

    @property
    def source_lanes(self) -> int:
        """Lanes of a vector that may be read from what is packed."""
        return self.tiles.lanes if self.masked else self.lanes

    @property
    def scratch(self) -> int:
        """Elements of the scratch for one tile; 0 where sums never wait there."""
        return self.problem.m * self.vectors * self.lanes if self.blocked or self.late else 0

    @property
    def parameters(self) -> tuple[str, ...]:
        """The parameters of a panel's function: pointers to where the batch item begins, then a range of tiles."""
        e = self.problem.epilogue
        wanted = {
            "x": True,
            "source": bool(self.sources),
            "y": True,
            "bias": e.bias,
            "residual": e.residual,
            "scratch": bool(self.scratch),
        }
        return (*(name for name, there in wanted.items() if there), "first", "end")

    @property
    def reach(self) -> int:
        """Elements of the largest of X and Y, as far as panels reach into them."""
        x = max((*self.offsets.values(), *self.sources.values()), default=0) + max(self.tiles.reads)
        return max(x, int(np.prod(self.problem.y_shape)))


@dataclass(frozen=True)
class Program:
    """The work of a panel on a tile: `sums` from X and the weights, then `results` of them.

    rows: of the panel; sum r * vectors + v belongs to row r and vector v. ends: the results go to Y, and not to the
    scratch for the next block of columns.
    """

    name: str
    frame: Frame = field(repr=False)
    rows: int
    ends: bool
    sums: tuple[steps.SumStep, ...]
    results: tuple[steps.ResultStep, ...]

    def __str__(self) -> str:
        head = f"{self.name}: {self.rows} rows x {self.frame.vectors} vectors of {self.frame.lanes} lanes"
        return "\n".join([head, *map(str, self.sums), *map(str, self.results)])


def program(frame: Frame, panel: Panel) -> Program:
    """The program of one panel."""
    rows = len(panel.weights)
    results = _finish(frame, panel) if panel.ends else _keep(frame, panel)
    return Program(panel.name, frame, rows, panel.ends, tuple(_sums(frame, panel)), tuple(results))


def _sums(frame: Frame, panel: Panel) -> Iterator[steps.SumStep]:
    vectors, count = frame.vectors, len(panel.weights) * frame.vectors
    known = set() if panel.begins else set(range(count))
    yield from (steps.LoadSum(a, _waiting(frame, panel, a)) for a in sorted(known))
    for column, weights in _columns(panel):
        yield from _pack(frame, column) if panel.packs else _load(frame, column)
        for r in np.flatnonzero(weights).tolist():
            yield steps.Weight(float(weights[r]))
            for v in range(vectors):
                a = r * vectors + v
                yield steps.MultiplyAdd(a, v) if a in known else steps.Multiply(a, v)
                known.add(a)
    yield from (steps.Zero(a) for a in range(count) if a not in known)


def _columns(panel: Panel) -> Iterator[tuple[int, FloatArray]]:
    """Each column to read and its weights, of which one that is only packed has none."""
    own = {column: panel.weights[:, i] for i, column in enumerate(panel.columns)}
    none = np.zeros(0, np.float32)
    yield from ((column, own.get(column, none)) for column in panel.packs or panel.columns)


def _load(frame: Frame, column: int) -> Iterator[steps.SumStep]:
    start = frame.offsets[column]
    for v, at in enumerate(frame.tiles.reads):
        yield steps.LoadX(v, start + (v * frame.lanes if frame.packed else at))


def _pack(frame: Frame, column: int) -> Iterator[steps.SumStep]:
    for v, at in enumerate(frame.tiles.reads):
        yield steps.LoadSource(v, frame.sources[column] + at)
    yield from (steps.Pack(v, frame.offsets[column] + v * frame.lanes) for v in range(frame.vectors))


def _waiting(frame: Frame, panel: Panel, a: int) -> int:
    """The place of a sum of the panel in the tile's scratch."""
    return (panel.first * frame.vectors + a) * frame.lanes


def _keep(frame: Frame, panel: Panel) -> Iterator[steps.ResultStep]:
    """Leave the sums to the next block of columns."""
    for a in range(len(panel.weights) * frame.vectors):
        yield steps.StoreSum(a, _waiting(frame, panel, a))


def _finish(frame: Frame, panel: Panel) -> Iterator[steps.ResultStep]:
    """The epilogue and Y; where the activation is late, the scratch takes what it is applied to."""
    e: Epilogue = frame.problem.epilogue
    for r in range(len(panel.weights)):
        row = panel.first + r
        if e.bias:
            yield steps.Bias(row)
        for v, write in enumerate(frame.tiles.writes):
            a, at = r * frame.vectors + v, row * frame.problem.pitch + write
            if e.bias:
                yield steps.AddBias(a)
            if e.residual:
                yield steps.AddResidual(a, at)
            if frame.late:
                yield steps.StoreSum(a, _waiting(frame, panel, a))
                continue
            if e.activation:
                yield steps.Activate(a, e.activation)
            yield steps.Store(a, at)
