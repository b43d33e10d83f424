"""An unstructured matrix of int8 times bytes: each lane gathers four live weights' bytes of X from a window.

Before:
    for m, n: for k with W[m, k] != 0:  Y[m, n] += W[m, k] * X[k, n]

After, with L rows as a slice, one in each lane, and Q columns as a tile:
    T = X with k innermost                                        (a copy, 16 x 16 bytes at a time)
    for every tile (parallel), for every slice:
        acc[q] = 0
        for every step of the slice:
            w, place = the next 4 L codes, and where in the window the bytes lie that they meet
            for q:  acc[q] += dot(permute(T[q][base .. base + window], place), w)       2 instructions
        for the slice's rows:  Y[row, tile] = epilogue(acc[:][lane])
A dense kernel needs one instruction for 4 L weights, this one two for 4 L live ones; with 30 % of the weights left,
89 % of the places are filled, with 10 % left 68 %. Weights are data: there is no code for each of them. Rows are sorted
by their number of weights, whatever order that is: rows are stored one by one.

The format is that of the sliced family, with four weights of a lane in a step; see windows.py. tesa's own.

Registers: Q sums, the codes, their places, and what is permuted.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from tvm import tirx
from tvm.tirx.script import builder as T

from tesa.schedules.cpu import cost
from tesa.schedules.cpu.cut import Cut, threads_for
from tesa.schedules.cpu.epilogue import Names, final
from tesa.schedules.cpu.gathering import gatherings
from tesa.schedules.cpu.loops import lanes, loop, named, parallel, serial, span, unrolled
from tesa.schedules.cpu.nest import Builder
from tesa.schedules.cpu.operand import operand, tiling
from tesa.schedules.cpu.permuted_last import emit_last, estimate_last, space_last
from tesa.schedules.cpu.turn import turn, turned
from tesa.schedules.cpu.windows import GROUP, Steps, pack
from tesa.schedules.refusal import NO_BYTES, refuse, too_full, unsuited
from tesa.schedules.registry import family
from tesa.schedules.types import Code, Config, Core, FloatArray, Permute, Problem

_DENSEST = 0.6
"""Share of non-zeros above which two instructions for the live weights are no less than one for all of them."""

_COLUMNS = (16, 12, 8)
"""Columns of a tile: a transpose of 16 sums by 16 goes through one register each."""

_AHEAD = 32
"""Steps from the codes that are read to those that are asked for: 2 KB of each."""

_LINE = 64
_SAMPLED = 3  # slices from which an estimate learns how many steps there are


def _gathers(core: Core) -> tuple[Permute, int] | None:
    """The permutation of bytes, and how many registers a window of 64 bytes has; None where the core has neither."""
    found = core.permute_bytes
    registers = _LINE // (4 * core.lanes)
    if found is None or core.dot is None or core.dot.group != GROUP or core.dot.intrinsic(core.lanes) is None:
        return None
    return (found, registers) if found.intrinsic(registers) and core.dot.adds and not core.dot.signed else None


def _lasts(problem: Problem, core: Core) -> bool:
    """True for products of features_last on a core that gathers bytes from some window."""
    return problem.dtype == "int8" and problem.op in ("linear", "conv2d") and bool(gatherings(core, problem.m))


def _applies(problem: Problem, core: Core) -> bool:
    if problem.features_last:
        return _lasts(problem, core)
    return problem.pointwise and problem.op in ("linear", "conv2d") and problem.dtype == "int8" and bool(_gathers(core))


def _space(problem: Problem, weight: FloatArray, core: Core) -> Sequence[Config]:
    why = unsuited(problem, dtypes=("int8",), pointwise=not problem.features_last)
    if why := why or too_full(int(np.count_nonzero(weight)), weight.size, _DENSEST):
        return refuse(why)
    if not _applies(problem, core):
        return refuse(NO_BYTES)
    if problem.features_last:
        return space_last(problem, weight, core)
    sizes = [q for q in _COLUMNS if q < problem.n] or [min(problem.n, _COLUMNS[0])]
    return tuple({"columns": q, "align": align} for align in (32, 64) for q in sizes[:2])


def _steps(weight: FloatArray, core: Core, config: Config) -> float:
    """Steps of all slices, from a sample of them."""
    order = np.argsort(-np.count_nonzero(weight, axis=1), kind="stable")
    slices = -(-len(order) // core.lanes)
    sample = np.unique(np.linspace(0, slices - 1, _SAMPLED).astype(np.int64))
    chosen = np.concatenate([order[s * core.lanes : (s + 1) * core.lanes] for s in sample])
    return len(pack(weight[chosen], core.lanes, _LINE, config["align"]).bases) * slices / len(sample)


def _threads(problem: Problem, steps: float) -> int:
    return threads_for(problem, steps * problem.n * problem.batch)


def _estimate(problem: Problem, weight: FloatArray, core: Core, config: Config) -> float:
    """A permutation and a dot product for each step and column, the copy of X, and the stores of Y."""
    if problem.features_last:
        return estimate_last(problem, weight, core, config)
    steps, rates = _steps(weight, core, config), core.rates
    tiles, columns = -(-problem.n // config["columns"]), min(config["columns"], problem.n)
    straddling = 1.0 if config["align"] == _LINE else 1.1
    each = columns * 1.3 * 2.0 / rates.fmas * straddling + 4.0
    read = 2 * GROUP * core.lanes / cost.weight_rate(problem, core)
    work = tiles * steps * cost.together(each, read)
    copied = problem.k * problem.n * (0.15 if problem.n >= 16 else 1.0)
    stored = cost.finishing(problem.epilogue, problem.m * tiles * 1.5)
    threads = _threads(problem, steps)
    cycles = rates.call + problem.batch * (work + copied + stored) / threads + (threads > 1) * 12 * rates.call
    return float(cycles) / rates.cycles_per_ms


class _Kernel:
    """Writes one kernel. Make it, then emit()."""

    def __init__(self, problem: Problem, weight: FloatArray, core: Core, config: Config) -> None:
        found = _gathers(core)
        assert found is not None  # see emit
        self.p, self.core, self.permute, self.registers = problem, core, found[0], found[1]
        self.packed: Steps = pack(weight, core.lanes, _LINE, config["align"])
        self.columns = min(config["columns"], problem.n, 16)
        self.tiles = -(-problem.n // self.columns)
        self.threads = _threads(problem, float(len(self.packed.bases)))
        # room for a window that begins at the last column; rows that lie 4096 bytes apart would share a set
        row = -(-problem.k // _LINE) * _LINE
        self.row = row + _LINE if row % 4096 == 0 else row

    def emit(self, symbol: str) -> Code:
        p, core, s = self.p, self.core, self.packed
        view = operand(p, np.ones(p.k, np.bool_))
        builder = Builder(p, Cut(view, tiling(p.n, core.lanes, 1), (0, p.m), threads=self.threads))
        self.values, self.places = builder.constant(s.values.reshape(-1)), builder.constant(s.places.reshape(-1))
        self.bases, self.starts = builder.constant(s.bases), builder.constant(s.starts)
        self.rows = builder.constant(np.maximum(s.rows, 0).reshape(-1))
        return builder.code(symbol, self._write)

    def _write(self, names: Names) -> None:
        p = self.p
        copy = named("turned", T.alloc_buffer((p.n * self.row + _LINE,), "uint8", align=64))
        with loop("item", p.batch) as item:
            turn(names.x, item * (p.k * p.n), copy, (p.k, p.n, self.row), self.threads)
            self._tiles(names, copy, item)

    def _tiles(self, names: Names, copy: Any, item: Any) -> None:
        tasks, tiles = min(self.threads, self.tiles), self.tiles
        if tasks == 1:
            with serial("tile", tiles) as tile:
                self._tile(names, copy, item, tile)
            return
        with parallel("task", tasks) as i, span("tile", i * tiles // tasks, (i + 1) * tiles // tasks) as tile:
            self._tile(names, copy, item, tile)

    def _tile(self, names: Names, copy: Any, item: Any, tile: Any) -> None:
        """All rows of the columns first ... first + Q; the last tile begins earlier where they do not fit evenly."""
        p, lanes_ = self.p, self.core.lanes
        first = T.min(tile * self.columns, p.n - self.columns) if p.n % self.columns else tile * self.columns
        whole, short = divmod(p.m, lanes_)
        with serial("slice", whole) as number:
            self._slice(names, copy, item, first, number, lanes_)
        if short:
            self._slice(names, copy, item, first, whole, short)

    def _slice(self, names: Names, copy: Any, item: Any, first: Any, number: Any, valid: int) -> None:
        p, width, columns = self.p, self.core.lanes, self.columns
        acc = named("acc", T.alloc_buffer((columns, width), "int32", scope="local", align=64))
        with unrolled("q", columns) as q:
            T.buffer_store(acc, tirx.Broadcast(T.int32(0), width), [q, T.ramp(0, 1, width)])
        starts = names.constants[self.starts]
        with span("step", starts[number], starts[number + 1]) as step:
            self._step(names, copy, acc, first, step)
        sums = self._turned(acc)
        with serial("r", valid) as r:
            m = T.Bind(names.constants[self.rows][number * width + r])
            at = T.Bind(item * (p.m * p.n) + m * p.n + first)
            with lanes(columns) as lane:
                T.buffer_store(names.y, final(p, names, sums[r, lane], m, at + lane), [at + lane])

    def _turned(self, acc: Any) -> Any:
        """The sums of a slice as rows of columns: lanes x lanes of them are turned in registers at a time."""
        width, lane = self.core.lanes, T.ramp(0, 1, self.core.lanes)
        blocks = -(-self.columns // width)
        sums = named("sums", T.alloc_buffer((width, blocks * width), "int32", scope="local", align=64))
        zero = tirx.Broadcast(T.int32(0), width)
        for block in range(blocks):
            first = block * width
            vectors = [acc[q, lane] if q < self.columns else zero for q in range(first, first + width)]
            for r, vector in enumerate(turned(vectors)):
                T.buffer_store(sums, vector, [r, T.ramp(first, 1, width)])
        return sums

    def _step(self, names: Names, copy: Any, acc: Any, first: Any, step: Any) -> None:
        width, size = self.core.lanes, 4 * self.core.lanes
        lane = T.ramp(0, 1, width)
        codes = names.constants[self.values][T.ramp(step * size, 1, size)]
        places = names.constants[self.places][T.ramp(step * size, 1, size)]
        start = first * self.row + names.constants[self.bases][step]
        w, at = T.Bind(codes), T.Bind(tirx.reinterpret(f"int8x{size}", places))
        name, dot = self.permute.intrinsic(self.registers), self.core.dot
        assert dot is not None  # see _gathers
        with unrolled("q", self.columns) as q:
            source = start + q * self.row
            window = [
                tirx.reinterpret(f"int8x{size}", copy[T.ramp(source + i * size, 1, size)])
                for i in range(self.registers)
            ]
            place = len(window) if self.permute.place is None else self.permute.place
            found = tirx.call_llvm_pure_intrin(f"int8x{size}", name, *window[:place], at, *window[place:])
            total = tirx.call_llvm_pure_intrin(
                f"int32x{width}", dot.intrinsic(width), acc[q, lane], found, tirx.reinterpret(f"int8x{size}", w)
            )
            T.buffer_store(acc, total, [q, lane])


@family(
    "permuted", kind="cpu", quantizes=False, space=_space, estimate=_estimate,
    layouts=("features_first", "features_last"),
)  # fmt: skip
def emit(problem: Problem, weight: FloatArray, core: Core, config: Config, symbol: str) -> Code:
    """An unstructured int8 matrix times bytes: lanes of rows gather what their weights meet from a window of X.

    config: columns of a tile, up to 16; align, the windows begin at multiples of it, 32 or 64. constants: the codes and
    their places in the window, (steps * 4 lanes,) each, where each step's window begins, where each slice's steps
    begin, and the row of each lane. Raises ValueError for what is no product of int8, and a core that gathers no bytes.
    """
    if not _applies(problem, core):
        raise ValueError(f"family permuted cannot compute {problem.dtype} {problem.op!r} on core {core.name}")
    if problem.features_last:
        return emit_last(problem, weight, core, config, symbol)
    if config["align"] not in (32, _LINE) or not 0 < config["columns"] <= 16:
        raise ValueError(f"family permuted cannot compute with {dict(config)}: align is 32 or 64, columns up to 16")
    return _Kernel(problem, weight, core, config).emit(symbol)
