"""int8 by groups of four: every live group of a weight is a dot product of bytes with the group as its immediate.

Before:
    for j, m:  Y[m, j] = epilogue(sum_k W[m, k] * X[offset(k) + j])               codes

After, with panels of R rows and blocks of T threads, each with C neighbouring columns:
    for blocks of columns (blockIdx.x), for panels (blockIdx.y), for threads t:
        for every group k .. k + 3 of the panel that has a non-zero:               written out
            x[c] = X[offset(k .. k + 3) + j + c]    C loads of four codes, turned into words of one column each
            a[r][c] += w . x[c]                     dp4a, v_dot4, for the rows r whose group has a non-zero
        Y[r, j + c] = epilogue(a[r][c])             scaled, and codes again where Y has codes

Registers: R C sums, C words of X and as many on their way. Four columns lie one behind the other where n is a multiple
of four; else, and at borders, a thread has one column. An instruction does four products, so that a group with one
non-zero costs what four cost. Units of signed bytes (AMD's before gfx11) take X - 128: what the sums lack then is data.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tesa.schedules.gpu.tiling import DotGroup, DotPanel, Tiling
from tesa.schedules.gpu.view import view
from tesa.schedules.gpu.writers import amd_dots, ptx_dots
from tesa.schedules.gpus import Gpu, GpuCode, GpuText, Launch, MatrixUnit, Work
from tesa.schedules.registry import family
from tesa.schedules.types import Config, FloatArray, Problem

MOST_DOTS = 100_000
"""Live groups of a layer: of more, the assembler takes too long."""

MODULE_DOTS = 8000
"""Instructions of a module, about: ptxas takes longer for each in a larger one."""

MOST_BYTES = 2**31 - 2**20
"""Of X and of Y: places in them have 32 bits."""

MOST_TAPS = 14
"""Rows and columns of a window, each of which takes two scalar registers of AMD's for a mask."""

_WRITE: dict[str, Callable[[str, Tiling, Sequence[DotPanel], Gpu], GpuText]] = {
    "ptx": ptx_dots.write,
    "amd": amd_dots.write,
}
_UNIT = MatrixUnit("dot", 1, 1, 4, "int8", "int32", 256)


def refusal(problem: Problem, weight: FloatArray, gpu: Gpu) -> str:
    """The reason why there is no such kernel, "" where there is one."""
    if problem.dtype != "int8":
        return "its weights are no codes of 8 bits"
    if problem.op not in ("linear", "conv2d"):
        return f"it knows no {problem.op}"
    if gpu.writer == "amd" and problem.window and sum(problem.window.kernel) > MOST_TAPS:
        return f"its window has more than {MOST_TAPS} rows and columns together"
    if gpu.writer not in _WRITE or not gpu.dots:
        return f"{gpu.name} has no dot products of bytes"
    if 4 * max(int(np.prod(problem.x_shape)), int(np.prod(problem.y_shape))) > MOST_BYTES:
        return "X or Y has more than 2 GiB"
    if view(problem).columns >= 1 << 22:
        return "it has more than four million columns"
    count = int(_groups(weight).any(axis=2).sum())
    if count > MOST_DOTS:
        return f"its {count:,} groups of four are more than the {MOST_DOTS:,} that are written out as instructions"
    return ""


def _groups(weight: FloatArray) -> NDArray[np.int8]:
    """(m, groups, 4) codes, zeros beyond k."""
    m, k = weight.shape
    padded = np.zeros((m, -(-k // 4) * 4), np.int8)
    padded[:, :k] = weight
    return padded.reshape(m, -1, 4)


def panels(weight: FloatArray, rows: int) -> list[DotPanel]:
    """The panels of a weight (m, k) of codes.

    >>> panels(np.array([[0, 0, 0, 0, 1, 2]], np.float32), 8)
    [DotPanel(first=0, rows=1, groups=(DotGroup(k=4, words=((0, 513),)),))]
    """
    groups = _groups(weight)
    words = np.ascontiguousarray(groups).view(np.uint32)[..., 0]
    found = []
    for first in range(0, len(weight), rows):
        part = words[first : first + rows]
        live = np.flatnonzero(part.any(axis=0)).tolist()
        made = tuple(
            DotGroup(4 * k, tuple((int(r), int(part[r, k])) for r in np.flatnonzero(part[:, k]))) for k in live
        )
        found.append(DotPanel(first, len(part), made))
    return found


def tiling_of(problem: Problem, config: Config) -> Tiling:
    """Rows are those that there are in a panel, so that none lies beyond the last one."""
    found = view(problem)
    each = 4 if found.border is None and found.n % 4 == 0 else 1
    return Tiling(problem, found, _UNIT, 1, each * config["threads"], 4, config["threads"])


def space(problem: Problem, weight: FloatArray, gpu: Gpu) -> Sequence[Config]:
    """The configurations, the one that is expected to be the fastest first."""
    if refusal(problem, weight, gpu):
        return ()
    return sorted(_every(problem, gpu), key=lambda config: estimate(problem, weight, gpu, config))


def _every(problem: Problem, gpu: Gpu) -> Iterator[Config]:
    for rows in (8, 16, 32):
        for threads in (64, 128):
            if (rows == 8 or rows < 2 * problem.m) and rows * tiling_of(problem, {"threads": 1}).columns <= 128:
                yield {"rows": rows, "threads": threads}


def work(problem: Problem, weight: FloatArray, gpu: Gpu, config: Config) -> Work:
    """Counts of what a configuration does."""
    tiling = tiling_of(problem, config)
    each = tiling.columns // tiling.threads
    warps = tiling.across * tiling.threads // gpu.warp
    live = np.asarray(_groups(weight).any(axis=2))
    bounds = [*range(0, len(weight), config["rows"]), len(weight)]
    groups = sum(int(live[a:b].any(axis=0).sum()) for a, b in pairwise(bounds))
    dots, outputs = int(live.sum()) * each, problem.m * each
    size = 4 if problem.output.dtype in ("float32", "int32") else 1
    return Work(
        dots=float(dots * warps),
        loads=float(4 * groups * warps),
        stores=float(outputs * warps),
        others=float((groups * (8 if each == 4 else 4) + outputs * 6) * warps),
        l2=float(4 * groups * tiling.columns * tiling.across + problem.m * problem.batch * problem.n * size),
        memory=float(np.prod(problem.x_shape) + size * np.prod(problem.y_shape) + 16 * dots),
        code=16.0 * (dots + 12 * groups + 8 * outputs) / max(len(bounds) - 1, 1),
        registers=min(255, config["rows"] * each + 40),
        ahead=8.0,
    )


def estimate(problem: Problem, weight: FloatArray, gpu: Gpu, config: Config) -> float:
    """Milliseconds, from the counts and the nominal rates of the GPU."""
    done, rates, tiling = work(problem, weight, gpu, config), gpu.rates, tiling_of(problem, config)
    blocks = tiling.across * -(-problem.m // config["rows"])
    used = min(gpu.multiprocessors, blocks)
    issue = (done.dots + done.loads + done.stores + done.others) / rates.issue
    arithmetic = done.dots * gpu.warp / rates.dots
    chain = done.loads / max(blocks * tiling.threads // gpu.warp, 1) / done.ahead * rates.l2_latency
    seconds = max(max(issue, arithmetic) / used, chain) / rates.ghz / 1e9
    return 1e3 * (max(seconds, done.l2 / rates.l2_gbs / 1e9, done.memory / rates.memory_gbs / 1e9) + 2e-6)


def _size(problem: Problem, weight: FloatArray, gpu: Gpu, config: Config) -> int:
    each = tiling_of(problem, config).columns // config["threads"]
    return int(_groups(weight).any(axis=2).sum()) * each * (10 if gpu.writer == "ptx" else 1)


@family("dots", kind="gpu", space=space, estimate=estimate, size=_size, refusal=refusal)
def emit(problem: Problem, weight: FloatArray, gpu: Gpu, config: Config, symbol: str) -> GpuCode:
    """int8: one dot product of bytes for every live group of four weights, the group as its immediate.

    config: rows of a panel; threads of a block. Raises ValueError for what has no such kernel.

    Example:
        >>> from tesa.schedules.gpus import GpuRates
        >>> from tesa.schedules.types import Output
        >>> gpu = Gpu("sm_80", "ptx", 108, GpuRates(1.4, 64, 256, 64, 4000, 1555, 40 << 20), dots=True)
        >>> p = Problem("linear", 8, 8, 64, (1, 8, 64), (1, 8, 64), dtype="int8", output=Output("int32"))
        >>> code = emit(p, np.eye(8, dtype=np.float32), gpu, {"rows": 8, "threads": 64}, "d")
        >>> code.modules[0].text.count("dp4a")
        32
    """
    reason = refusal(problem, weight, gpu)
    if reason:
        raise ValueError(f"no kernel of dot products: {reason}")
    tiling = tiling_of(problem, config)
    modules = _modules(panels(weight, config["rows"]), tiling.columns // tiling.threads)
    texts = tuple(_WRITE[gpu.writer](f"{symbol}_{i}", tiling, some, gpu) for i, some in enumerate(modules))
    arguments = ptx_dots.dot_arguments(tiling, gpu)
    launches = tuple(
        Launch(text.name, (tiling.across, len(some), 1), (tiling.threads, 1, 1), arguments, i)
        for i, (text, some) in enumerate(zip(texts, modules, strict=True))
    )
    constants = (_missing(weight, gpu),) if "constant0" in arguments else ()
    return GpuCode(texts, launches, constants, work=(work(problem, weight, gpu, config),))


def _missing(weight: FloatArray, gpu: Gpu) -> NDArray[np.int32]:
    """The numbers that the sums of each row lack where X - 128 is multiplied."""
    return np.asarray(128 * weight.astype(np.int64).sum(axis=1), np.int32)


def _modules(every: list[DotPanel], each: int) -> list[list[DotPanel]]:
    """The panels in runs of about the same number of instructions."""
    total = sum(len(group.words) for panel in every for group in panel.groups) * each
    count = max(1, min(len(every), -(-total // MODULE_DOTS)))
    bounds = [len(every) * i // count for i in range(count + 1)]
    return [every[low:high] for low, high in pairwise(bounds)]
