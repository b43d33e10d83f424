"""The indexed form: the non-zeros of a row as values and offsets, which a warp walks along; any size of weight.

Before:
    for m, n:  Y[m, n] = epilogue(sum_k W[m, k] * X[k, n])

After, for a block of R rows and a run of columns, by R x 32 x split threads:
    row = order[...]                                              rows with about as many non-zeros stand together
    for q in the row's non-zeros, 4 at a time, q = split part:    two wide loads, the same for all of the warp
        for each of the 4:  for each vector of the thread:
            acc[vector] += value * X[offset + its columns]        one load of V columns for V multiply-adds
    the parts of a split sum are added up in shared memory
    Y[row, columns] = epilogue(acc)
The four of a step are filled up with zeros at a row's end. Registers: sums + 4 values + 4 offsets + one vector of X.

After Sputnik (Gale et al., Sparse GPU Kernels for Deep Learning, SC 2020): row swizzle and vector loads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.tirx.script import builder as T

from tesa.schedules.cpu.loops import function, lanes, serial
from tesa.schedules.gpu import clock
from tesa.schedules.gpu.arrays import (
    Arrays,
    at_least_one,
    barrier,
    elements,
    keep,
    local,
    one_kernel,
    parameters,
    shared,
    zero,
)
from tesa.schedules.gpu.ending import finish
from tesa.schedules.gpu.operand import Operand, operand, readable
from tesa.schedules.gpus import Gpu, GpuCode, Work
from tesa.schedules.registry import family
from tesa.schedules.types import Config, FloatArray, Problem

STEP = 4
"""Non-zeros that are loaded at once."""

MAX_DENSITY = 0.6
"""With more non-zeros than this share, the dense kernel is faster."""


@dataclass(frozen=True)
class Rows:
    """The rows of a weight as streams. order: (m,) rows, the longest first, whose first steps are starts (m,) and
    which have counts (m,) steps of STEP non-zeros each; values, columns: of all non-zeros, with zeros of the row's last
    column where they do not fill a step."""

    order: NDArray[np.int32]
    starts: NDArray[np.int32]
    counts: NDArray[np.int32]
    values: NDArray[np.float32]
    columns: NDArray[np.int64]


def rows_of(weight: FloatArray) -> Rows:
    """The rows of a weight (m, k) as streams.

    >>> made = rows_of(np.array([[0, 0, 3], [1, 2, 0]], np.float32))
    >>> made.order.tolist(), made.counts.tolist(), made.values.tolist()
    ([1, 0], [1, 1], [1.0, 2.0, 0.0, 0.0, 3.0, 0.0, 0.0, 0.0])
    """
    count = np.count_nonzero(weight, axis=1)
    order = np.argsort(-count, kind="stable")
    steps = -(-count[order] // STEP)
    starts = np.concatenate([[0], np.cumsum(steps)])[:-1]
    row, column = np.nonzero(weight[order])
    within = np.arange(len(row)) - np.concatenate([[0], np.cumsum(count[order])])[row]
    place = starts[row] * STEP + within
    values, columns = np.zeros(int(steps.sum()) * STEP, np.float32), np.full(int(steps.sum()) * STEP, -1, np.int64)
    values[place], columns[place] = weight[order][row, column], column
    # what fills a step up stands for the row's last column: an X that is not a number there is in the sum already
    columns = columns[np.maximum.accumulate(np.where(columns >= 0, np.arange(len(columns)), 0))]
    return Rows(order.astype(np.int32), starts.astype(np.int32), steps.astype(np.int32), values, columns)


@dataclass(frozen=True)
class _Shape:
    """The shape of a kernel: rows of a block, threads along n, vectors of a thread, lanes of one, parts of a sum."""

    rows: int
    threads: int
    vectors: int
    lanes: int
    split: int

    @property
    def columns(self) -> int:
        """Columns of a block."""
        return self.threads * self.vectors * self.lanes

    @property
    def sums(self) -> int:
        """Sums of a thread."""
        return self.vectors * self.lanes


def _shape(config: Config) -> _Shape:
    return _Shape(config["rows"], config["threads"], config["vectors"], config["lanes"], config["split"])


@dataclass(frozen=True)
class _Thread:
    """Writes the body of a thread. item: the batch item; row: its row's place in the order; part: of a split sum;
    first: its first vector of columns."""

    problem: Problem
    view: Operand
    shape: _Shape
    arrays: Arrays
    item: Any
    row: Any
    part: Any
    first: Any

    def sum_up(self, acc: Any) -> None:
        """acc = the sums of this thread's part of the row's non-zeros."""
        kinds, s = elements(self.problem), self.shape
        starts, counts, *streams = self.arrays.constants[1:]
        base = keep("base", self.item * (self.view.item // s.lanes))
        last = self.problem.n // s.lanes - 1
        # counted in vectors, so that TVM sees that a vector begins at a multiple of its lanes
        places = [
            self.view.position(f"p{v}", keep(f"p{v}", T.min(self.first + v * s.threads, last)))
            for v in range(s.vectors)
        ]
        start = keep("start", starts[self.row])
        for i in range(s.sums):
            T.buffer_store(acc, zero(kinds.sums), [i])
        read = [
            local(name, STEP, str(one.dtype)) for name, one in zip(("value", "offset", "tap"), streams, strict=False)
        ]
        x = local("x_vector", s.lanes, kinds.x)
        steps = tirx.truncdiv(counts[self.row] - self.part + (s.split - 1), T.int32(s.split))
        with serial("q", steps) as q:
            at = keep("at", start + q * s.split + self.part)
            for target, source in zip(read, streams, strict=True):
                with lanes(STEP) as lane:
                    T.buffer_store(target, source[at * STEP + lane], [lane])
            for u in range(STEP):
                value, offset, *tap = (one[u] for one in read)
                for v, place in enumerate(places):
                    if s.lanes == 1:
                        T.buffer_store(x, place.read(self.arrays.x, base, offset, *tap), [0])
                    else:
                        with lanes(s.lanes) as lane:
                            at_x = (base + place.start + offset) * s.lanes + lane
                            T.buffer_store(x, self.arrays.x[at_x], [lane])
                    for i in range(s.lanes):
                        product = T.Cast(kinds.sums, value) * T.Cast(kinds.sums, x[i])
                        T.buffer_store(acc, acc[v * s.lanes + i] + product, [v * s.lanes + i])

    def store(self, acc: Any) -> None:
        """Y = what becomes of the sums."""
        problem, s = self.problem, self.shape
        m = keep("m", self.arrays.constants[0][self.row])
        begin = keep("y_row", (self.item * problem.m + m) * (problem.n // s.lanes))
        out = local("out", s.lanes, problem.output.dtype)
        for v in range(s.vectors):
            column = self.first + v * s.threads
            with T.If(column < problem.n // s.lanes), T.Then():
                for i in range(s.lanes):
                    made = finish(problem, self.arrays, acc[v * s.lanes + i], m, (begin + column) * s.lanes + i)
                    T.buffer_store(out, made, [i])
                with lanes(s.lanes) as lane:
                    T.buffer_store(self.arrays.y, out[lane], [(begin + column) * s.lanes + lane])


def _function(problem: Problem, view: Operand, shape: _Shape, constants: Sequence[NDArray[Any]], symbol: str) -> Any:
    rows, kind = len(constants[0]), elements(problem).sums
    with function(symbol) as builder:
        arrays = parameters(problem, constants)
        with (
            T.launch_thread("blockIdx.z", problem.batch) as item,
            T.launch_thread("blockIdx.y", -(-rows // shape.rows)) as block_row,
            T.launch_thread("blockIdx.x", -(-problem.n // shape.columns)) as block_column,
            T.launch_thread("threadIdx.z", shape.split) as part,
            T.launch_thread("threadIdx.y", shape.rows) as thread_row,
            T.launch_thread("threadIdx.x", shape.threads) as thread,
        ):
            row = keep("row", block_row * shape.rows + thread_row)
            known = row if rows % shape.rows == 0 else keep("known", T.min(row, rows - 1))
            first = keep("first", block_column * (shape.threads * shape.vectors) + thread)
            one = _Thread(problem, view, shape, arrays, item, known, part, first)
            acc = local("acc", shape.sums, kind)
            one.sum_up(acc)
            if shape.split > 1:
                _add_parts(shape, acc, kind, part, thread_row * shape.threads + thread)
            with T.If(tirx.all(row < rows, part == 0)), T.Then():
                one.store(acc)
    return builder.get()


def _add_parts(shape: _Shape, acc: Any, kind: str, part: Any, thread: Any) -> None:
    """acc of part 0 = the sum of all parts' acc."""
    width = shape.rows * shape.threads
    parts = shared("parts", (shape.split - 1) * shape.sums * width, kind)
    with T.If(part > 0), T.Then():
        for i in range(shape.sums):
            T.buffer_store(parts, acc[i], [((part - 1) * shape.sums + i) * width + thread])
    barrier()
    with T.If(part == 0), T.Then():
        for other in range(shape.split - 1):
            for i in range(shape.sums):
                T.buffer_store(acc, acc[i] + parts[(other * shape.sums + i) * width + thread], [i])


def _space(problem: Problem, weight: FloatArray, gpu: Gpu) -> Sequence[Config]:
    """Shapes by their estimate, the best one first."""
    if not _applies(problem) or np.count_nonzero(weight) > MAX_DENSITY * weight.size:
        return []
    wide = 4 if problem.pointwise and problem.n % 4 == 0 else 2 if problem.pointwise and problem.n % 2 == 0 else 1
    found: list[Config] = []
    for lane_count in sorted({wide, 1}, reverse=True):
        for threads in (gpu.warp, max(gpu.warp // 4, 8)):
            for vectors in (1, 2, 4):
                if vectors > 1 and threads * lane_count * (vectors - 1) >= problem.n:
                    continue
                for rows, split in ((8, 1), (4, 2), (2, 4), (1, 8)):
                    found.append(
                        {"rows": rows, "threads": threads, "vectors": vectors, "lanes": lane_count, "split": split}
                    )
    steps = _lengths(weight)
    return sorted(found, key=lambda config: _cost(problem, steps, gpu, config))[:12]


def _refusal(problem: Problem, weight: FloatArray, _gpu: Gpu) -> str:
    """The reason why there is no kernel, "" where there is one."""
    if not _applies(problem):
        return f"it knows no {problem.dtype} {problem.op} of this window or zero"
    density = np.count_nonzero(weight) / max(weight.size, 1)
    return (
        f"{1 - density:.0%} of the weight are zeros, and it wants {1 - MAX_DENSITY:.0%}"
        if density > MAX_DENSITY
        else ""
    )


def _applies(problem: Problem) -> bool:
    if problem.dtype not in ("float32", "float16", "int8") or not readable(problem):
        return False
    return problem.dtype != "int8" or problem.x_zero == 0


def _lengths(weight: FloatArray) -> NDArray[np.int64]:
    steps: NDArray[np.int64] = -(-np.count_nonzero(weight, axis=1) // STEP)
    return steps


def _work(problem: Problem, steps: NDArray[np.int64], gpu: Gpu, shape: _Shape) -> Work:
    """The counts of a kernel; see clock.py for what they mean. steps: of each row."""
    runs = -(-problem.n // shape.columns) * problem.batch
    warps = shape.threads / gpu.warp
    products = float(steps.sum()) * STEP * runs * warps
    kinds = elements(problem)
    bytes_of_x = {"float32": 4, "float16": 2, "uint8": 1}[kinds.x]
    row = 4 + {"float32": 4, "float16": 2, "int8": 1}[kinds.weight]
    taps = 4 if not problem.pointwise else 0
    per_load = max(1.0, shape.lanes * bytes_of_x * gpu.warp / 128)
    outputs = problem.m * problem.n * problem.batch / gpu.warp
    return Work(
        fmas=products * shape.sums,
        loads=products * shape.vectors * per_load + products / STEP * (2 + taps / 4),
        stores=outputs + (outputs * shape.split if shape.split > 1 else 0),
        others=products * shape.vectors * (1 if problem.pointwise else 5) + products + outputs * 4,
        l2=products * gpu.warp * shape.sums * bytes_of_x / shape.rows + products * (row + taps) / shape.rows,
        memory=float(steps.sum()) * STEP * (row + taps)
        + (problem.k * bytes_of_x + problem.m * 4) * problem.n * problem.batch,
        registers=24 + shape.sums + 2 * STEP + shape.lanes + 3 * shape.vectors,
        ahead=float(min(STEP * shape.vectors, 8)),
    )


def _cost(problem: Problem, steps: NDArray[np.int64], gpu: Gpu, config: Config) -> float:
    shape = _shape(config)
    blocks = -(-len(steps) // shape.rows) * -(-problem.n // shape.columns) * problem.batch
    size = shape.rows * shape.threads * shape.split
    return clock.time(_work(problem, steps, gpu, shape), gpu, clock.Shape(blocks, size)).us / 1000


def _estimate(problem: Problem, weight: FloatArray, gpu: Gpu, config: Config) -> float:
    return _cost(problem, _lengths(weight), gpu, config)


@family("indexed", kind="gpu", space=_space, estimate=_estimate, quantizes=True, refusal=_refusal)
def emit(problem: Problem, weight: FloatArray, gpu: Gpu, config: Config, symbol: str) -> GpuCode:
    """The non-zeros of each row as a list of values and offsets that a warp walks along; any size of weight.

    config: rows of a block, threads along n, vectors of a thread and lanes of one, split parts of a sum. constants: the
    order of the rows, where each one's stream starts and its steps, values, offsets, and taps where X has borders.

    Example:
        >>> from tesa.schedules.gpus import GpuRates
        >>> p = Problem("linear", 2, 4, 8, (1, 4, 8), (1, 2, 8))
        >>> gpu = Gpu("one", "ptx", 1, GpuRates(1, 128, 256, 64, 1000, 500, 1 << 20))
        >>> config = {"rows": 2, "threads": 32, "vectors": 1, "lanes": 1, "split": 1}
        >>> code = emit(p, np.eye(2, 4, dtype=np.float32), gpu, config, "sp")
        >>> code.launches[0].arguments
        ('x', 'constant0', 'constant1', 'constant2', 'constant3', 'constant4', 'y')
    """
    if not _applies(problem):
        raise ValueError(f"family indexed cannot compute {problem.dtype} {problem.op} on a GPU")
    shape, view, rows = _shape(config), operand(problem), rows_of(weight)
    kind = {"float32": np.float32, "float16": np.float16, "int8": np.int8}[elements(problem).weight]
    constants = [
        rows.order,
        rows.starts,
        rows.counts,
        at_least_one(rows.values, kind),
        at_least_one(view.offsets[rows.columns] // shape.lanes, np.int32),
    ]
    if view.taps is not None:
        constants.append(at_least_one(view.taps[rows.columns], np.int32))
    work = _work(problem, rows.counts.astype(np.int64), gpu, shape)
    return one_kernel(symbol, _function(problem, view, shape, constants, symbol), problem, constants, work)
