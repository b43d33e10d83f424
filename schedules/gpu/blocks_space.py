"""The kernels of tiles worth trying for a problem, what each does and takes, and why there may be none."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tesa.schedules.gpu.tiling import COPIED, GROUPED, HELD, Tiling, live_steps, two_of_four
from tesa.schedules.gpu.view import view
from tesa.schedules.gpu.writers import amd_fragments, amd_tiles, ptx_copied, ptx_grouped
from tesa.schedules.gpus import Gpu, MatrixUnit, Work
from tesa.schedules.types import Config, FloatArray, Problem

MOST_BYTES = 2**31 - 2**20
"""Of X and of Y: places in them have 32 bits."""


def unit_of(problem: Problem, gpu: Gpu, sparse: bool = False, way: int = HELD) -> MatrixUnit | None:
    """The matrix instruction for a problem, None where a GPU has none. An instruction of 8 rows is taken twice, as one
    of 16: their fragments lie as halves of those."""
    kind = "int8" if problem.dtype == "int8" else problem.arithmetic
    high = 64 if way == GROUPED else 16
    if gpu.writer == "amd":
        fit = [unit for unit in gpu.matrices if unit.inputs == kind and unit.m == high and unit.sparse == sparse]
        return max(fit, key=lambda unit: (unit.rate, unit.k), default=None)
    kinds = (kind, "uint8") if kind == "int8" else (kind,)
    heights = (8, 16) if high == 16 else (high,)
    fit = [unit for unit in gpu.matrices if unit.inputs in kinds and unit.m in heights and unit.sparse == sparse]
    unit = max(fit, key=lambda unit: (unit.rate, unit.k), default=None)
    if unit is None or problem.dtype != "int8" or way == GROUPED:
        return unit
    unit = replace(unit, m=16)
    # codes of X are the second factor
    return replace(unit, instruction=".".join(unit.instruction.split(".")[:-4]) + ".s32.s8.u8.s32", inputs="int8")


def refusal(problem: Problem, weight: FloatArray, gpu: Gpu) -> str:
    """The reason why there is no such kernel, "" where there is one."""
    if gpu.writer not in ("ptx", "amd"):
        return f"there is no writer of tiles for {gpu.name}"
    if problem.op not in ("linear", "conv2d"):
        return f"it knows no {problem.op}"
    if problem.dtype not in ("float32", "int8"):
        return f"it knows no {problem.dtype} weights"
    if problem.dtype == "float32" and problem.arithmetic == "float32" and unit_of(problem, gpu) is None:
        return "its matrix units multiply 16-bit reals or bytes, and the layer has to be computed in float32"
    if problem.dtype == "float32" and (problem.epilogue.scale or problem.output.dtype != "float32"):
        return "real numbers are stored as float32"
    unit = unit_of(problem, gpu)
    if unit is None or unit.m < 16:
        kind = "int8" if problem.dtype == "int8" else problem.arithmetic
        return f"{gpu.name} has no matrix instruction of 16 rows for {kind}"
    if 4 * max(int(np.prod(problem.x_shape)), int(np.prod(problem.y_shape))) > MOST_BYTES:
        return "X or Y has more than 2 GiB"
    if gpu.writer == "amd" and view(problem).columns >= 1 << 22:
        return "it has more than four million columns"
    if view(problem).columns < 4:
        return "there are fewer than four columns"
    return ""


def tiling_of(problem: Problem, gpu: Gpu, config: Config) -> Tiling:
    """The tiling of a configuration. ValueError where the GPU has no such instruction."""
    way = config.get("way", HELD)
    unit = unit_of(problem, gpu, bool(config["sparse"]), way)
    if unit is None:
        raise ValueError(f"{gpu.name} has no such matrix instruction")
    rows, columns, depth = config["rows"], config["columns"], max(config["depth"], unit.k)
    if way == GROUPED:
        unit = replace(unit, n=columns)
    threads = 4 * gpu.warp * max(1, rows // 64 if way == GROUPED else 1)
    return Tiling(problem, view(problem), unit, rows, columns, depth, threads, way, config.get("stages", 0))


def space(problem: Problem, weight: FloatArray, gpu: Gpu) -> Sequence[Config]:
    """The configurations, the one that is expected to be the fastest first."""
    if refusal(problem, weight, gpu):
        return ()
    return sorted(_every(problem, weight, gpu), key=lambda config: estimate(problem, weight, gpu, config))


def _every(problem: Problem, weight: FloatArray, gpu: Gpu) -> Iterator[Config]:
    sparse = unit_of(problem, gpu, True) is not None and two_of_four(weight)
    seen = set()
    for config in _shapes(problem, gpu, (0, 1) if sparse else (0,)):
        made = tiling_of(problem, gpu, config)
        key = (made.way, made.stages, config["sparse"], made.rows, made.columns, made.depth)
        if key not in seen and fits(made, gpu) and (made.rows == 16 or made.rows < 2 * problem.m):
            seen.add(key)
            yield config


def _shapes(problem: Problem, gpu: Gpu, kinds: Sequence[int]) -> Iterator[Config]:
    """Every combination, of which some do not fit, or come to the same."""

    def shape(rows: int, columns: int, depth: int, kind: int, way: int, stages: int) -> Config:
        return {"rows": rows, "columns": columns, "depth": depth, "sparse": kind, "way": way, "stages": stages}

    for kind in kinds:
        for rows in (16, 32, 64):
            for columns in (64, 128):
                for depth in (16, 32) if gpu.writer == "ptx" or not kind else (32, 64):
                    yield shape(rows, columns, depth, kind, HELD, 0)
                    if gpu.async_copies:
                        yield from (shape(rows, columns, depth, kind, COPIED, stages) for stages in (2, 3, 4))
    if gpu.groups and unit_of(problem, gpu, way=GROUPED) is not None:
        for rows, columns in ((64, 64), (64, 128), (128, 128), (128, 256)):
            yield from (shape(rows, columns, depth, 0, GROUPED, 0) for depth in (16, 32, 64, 128))


def fits(tiling: Tiling, gpu: Gpu) -> bool:
    """True where each thread has something to bring, and a wave has whole tiles."""
    if tiling.depth % tiling.unit.k:
        return False
    if tiling.way == COPIED:
        return ptx_copied.fits(tiling, gpu)
    if tiling.way == GROUPED:
        return ptx_grouped.fits(tiling, gpu)
    if gpu.writer == "ptx":
        return tiling.depth // tiling.per * tiling.columns >= tiling.threads
    chunks = tiling.depth // amd_fragments.lane_elements(tiling, gpu.warp) * tiling.columns
    if chunks < tiling.threads or tiling.columns // (tiling.threads // gpu.warp) < 16:
        return False
    return amd_tiles.registers(tiling, gpu) <= gpu.thread_registers


def shared_bytes(tiling: Tiling) -> int:
    """Shared memory of a block whose size is not that of two places of X alone; 0 for the others."""
    sizes = {COPIED: ptx_copied.shared_bytes, GROUPED: ptx_grouped.shared_bytes}
    return sizes[tiling.way](tiling) if tiling.way in sizes else 0


def work(problem: Problem, weight: FloatArray, gpu: Gpu, config: Config) -> Work:
    """Counts of what a configuration does."""
    tiling = tiling_of(problem, gpu, config)
    return counts(tiling, gpu, int(live_steps(weight, tiling.rows, tiling.depth).sum()))


def counts(tiling: Tiling, gpu: Gpu, live: int) -> Work:
    """Counts of what a kernel does that has so many live tiles."""
    problem, unit = tiling.problem, tiling.unit
    tiles = live * tiling.across * (tiling.depth // unit.k) * (tiling.rows // unit.m) * (tiling.columns // unit.n)
    each = tiling.rows * tiling.depth * tiling.bits // 8 // (2 if unit.sparse else 1)
    x, y = (int(np.prod(shape)) for shape in (problem.x_shape, problem.y_shape))
    outputs = y * (4 if problem.output.dtype in ("float32", "int32") else 1)
    step = _step(tiling, gpu, each)
    steps = live * tiling.across
    return Work(
        matrices=((unit, float(tiles)),),
        loads=steps * step.loads,
        copies=steps * step.copies,
        stores=steps * step.stores + y / gpu.warp,
        others=steps * step.others,
        l2=float(steps * (each + tiling.depth * tiling.columns * tiling.x_bytes) + outputs),
        memory=float(live * each + x * tiling.x_bytes + outputs),
        registers=_registers(tiling),
        ahead=4.0,
    )


def _step(tiling: Tiling, gpu: Gpu, each: int) -> Work:
    """Instructions of all warps of a block for one step, but those of the unit. each: bytes of W."""
    elements = tiling.depth * tiling.columns / gpu.warp
    words, warps = elements / tiling.per, tiling.threads // gpu.warp
    if tiling.way == COPIED:
        copied = elements / (4 if tiling.wide else 1)
        read = elements / min(4, tiling.columns // warps // 8)
        taps = 6 if tiling.view.border is not None else 0
        return Work(loads=read + warps * each / 512, copies=copied + each / 512, others=words + (3 + taps) * copied)
    if tiling.way == GROUPED:
        loads = elements / (4 if tiling.x_bytes == 1 and tiling.wide else 1)
        taps = 8 if tiling.view.border is not None else 0
        places = 0.2 if tiling.problem.pointwise else 3
        return Work(loads=loads, stores=words / 4, copies=each / 512, others=2 * words + (places + taps) * loads)
    return Work(loads=words * (1 + tiling.per) + warps * each / 512, stores=words, others=2.0 * words * tiling.per)


def _registers(tiling: Tiling) -> int:
    """Registers of a thread, about."""
    sums = tiling.rows * tiling.columns // tiling.threads
    if tiling.way == COPIED:
        return ptx_copied.registers(tiling)
    if tiling.way == GROUPED:
        return ptx_grouped.registers(tiling)
    return min(255, 40 + sums + 2 * tiling.depth)


def estimate(problem: Problem, weight: FloatArray, gpu: Gpu, config: Config) -> float:
    """Milliseconds, from the counts and the nominal rates of the GPU."""
    tiling = tiling_of(problem, gpu, config)
    return milliseconds(tiling, gpu, work(problem, weight, gpu, config), live_steps(weight, tiling.rows, tiling.depth))


def milliseconds(tiling: Tiling, gpu: Gpu, done: Work, longest: NDArray[np.int64], last: float = 0.0) -> float:
    """The same of counts. longest: steps of each row block; last: cycles in which a warp waits behind its steps."""
    rates, (unit, tiles) = gpu.rates, done.matrices[0]
    blocks, warps = len(longest) * tiling.across, tiling.threads // gpu.warp
    used = min(blocks, gpu.multiprocessors)
    resident = max(1, gpu.resident(done.registers, tiling.threads, shared_bytes(tiling)) // warps)
    rounds = -(-blocks // (resident * gpu.multiprocessors))
    matrix = tiles * unit.m * unit.n * unit.k / unit.rate
    issue = (tiles + done.fmas + done.loads + done.copies + done.stores + done.others) / rates.issue
    shared = (done.loads + done.copies + done.stores) * 4 * gpu.warp / rates.shared_bytes
    # a step waits for its X, which was asked for some steps before, and for the others of its block
    step = rates.l2_latency / (tiling.stages - 1 if tiling.way == COPIED else 1) + rates.shared_latency + 40
    chain = rounds * (int(longest.max(initial=0)) * step + rates.l2_latency + last)
    cycles = max(max(matrix, issue, shared) / max(used, 1), chain)
    seconds = max(cycles / rates.ghz / 1e9, done.l2 / rates.l2_gbs / 1e9, done.memory / rates.memory_gbs / 1e9)
    return 1e3 * (seconds + 2e-6)
