"""The static model of time: how long a kernel takes on a nominal GPU, and what bounds it, from counts alone.

A kernel takes as long as the slowest of these, each of which works at its own pace while the others do, and a launch:

    issue      warp instructions of all kinds / (issue of a multiprocessor x multiprocessors)
    fma        warp instructions that multiply and add / what the units for their kind start
    matrix     multiply-adds of matrix instructions / their rate
    shared     warp loads, copies and stores, 128 bytes each, / (bytes that shared memory gives in a cycle)
    l2         bytes / the second-level cache's rate
    memory     bytes / memory's rate
    latency    loads of a warp one after the other x the latency of where they come from / loads under way at once
    code       bytes of straight-line code that go beyond what a multiprocessor keeps / the second-level cache's rate

The first three are divided by the share of the machine that the blocks fill: whole waves of resident blocks, as a
multiprocessor with one block more takes another round. Where too few warps are resident to hide the latency of a
multiply-add, the issue is slower in proportion. Nothing here was measured; the rates are those of data sheets.

    >>> from tesa.schedules.gpus import GpuRates
    >>> gpu = Gpu("one", "ptx", 2, GpuRates(1.0, 128, 256, 64, 1000, 500, 1 << 20, launch_us=0))
    >>> found = time(Work(fmas=80_000, ahead=8), gpu, Shape(blocks=64, threads=256))
    >>> found.bound, round(found.us, 2)
    ('issue', 10.0)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tesa.schedules.gpus import Gpu, GpuCode, Work

HIDING = 2.0
"""Resident warps of a scheduler from which on the latency of arithmetic is hidden."""

MOSTLY = 0.85
"""Of the rate of memory and of the second-level cache that kernels reach."""


@dataclass(frozen=True)
class Shape:
    """The shape of a launch. blocks: in all; threads: of a block; shared: bytes of one; chain: loads of a warp that
    wait for each other, 0 to take all of a warp's loads in groups of those that are under way at once."""

    blocks: int
    threads: int
    shared: int = 0
    chain: float = 0.0


@dataclass(frozen=True)
class Time:
    """The estimated time of a launch. us: microseconds; bound: the name of what takes longest; parts: microseconds of
    each; waves: rounds of blocks; warps: that a multiprocessor holds at once."""

    us: float
    bound: str
    parts: dict[str, float]
    waves: float
    warps: int

    def __str__(self) -> str:
        return f"{self.us:.1f} us, bound by {self.bound}"


def time(work: Work, gpu: Gpu, shape: Shape, graph: bool = False) -> Time:
    """The time of one launch with these counts. graph: it is launched as part of a graph. Infinite where no block fits.

    work: counts of all threads together; shape: of the launch.
    """
    rates = gpu.rates
    resident = gpu.resident(work.registers, shape.threads, shape.shared)
    if not resident:
        return Time(math.inf, "registers", {}, 0.0, 0)
    warps = -(-shape.threads // gpu.warp)
    per_block = max(1, resident // warps)
    waves = shape.blocks / (per_block * gpu.multiprocessors)
    full = _fill(shape.blocks, per_block, gpu.multiprocessors)
    held = min(resident, warps * -(-shape.blocks // gpu.multiprocessors))
    cycle = rates.ghz * 1e3 * gpu.multiprocessors * full
    hidden = min(1.0, held / (gpu.schedulers * HIDING))
    parts = {
        "issue": _instructions(work) / (rates.issue * cycle * hidden),
        "fma": _fma(work, gpu) / (cycle * hidden),
        "matrix": sum(unit.m * unit.n * unit.k * count / unit.rate for unit, count in work.matrices) / cycle,
        "shared": (work.loads + work.copies + work.stores) * 128 / (rates.shared_bytes * cycle),
        "l2": work.l2 / (rates.l2_gbs * 1e3 * MOSTLY),
        "memory": _memory(work, gpu),
        "latency": _latency(work, gpu, shape, held, warps),
        "code": _code(work, gpu, shape),
    }
    bound = max(parts, key=lambda name: parts[name])
    launch = rates.graph_us if graph else rates.launch_us
    return Time(parts[bound] + launch, bound, parts, waves, held)


def times(code: GpuCode, gpu: Gpu, shapes: tuple[Shape, ...], graph: bool = False) -> tuple[Time, ...]:
    """The time of each launch of a kernel that says its counts."""
    return tuple(time(work, gpu, shape, graph) for work, shape in zip(code.work, shapes, strict=True))


def dense_us(m: int, k: int, n: int, gpu: Gpu, inputs: str = "float32", peak: float = 1.0) -> float:
    """Microseconds of a dense product at this share of the peak, in float32 without matrix instructions, or of those
    for `inputs`; infinite where there are none.

    >>> from tesa.schedules.gpus import GpuRates
    >>> gpu = Gpu("one", "ptx", 2, GpuRates(1.0, 128, 256, 64, 1000, 500, 1 << 20))
    >>> dense_us(128, 128, 128, gpu)
    8.192
    """
    unit = gpu.matrix(inputs) if inputs != "float32" else None
    if inputs != "float32" and unit is None:
        return math.inf
    rate = gpu.rates.fmas if unit is None else unit.rate
    return m * k * n / (rate * gpu.multiprocessors * gpu.rates.ghz * 1e3 * peak)


def _fill(blocks: int, per_block: int, multiprocessors: int) -> float:
    """The share of the machine that works, over all rounds of blocks: each multiprocessor is as busy as the busiest."""
    most = -(-blocks // multiprocessors)
    return min(1.0, blocks / (most * multiprocessors)) if most else 1.0


def _instructions(work: Work) -> float:
    matrices = sum(count for _, count in work.matrices)
    return work.fmas + work.halves + work.dots + matrices + work.loads + work.copies + work.stores + work.others


def _fma(work: Work, gpu: Gpu) -> float:
    """Cycles of one multiprocessor in its units for multiply-adds."""
    rates, cycles = gpu.rates, 0.0
    for count, rate, each in ((work.fmas, rates.fmas, 1), (work.halves, rates.halves, 2), (work.dots, rates.dots, 1)):
        if count:
            cycles += count * gpu.warp * each / rate if rate else math.inf
    return cycles


def _memory(work: Work, gpu: Gpu) -> float:
    """Microseconds of what comes from memory; what fits in the second-level cache comes from there."""
    rate = gpu.rates.l2_gbs if work.memory < gpu.rates.l2_bytes / 2 else gpu.rates.memory_gbs
    return work.memory / (rate * 1e3 * MOSTLY)


def _latency(work: Work, gpu: Gpu, shape: Shape, held: int, warps: int) -> float:
    """Microseconds in which warps only wait: their loads in groups, each the latency of a cache."""
    rounds = max(1.0, shape.blocks * warps / (held * gpu.multiprocessors))
    each = (work.loads + work.copies) / max(1, shape.blocks * warps)
    chain = shape.chain or each / max(work.ahead, 1.0)
    return rounds * (chain * gpu.rates.l2_latency + gpu.rates.memory_latency) / (gpu.rates.ghz * 1e3)


def _code(work: Work, gpu: Gpu, shape: Shape) -> float:
    """Microseconds to bring code that is longer than what a multiprocessor keeps, once for each block that runs it."""
    if work.code <= gpu.rates.code_bytes:
        return 0.0
    return work.code * shape.blocks / (gpu.rates.l2_gbs * 1e3 * MOSTLY)
