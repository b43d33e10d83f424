"""The loops around a tile that all looped kernels share: batch, staging, bands of output rows, tiles, threads.

Before:
    for b, m, p:  Y[b, m, p] = epilogue(sum_k W[m, k] * X[b, offset(k) + p])

After, for a direct operand (see operand.py):
    for task (parallel):  for its tiles (or for its share of the rows):  tile(...) stores to Y
and for a convolution:
    for b:
        S = padded planes of X[b]                                      (parallel over channels)
        for band of output rows (parallel):
            for tile of the band:  tile(...) stores raw sums to a scratch [m][positions]
            for m, row of the band:  Y[b, m, row] = epilogue(scratch without its garbage columns)
A tile is what the family writes: its statements see where to read and where to store, and which share of the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from tesa.schedules.cpu.epilogue import finish
from tesa.schedules.cpu.operand import LINE, Operand, Tiling, tiling
from tesa.schedules.types import Code, Isa, Problem

SCRATCH_BYTES = 256 * 1024
"""A band's scratch is kept below this where it can be."""


@dataclass(frozen=True)
class Names:
    """The arrays of a kernel as flat buffers. constants are in the order of Code.constants."""

    x: Any
    y: Any
    constants: tuple[Any, ...]
    bias: Any = None
    residual: Any = None


@dataclass(frozen=True)
class Tile:
    """One tile in the making. Element (k, vector v, lane l) is source[offset + base + at(v) + l].

    A packed source ignores offsets: its row i is the i-th live k. part: which share of the rows is wanted (a Python 0 if
    there is one share). store(m, v, l, value) writes a finished sum; call it inside of a vectorized loop over l.
    """

    tiling: Tiling
    source: Any
    base: Any
    part: Any
    store: Callable[[Any, Any, Any, Any], None]

    def at(self, v: Any) -> Any:
        """Where vector v starts, from the tile's start."""
        t = self.tiling
        if t.last_vector == (t.vectors - 1) * t.lanes:
            return v * t.lanes
        return T.min(v * t.lanes, t.last_vector)


@dataclass(frozen=True)
class Plan:
    """How the work of one problem is cut.

    band: output rows of a band (0: no bands, a direct operand). parts: shares of the rows of W; where it is not 1, the
    tasks are these shares and each goes over all tiles, otherwise the tasks are tiles or bands.
    """

    operand: Operand
    tiling: Tiling
    band: int = 0
    parts: int = 1

    @property
    def bands(self) -> int:
        """How many bands there are; the last one starts earlier where they do not fit evenly."""
        return -(-self.operand.height // self.band) if self.band else 1

    @property
    def stride(self) -> int:
        """Elements of a scratch row. An odd number of lines, so that the rows fall into different sets of the cache."""
        return (-(-self.tiling.count * self.tiling.width // LINE) | 1) * LINE


def plan(problem: Problem, isa: Isa, view: Operand, vectors: int) -> Plan:
    """Cut the work: by tiles or bands if there are enough for the threads, else by rows."""
    if view.direct:
        tiles = tiling(problem.n, isa.lanes, vectors)
        units = tiles.count * (1 if view.staged else problem.batch)
        return Plan(view, tiles, 0, 1 if units >= problem.threads else problem.threads)
    rows = max(SCRATCH_BYTES // (4 * problem.m * view.row), 2)
    if view.height >= 2 * problem.threads:
        rows = min(rows, -(-view.height // problem.threads))
    band = -(-view.height // -(-view.height // min(rows, view.height)))
    parts = 1 if -(-view.height // band) >= problem.threads else problem.threads
    return Plan(view, tiling(view.length(band), isa.lanes, vectors, padded=True), band, parts)


@dataclass
class Builder:
    """Collects the constants of a kernel while its loops are written. tile writes the statements of one tile."""

    problem: Problem
    plan: Plan
    constants: list[NDArray[Any]] = field(default_factory=list)

    def constant(self, array: NDArray[Any]) -> int:
        """Add an array that the kernel takes as a parameter; its index in Names.constants."""
        self.constants.append(np.ascontiguousarray(array if array.size else np.zeros(1, array.dtype)))
        return len(self.constants) - 1

    def build(self, symbol: str, tile: Callable[[Names, Tile], None]) -> Code:
        """The kernel."""
        channels = self.plan.operand.channels
        table = -1
        if channels and channels != tuple(range(len(channels))):
            table = self.constant(np.array(channels, np.int32))
        with IRBuilder() as ir, T.prim_func():
            T.func_name(symbol)
            T.func_attr({"global_symbol": symbol, "tirx.noalias": True})
            names = self._params()
            if self.plan.operand.staged:
                self._staged(names, tile, names.constants[table] if table >= 0 else None)
            else:
                self._unstaged(names, tile)
        return Code(ir.get(), tuple(self.constants))

    def _params(self) -> Names:
        p = self.problem
        x = _array("X", p.x_shape)
        constants = tuple(_array(f"C{i}", c.shape, str(c.dtype)) for i, c in enumerate(self.constants))
        bias = _array("Bias", (p.m,)) if p.epilogue.bias else None
        residual = _array("Residual", p.y_shape) if p.epilogue.residual else None
        y = _array("Y", p.y_shape)
        return Names(_flat(x), _flat(y), tuple(map(_flat, constants)), bias, residual and _flat(residual))

    def _unstaged(self, names: Names, tile: Callable[[Names, Tile], None]) -> None:
        """All tiles of all batch items are one range."""
        p, tiles = self.problem, self.plan.tiling
        for unit, part in self._tasks(p.batch * tiles.count):
            item, t = (unit // tiles.count, unit % tiles.count) if p.batch > 1 else (0, unit)
            start = _start(tiles, t)
            store = self._to_y(names, item, start)
            tile(names, Tile(tiles, names.x, item * (p.k * p.n) + start, part, store))

    def _staged(self, names: Names, tile: Callable[[Names, Tile], None], channels: Any) -> None:
        from tesa.schedules.cpu.staging import stage

        p, plan = self.problem, self.plan
        staged = T.alloc_buffer((plan.operand.staged,), "float32", align=64)
        with _loop(p.batch) as item:
            stage(p, plan.operand, names.x, item, staged, channels)
            if plan.operand.direct:
                for t, part in self._tasks(plan.tiling.count):
                    start = _start(plan.tiling, t)
                    tile(names, Tile(plan.tiling, staged, start, part, self._to_y(names, item, start)))
                return
            for b, part in self._tasks(plan.bands):
                self._band(names, tile, staged, item, b, part)

    def _band(self, names: Names, tile: Any, staged: Any, item: Any, b: Any, part: Any) -> None:
        from tesa.schedules.cpu.staging import compact

        p, plan = self.problem, self.plan
        scratch = T.alloc_buffer((p.m * plan.stride,), "float32", align=64)
        row = T.min(b * plan.band, plan.operand.height - plan.band) if plan.bands > 1 else 0
        with _loop(plan.tiling.count) as t:
            start = t * plan.tiling.width

            def store(m: Any, v: Any, lane: Any, value: Any) -> None:
                T.buffer_store(scratch, value, [m * plan.stride + start + v * plan.tiling.lanes + lane])

            tile(names, Tile(plan.tiling, staged, row * plan.operand.row + start, part, store))
        compact(p, plan, names, scratch, item, row, part)

    def _to_y(self, names: Names, item: Any, start: Any) -> Callable[[Any, Any, Any, Any], None]:
        """Store with the epilogue, straight to Y."""
        p, tiles = self.problem, self.plan.tiling

        def store(m: Any, v: Any, lane: Any, value: Any) -> None:
            at = item * (p.m * p.n) + m * p.n + start + Tile(tiles, None, 0, 0, store).at(v) + lane
            T.buffer_store(names.y, final(p, names, value, m, at), [at])

        return store

    def _tasks(self, units: int) -> Iterator[tuple[Any, Any]]:
        """The loops over (unit, share of the rows); used as `for unit, part in ...:` with the body written once."""
        p, parts = self.problem, self.plan.parts
        if p.threads == 1:
            with _loop(units) as unit:
                yield unit, 0
        elif parts > 1:
            with T.parallel(0, parts) as part, _loop(units) as unit:
                yield unit, part
        else:
            tasks = min(p.threads, units)
            with T.parallel(0, tasks) as task, T.serial(task * units // tasks, (task + 1) * units // tasks) as unit:
                yield unit, 0


def final(problem: Problem, names: Names, value: Any, m: Any, at: Any) -> Any:
    """The epilogue of the sum of row m that goes to element `at` of Y."""
    bias = names.bias[m] if names.bias is not None else None
    residual = names.residual[at] if names.residual is not None else None
    return finish(problem.epilogue, value, bias, residual)


@contextmanager
def lanes(count: int) -> Iterator[Any]:
    """A vectorized loop; for one lane just 0."""
    with T.vectorized(0, count) if count > 1 else nullcontext(0) as lane:
        yield lane


def _start(tiles: Tiling, t: Any) -> Any:
    if tiles.count == 1:
        return 0
    if tiles.last_start == (tiles.count - 1) * tiles.width:
        return t * tiles.width
    return T.min(t * tiles.width, tiles.last_start)


@contextmanager
def _loop(extent: int) -> Iterator[Any]:
    """A serial loop; for one iteration just 0."""
    with T.serial(0, extent) if extent > 1 else nullcontext(0) as index:
        yield index


def _array(name: str, shape: Sequence[int], dtype: str = "float32") -> Any:
    # callers pass NumPy memory: aligned to its elements, no more
    return T.arg(name, T.buffer(tuple(shape) or (1,), dtype, align=4))


def _flat(buffer: Any) -> Any:
    elements = int(np.prod([int(s) for s in buffer.shape]))
    return T.decl_buffer((elements,), str(buffer.dtype), data=buffer.data, align=4)
