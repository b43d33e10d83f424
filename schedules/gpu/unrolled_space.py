"""The unrolled kernels of a GPU worth trying for a problem, what each does, and why there may be none."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from tesa.schedules.gpu.clock import Shape, time
from tesa.schedules.gpu.program import Grid
from tesa.schedules.gpu.view import View, view
from tesa.schedules.gpu.writers import ptx
from tesa.schedules.gpu.writers.registry import find_writer, has_writer
from tesa.schedules.gpus import Gpu, Work
from tesa.schedules.types import Config, FloatArray, Problem

MOST_FMAS = 300_000
"""Non-zeros of a layer: of more, half a minute of a CPU goes into the assembler and 5 MB into the library."""

MOST_BYTES = 2**31 - 2**20
"""Of X and of Y: places in them have 32 bits."""

PAIRS = {"float16": "float16", "bfloat16": "bfloat16"}


def refusal(problem: Problem, weight: FloatArray, gpu: Gpu) -> str:
    """The reason why there are no unrolled kernels for a problem, "" where there are.

    >>> from tesa.schedules.gpus import GpuRates
    >>> gpu = Gpu("g", "ptx", 1, GpuRates(1, 128, 128, 64, 1000, 500, 1 << 20))
    >>> problem = Problem("linear", 600, 600, 8, (1, 600, 8), (1, 600, 8))
    >>> refusal(problem, np.ones((600, 600), np.float32), gpu)
    'its 360,000 non-zeros are more than the 300,000 that are written out as instructions'
    """
    if not has_writer(gpu):
        return f"there is no writer of panels for {gpu.name}"
    if problem.dtype != "float32" or problem.epilogue.scale or problem.output.dtype != "float32":
        return "it computes with float32 or 16-bit reals, not with codes"
    if problem.op not in ("linear", "conv2d"):
        return f"it knows no {problem.op}"
    if problem.arithmetic in PAIRS and problem.arithmetic not in _pairs(gpu):
        return f"{gpu.name} has no multiply-adds on pairs of {problem.arithmetic}"
    if 4 * max(int(np.prod(problem.x_shape)), int(np.prod(problem.y_shape))) > MOST_BYTES:
        return "X or Y has more than 2 GiB"
    count = int(np.count_nonzero(weight))
    if count > MOST_FMAS:
        return f"its {count:,} non-zeros are more than the {MOST_FMAS:,} that are written out as instructions"
    return ""


def _pairs(gpu: Gpu) -> tuple[str, ...]:
    can = {"float16": gpu.halves, "bfloat16": gpu.bfloats}
    return tuple(kind for kind in find_writer(gpu).pairs if can[kind])


def grid_of(problem: Problem, gpu: Gpu, config: Config) -> Grid:
    """The grid of a configuration."""
    found = view(problem)
    pairs = PAIRS.get(problem.arithmetic, "")
    threads, staged = config["threads"], ""
    if config["stage"]:
        staged = "rows" if _by_rows(found) else "own"
    return Grid(problem, found, config["rows"], threads, config["groups"], pairs, staged)


def _by_rows(found: View) -> bool:
    """True where 16 bytes of a row of X are always those of four neighbouring columns."""
    return found.border is None and found.n % 4 == 0


def space(problem: Problem, weight: FloatArray, gpu: Gpu) -> Sequence[Config]:
    """The configurations, the one that is expected to be the fastest first."""
    if refusal(problem, weight, gpu):
        return ()
    every = [config for config in _every(problem, gpu) if _fits(grid_of(problem, gpu, config), gpu)]
    return sorted(every, key=lambda config: estimate(problem, weight, gpu, config))


def _every(problem: Problem, gpu: Gpu) -> Iterator[Config]:
    rows = sorted({min(rows, 1 << max(4, (problem.m - 1).bit_length())) for rows in (16, 32, 64, 128)})
    for count in rows:
        for groups in (1, 2, 4, 8):
            for threads in (64, 128, 256):
                for stage in (0, 1) if gpu.async_copies and find_writer(gpu).stages else (0,):
                    if threads * groups <= 512 and groups <= max(1, problem.k // 32):
                        yield {"rows": count, "threads": threads, "groups": groups, "stage": stage}


def _fits(grid: Grid, gpu: Gpu) -> bool:
    if grid.stage_bytes + grid.exchange_bytes > gpu.static_shared:
        return False
    if grid.threads % gpu.warp or grid.threads * grid.groups > gpu.block_threads:
        return False
    return not (grid.pairs and grid.rows > 64)


def work(problem: Problem, weight: FloatArray, gpu: Gpu, config: Config) -> Work:
    """Counts of what a configuration does."""
    grid = grid_of(problem, gpu, config)
    warps = grid.across * grid.threads // gpu.warp
    count = -(-problem.m // grid.rows)
    bounds = [problem.m * i // count for i in range(count + 1)]
    live = sum(int((weight[a:b] != 0).any(axis=0).sum()) for a, b in pairwise(bounds))
    nonzeros = int(np.count_nonzero(weight))
    loads = live * grid.columns
    copies = (loads / 4 if grid.staged == "rows" else loads) if grid.staged else 0
    ends = problem.m * grid.columns
    exchange = ends * (grid.groups - 1) * 2
    epilogue = problem.epilogue
    others = ends * (int(epilogue.bias) + 2 * int(epilogue.residual) + (12 if epilogue.activation else 0))
    others += live if grid.pairs else 0
    wide = 4 * problem.batch * problem.n
    return Work(
        fmas=0.0 if grid.pairs else nonzeros * warps,
        halves=nonzeros * warps if grid.pairs else 0.0,
        loads=(loads + exchange / 2) * warps,
        copies=copies * warps,
        stores=(ends + exchange / 2) * warps,
        others=others * warps,
        l2=live * wide + problem.m * wide,
        memory=4.0 * float(np.prod(problem.x_shape) + np.prod(problem.y_shape)) + 16.0 * nonzeros,
        code=16.0 * (nonzeros + loads + copies + ends) / max(count * grid.groups, 1),
        registers=ptx.register_limit(grid.rows * (2 if grid.pairs else 1)),
        ahead=grid.tile * (grid.depth - 1) if grid.staged else 12.0,
    )


def shape_of(grid: Grid) -> Shape:
    """The shape of the launch of all panels."""
    panels = -(-grid.problem.m // grid.rows)
    return Shape(grid.across * panels, grid.threads * grid.groups, grid.stage_bytes + grid.exchange_bytes)


def estimate(problem: Problem, weight: FloatArray, gpu: Gpu, config: Config) -> float:
    """Milliseconds, from the counts and the nominal rates of the GPU, by the static model of clock.py."""
    return time(work(problem, weight, gpu, config), gpu, shape_of(grid_of(problem, gpu, config))).us / 1e3
