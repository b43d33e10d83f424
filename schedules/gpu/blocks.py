"""Blocks on matrix units: a kernel multiplies only the tiles of the weight that have a non-zero.

Before:
    for j, m:  Y[m, j] = epilogue(sum_k W[m, k] * X[offset(k) + j])               j: a column, of any batch item

After, with row blocks of R rows, steps of D columns of W, and blocks of T threads for C columns of Y:
    for blocks of columns (blockIdx.x), for row blocks (blockIdx.y), those with the most steps first:
        for live steps s of the row block:                                    a loop; their number is data
            W[R, D] of s, in the order of fragments                           from memory, 16 bytes a lane
            X[D, C] of s, converted to what the unit takes                    from registers to shared memory
            the X of the next step                                            from memory to registers, under way
            for 16 x 8 tiles of the warp, for k of the unit:  sums += W * X    mma.sync, MFMA or WMMA
        Y[R, C] = epilogue(sums)

The pattern is data: three arrays say which tiles there are, where their rows of X lie, and what the weights are. So any
size takes the same small code, and tiles of 16 x 16 to 64 x 64 are the same kernel. Where every tile is live it is the
dense kernel. Registers: R C / T sums of a thread, R D / 64 words of W and D C / T elements of X under way.

Elements: float16, bfloat16 or tf32 where the problem allows such products, which are added up in float32; bytes by
bytes for int8, requantized behind the sums. A weight of which no four neighbours along k have more than two non-zeros
can go through the sparse instruction, which takes half the time.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.schedules.gpu.tiling import Steps, Tiling, live_steps, steps, two_of_four
from tesa.schedules.gpu.view import view
from tesa.schedules.gpu.writers import amd_fragments, amd_tiles, ptx_fragments, ptx_tiles
from tesa.schedules.gpus import Gpu, GpuCode, GpuText, Launch, MatrixUnit, Work
from tesa.schedules.registry import family
from tesa.schedules.types import Config, FloatArray, Problem

MOST_BYTES = 2**31 - 2**20
"""Of X and of Y: places in them have 32 bits."""

_WRITERS: dict[str, Callable[[str, Tiling, Gpu], GpuText]] = {"ptx": ptx_tiles.write, "amd": amd_tiles.write}
_ARGUMENTS: dict[str, Callable[[Tiling], tuple[str, ...]]] = {
    "ptx": ptx_tiles.tile_arguments,
    "amd": amd_tiles.tile_arguments,
}


def unit_of(problem: Problem, gpu: Gpu, sparse: bool = False) -> MatrixUnit | None:
    """The matrix instruction for a problem, None where a GPU has none."""
    kind = "int8" if problem.dtype == "int8" else problem.arithmetic
    if gpu.writer == "amd":  # whose sparse instruction has no writer
        fit = [unit for unit in gpu.matrices if unit.inputs == kind and unit.m == 16 and not unit.sparse]
        return None if sparse else max(fit, key=lambda unit: (unit.rate, unit.k), default=None)
    if problem.dtype == "int8":
        unit = gpu.matrix("int8", sparse) if sparse else gpu.matrix("uint8") or gpu.matrix("int8")
        if unit is None:
            return None
        kinds = "s32.s8.u8.s32"  # codes of X are the second factor
        return replace(unit, instruction=".".join(unit.instruction.split(".")[:-4]) + f".{kinds}", inputs="int8")
    return gpu.matrix(problem.arithmetic, sparse)


def refusal(problem: Problem, weight: FloatArray, gpu: Gpu) -> str:
    """The reason why there is no such kernel, "" where there is one."""
    if gpu.writer not in _WRITERS:
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
    unit = unit_of(problem, gpu, bool(config["sparse"]))
    if unit is None:
        raise ValueError(f"{gpu.name} has no such matrix instruction")
    depth = max(config["depth"], unit.k)
    return Tiling(problem, view(problem), unit, config["rows"], config["columns"], depth, 4 * gpu.warp)


def space(problem: Problem, weight: FloatArray, gpu: Gpu) -> Sequence[Config]:
    """The configurations, the one that is expected to be the fastest first."""
    if refusal(problem, weight, gpu):
        return ()
    return sorted(_every(problem, weight, gpu), key=lambda config: estimate(problem, weight, gpu, config))


def _every(problem: Problem, weight: FloatArray, gpu: Gpu) -> Iterator[Config]:
    sparse = unit_of(problem, gpu, True) is not None and two_of_four(weight)
    seen = set()
    for kind in (0, 1) if sparse else (0,):
        for rows in (16, 32, 64):
            for columns in (64, 128):
                for depth in (16, 32):
                    config = {"rows": rows, "columns": columns, "depth": depth, "sparse": kind}
                    made = tiling_of(problem, gpu, config)
                    key = (kind, rows, columns, made.depth)
                    if key not in seen and fits(made, gpu) and (rows == 16 or rows < 2 * problem.m):
                        seen.add(key)
                        yield config


def fits(tiling: Tiling, gpu: Gpu) -> bool:
    """Whether each thread has something to bring, and a wave has whole tiles."""
    if tiling.depth % tiling.unit.k:
        return False
    if gpu.writer == "ptx":
        return tiling.depth // tiling.per * tiling.columns >= tiling.threads
    chunks = tiling.depth // amd_fragments.lane_elements(tiling, gpu.warp) * tiling.columns
    if chunks < tiling.threads or tiling.columns // (tiling.threads // gpu.warp) < 16:
        return False
    return amd_tiles.registers(tiling, gpu) <= gpu.thread_registers


def work(problem: Problem, weight: FloatArray, gpu: Gpu, config: Config) -> Work:
    """Counts of what a configuration does."""
    tiling = tiling_of(problem, gpu, config)
    return counts(tiling, gpu, int(live_steps(weight, tiling.rows, tiling.depth).sum()))


def counts(tiling: Tiling, gpu: Gpu, live: int) -> Work:
    """Counts of what a kernel does that has so many live tiles."""
    problem, unit = tiling.problem, tiling.unit
    tiles = live * tiling.across * (tiling.depth // unit.k) * (tiling.rows // unit.m) * (tiling.columns // unit.n)
    words = live * tiling.across * tiling.depth * tiling.columns // tiling.per
    each = tiling.rows * tiling.depth * tiling.bits // 8 // (2 if unit.sparse else 1)
    x, y = (int(np.prod(shape)) for shape in (problem.x_shape, problem.y_shape))
    outputs = y * (4 if problem.output.dtype in ("float32", "int32") else 1)
    warps = tiling.threads // gpu.warp
    return Work(
        matrices=((unit, float(tiles)),),
        loads=words / gpu.warp * (1 + tiling.per) + live * tiling.across * warps * each / 512,
        stores=words / gpu.warp + y / gpu.warp,
        others=2.0 * words * tiling.per / gpu.warp,
        l2=float(live * tiling.across * (each + tiling.depth * tiling.columns * tiling.x_bytes) + outputs),
        memory=float(live * each + x * tiling.x_bytes + outputs),
        registers=min(255, 40 + tiling.rows * tiling.columns // tiling.threads + 2 * tiling.depth),
        ahead=4.0,
    )


def estimate(problem: Problem, weight: FloatArray, gpu: Gpu, config: Config) -> float:
    """Milliseconds, from the counts and the nominal rates of the GPU."""
    tiling = tiling_of(problem, gpu, config)
    return milliseconds(tiling, gpu, work(problem, weight, gpu, config), live_steps(weight, tiling.rows, tiling.depth))


def milliseconds(tiling: Tiling, gpu: Gpu, done: Work, longest: NDArray[np.int64], last: float = 0.0) -> float:
    """The same of counts. longest: steps of each row block; last: cycles in which a warp waits behind its steps."""
    rates, (unit, tiles) = gpu.rates, done.matrices[0]
    blocks = len(longest) * tiling.across
    used = min(blocks, gpu.multiprocessors)
    matrix = tiles * unit.m * unit.n * unit.k / unit.rate
    issue = (tiles + done.fmas + done.loads + done.stores + done.others) / rates.issue
    shared = (done.loads + done.stores) * 4 * gpu.warp / rates.shared_bytes
    chain = int(longest.max(initial=0)) * (rates.l2_latency + rates.shared_latency + 40)  # a step waits for its X
    cycles = max(max(matrix, issue, shared) / max(used, 1), chain + last)
    seconds = max(cycles / rates.ghz / 1e9, done.l2 / rates.l2_gbs / 1e9, done.memory / rates.memory_gbs / 1e9)
    return 1e3 * (seconds + 2e-6)


def _dense(weight: FloatArray, config: Config) -> bool:
    high, deep = -(-weight.shape[0] // config["rows"]), -(-weight.shape[1] // config["depth"])
    return bool(live_steps(weight, config["rows"], config["depth"]).sum() == high * deep)


@family("block", kind="gpu", space=space, estimate=estimate, dense=_dense, quantizes=False, refusal=refusal)
def emit(problem: Problem, weight: FloatArray, gpu: Gpu, config: Config, symbol: str) -> GpuCode:
    """Tiles that have a non-zero, on the matrix units.

    config: rows, columns of a block of threads; depth of a step; sparse 1 for the instruction that takes two of four
    weights. Raises ValueError for what has no such kernel.

    Example:
        >>> from tesa.schedules.gpus import GpuRates
        >>> name = "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"
        >>> unit = MatrixUnit(name, 16, 8, 16, "float16", "float32", 1024)
        >>> gpu = Gpu("sm_80", "ptx", 108, GpuRates(1.4, 64, 256, 64, 4000, 1555, 40 << 20), matrices=(unit,))
        >>> p = Problem("linear", 32, 32, 64, (1, 32, 64), (1, 32, 64), arithmetic="float16")
        >>> config = {"rows": 16, "columns": 64, "depth": 16, "sparse": 0}
        >>> code = emit(p, np.eye(32, dtype=np.float32), gpu, config, "tiles")
        >>> code.launches[0].grid, [constant.shape for constant in code.constants]
        ((1, 2, 1), [(2, 1, 1, 128), (2, 4), (2, 16, 1)])
    """
    reason = refusal(problem, weight, gpu)
    if reason:
        raise ValueError(f"no kernel of tiles: {reason}")
    if config["sparse"] and not two_of_four(weight):
        raise ValueError("no kernel of two in four weights: some four neighbours have more than two non-zeros")
    tiling = tiling_of(problem, gpu, config)
    found: Steps = steps(tiling, weight)
    if not fits(tiling, gpu):
        raise ValueError("no kernel of tiles: some threads would have nothing to bring, or too much")
    text = _WRITERS[gpu.writer](symbol, tiling, gpu)
    constants: tuple[NDArray[Any], ...] = (packed(tiling, found, gpu), found.blocks, found.rows)
    if "constant3" in _ARGUMENTS[gpu.writer](tiling):
        constants = (*constants, missing(weight, tiling.rows))
    constants = tuple(array if array.size else np.zeros(4, array.dtype) for array in constants)
    grid = (tiling.across, len(found.blocks), 1)
    launch = Launch(text.name, grid, (tiling.threads, 1, 1), _ARGUMENTS[gpu.writer](tiling))
    return GpuCode((text,), (launch,), constants, work=(work(problem, weight, gpu, config),))


def packed(tiling: Tiling, found: Steps, gpu: Gpu) -> NDArray[np.uint32]:
    """The tiles in the order of the writer's fragments."""
    if gpu.writer == "amd":
        return amd_fragments.pack(tiling, found.tiles, gpu.warp)
    return ptx_fragments.pack(tiling, found.tiles)


def missing(weight: FloatArray, rows: int) -> NDArray[np.int32]:
    """What the sums of each row lack where a unit of signed bytes takes X - 128, up to the last row block's end."""
    padded = np.zeros(-(-len(weight) // rows) * rows, np.int32)
    padded[: len(weight)] = 128 * weight.astype(np.int64).sum(axis=1)
    return padded
