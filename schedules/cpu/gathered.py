"""An unstructured matrix of int8 times a few columns: the permuted family's steps, in wide windows, as one stream.

Before:
    for m: for k with W[m, k] != 0:  Y[m] += W[m, k] * X[k]

After, with a slice of L rows, one in each lane, and the other loops as in narrow.py:
    for every step of the slice:
        place, w = the next 4 L places and 4 L codes, neighbours in memory
        for side:  acc[side] += dot(permute(T[side][base ... base + window], place), w)
Each weight is used once for each side, so that the time is that of reading it: a code and its place are 2 bytes, and a
wide window fills more of the lanes (see windows.py), with 10 % of the weights left 88 % where a window of 64 bytes that
begins at multiples of 32 fills 68 %. Windows may begin anywhere: X lies in the nearest cache, the weights do not. The
steps are asked for some time before they are read. Codes of 4 bits are two a byte, those of a pair of steps.

Registers: a sum for each side, or some chains of them for few sides; places, codes, a window, what is gathered.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.tirx.script import builder as T

from tesa.schedules.cpu import cost
from tesa.schedules.cpu.cut import shares, threads_for
from tesa.schedules.cpu.epilogue import Names
from tesa.schedules.cpu.loops import serial, span
from tesa.schedules.cpu.narrow import (
    HALF,
    LINE,
    MAX_SIDES,
    SLOWER,
    Found,
    Narrow,
    Sums,
    fits,
    half,
    halves,
    prefetch,
    sides_of,
    small,
    streams_of,
    unfit,
)
from tesa.schedules.cpu.windows import GROUP, Steps, pack
from tesa.schedules.refusal import NO_GATHER, refuse, too_full
from tesa.schedules.registry import family
from tesa.schedules.types import Code, Config, Core, FloatArray, Permute, Problem

_DENSEST = 0.6
"""Share of non-zeros above which two bytes for each of them are more than one for every element."""

AHEAD = 4096
"""Bytes from what is read to what is asked for."""

_TURN = 4
"""Steps that are written out."""

_SAMPLED = 3  # slices from which an estimate learns how many steps there are


def _gathers(core: Core) -> tuple[Permute, int] | None:
    """The permutation of bytes, and of how many registers the widest window is; None where the core has none."""
    for found in (core.permute_bytes, core.permute):
        known = [count for count, _ in found.intrinsics if count > 1] if found is not None and found.in_bytes else []
        if found is not None and known:
            return found, max(known)
    return None


def _window(core: Core) -> int:
    found = _gathers(core)
    return 0 if found is None else found[1] * GROUP * core.lanes


def _space(problem: Problem, weight: FloatArray, core: Core) -> Sequence[Config]:
    if why := unfit(problem, core) or too_full(int(np.count_nonzero(weight)), weight.size, _DENSEST):
        return refuse(why)
    if not _gathers(core):
        return refuse(NO_GATHER)
    if sides_of(problem) > core.registers // 2:
        return refuse(f"it keeps up to {core.registers // 2} columns in registers, and this has {sides_of(problem)}")
    bits = (HALF, 8) if small(problem, weight) else (8,)
    streams = streams_of(problem, core)
    return tuple(
        {"bits": size, "align": align, "streams": count} for size in bits for count in streams for align in (1, LINE)
    )


def _steps(weight: FloatArray, core: Core, config: Config) -> float:
    """Steps of all slices, from a sample of them."""
    order = np.argsort(-np.count_nonzero(weight, axis=1), kind="stable")
    slices = -(-len(order) // core.lanes)
    sample = np.unique(np.linspace(0, slices - 1, _SAMPLED).astype(np.int64))
    chosen = np.concatenate([order[s * core.lanes : (s + 1) * core.lanes] for s in sample])
    return len(pack(weight[chosen], core.lanes, _window(core), config["align"]).bases) * slices / len(sample)


def _step(core: Core, sides: int, config: Config) -> float:
    """Cycles of a step: a window, a permutation and a product for each side. One of two registers takes two cycles."""
    if core.steps == 1:
        return 3.0 + 2.0 * sides * (1.0 if config["align"] == LINE else 1.4)
    found = _gathers(core)
    registers = 0 if found is None else found[1]
    each = cost.step(core, 2.0 * sides, 2.0, float(sides * registers), 3.0, 0.0)
    return each + sides * 0.5 * (registers / 2)


def _threads(problem: Problem, steps: float) -> int:
    return threads_for(problem, steps * (4 + 2 * sides_of(problem)))


def _estimate(problem: Problem, weight: FloatArray, core: Core, config: Config) -> float:
    """The larger of reading the steps and of two instructions for each step and side; the copy of X and the stores."""
    steps, rates, sides = _steps(weight, core, config), core.rates, sides_of(problem)
    nbytes = steps * core.lanes * GROUP * (1 + config["bits"] / 8)
    cold = cost.cold(problem, core)
    read = nbytes / cost.weight_rate(problem, core) * (SLOWER[config["streams"]] if cold else 1.0)
    work = steps * _step(core, sides, config)
    strided = problem.n > 1 and not problem.features_last
    moved = sides * (problem.k * (1.0 if strided else 0.05) + problem.m * 1.5)
    done = cost.finishing(problem.epilogue, sides * problem.m / (problem.n if strided else core.lanes))
    threads = _threads(problem, steps)
    regions = 2 * rates.call if threads > 1 else 0.0
    return float(rates.call + regions + cost.together(read, work) / threads + moved + done) / rates.cycles_per_ms


@dataclass(frozen=True)
class _Stream:
    """The steps as bytes. A unit is a step, or with codes of 4 bits a pair of them: places, then codes.

    Slice i is in group i // streams and in stream i % streams. data: (streams, units, nbytes); bases: (streams, units,
    steps of a unit), where the windows begin; starts: (groups + 1,), the units of each group, the same in each stream;
    rows: (slices, lanes), whole groups.
    """

    data: NDArray[np.uint8]
    bases: NDArray[np.uint16] | NDArray[np.int32]
    starts: NDArray[np.int32]
    rows: NDArray[np.int32]


def _stream(steps: Steps, bits: int, streams: int) -> _Stream:
    each, lengths, lanes = 8 // bits, np.diff(steps.starts), steps.rows.shape[1]
    order = np.argsort(-lengths, kind="stable")  # slices of a group are as long as the longest of them
    missing = -len(lengths) % streams
    rows = np.concatenate([steps.rows[order], np.full((missing, lanes), -1, np.int32)])
    units = -(-np.concatenate([lengths[order], np.zeros(missing, np.int32)]) // each)
    starts = np.concatenate([[0], np.cumsum(units.reshape(-1, streams).max(axis=1))])
    width, count = lanes * GROUP, max(int(starts[-1]), 1) * each
    places = np.zeros((streams * count, width), np.uint8)
    values, bases = np.zeros(places.shape, np.int8), np.zeros(len(places), np.int32)
    total, number = int(steps.starts[-1]), np.argsort(order)
    first = number % streams * count + starts[number // streams] * each
    target = np.arange(total) + np.repeat(first - steps.starts[:-1], lengths)
    places[target], values[target] = (a[:total].reshape(total, width) for a in (steps.places, steps.values))
    bases[target] = steps.bases[:total]
    codes = values.view(np.uint8) if each == 1 else halves(values.reshape(-1, 2, width), 1)
    data = np.concatenate([places.reshape(-1, each * width), codes.reshape(-1, width)], axis=1)
    small_ = bases.astype(np.uint16) if bases.max() < 1 << 16 else bases
    return _Stream(
        data.reshape(streams, count // each, -1), small_.reshape(streams, -1, each), starts.astype(np.int32), rows
    )


class _Kernel:
    """Writes one kernel. Make it, then emit()."""

    def __init__(self, problem: Problem, weight: FloatArray, core: Core, config: Config) -> None:
        found = _gathers(core)
        assert found is not None  # see emit
        self.p, self.core, (self.permute, self.registers) = problem, core, found
        self.weight = weight
        steps = pack(weight, core.lanes, _window(core), config["align"])
        self.streams, self.stream = config["streams"], _stream(steps, config["bits"], config["streams"])
        self.each = 8 // config["bits"]
        work = np.diff(self.stream.starts).astype(np.int64)
        threads = min(_threads(problem, float(work.sum() * self.each * self.streams)), len(work))
        rows, bounds = self.stream.rows, shares(work, 1, threads)
        self.narrow = Narrow(problem, core, config["bits"], len(rows), rows, bounds, _window(core))

    def emit(self, symbol: str) -> Code:
        s, (builder, rows, limits) = self.stream, self.narrow.builder(self.weight)
        self.data, self.bases = builder.constant(s.data.reshape(-1)), builder.constant(s.bases.reshape(-1))
        self.starts = builder.constant(s.starts)

        def write(names: Names) -> None:
            self.narrow.write(names, rows, limits, lambda copy, group: self._group(names, copy, group))

        return builder.code(symbol, write)

    def _group(self, names: Names, copy: Any, group: Any) -> Found:
        sums = Sums.zero(self.streams, self.narrow.sides, self.core)
        starts, turn = names.constants[self.starts], max(_TURN // self.each // self.streams, 1)
        first, count = T.Bind(starts[group]), T.Bind(starts[group + 1] - starts[group])
        with serial("many", T.truncdiv(count, T.int32(turn))) as many:
            for i in range(turn):
                for which in range(self.streams):
                    self._unit(names, copy, sums, which, first + many * turn + i, i * self.each)
        if turn > 1:
            with span("unit", T.truncdiv(count, T.int32(turn)) * turn, count) as unit:
                for which in range(self.streams):
                    self._unit(names, copy, sums, which, first + unit, 0)
        return [(group * self.streams + which, sums.total(which)) for which in range(self.streams)]

    def _unit(self, names: Names, copy: Any, sums: Sums, which: int, unit: Any, number: int) -> None:
        """A unit of one of the streams."""
        _, units, nbytes = self.stream.data.shape
        size, unit = GROUP * self.core.lanes, unit + which * units
        data, bases = names.constants[self.data], names.constants[self.bases]
        start = T.Bind(unit * nbytes)
        for line in range(0, nbytes, LINE):
            prefetch(data, start + AHEAD + line)
        vectors = [T.Bind(data[T.ramp(start + i * size, 1, size)]) for i in range(self.each + 1)]
        for step in range(self.each):
            base = T.Bind(tirx.Cast("int32", bases[unit * self.each + step]))
            w = vectors[-1] if self.each == 1 else T.Bind(half(vectors[-1], step))
            for side in range(self.narrow.sides):
                sums.add(which, side, number + step, self._gathered(copy, side, base, vectors[step]), w)

    def _gathered(self, copy: Any, side: int, base: Any, place: Any) -> Any:
        size, found = GROUP * self.core.lanes, self.permute
        kind = f"int8x{size}"
        window = [self.narrow.vector(copy, side, base + i * size, size) for i in range(self.registers)]
        at = len(window) if found.place is None else found.place
        arguments = [tirx.reinterpret(kind, value) for value in (*window[:at], place, *window[at:])]
        return tirx.call_llvm_pure_intrin(kind, found.intrinsic(self.registers), *arguments)


@family("gathered", kind="cpu", space=_space, estimate=_estimate, layouts=("features_first", "features_last"))
def emit(problem: Problem, weight: FloatArray, core: Core, config: Config, symbol: str) -> Code:
    """An unstructured int8 matrix times a few columns: its weights are one stream, X is gathered from wide windows.

    config: bits of a code, 8 or 4; align, the windows begin at multiples of it; streams, slices at once, 1, 2 or 4,
    each read from a place of its own. constants: the rows in the order of the lanes; the steps, places and codes in
    turn (uint8); where each step's window begins, and each group's steps. Raises
    ValueError for what is no product of int8 with up to 16 columns, codes that do not fit, and a core that gathers no
    bytes.
    """
    if not fits(problem, core) or not _gathers(core) or sides_of(problem) > min(MAX_SIDES, core.registers // 2):
        raise ValueError(
            f"family gathered cannot compute {problem.dtype} {problem.op!r} of {sides_of(problem)} columns on core "
            f"{core.name}"
        )
    if config["bits"] not in (HALF, 8) or (config["bits"] == HALF and not small(problem, weight)):
        raise ValueError(f"family gathered cannot keep codes of this weight in {config['bits']} bits")
    return _Kernel(problem, weight, core, config).emit(symbol)
