"""Dense int8 for features_last: rows of W in the lanes, bytes of X four at a time in all lanes.

Before:
    for n, m:  Y[n, m] = epilogue(sum_k W[m, k] * X[n, k])

After, with V vectors of L rows as a panel, Q columns as a tile, and W stored panel by panel as [step][V L] groups:
    for panel, for tile (parallel over tiles, or over panels where those are few):
        acc[Q][V][L] = -x_zero sum_k W
        for every run of k, for every group of it:          places.py; a linear layer has one run
            w[V] = the next V vectors of groups
            for q:  x = the group of column q in all lanes;  for v:  acc[q][v] += dot(x, w[v])
        for q, v:  Y[q][rows of v] = epilogue(acc[q][v])
The sums of a column are neighbours in a register as they are in Y, so that nothing is turned. A group that is not
whole begins in the one before it, so that nothing behind X is read.

Registers: V Q sums, V of w, 1 of x, and 1 for a product on cores whose dot products do not add.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.tirx.script import builder as T

from tesa.schedules.cpu import cost
from tesa.schedules.cpu.arithmetic import Arithmetic, arithmetic
from tesa.schedules.cpu.cut import Cut, threads_for
from tesa.schedules.cpu.epilogue import Names, final, heavy
from tesa.schedules.cpu.loops import lanes, loop, named, parallel, serial, span, unrolled
from tesa.schedules.cpu.narrow import LINE, prefetch
from tesa.schedules.cpu.nest import Builder
from tesa.schedules.cpu.operand import operand, tiling
from tesa.schedules.cpu.places import Places, grouped, in_runs, places
from tesa.schedules.cpu.requantize import Codes, codes, low_bytes, makes_codes
from tesa.schedules.refusal import refuse, unsuited
from tesa.schedules.registry import family
from tesa.schedules.types import Code, Config, Core, FloatArray, Problem

_AHEAD = 512
"""Elements of W from those that are read to those that are asked for."""

_COLUMNS = 12
"""Columns of a tile at most: each has an address of its own."""


@dataclass(frozen=True)
class _Panels:
    """count panels of `vectors` vectors of rows, the first vector of the first one being `first`; at: in the values."""

    first: int
    vectors: int
    count: int
    at: int


def _panels(vectors: int, most: int, steps: int, width: int) -> tuple[_Panels, ...]:
    """Vectors of rows in panels of at most so many, as equal as can be: two kinds of them at most."""
    count = -(-vectors // most)
    size, larger = divmod(vectors, count)
    found = [_Panels(0, size + 1, larger, 0)] if larger else []
    first = larger * (size + 1)
    return (*found, _Panels(first, size, count - larger, first * steps * width))


@dataclass(frozen=True)
class _Kernel:
    """Writes the statements of a kernel. columns: of a tile; steps: of all runs; ends: see places.grouped; chunk: bytes
    of X that all panels meet before the next ones."""

    problem: Problem
    sums: Arithmetic
    view: Places
    panels: tuple[_Panels, ...]
    core: Core
    columns: int
    steps: int
    ends: bool
    threads: int
    chunk: int
    values: int
    start: int | None
    order: int | None

    @property
    def tiles(self) -> int:
        return -(-self.view.columns // self.columns)

    def write(self, names: Names) -> None:
        """All batch items, one after the other."""
        view = self.view
        source = view.source(names)
        made = None
        if makes_codes(self.problem):
            made = codes(self.problem, names, max(self.problem.m, self.core.lanes), None, self.core, self.order)
        with loop("item", view.items) as item:
            base: Any = item * view.item
            if view.copied:
                view.copy(names, item, source, self.sums, self.problem.x_zero, self.threads)
                base = 0
            self._shared(names, made, source, base, item)

    def _shared(self, names: Names, made: Codes | None, source: Any, base: Any, item: Any) -> None:
        """An item, on all threads: shares of the tiles, or of the panels where those are more."""
        tiles, most = self.tiles, max(panels.count for panels in self.panels)
        tasks = min(self.threads, max(tiles, most))
        # all panels meet as many columns as leave room for a panel in the second-level cache
        chunks = min(-(-(self.view.columns * self.view.step_x) // self.chunk), tiles)
        if tasks == 1:
            self._chunks(names, made, source, base, item, (0, chunks), chunks)
        elif tiles >= tasks:
            chunks = min(-(-chunks // tasks) * tasks, tiles)
            with parallel("task", tasks) as i:
                shares = i * chunks // tasks, (i + 1) * chunks // tasks
                self._chunks(names, made, source, base, item, shares, chunks)
        else:
            for panels in self.panels:
                with parallel("panel", panels.count) as panel, serial("tile", tiles) as tile:
                    self._tile(names, made, source, base, item, panels, panel, tile)

    def _chunks(
        self, names: Names, made: Codes | None, source: Any, base: Any, item: Any, share: tuple[Any, Any], chunks: int
    ) -> None:
        """Some chunks of the tiles, each of them with all panels."""
        with span("chunk", *share) if chunks > 1 else nullcontext(0) as chunk:
            bounds = chunk * self.tiles // chunks, (chunk + 1) * self.tiles // chunks
            for panels in self.panels:
                with serial("panel", panels.count) as panel, span("tile", *bounds) as tile:
                    self._tile(names, made, source, base, item, panels, panel, tile)

    def _tile(
        self,
        names: Names,
        made: Codes | None,
        source: Any,
        base: Any,
        item: Any,
        panels: _Panels,
        panel: Any,
        tile: Any,
    ) -> None:
        view, width, vectors = self.view, self.core.lanes, panels.vectors
        first = tile * self.columns
        if view.columns % self.columns:
            first = T.min(first, view.columns - self.columns)
        starts = [T.Bind(base + view.place(first + q)) for q in range(self.columns)]
        acc = self._begun(names, panels, panel)
        groups = self.steps // (view.rows * view.taps)
        whole = view.run // self.sums.group
        weights = panels.at + panel * (vectors * width * self.steps)
        with loop("row", view.rows) as row, loop("tap", view.taps) as tap:
            offset, w = row * view.down + tap * view.across, (row * view.taps + tap) * groups
            if whole:
                with loop("i", whole) as i:
                    self._step(names, source, acc, starts, offset + i * self.sums.group, weights, w + i, vectors)
            if groups > whole:
                last = view.run - self.sums.group if self.ends else whole * self.sums.group
                self._step(names, source, acc, starts, offset + last, weights, w + whole, vectors)
        self._store(names, made, acc, item, panels, panel, first)

    def _row(self, panels: _Panels, panel: Any, v: Any) -> Any:
        """The row of the first lane of vector v of a panel: the last vector ends with the last row."""
        m, width = self.problem.m, self.core.lanes
        if m <= width:
            return 0
        row = (panels.first + panel * panels.vectors + v) * width
        return T.min(row, m - width) if m % width else row

    def _begun(self, names: Names, panels: _Panels, panel: Any) -> Any:
        """Sums that hold what is missing in them, and nothing else."""
        width, vectors = self.core.lanes, panels.vectors
        acc = named("acc", T.alloc_buffer((self.columns, vectors, width), "int32", scope="local", align=64))
        with unrolled("v", vectors) as v:
            value = tirx.Broadcast(T.int32(0), width)
            if self.start is not None:
                first = (panels.first + panel * vectors + v) * width
                value = names.constants[self.start][T.ramp(first, 1, width)]
            with unrolled("q", self.columns) as q:
                T.buffer_store(acc, value, [q, v, T.ramp(0, 1, width)])
        return acc

    def _step(
        self, names: Names, source: Any, acc: Any, starts: Any, offset: Any, weights: Any, step: Any, vectors: int
    ) -> None:  # fmt: skip
        """A group of k of all the tile's columns."""
        sums, width = self.sums, self.core.lanes
        values = names.constants[self.values]
        if self._streams(vectors):
            for line in range(0, vectors * width, LINE // sums.nbytes):
                prefetch(values, weights + step * (vectors * width) + line + _AHEAD)
        for q, start in enumerate(starts):
            at = start + offset
            x = T.Bind(
                source[at] if sums.group == 1 else tirx.reinterpret(sums.element, source[T.ramp(at, 1, sums.group)])
            )
            for v in range(vectors):
                sums.add(acc, (q, v), x, (values, weights + step * (vectors * width) + v * width), width)

    def _streams(self, vectors: int) -> bool:
        """True where a panel comes from beyond the nearest cache for each tile, and instructions are to spare."""
        core = self.core
        return (
            vectors * core.lanes * self.steps * self.sums.nbytes > core.l1_bytes
            and core.steps == 1
            and not core.loads_first
        )

    def _store(
        self, names: Names, made: Codes | None, acc: Any, item: Any, panels: _Panels, panel: Any, first: Any
    ) -> None:
        p, width, vectors = self.problem, self.core.lanes, panels.vectors
        valid = min(width, p.m)
        if made is not None and valid == width:
            for v in range(vectors):
                row = T.Bind(self._row(panels, panel, v))
                for q in range(self.columns):
                    at = T.ramp(item * (p.m * p.n) + (first + q) * p.m + row, 1, width)
                    residual = names.residual[at] if names.residual is not None else None
                    value = made.vector(acc[q, v, T.ramp(0, 1, width)], row, residual)
                    T.buffer_store(names.y, value, [at])
            return
        shape = (self.columns, vectors, width)
        sums = acc
        if heavy(p.epilogue):  # tens of instructions: not to be written out for each vector, so through memory
            sums = named("sums", T.alloc_buffer(shape, "int32", scope="local", align=64))
            with unrolled("q", self.columns) as q, unrolled("v", vectors) as v:
                lane = T.ramp(0, 1, width)
                T.buffer_store(sums, acc[q, v, lane], [q, v, lane])
        many = serial if heavy(p.epilogue) else unrolled
        with many("q", self.columns) as q, many("v", vectors) as v:
            row = self._row(panels, panel, v)
            at = item * (p.m * p.n) + (first + q) * p.m + row
            with lanes(valid) as lane:
                value = final(p, names, sums[q, v, lane], row + lane, at + lane)
                T.buffer_store(names.y, value, [at + lane])


def _rows(m: int, width: int) -> NDArray[np.int64]:
    """(vectors, width): the row in each lane of each vector. The last vector ends with the last row."""
    vectors = -(-m // width)
    rows = np.arange(vectors * width).reshape(vectors, width)
    if m > width:
        rows[-1] = np.arange(m - width, m)
    return rows


def _missing(problem: Problem, sums: Arithmetic, weight: FloatArray, width: int) -> NDArray[np.int32] | None:
    """(vectors width,): what is missing in the sum of each row of codes, None where that is nothing."""
    zero = problem.x_zero - (128 if sums.signed else 0)
    if not zero:
        return None
    found = np.zeros(max(problem.m, width), np.int32)
    found[: problem.m] = -zero * weight.astype(np.int64).sum(axis=1)
    return found[_rows(problem.m, width).reshape(-1)]


def _packed(matrix: NDArray[Any], width: int, panels: Sequence[_Panels]) -> NDArray[Any]:
    """Elements (m, steps) as panels: (panels) x [step][vector][lane], flat."""
    m, steps = matrix.shape
    rows = _rows(m, width)
    padded = np.zeros((max(m, width), steps), matrix.dtype)
    padded[:m] = matrix
    found = []
    for kind in panels:
        for panel in range(kind.count):
            first = kind.first + panel * kind.vectors
            found.append(padded[rows[first : first + kind.vectors].reshape(-1)].T.reshape(-1))
    return np.concatenate(found)


def _applies(problem: Problem) -> bool:
    return problem.dtype == "int8" and problem.op in ("linear", "conv2d") and problem.features_last


def _most_columns(core: Core, vectors: int) -> int:
    """Columns of a tile for which there are registers."""
    if core.loads_first:
        most = (core.registers - vectors) // (vectors + 1)
    else:
        most = (core.registers - vectors - (1 if core.dot is not None and core.dot.adds else 3)) // vectors
    return min(max(most, 1), _COLUMNS)


def _space(problem: Problem, weight: FloatArray, core: Core) -> Sequence[Config]:
    """The four that the estimate likes best: panels of 1 to 4 vectors, and tiles as wide as there are registers, or
    such that columns are cut evenly."""
    if why := unsuited(problem, dtypes=("int8",)):
        return refuse(why)
    columns = places(problem, arithmetic(problem, core)).columns
    vectors, found = -(-problem.m // core.lanes), []
    for height in range(1, min(vectors, 4) + 1):
        most = min(_most_columns(core, height), columns)
        even = -(-columns // -(-columns // most))
        whole = max(q for q in range(1, most + 1) if columns % q == 0)
        found += [{"vectors": height, "columns": q} for q in sorted({most, even, whole})]
    return sorted(found, key=lambda config: _estimate(problem, weight, core, config))[:4]


def _work(problem: Problem, core: Core, config: Config) -> tuple[float, int]:
    """Cycles of the sums of all items, and threads."""
    view, sums = places(problem, arithmetic(problem, core)), arithmetic(problem, core)
    steps = view.rows * view.taps * -(-view.run // sums.group)
    vectors, columns = -(-problem.m // core.lanes), config["columns"]
    panels = -(-vectors // config["vectors"])
    tiles = -(-view.columns // columns) * view.items
    size = vectors / panels
    step = cost.together(
        size * columns * core.rates.product / core.rates.fmas,
        (size + columns) / core.rates.loads,
        core.rates.fma_latency,
        (size * columns + size + columns) / core.rates.issue,
        size * core.lanes * sums.nbytes / cost.weight_rate(problem, core),
    )
    work = tiles * panels * (steps * step * 1.08 + 20.0)
    return work, threads_for(problem, work)


def _estimate(problem: Problem, weight: FloatArray, core: Core, config: Config) -> float:
    """A dot product for each step, vector and column, the copy of X where there is one, and the stores of Y."""
    work, threads = _work(problem, core, config)
    view = places(problem, arithmetic(problem, core))
    copied = view.items * view.item / 16 * view.copied
    vectors = view.items * view.columns * -(-problem.m // core.lanes)
    stored = cost.finishing(problem.epilogue, vectors) + vectors * cost.on_the_way(problem)
    cycles = core.rates.call + (work + copied + stored) / threads + (threads > 1) * 6 * core.rates.call
    return cycles / core.rates.cycles_per_ms


@family(
    "lanes", kind="cpu", space=_space, estimate=_estimate, dense=lambda weight, config: True,
    layouts=("features_last",),
)  # fmt: skip
def emit(problem: Problem, weight: FloatArray, core: Core, config: Config, symbol: str) -> Code:
    """A dense int8 matrix times tokens x features, or a convolution of NHWC: rows of the weight lie in the lanes.

    config: vectors of rows of a panel, at most; columns of a tile. constants: the groups of W in the order of the
    steps, and what each row's sum begins with where X has a zero or the core's bytes are signed. Raises ValueError for
    what is no such product.
    """
    if not _applies(problem):
        raise ValueError(f"family lanes cannot compute {problem.dtype} {problem.op!r} of {problem.layout}")
    sums = arithmetic(problem, core)
    view = places(problem, sums)
    ends = not view.copied
    groups = grouped(in_runs(weight, problem.window, view.rows * view.taps), sums.group, ends)
    steps = groups.shape[1] * groups.shape[2]
    matrix = sums.matrix(groups.reshape(problem.m, -1))
    columns = min(config["columns"], view.columns)
    panels = _panels(-(-problem.m // core.lanes), config["vectors"], steps, core.lanes)
    made = Builder(problem, Cut(operand(problem, np.ones(problem.k, np.bool_)), tiling(problem.n, core.lanes, 1),
                                (0, problem.m)), maximum=core.maximum)  # fmt: skip
    if problem.m >= core.lanes:
        made.rounds = core.rounds
    values = made.constant(_packed(matrix, core.lanes, panels))
    start = made.optional(_missing(problem, sums, weight, core.lanes))
    kernel = _Kernel(
        problem=problem,
        sums=sums,
        view=view,
        panels=panels,
        core=core,
        columns=columns,
        steps=steps,
        ends=ends,
        threads=_work(problem, core, config)[1],
        chunk=core.l2_bytes // 4,
        values=values,
        start=start,
        order=made.optional(low_bytes(problem, core)),
    )
    return made.code(symbol, kernel.write)
