"""Few columns: what counts is how many bytes a weight takes, so it is a bit for each of its places and its non-zeros.

Before:
    for m, j < n:  Y[m, j] = epilogue(sum_k W[m, k] * X[k, j])                          n = 1 ... 32

After, for blocks of some warps, each of which has R rows:
    for runs of k whose part of X fits in shared memory:
        stage = X[run, :]                                                               all threads of the block
        for the R rows, for tiles of 32 B places of k, lane by lane:
            word = the bits of B of them; residue = which                               k = tile + 32 bit + residue
            for step in the tile's steps:
                if lane < count:  bit = the word's lowest one, taken out;  v = values[at + lane]
                    acc[row, j] += v * stage[32 bit + residue, j]                       for all j
                at += count, of the step: how many lanes have one
    Y[row, j] = epilogue(sum of acc[row, j] over lanes)
The words of a tile stand in the order of their number of bits, so that the lanes that still have one are the first
ones: the next values of all lanes are neighbours, and where they begin needs no count across lanes. Lane and residue
are a permutation, so that no two lanes read the same bank of the stage where n is 1.

Bytes of a place, of B = 32: 1/8 for its bit, 1/32 for the residue, 1/100 for starts and counts, and its share of the
values: in float16 1.17, 0.57 and 0.37 at 50, 80 and 90 % zeros, against 2 of the dense weight. From seven of eight
zeros on, a byte for each non-zero, its bit's number, takes less than a bit for each place: with B = 256 there are no
words but such bytes beside the values, 0.31 at 90 %, fewer steps in which lanes have nothing left, and no bit to find.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.tirx.script import builder as T

from tesa.schedules.cpu.loops import function, serial
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
from tesa.schedules.gpus import Gpu, GpuCode, Work
from tesa.schedules.registry import family
from tesa.schedules.types import Config, FloatArray, Problem

MOST = 32
"""Columns of a problem for this family."""

LANES = 32
"""Words of a tile; a warp of 64 threads has two rows side by side."""

NUMBERED = 256
"""Bits of a lane whose non-zeros have their bits' numbers beside them, and no word."""

_SIZES = {"float32": 4, "float16": 2, "uint8": 1, "int8": 1}


@dataclass(frozen=True)
class Tiles:
    """A weight in tiles of a row and 32 `bits` columns, in the order of rows and then of columns.

    words: (tiles * 32,) bits of a lane each, the fullest first, or of 256 bits the numbers of the bits, in the order of
    values; residues: (tiles * 32,) the columns' remainder by 32;
    heads: (tiles * 3,) where a tile's values begin, where its counts begin, and how many steps it has; counts: lanes
    that have a non-zero in each step; values: of all steps, LANES more behind them.
    """

    words: NDArray[Any]
    residues: NDArray[np.uint8]
    heads: NDArray[np.int32]
    counts: NDArray[np.uint8]
    values: NDArray[np.float32]
    across: int


def tiles_of(weight: FloatArray, bits: int) -> Tiles:
    """The tiles of a weight (m, k).

    >>> weight = np.zeros((1, 64), np.float32)
    >>> weight[0, [1, 33, 2]] = 7, 8, 9
    >>> made = tiles_of(weight, 8)
    >>> made.words[:3].tolist(), made.residues[:3].tolist(), made.counts.tolist(), made.values[:3].tolist()
    ([3, 1, 0], [1, 2, 0], [2, 1], [7.0, 9.0, 8.0])
    """
    m, k = weight.shape
    across = max(1, -(-k // (LANES * bits)))
    padded = np.zeros((m, across * LANES * bits), np.float32)
    padded[:, :k] = weight
    cells = padded.reshape(m * across, bits, LANES).transpose(0, 2, 1)  # tile, residue, bit
    full = np.count_nonzero(cells, axis=2)
    order = np.argsort(-full, axis=1, kind="stable")
    cells = np.take_along_axis(cells, order[:, :, None], axis=1)
    live = cells != 0
    step = np.cumsum(live, axis=2) - 1
    tile, lane, bit = np.nonzero(live)
    at = step[tile, lane, bit]
    by_step = np.lexsort((lane, at, tile))
    counts = np.zeros((m * across, bits), np.int64)
    np.add.at(counts, (tile, at), 1)
    steps = (counts > 0).sum(axis=1)
    sums = counts.sum(axis=1)
    heads = np.stack([np.cumsum(sums) - sums, np.cumsum(steps) - steps, steps], axis=1)
    values = np.concatenate([cells[tile, lane, bit][by_step], np.zeros(LANES, np.float32)])
    return Tiles(
        np.pad(bit[by_step], (0, LANES)).astype(np.uint8) if bits == NUMBERED else _words(live),
        order.reshape(-1).astype(np.uint8),
        heads.reshape(-1).astype(np.int32),
        at_least_one(counts[counts > 0], np.uint8),
        values,
        across,
    )


def _words(live: NDArray[np.bool_]) -> NDArray[Any]:
    """The bits of each lane, (tiles, 32, bits), as words."""
    bits = live.shape[2]
    kind = {8: "uint8", 16: "uint16", 32: "uint32"}[bits]
    words: NDArray[Any] = (live.astype(np.uint64) << np.arange(bits, dtype=np.uint64)).sum(axis=2).reshape(-1)
    return words.astype(kind)


@dataclass(frozen=True)
class _Shape:
    """The shape of a kernel: warps of a block, rows of a warp, bits of a word, tiles of a run of k, columns n."""

    warps: int
    rows: int
    bits: int
    run: int
    n: int

    @property
    def tile(self) -> int:
        """Columns of the weight in a tile."""
        return LANES * self.bits


def _shape(problem: Problem, config: Config) -> _Shape:
    size = _SIZES[elements(problem).x] * problem.n * LANES * config["bits"]
    across = max(1, -(-problem.k // (LANES * config["bits"])))
    return _Shape(config["warps"], config["rows"], config["bits"], max(1, min(across, _STAGE // size)), problem.n)


_STAGE = 32 * 1024
"""Bytes of the stage, at most."""


def _shared_bytes(problem: Problem, shape: _Shape) -> int:
    """Bytes of shared memory: of the stage and of the sums of all lanes."""
    stage = shape.run * shape.tile * shape.n * _SIZES[elements(problem).x]
    return stage + shape.warps * LANES * (shape.n + 1) * 4


@dataclass(frozen=True)
class _Thread:
    """Writes the body of a thread. item: of the batch; row: its first one; warp, lane: of the block."""

    problem: Problem
    shape: _Shape
    across: int
    arrays: Arrays
    item: Any
    row: Any
    warp: Any
    lane: Any

    def sum_up(self, acc: Any) -> None:
        """acc = the lane's share of all sums of the warp's rows."""
        s, kinds = self.shape, elements(self.problem)
        stage = shared("stage", s.run * s.tile * s.n, kinds.x)
        with serial("i", s.rows * s.n) as i:
            T.buffer_store(acc, zero(kinds.sums), [i])
        with serial("run", -(-self.across // s.run)) as run:
            barrier()
            self._fill(stage, run)
            barrier()
            for r in range(s.rows):
                with serial("t", T.min(self.across - run * s.run, s.run)) as t:
                    row = T.min(self.row + r, self.problem.m - 1)
                    self._tile(acc, stage, r, t, keep("tile", row * self.across + run * s.run + t))

    def _fill(self, stage: Any, run: Any) -> None:
        """stage = this run's rows of X; what lies beyond k is never read."""
        s, problem, threads = self.shape, self.problem, self.shape.warps * LANES
        total = s.run * s.tile * s.n
        with serial("i", -(-total // threads)) as i:
            at = keep("at", i * threads + self.warp * LANES + self.lane)
            place = keep("place", run * (s.run * s.tile * s.n) + at)
            with T.If(tirx.all(at < total, place < problem.k * s.n)), T.Then():
                source = place
                if problem.features_last and s.n > 1:
                    source = tirx.truncmod(place, T.int32(s.n)) * problem.k + tirx.truncdiv(place, T.int32(s.n))
                T.buffer_store(stage, self.arrays.x[self.item * (problem.k * s.n) + source], [at])

    def _tile(self, acc: Any, stage: Any, r: int, t: Any, tile: Any) -> None:
        """acc += what the lane has in a tile."""
        words, residues, heads, counts, values = self.arrays.constants
        numbered = self.shape.bits == NUMBERED
        word = local("word", 1, "uint32")
        if not numbered:
            T.buffer_store(word, T.Cast("uint32", words[tile * LANES + self.lane]), [0])
        base = keep("base", t * self.shape.tile + T.Cast("int32", residues[tile * LANES + self.lane]))
        at = local("value_at", 1, "int32")
        T.buffer_store(at, heads[tile * 3], [0])
        count = keep("count_at", heads[tile * 3 + 1])
        with serial("step", heads[tile * 3 + 2]) as step:
            have = keep("have", T.Cast("int32", counts[count + step]))
            with T.If(self.lane < have), T.Then():
                own = at[0] + self.lane
                bit = T.Cast("int32", words[own]) if numbered else _lowest(word)
                self._product(acc, stage, r, keep("k", (base + bit * LANES) * self.shape.n), values[own])
            T.buffer_store(at, at[0] + have, [0])

    def _product(self, acc: Any, stage: Any, r: int, place: Any, weight: Any) -> None:
        """acc += a weight times its row of the stage."""
        kind, n = elements(self.problem).sums, self.shape.n
        value = local("value", 1, kind)
        T.buffer_store(value, T.Cast(kind, weight), [0])
        for j in range(n):
            x = T.Cast(kind, stage[place + j])
            if self.problem.x_zero:
                x = x - self.problem.x_zero
            T.buffer_store(acc, acc[r * n + j] + value[0] * x, [r * n + j])

    def store(self, acc: Any) -> None:
        """Y = what becomes of the sums over all lanes, a row at a time."""
        s, kind, problem = self.shape, elements(self.problem).sums, self.problem
        parts = shared("parts", s.warps * LANES * s.n, kind)
        halves = shared("halves", s.warps * LANES, kind)
        first = self.item * (problem.m * s.n)
        for r in range(s.rows):
            for j in range(s.n):
                T.buffer_store(parts, acc[r * s.n + j], [(self.warp * s.n + j) * LANES + self.lane])
            barrier()
            # first some lanes for each column, then one
            count = max(1, min(8, LANES // (1 << (s.n - 1).bit_length())))
            with T.If(self.lane < count * s.n), T.Then():
                each = LANES // count
                T.buffer_store(halves, self._sum(parts, self.warp * s.n * LANES + self.lane * each, each), self._own())
            barrier()
            row = self.row + r
            with T.If(tirx.all(self.lane < s.n, row < problem.m)), T.Then():
                at = first + (self.lane * problem.m + row if problem.features_last else row * s.n + self.lane)
                total = self._sum(halves, self.warp * LANES + self.lane * count, count)
                T.buffer_store(self.arrays.y, finish(problem, self.arrays, total, row, at), [at])

    def _own(self) -> list[Any]:
        return [self.warp * LANES + self.lane]

    def _sum(self, source: Any, first: Any, count: int) -> Any:
        total = local("total", 1, elements(self.problem).sums)
        T.buffer_store(total, source[first], [0])
        for i in range(1, count):
            T.buffer_store(total, total[0] + source[first + i], [0])
        return total[0]


def _lowest(word: Any) -> Any:
    """The number of a word's lowest bit, which is taken out."""
    low = local("low", 1, "uint32")
    T.buffer_store(low, word[0] & (T.uint32(0) - word[0]), [0])
    T.buffer_store(word, word[0] ^ low[0], [0])
    # a power of two as float32 has its exponent in the upper bits; not every target of TVM's counts bits
    return (tirx.reinterpret("int32", T.Cast("float32", low[0])) >> 23) - 127


def _function(problem: Problem, shape: _Shape, across: int, constants: Sequence[NDArray[Any]], symbol: str) -> Any:
    block = shape.warps * shape.rows
    with function(symbol) as builder:
        arrays = parameters(problem, constants)
        with (
            T.launch_thread("blockIdx.y", problem.batch) as item,
            T.launch_thread("blockIdx.x", -(-problem.m // block)) as number,
            T.launch_thread("threadIdx.y", shape.warps) as warp,
            T.launch_thread("threadIdx.x", LANES) as lane,
        ):
            row = keep("row", (number * shape.warps + warp) * shape.rows)
            one = _Thread(problem, shape, across, arrays, item, row, warp, lane)
            acc = local("acc", shape.rows * shape.n, elements(problem).sums)
            one.sum_up(acc)
            one.store(acc)
    return builder.get()


def _refusal(problem: Problem, _weight: FloatArray, _gpu: Gpu) -> str:
    """The reason why there is no kernel, "" where there is one."""
    if not problem.pointwise:
        return f"it knows matrices, and no {problem.op} with a window"
    if problem.n > MOST:
        return f"it is for {MOST} columns at most, and there are {problem.n}"
    if problem.dtype not in ("float32", "float16", "int8"):
        return f"it knows no {problem.dtype} weights"
    return ""


def _applies(problem: Problem) -> bool:
    return problem.pointwise and problem.n <= MOST and problem.dtype in ("float32", "float16", "int8")


def _space(problem: Problem, weight: FloatArray, gpu: Gpu) -> Sequence[Config]:
    """Shapes by their estimate, the best one first."""
    if not _applies(problem):
        return []
    row = _SIZES[elements(problem).x] * problem.n * LANES
    bits = [b for b in (NUMBERED, 32, 16, 8) if row * b <= _STAGE][:3] or [8]
    every = [
        {"warps": w, "rows": r, "bits": b} for b in bits for w in (2, 4, 8) for r in (1, 2, 4) if r * problem.n <= 64
    ]
    found = [config for config in every if _shared_bytes(problem, _shape(problem, config)) <= gpu.static_shared]
    steps = {b: _steps(weight, b) for b in bits}
    return sorted(found, key=lambda config: _cost(problem, weight, gpu, config, steps[config["bits"]]))


def _steps(weight: FloatArray, bits: int) -> int:
    """Steps of all tiles together."""
    m, k = weight.shape
    across = max(1, -(-k // (LANES * bits)))
    padded = np.zeros((m, across * LANES * bits), bool)
    padded[:, :k] = weight != 0
    return int(padded.reshape(m * across, bits, LANES).sum(axis=1).max(axis=1).sum())


def _work(problem: Problem, weight: FloatArray, gpu: Gpu, shape: _Shape, steps: int) -> Work:
    kinds = elements(problem)
    tiles = problem.m * max(1, -(-problem.k // shape.tile))
    nonzeros = int(np.count_nonzero(weight))
    bytes_of_w = float(nonzeros * _SIZES[kinds.weight] + tiles * (LANES + 12) + steps)
    bytes_of_w += nonzeros if shape.bits == NUMBERED else tiles * LANES * shape.bits / 8
    x = problem.k * problem.n * _SIZES[kinds.x]
    blocks = -(-problem.m // (shape.warps * shape.rows)) * problem.batch
    filling = blocks * problem.k * problem.n / gpu.warp
    done = float(steps) * problem.batch
    sums = problem.m * problem.n * problem.batch
    return Work(
        fmas=done * problem.n,
        loads=done * (2 + (shape.bits == NUMBERED) + problem.n) + tiles * problem.batch * 5 + filling + sums * 6,
        stores=filling + sums * 6 + sums / gpu.warp,
        others=done * (6 if shape.bits == NUMBERED else 10) + tiles * problem.batch * 8 + filling * 6 + sums * 8,
        l2=bytes_of_w * problem.batch + blocks * x,
        memory=bytes_of_w + x * problem.batch + sums * 4.0,
        registers=32 + shape.rows * shape.n,
        ahead=6.0,
    )


def _cost(problem: Problem, weight: FloatArray, gpu: Gpu, config: Config, steps: int) -> float:
    shape = _shape(problem, config)
    blocks = -(-problem.m // (shape.warps * shape.rows)) * problem.batch
    stage = _shared_bytes(problem, shape)
    launch = clock.Shape(blocks, shape.warps * LANES, stage)
    return clock.time(_work(problem, weight, gpu, shape, steps), gpu, launch).us / 1000


def _estimate(problem: Problem, weight: FloatArray, gpu: Gpu, config: Config) -> float:
    return _cost(problem, weight, gpu, config, _steps(weight, config["bits"]))


@family(
    "skinny",
    kind="gpu",
    space=_space,
    estimate=_estimate,
    quantizes=True,
    layouts=("features_first", "features_last"),
    refusal=_refusal,
)
def emit(problem: Problem, weight: FloatArray, gpu: Gpu, config: Config, symbol: str) -> GpuCode:
    """Few columns: a bit for each place of the weight and its packed non-zeros, for as few bytes as can be.

    config: warps of a block, rows of a warp, bits of a lane in a tile: 8, 16 or 32 of a word, or 256. constants: words,
    residues, heads, counts, values, as Tiles has them.

    Example:
        >>> from tesa.schedules.gpus import GpuRates
        >>> p = Problem("linear", 2, 4, 1, (1, 4, 1), (1, 2, 1))
        >>> gpu = Gpu("one", "ptx", 1, GpuRates(1, 128, 256, 64, 1000, 500, 1 << 20))
        >>> code = emit(p, np.eye(2, 4, dtype=np.float32), gpu, {"warps": 4, "rows": 1, "bits": 32}, "sp")
        >>> [one.dtype.name for one in code.constants]
        ['uint32', 'uint8', 'int32', 'uint8', 'float32']
    """
    if not _applies(problem):
        raise ValueError(f"family skinny cannot compute {problem.dtype} {problem.op} of {problem.n} columns")
    made, shape = tiles_of(weight, config["bits"]), _shape(problem, config)
    if _shared_bytes(problem, shape) > gpu.static_shared:
        raise ValueError(f"family skinny has not enough shared memory for {problem.n} columns with {dict(config)}")
    kind = {"float32": np.float32, "float16": np.float16, "int8": np.int8}[elements(problem).weight]
    constants = [made.words, made.residues, made.heads, made.counts, made.values.astype(kind)]
    work = _work(problem, weight, gpu, shape, int(made.heads.reshape(-1, 3)[:, 2].sum()))
    return one_kernel(symbol, _function(problem, shape, made.across, constants, symbol), problem, constants, work)
