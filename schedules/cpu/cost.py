"""Cycles that a looped kernel is expected to take on a nominal core.

How fast the nominal core is, its rates say (types.Rates). Only ratios of estimates mean anything.
"""

from dataclasses import dataclass
from math import gcd

from tesa.schedules.cpu.cut import Cut
from tesa.schedules.types import Core, Epilogue, Problem, Rates

_ACTIVATION = {
    None: 0.0, "relu": 1.0, "relu6": 1.5, "hardswish": 3.0, "tanh": 20.0, "sigmoid": 18.0, "silu": 19.0,
    "gelu_tanh": 26.0,
}  # fmt: skip
_GELU = 35.0


_EXPOSED = 0.5  # of the loads of an inner loop, what a core that runs in order waits for
_STRADDLING = 1.9
_ONCE = 2 / 3  # of the rate from beyond the second-level cache, what comes from memory itself


def straddling(core: Core) -> float:
    """Load slots of a vector that may lie in two cache lines; of a short one that is seldom."""
    return _STRADDLING if core.steps == 1 and not core.loads_first else 1 + (_STRADDLING - 1) * core.lanes / 16


def step(core: Core, products: float, weights: float, vectors: float, others: float, latency: float) -> float:
    """Cycles of a step of an inner loop.

    weights: loads of them; vectors: of X; others: instructions beside; latency: cycles that the step takes at least.
    """
    rates, loads = core.rates, (weights + vectors) / core.rates.loads
    if core.loads_first:
        counted = (products * rates.product + weights + vectors + others) / rates.issue
        return max(together(products / rates.fmas, counted), latency)
    if core.steps == 1:
        return max(products / rates.fmas, loads, latency)
    # two registers come by one load
    counted = (products + (weights + vectors) / 2 + others) / rates.issue
    least = max(together(products / rates.fmas, loads, counted), latency)
    return least + _EXPOSED * loads if core.in_order else least


@dataclass(frozen=True)
class Reads:
    """The cost of reading vectors of X.

    rates: of the core; split: load slots of a vector, 2 where it straddles cache lines; near, middle: bytes of the
    first and of the second-level cache that its rows can occupy.
    """

    rates: Rates
    split: float
    near: float
    middle: float

    def cycles(self, slice_bytes: float, step_bytes: float, in_order: bool = False) -> float:
        """Cycles to read step_bytes of a slice that is read over and over. Twice the cache's size misses always.

        in_order: row by row, which hardware fetches ahead of time, but at a lower rate.
        """
        if slice_bytes <= self.near:
            return 0.0
        if slice_bytes <= self.middle:
            missed = min(slice_bytes / self.near - 1, 1.0)
            lines = step_bytes + (self.split - 1) * 64  # vectors that straddle lines share all but one
            if in_order:
                return missed * lines / self.rates.l2_stream_bytes
            return missed * (self.rates.l2_latency + lines / self.rates.l2_bytes)
        return step_bytes / self.rates.far_bytes


def reads(problem: Problem, core: Core, cut: Cut, packed: bool) -> Reads:
    """The cost of reading a packed tile (aligned, all of the cache), or the operand as its rows lie."""
    if packed:
        return Reads(core.rates, 1.0, core.l1_bytes * 0.75, core.l2_bytes * 0.5)
    if not problem.pointwise:
        return Reads(core.rates, straddling(core), core.l1_bytes * 0.5, core.l2_bytes * 0.5)
    split = 1.0 if problem.n % core.lanes == 0 and problem.alignment >= 64 else straddling(core)
    lines = max(problem.n * 4 // 64, 1)

    def usable(sets: int) -> float:
        touched = sets // gcd(lines, sets) * (-(-cut.tiling.width * 4 // 64) + split - 1)
        return 0.75 * min(touched / sets, 1.0)

    return Reads(core.rates, split, core.l1_bytes * usable(64), core.l2_bytes * usable(1024) * 0.7)


def cold(problem: Problem, core: Core) -> bool:
    """True where weights come from memory each time: few columns, and more than the second-level cache, zeros included.

    Kernels of such layers are timed so, see tesa.measure.cold_cache.
    """
    return problem.n * problem.batch <= 16 and problem.weight_bytes > core.l2_bytes


def weight_rate(problem: Problem, core: Core) -> float:
    """Bytes of weights that a kernel reads in a cycle that does little else."""
    return core.rates.far_bytes * _ONCE if cold(problem, core) else core.rates.l2_bytes


def together(*cycles: float) -> float:
    """Things that overlap: the slowest counts, and a little of what is nearly as slow."""
    return float(sum(c**4 for c in cycles) ** 0.25)


def staging(problem: Problem, cut: Cut) -> float:
    """Cycles of one batch item's padded copy and of the way back from positions to outputs."""
    view = cut.operand
    if not view.staged:
        return 0.0
    cycles = view.copied / 16 * 3.0
    if problem.window is not None and problem.window.stride[1] > 1:
        cycles += view.copied * 0.5
    if not view.direct:
        vector = 16 if view.width >= 16 else 1 << (view.width.bit_length() - 1)
        cycles += problem.m * view.height * (-(-view.width // vector) * 2.0 + 2.0)
    return cycles


def packing(cut: Cut, source: Reads, rows: int) -> float:
    """Cycles of a packed copy of one tile with that many live rows."""
    far = 1.0 if rows * cut.tiling.width * 4 <= source.near else 2.0
    return rows * cut.tiling.vectors * (source.split + far)


def finishing(epilogue: Epilogue, vectors: float) -> float:
    """Cycles to store that many accumulators with the epilogue."""
    each = 1.5 + 0.5 * epilogue.bias + epilogue.residual
    return vectors * (each + _ACTIVATION.get(epilogue.activation, _GELU))


def on_the_way(problem: Problem) -> float:
    """Cycles that the residual and each rounding on the way to codes add to a vector of sums, see requantize.py."""
    return 3.0 * problem.epilogue.residual + 4.5 * len(problem.inner)


def total_ms(problem: Problem, core: Core, cut: Cut, tile: float) -> float:
    """All of a call, from the cycles of one tile with all its rows."""
    units = cut.tiling.count * cut.bands
    work = cut.tiling.whole * cut.bands * tile
    batches = problem.batch
    threads, parts, staged = cut.threads, cut.parts, bool(cut.operand.staged)
    if threads > 1:
        work = work / (parts if parts > 1 else min(threads, units * (1 if staged else batches))) * 1.1
    regions = 0 if threads == 1 else (batches if staged else 1)
    call = core.rates.call
    cycles = call + regions * 6 * call + batches * (staging(problem, cut) / threads + work)
    return cycles / core.rates.cycles_per_ms
