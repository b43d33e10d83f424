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

There are three ways to a unit of NVIDIA's (tiling.WAYS). In the first, above, X waits in registers and W comes straight
to those that it is multiplied from. In the second both are copied to shared memory asynchronously, some steps ahead,
and X is converted on its way to registers. In the third, on sm_90, wgmma multiplies 64 rows of W by X from shared
memory while the threads bring what follows. The static model of time says which one is taken.

The pattern is data: three arrays say which tiles there are, where their rows of X lie, and what the weights are. So any
size takes the same small code, and tiles of 16 x 16 to 64 x 64 are the same kernel. Where every tile is live it is the
dense kernel. Registers: R C / T sums of a thread, R D / 64 words of W and D C / T elements of X under way.

Elements: float16, bfloat16 or tf32 where the problem allows such products, which are added up in float32; bytes by
bytes for int8, requantized behind the sums. A weight of which no four neighbours along k have more than two non-zeros
can go through the sparse instruction, which takes half the time.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.schedules.gpu.blocks_space import estimate, fits, refusal, shared_bytes, space, tiling_of, work
from tesa.schedules.gpu.tiling import COPIED, GROUPED, HELD, Steps, Tiling, live_steps, steps, two_of_four
from tesa.schedules.gpu.writers import (
    amd_fragments,
    amd_tiles,
    ptx_copied,
    ptx_fragments,
    ptx_grouped,
    ptx_tiles,
)
from tesa.schedules.gpus import Gpu, GpuCode, GpuText, Launch
from tesa.schedules.registry import family
from tesa.schedules.types import Config, FloatArray, Problem

_WRITERS: dict[tuple[str, int], Callable[[str, Tiling, Gpu], GpuText]] = {
    ("ptx", HELD): ptx_tiles.write,
    ("ptx", COPIED): ptx_copied.write,
    ("ptx", GROUPED): ptx_grouped.write,
    ("amd", HELD): amd_tiles.write,
}
_ARGUMENTS: dict[str, Callable[[Tiling], tuple[str, ...]]] = {
    "ptx": ptx_tiles.tile_arguments,
    "amd": amd_tiles.tile_arguments,
}


def _dense(weight: FloatArray, config: Config) -> bool:
    high, deep = -(-weight.shape[0] // config["rows"]), -(-weight.shape[1] // config["depth"])
    return bool(live_steps(weight, config["rows"], config["depth"]).sum() == high * deep)


@family("block", kind="gpu", space=space, estimate=estimate, dense=_dense, quantizes=False, refusal=refusal)
def emit(problem: Problem, weight: FloatArray, gpu: Gpu, config: Config, symbol: str) -> GpuCode:
    """Tiles that have a non-zero, on the matrix units.

    config: rows, columns of a block of threads; depth of a step; sparse 1 for the instruction that takes two of four
    weights; way and stages as of Tiling, 0 where they are missing. Raises ValueError for what has no such kernel.

    Example:
        >>> from tesa.schedules.gpus import GpuRates, MatrixUnit
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
    text = _WRITERS[gpu.writer, tiling.way](symbol, tiling, gpu)
    rows = np.concatenate([found.rows, *[found.rows[-1:]] * _PAST[tiling.way]])
    constants: tuple[NDArray[Any], ...] = (packed(tiling, found, gpu), found.blocks, rows)
    if "constant3" in _ARGUMENTS[gpu.writer](tiling):
        constants = (*constants, missing(weight, tiling.rows))
    constants = tuple(array if array.size else np.zeros(4, array.dtype) for array in constants)
    grid = (tiling.across, len(found.blocks), 1)
    shared = shared_bytes(tiling)
    launch = Launch(
        text.name,
        grid,
        (tiling.threads, 1, 1),
        _ARGUMENTS[gpu.writer](tiling),
        shared=shared * (shared > gpu.static_shared),
    )
    notes = (f"its instructions are of {gpu.name} alone: no newer device runs it",) if tiling.way == GROUPED else ()
    return GpuCode((text,), (launch,), constants, work=(work(problem, weight, gpu, config),), notes=notes)


_PAST = {HELD: 0, COPIED: 1, GROUPED: ptx_grouped.AHEAD + 1}
"""Steps behind the last one whose places of rows are read, though not what lies there."""


def packed(tiling: Tiling, found: Steps, gpu: Gpu) -> NDArray[np.uint32]:
    """The tiles in the order of the writer's fragments."""
    if gpu.writer == "amd":
        return amd_fragments.pack(tiling, found.tiles, gpu.warp)
    return (
        ptx_fragments.cores(tiling, found.tiles) if tiling.way == GROUPED else ptx_fragments.pack(tiling, found.tiles)
    )


def missing(weight: FloatArray, rows: int) -> NDArray[np.int32]:
    """The numbers that sums lack where a unit of signed bytes takes X - 128, up to the last row block's end."""
    padded = np.zeros(-(-len(weight) // rows) * rows, np.int32)
    padded[: len(weight)] = 128 * weight.astype(np.int64).sum(axis=1)
    return padded
