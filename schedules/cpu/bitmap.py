"""An int8 matrix times a few columns: one bit an element says where the codes lie, which are expanded in registers.

Before:
    for m: for k with W[m, k] != 0:  Y[m] += W[m, k] * X[k]

After, with a slice of L rows, one in each lane, and the other loops as in narrow.py:
    at = where the slice's codes begin
    for every group of 4 columns:
        mask = the next 4 L bits: lane by lane, which of its 4 weights are not zero
        w = expand(codes[at ...], mask);  at += count of bits of mask
        for side:  acc[side] += dot(4 bytes of T[side] in all lanes, w)
No other form reads less: a byte a weight and a bit an element. The work is that of all elements, some 4 cycles for 64
of them, so it is for weights that come from memory, and of which many are left. Codes of 4 bits are two a byte: those
of even groups in the lower halves, those of odd ones in the upper halves, each in a row of their own.

Registers: a sum for each side, or some chains of them for few sides; the expanded codes of four groups, each in another
register (on Zen 4 an expansion waits for what was in its destination); X.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.tirx.script import builder as T

from tesa.schedules.cpu import cost
from tesa.schedules.cpu.cut import shares, threads_for
from tesa.schedules.cpu.epilogue import Names
from tesa.schedules.cpu.loops import named, serial
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
    prefetch,
    sides_of,
    small,
    streams_of,
    unfit,
)
from tesa.schedules.refusal import refuse, too_full
from tesa.schedules.registry import family
from tesa.schedules.types import Code, Config, Core, FloatArray, Problem

GROUP = 4

_TURN = 8
"""Groups that are written out: their masks are a line of memory."""

_AHEAD = 2048
"""Bytes from the codes that are read to those that are asked for."""

_CYCLES = 3.4
"""Of a group, for 64 elements."""


def _applies(problem: Problem, core: Core) -> bool:
    return fits(problem, core) and bool(core.expand_bytes) and GROUP * core.lanes == 64


def _space(problem: Problem, weight: FloatArray, core: Core) -> Sequence[Config]:
    if why := unfit(problem, core) or too_full(int(np.count_nonzero(weight)), weight.size, 0.95):
        return refuse(why)
    if not _applies(problem, core):
        return refuse("it needs a CPU that expands bytes from a bitmap in registers of 64 bytes, as AVX-512 VBMI2 does")
    # codes of 4 bits are two rows for each slice: pointers for more of them would not stay in registers
    halved = [(HALF, count) for count in streams_of(problem, core, 2)] if small(problem, weight) else []
    every = [*halved, *((8, count) for count in streams_of(problem, core))]
    return tuple({"bits": bits, "streams": count} for bits, count in every)


def _threads(problem: Problem) -> int:
    return threads_for(problem, problem.m * problem.k / 64 * (_CYCLES + sides_of(problem)))


def _estimate(problem: Problem, weight: FloatArray, core: Core, config: Config) -> float:
    """The larger of reading a code a weight and a bit an element, and of the work for all elements."""
    rates, sides = core.rates, sides_of(problem)
    groups = -(-problem.m // core.lanes) * -(-problem.k // GROUP)
    nbytes = groups * 8 + np.count_nonzero(weight) * config["bits"] / 8
    cold = cost.cold(problem, core)
    read = nbytes / cost.weight_rate(problem, core) * (SLOWER[config["streams"]] if cold else 1.0)
    work = groups * (_CYCLES + (sides - 1) * 1.1)
    strided = problem.n > 1 and not problem.features_last
    moved = sides * (problem.k * (1.0 if strided else 0.05) + problem.m * (1.5 if strided else 0.1))
    done = cost.finishing(problem.epilogue, sides * problem.m / (problem.n if strided else core.lanes))
    threads = _threads(problem)
    regions = 2 * rates.call if threads > 1 else 0.0
    return float(rates.call + regions + cost.together(read, work) / threads + moved + done) / rates.cycles_per_ms


def pack(
    weight: FloatArray, lanes: int, bits: int, streams: int
) -> tuple[NDArray[np.uint64], NDArray[np.uint8], NDArray[np.int32]]:
    """The masks (slices * groups,), the codes, and where those of each slice begin, for a matrix (m, k) of codes.

    There are as many slices as fill groups of streams, and groups of columns as fill turns; behind the codes there is
    room for a vector.
    """
    m, k = weight.shape
    slices, groups = -(-m // (lanes * streams)) * streams, -(-k // (GROUP * _TURN)) * _TURN
    wide = np.zeros((slices * lanes, groups * GROUP), np.int8)
    wide[:m, :k] = weight
    flat = np.ascontiguousarray(wide.reshape(slices, lanes, groups, GROUP).transpose(0, 2, 1, 3)).reshape(
        -1, lanes * GROUP
    )
    masks = np.packbits(flat != 0, axis=1, bitorder="little").view(np.uint64).reshape(slices, groups)
    counts = np.count_nonzero(flat, axis=1).reshape(slices, groups)
    lengths = counts.sum(axis=1)
    if bits == 8:
        starts = np.concatenate([[0], np.cumsum(lengths)])
        return masks.reshape(-1), _roomy(flat[flat != 0].view(np.uint8)), starts.astype(np.int32)
    rows = [flat.reshape(slices, groups, -1)[:, parity::2] for parity in range(2)]
    lengths = np.maximum(*(np.count_nonzero(row, axis=(1, 2)) for row in rows))
    starts = np.concatenate([[0], np.cumsum(lengths)])
    codes = np.zeros(int(starts[-1]), np.uint8)
    for parity, row in enumerate(rows):
        mine = np.count_nonzero(row, axis=(1, 2))
        first = np.concatenate([[0], np.cumsum(mine)[:-1]])
        place = np.arange(int(mine.sum())) + np.repeat(starts[:-1] - first, mine)
        codes[place] |= (row[row != 0].astype(np.uint8) & 15) << (4 * parity)
    return masks.reshape(-1), _roomy(codes), starts.astype(np.int32)


def _roomy(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.concatenate([codes, np.zeros(LINE, np.uint8)])


class _Kernel:
    """Writes one kernel. Make it, then emit()."""

    def __init__(self, problem: Problem, weight: FloatArray, core: Core, config: Config) -> None:
        self.p, self.core, self.weight, self.bits = problem, core, weight, config["bits"]
        self.streams = config["streams"]
        self.packed = pack(weight, core.lanes, self.bits, self.streams)
        slices = len(self.packed[2]) - 1
        self.groups, self.apart = len(self.packed[0]) // slices, slices // self.streams
        bounds = shares(np.ones(self.apart, np.int64), 1, min(_threads(problem), self.apart))
        self.narrow = Narrow(problem, core, self.bits, slices, None, bounds, GROUP * _TURN)
        filled = np.count_nonzero(weight) / weight.size * self.bits / 8
        self.every = 1 if filled > 0.5 else 2 if filled > 0.25 else 4

    def emit(self, symbol: str) -> Code:
        builder, rows, limits = self.narrow.builder(self.weight)
        self.masks, self.codes, self.starts = (builder.constant(array) for array in self.packed)

        def write(names: Names) -> None:
            self.narrow.write(names, rows, limits, lambda copy, group: self._group(names, copy, group))

        return builder.code(symbol, write)

    def _group(self, names: Names, copy: Any, group: Any) -> Found:
        """A group of slices."""
        rows = 8 // self.bits
        sums = Sums.zero(self.streams, self.narrow.sides, self.core)
        slices = [group + which * self.apart for which in range(self.streams)]
        at = named("at", T.alloc_buffer((self.streams * rows,), "int64", scope="local"))
        for which, number in enumerate(slices):
            for row in range(rows):
                T.buffer_store(at, tirx.Cast("int64", names.constants[self.starts][number]), [which * rows + row])
        with serial("turn", self.groups // _TURN) as turn:
            masks = names.constants[self.masks]
            first = T.Bind(group * self.groups + turn * _TURN)
            places = [first + which * (self.apart * self.groups) for which in range(self.streams)]
            for place in places:
                prefetch(masks, place + _AHEAD // 8)
            where = [at[i] for i in range(self.streams * rows)]
            # four are expanded before they are used, each into a register of its own
            step = max(4 // self.streams, rows)
            for begin in range(0, _TURN, step):
                columns = range(begin, begin + step)
                found = [
                    [self._expanded(names, where, which, place, g) for which, place in enumerate(places)]
                    for g in columns
                ]
                for g, vectors in zip(columns, found, strict=True):
                    self._add(copy, sums, turn * _TURN + g, g, vectors)
            for i, place in enumerate(where):
                T.buffer_store(at, place, [i])
        return [(number, sums.total(which)) for which, number in enumerate(slices)]

    def _expanded(self, names: Names, where: list[Any], which: int, first: Any, group: int) -> Any:
        """The weights of a group of columns of one of the slices; moves on in where to the codes of the next one."""
        rows, width = 8 // self.bits, GROUP * self.core.lanes
        row = group % rows
        i, codes = which * rows + row, names.constants[self.codes]
        place, mask = T.Bind(where[i]), T.Bind(names.constants[self.masks][first + group])
        if row == 0 and group % self.every == 0:
            prefetch(codes, place + _AHEAD)
        vector = codes[T.ramp(place, 1, width)]
        vector = tirx.reinterpret(f"int8x{width}", half(vector, row) if rows > 1 else vector)
        none, bits = tirx.Broadcast(tirx.IntImm("int8", 0), width), tirx.reinterpret(f"uint1x{width}", mask)
        where[i] = place + tirx.Cast("int64", tirx.popcount(mask))
        return T.Bind(tirx.call_llvm_pure_intrin(f"int8x{width}", self.core.expand_bytes, vector, none, bits))

    def _add(self, copy: Any, sums: Sums, group: Any, number: int, vectors: list[Any]) -> None:
        """The products of the weights of a group of columns, a vector for each slice."""
        for side in range(self.narrow.sides):
            x = tirx.reinterpret("int32", self.narrow.vector(copy, side, group * GROUP, GROUP))
            every = T.Bind(tirx.Broadcast(x, self.core.lanes))
            for which, w in enumerate(vectors):
                sums.add(which, side, number, every, w)


@family("bitmap", kind="cpu", space=_space, estimate=_estimate, layouts=("features_first", "features_last"))
def emit(problem: Problem, weight: FloatArray, core: Core, config: Config, symbol: str) -> Code:
    """An int8 matrix times a few columns from a bit an element and its codes without zeros, expanded in registers.

    config: bits of a code, 8 or 4; streams, slices at once, 1, 2 or 4, each read from a place of its own. constants:
    the masks (uint64), the codes, and where those of each slice begin.
    Raises ValueError for what is no product of int8 with up to 16 columns, codes that do not fit, and a core that
    expands no bytes.
    """
    if not _applies(problem, core) or sides_of(problem) > MAX_SIDES:
        raise ValueError(
            f"family bitmap cannot compute {problem.dtype} {problem.op!r} of {sides_of(problem)} columns on core "
            f"{core.name}"
        )
    if config["bits"] not in (HALF, 8) or (config["bits"] == HALF and not small(problem, weight)):
        raise ValueError(f"family bitmap cannot keep codes of this weight in {config['bits']} bits")
    return _Kernel(problem, weight, core, config).emit(symbol)
