"""The pattern is the code: every non-zero weight is one FMA instruction with the weight as its immediate.

Before:
    for j, m:  Y[m, j] = epilogue(sum_k W[m, k] * X[offset(k) + j])               j: a column, of any batch item

After, with panels of R rows, blocks of T columns and G groups of T threads:
    for blocks of columns (blockIdx.x), for panels (blockIdx.y):
        for groups g of the block, each with its part of k, for threads t:
            for every live k of the panel and the group:                                 written out
                x = X[offset(k) + j]      by a load, or from the stage in shared memory   1 of 16 registers
                a[r] += w * x             for the rows r with a non-zero w                R registers
            a[r] += those of the other groups, through shared memory                     where G > 1
            Y[r, j] = epilogue(a[r])

Registers: R sums, 16 elements of X and some addresses; a multiprocessor holds 65536 / (32 (R + 24)) warps. One load
serves as many FMAs as the panel has non-zeros in the column, R times the density: 4 are needed to keep the multipliers
busy, so that R is 64 at 90 % zeros and 128 at 95 %. All warps of a block run the same code, G parts of it, from one
instruction cache. Beyond some hundred thousand non-zeros the assembler takes too long, and other families are for that.

After SparseRT (Wang, PACT 2020).
"""

from itertools import pairwise

import numpy as np

from tesa.schedules.gpu.program import Grid, Panel, panels
from tesa.schedules.gpu.unrolled_space import estimate, grid_of, refusal, space, work
from tesa.schedules.gpu.writers.registry import arguments, find_writer
from tesa.schedules.gpu.writers.tir import write as write_tir
from tesa.schedules.gpus import Gpu, GpuCode, Launch
from tesa.schedules.registry import family
from tesa.schedules.types import Config, FloatArray, Problem


def _size(problem: Problem, weight: FloatArray, gpu: Gpu, config: Config) -> int:
    return int(np.count_nonzero(weight)) * (10 if gpu.writer == "ptx" else 1)


@family("unrolled", kind="gpu", space=space, estimate=estimate, size=_size, refusal=refusal)
def emit(problem: Problem, weight: FloatArray, gpu: Gpu, config: Config, symbol: str) -> GpuCode:
    """The pattern is the code: one FMA instruction for every non-zero weight, sums in registers.

    config: rows of a panel; threads of a group, one column each; groups that share k; stage 1 to bring X to shared
    memory by asynchronous copies. Raises ValueError for what has no such kernel.

    Example:
        >>> from tesa.schedules.gpus import GpuRates
        >>> gpu = Gpu("sm_80", "ptx", 108, GpuRates(1.4, 64, 256, 64, 4000, 1555, 40 << 20))
        >>> p = Problem("linear", 4, 8, 32, (1, 8, 32), (1, 4, 32))
        >>> config = {"rows": 16, "threads": 64, "groups": 1, "stage": 0}
        >>> code = emit(p, np.eye(4, 8, dtype=np.float32), gpu, config, "sp")
        >>> [launch.entry for launch in code.launches], code.launches[0].grid, code.launches[0].arguments
        (['sp_0'], (1, 1, 1), ('x', 'y'))
    """
    reason = refusal(problem, weight, gpu)
    if reason:
        raise ValueError(f"no unrolled kernel: {reason}")
    grid, writer = grid_of(problem, gpu, config), find_writer(gpu)
    modules = _modules(panels(grid, weight), writer.module_fmas)
    texts = tuple(writer.write(f"{symbol}_{i}", grid, some, gpu) for i, some in enumerate(modules))
    launches = tuple(
        Launch(text.name, (grid.across, len(some), 1), (grid.threads * grid.groups, 1, 1), arguments(grid), i)
        for i, (text, some) in enumerate(zip(texts, modules, strict=True))
    )
    tir = None if grid.pairs == "bfloat16" else lambda: write_tir(symbol, grid, panels(grid, weight))
    return GpuCode(texts, launches, work=(work(problem, weight, gpu, config),), tir=tir, notes=_notes(grid, texts))


def _modules(every: list[Panel], limit: int) -> list[list[Panel]]:
    """The panels in runs of about the same number of multiply-adds, `limit` at most where a panel has no more."""
    total = sum(panel.fmas for panel in every)
    count = max(1, min(len(every), -(-total // limit)))
    bounds = [len(every) * i // count for i in range(count + 1)]
    return [every[low:high] for low, high in pairwise(bounds)]


def _notes(grid: Grid, texts: tuple[object, ...]) -> tuple[str, ...]:
    if len(texts) == 1:
        return ()
    return (f"{len(texts)} modules, compiled apart and launched side by side: ptxas takes longer in larger ones",)
