"""Rows of W in the lanes, for a short and ragged n: a vector along n would be partly empty.

Before:
    for m, n:  Y[m, n] = epilogue(sum_k W[m, k] * X[offset(k) + n])

After, with P vectors of L rows as a panel and W stored panel by panel, each as [entry][P L]:
    for panel (parallel over shares of about equal work):
        for every group of Q outputs of one row of the image:
            acc[Q][P][L] = 0
            for e in the panel's entries:        all k, or with list the k that are live in any of the panel's rows
                w[P] = the next P vectors
                for q:  acc[q][:] += w[:] * X[offset(e) + q]              X in all lanes
            turn acc into rows of Q, and store them with the epilogue
The groups of a row are as equal as can be, so that 49 outputs are 12 + 12 + 12 + 13 and not four vectors of 16. A tile
is turned in the registers, by log2 Q stages that each interleave two vectors (a perfect shuffle; Stone 1971).
int8: an element of X is a group of neighbouring k (arithmetic.py), put together once for all panels.

Vector registers: P Q accumulators + P of w + 1 of X.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm.tirx.script import builder as T

from tesa.schedules.cpu import cost
from tesa.schedules.cpu.arithmetic import Arithmetic, arithmetic
from tesa.schedules.cpu.cut import Cut, shares, threads_for
from tesa.schedules.cpu.epilogue import Names, final, heavy
from tesa.schedules.cpu.loops import lanes, loop, named, parallel, serial, span, unrolled
from tesa.schedules.cpu.nest import Builder
from tesa.schedules.cpu.operand import Operand, operand, tiling
from tesa.schedules.cpu.rowpanels import entries, live_columns, pack_rows
from tesa.schedules.cpu.staging import first_of_copy, first_of_y, pieces, stage
from tesa.schedules.refusal import refuse, unsuited
from tesa.schedules.registry import family
from tesa.schedules.types import Code, Config, Core, FloatArray, Problem

MAX_OUTPUTS = 256
"""Outputs (n) up to which this family competes: with more of them, few lanes of a vector along n are empty."""

MAX_FILL = 0.9
"""Panels with more live columns than this are computed whole."""

_TURN = 8  # columns that are turned together, or as many as there are lanes


@dataclass(frozen=True)
class _Group:
    """count groups of size neighbouring outputs, the first at `first`, one behind the other."""

    first: int
    size: int
    count: int


def groups(width: int, most: int) -> tuple[_Group, ...]:
    """A row of outputs in groups of at most so many, as equal as can be.

    >>> groups(49, 14)
    (_Group(first=0, size=13, count=1), _Group(first=13, size=12, count=3))
    """
    count = -(-width // most)
    size, larger = divmod(width, count)
    found = [_Group(0, size + 1, larger)] if larger else []
    return (*found, _Group(larger * (size + 1), size, count - larger))


_Vector = tuple[Any, tuple[int, ...]]
"""A buffer and where in it a vector is."""


@dataclass(frozen=True)
class _Kernel:
    """Writes the statements of a kernel. height: rows of a panel; most: outputs of a group; stride: elements from a row
    of groups of X to the next, where they are put together first. values, table, at, bounds: constants; table is None
    where the rows of X are in order, at where all panels have k entries."""

    problem: Problem
    sums: Arithmetic
    view: Operand
    lanes: int
    vectors: int
    most: int
    parts: int
    k: int
    stride: int
    values: int
    table: int | None
    at: int | None
    bounds: int
    channels: int | None

    @property
    def height(self) -> int:
        return self.lanes * self.vectors

    def write(self, names: Names) -> None:
        """All batch items, one after the other."""
        p, view = self.problem, self.view
        source = None
        if view.staged:
            source = named("staged", T.alloc_buffer((view.staged,), "float32", align=64))
        elif self.sums.integer:
            source = named("packed", T.alloc_buffer((self.k * self.stride,), self.sums.element, align=64))
        with loop("item", p.batch) as item:
            base: Any = 0
            if view.staged:
                chosen = None if self.channels is None else names.constants[self.channels]
                stage(p, view, names.x, item, source, chosen, self.parts)
                base = first_of_copy(p, view, item)
            elif self.sums.integer:
                self._together(names.x, source, item)
            else:
                base = item * (p.k * p.n)
            bounds = names.constants[self.bounds]
            if self.parts == 1:
                with serial("panel", -(-p.m // self.height)) as panel:
                    self._panel(names, names.x if source is None else source, base, item, panel)
                return
            with parallel("share", self.parts) as share, span("panel", bounds[share], bounds[share + 1]) as panel:
                self._panel(names, names.x if source is None else source, base, item, panel)

    def _together(self, x: Any, packed: Any, item: Any) -> None:
        """The groups of X, in rows of stride."""
        p, group = self.problem, self.sums.group
        with serial("i", self.k) as i:
            rows = [T.min(i * group + j, p.k - 1) if p.k % group else i * group + j for j in range(group)]

            def copy(start: Any, width: int) -> None:
                with lanes(width) as lane:
                    parts = [x[item * (p.k * p.n) + row * p.n + start + lane] for row in rows]
                    T.buffer_store(packed, self.sums.pack(parts), [i * self.stride + start + lane])

            pieces(p.n, copy, self.lanes)

    def _panel(self, names: Names, source: Any, base: Any, item: Any, panel: Any) -> None:
        p, view = self.problem, self.view
        row = T.min(panel * self.height, p.m - self.height) if p.m % self.height else panel * self.height
        with loop("line", view.height) as line:
            for group in groups(view.width, self.most):
                with loop("g", group.count) as g:
                    x = group.first + g * group.size
                    target = first_of_y(p, item) + row * p.pitch + line * view.width + x
                    self._tile(names, source, base + line * view.row + x, panel, row, target, group.size)

    def _tile(self, names: Names, source: Any, start: Any, panel: Any, row: Any, target: Any, size: int) -> None:
        """A panel times a group: the sums, and their way to Y. start: in the operand; target: in Y."""
        shape = (size, self.vectors, self.lanes)
        acc = named("acc", T.alloc_buffer(shape, self.sums.dtype, scope="local"))
        with unrolled("q", size) as q, unrolled("v", self.vectors) as v, lanes(self.lanes) as lane:
            T.buffer_store(acc, self.sums.zero, [q, v, lane])
        at = None if self.at is None else names.constants[self.at]
        first, count = (panel * self.k, self.k) if at is None else (at[panel], at[panel + 1] - at[panel])
        with serial("i", count) as i:
            entry = first + i
            offset = i * self.stride if self.table is None else names.constants[self.table][i if at is None else entry]
            self.sums.accumulate_rows(
                acc,
                shape,
                lambda v: (names.constants[self.values], entry * self.height + v * self.lanes),
                lambda q: source[offset + start + q],
            )
        turn = min(_TURN, self.lanes)
        for low in range(0, size, turn):
            self._turned(names, acc, range(low, min(low + turn, size)), row, target)

    def _turned(self, names: Names, acc: Any, columns: range, row: Any, target: Any) -> None:
        """Store some columns of the sums as rows of Y."""
        p, wide = self.problem, 1 << (len(columns) - 1).bit_length()
        every, start = T.ramp(0, 1, self.lanes), target + columns.start
        rows = None
        if heavy(p.epilogue):  # tens of instructions: not to be written out for each row, so through memory
            rows = named("rows", T.alloc_buffer((self.height * wide,), self.sums.dtype, scope="local", align=64))
        for v in range(self.vectors):
            # the columns that are missing to a power of two are the last one once more
            vectors: list[_Vector] = [(acc, (min(columns.start + q, columns.stop - 1), v)) for q in range(wide)]
            step = wide
            while step > 1:
                vectors = self._interleaved(vectors)
                step //= 2
            for j, (buffer, at) in enumerate(vectors):
                if rows is not None:
                    T.buffer_store(rows, buffer[(*at, every)], [T.ramp((v * wide + j) * self.lanes, 1, self.lanes)])
                    continue
                for i in range(self.lanes // wide):
                    r = v * self.lanes + j * (self.lanes // wide) + i
                    with lanes(len(columns)) as lane:
                        place, value = start + r * p.pitch + lane, buffer[(*at, i * wide + lane)]
                        T.buffer_store(names.y, final(p, names, value, row + r, place), [place])
        if rows is not None:
            with serial("r", self.height) as r, lanes(len(columns)) as lane:
                place = start + r * p.pitch + lane
                T.buffer_store(names.y, final(p, names, rows[r * wide + lane], row + r, place), [place])

    def _interleaved(self, vectors: Sequence[_Vector]) -> list[_Vector]:
        """One stage: vector i and the one half of them further, lane by lane, as two new vectors."""
        half, width = len(vectors) // 2, self.lanes
        turn = named("turn", T.alloc_buffer((len(vectors), width), self.sums.dtype, scope="local"))
        every = T.ramp(0, 1, width)
        for i in range(half):
            pair = [buffer[(*at, every)] for buffer, at in (vectors[i], vectors[i + half])]
            for part in range(2):
                order = [lane // 2 + part * width // 2 + (lane % 2) * width for lane in range(width)]
                T.buffer_store(turn, T.Shuffle(pair, order), [2 * i + part, every])
        return [(turn, (i,)) for i in range(len(vectors))]


def _most(problem: Problem, core: Core, vectors: int) -> int:
    """Outputs of a group that leave registers for w and X. Words are widened from bytes, in some more of them."""
    if core.loads_first:
        return max((core.registers - vectors) // (vectors + 1), 1)
    words = problem.dtype != "float32" and core.dot is not None and core.dot.group == 1
    return (core.registers - vectors - 1 - 4 * words) // vectors


def _emit(problem: Problem, weight: FloatArray, core: Core, config: Config, symbol: str) -> Code:
    sums, vectors, listed = arithmetic(problem, core), config["panel"], bool(config["list"])
    matrix = sums.matrix(weight)
    live, height = live_columns(matrix, not listed), vectors * core.lanes
    view = operand(problem, live, sums.group)
    panels = pack_rows(matrix, height, not listed)
    work = np.diff(panels.at)
    bounds = shares(work, 1, min(_threads(problem, core, float(work.sum()) * height), len(work)))
    # no rounds: rows of Y are stored in vectors of any length, for which there is no such instruction
    made = Builder(problem, Cut(view, tiling(problem.n, core.lanes, 1), (0, problem.m)), maximum=core.maximum)
    values, made.shift = made.constant(panels.values), made.optional(sums.shift(weight))
    stride, table = problem.n, None
    if sums.integer:
        stride = -(-problem.n // core.lanes) * core.lanes
        offsets = np.arange(matrix.shape[1]) * stride
    else:
        offsets = view.offsets
    if listed or not problem.pointwise:
        table = made.constant((offsets[panels.columns] if listed else offsets).astype(np.int32))
    kernel = _Kernel(
        problem=problem,
        sums=sums,
        view=view,
        lanes=core.lanes,
        vectors=vectors,
        most=_most(problem, core, vectors),
        parts=len(bounds) - 1,
        k=matrix.shape[1],
        stride=stride,
        values=values,
        table=table,
        at=made.constant(panels.at.astype(np.int32)) if listed else None,
        bounds=made.constant(np.array(bounds, np.int32)),
        channels=made.chosen(),
    )
    return made.code(symbol, kernel.write)


def _space(problem: Problem, weight: FloatArray, core: Core) -> Sequence[Config]:
    """The four that the estimate likes best: panels of 1, 2 and 4 vectors, whole and with dead columns left out."""
    if why := unsuited(problem, dtypes=("float32", "int8"), pointwise=problem.dtype != "float32"):
        return refuse(why)
    if not 1 < problem.n <= MAX_OUTPUTS or problem.k < 1:
        return refuse(f"it computes 2 to {MAX_OUTPUTS} columns, and this has {problem.n}")
    if problem.n % core.lanes == 0:
        return refuse(f"{problem.n} columns fill registers of {core.lanes} lanes: other families waste no lane either")
    matrix, configs = arithmetic(problem, core).matrix(weight), []
    for vectors in (2, 4, 1):
        height = vectors * core.lanes
        if height > problem.m:
            continue
        configs.append({"panel": vectors, "list": 0})
        if entries(matrix, height, False) <= MAX_FILL * entries(matrix, height, True):
            configs.append({"panel": vectors, "list": 1})
    if not configs:
        return refuse(f"it needs {core.lanes} rows, and this weight has {problem.m}")
    return sorted(configs, key=lambda config: _estimate(problem, weight, core, config))[:4]


def _estimate(problem: Problem, weight: FloatArray, core: Core, config: Config) -> float:
    """entries x (the slowest of FMAs, loads, latency, bytes of W) for each group, + turning and storing."""
    sums, vectors, listed = arithmetic(problem, core), config["panel"], bool(config["list"])
    matrix, height = sums.matrix(weight), vectors * core.lanes
    computed = entries(matrix, height, not listed)
    view = operand(problem, live_columns(matrix, not listed), sums.group)
    panels, cycles = -(-problem.m // height), 0.0
    per_panel = computed / panels * height * 4
    near = per_panel < core.l2_bytes / 2 and not cost.cold(problem, core)
    bandwidth, rates = core.rates.l2_bytes if near else core.rates.far_bytes, core.rates
    for group in groups(view.width, _most(problem, core, vectors)):
        step = cost.together(
            vectors * group.size / rates.fmas,
            (vectors + group.size) / rates.loads,
            rates.fma_latency,
            height * 4 / bandwidth,
        )
        if core.steps > 1:
            elements = -(-group.size // core.lanes) if core.by_element else group.size
            each = cost.step(core, vectors * group.size, vectors, elements, 5.0, rates.fma_latency)
            step = cost.together(each, height * 4 / bandwidth)
        turned = panels * height / core.lanes * group.size * (4.0 + core.lanes / min(_TURN, core.lanes))
        cycles += group.count * view.height * (computed * step + turned + panels * 10.0)
    made = Cut(view, tiling(problem.n, core.lanes, 1), (0, problem.m))
    cycles += cost.staging(problem, made) + (matrix.shape[1] * problem.n / 8 if sums.integer else 0.0)
    done = cost.finishing(problem.epilogue, problem.m * problem.n / 8)
    threads = _threads(problem, core, float(computed * height))
    regions = 6 * rates.call if threads > 1 else 0.0
    return (rates.call + regions + problem.batch * (cycles + done) / threads) / rates.cycles_per_ms


def _threads(problem: Problem, core: Core, elements: float) -> int:
    """1 where to wake other threads costs as much as to multiply with so many elements of W."""
    return threads_for(problem, elements * problem.n * problem.batch / core.lanes / core.rates.fmas)


@family("rowlanes", kind="cpu", space=_space, estimate=_estimate, dense=lambda weight, config: not config["list"])
def emit(problem: Problem, weight: FloatArray, core: Core, config: Config, symbol: str) -> Code:
    """Rows of the weight in the lanes, for few outputs: no lane is wasted where n is no multiple of a vector.

    config: panel, vectors of rows at once; list, 1 where columns that are dead in a whole panel are left out. Raises
    ValueError for a depthwise convolution or a weight with fewer rows than a panel.

    Example:
        >>> p = Problem("linear", 32, 8, 49, (8, 49), (32, 49))
        >>> code = emit(p, np.ones((32, 8), np.float32), Core("avx512", 16, 32), {"panel": 2, "list": 0}, "product")
        >>> [c.shape for c in code.constants]
        [(256,), (2,)]
    """
    if problem.op == "depthwise" or problem.m < config["panel"] * core.lanes:
        raise ValueError(f"family rowlanes cannot compute {problem.op} of {problem.m} rows with {dict(config)}")
    return _emit(problem, weight, core, config, symbol)
