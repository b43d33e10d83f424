"""The configurations of an unrolled kernel that are worth trying, and the time that each is expected to take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd

import numpy as np

from tesa.schedules.cpu import cost
from tesa.schedules.cpu.cut import threads_for
from tesa.schedules.cpu.operand import Operand, operand
from tesa.schedules.cpu.writers import MAX_BYTES, find_writer, registers
from tesa.schedules.panels import cut_columns, cut_rows
from tesa.schedules.refusal import refuse, unsuited
from tesa.schedules.tiles import Tiles, tiles
from tesa.schedules.types import Config, Core, FloatArray, Problem

MAX_FMAS = 400_000
"""FMA instructions of one kernel, non-zeros times vectors: some three megabytes of code."""

MOST = 12
"""Configurations that are offered: a compile measures the first few, tuning all of them."""

_FMA_BYTES = 8
_CODE_BYTES_PER_CYCLE = 32  # from the second-level cache
_LOADS = 0.85  # of those that could start in a cycle, measured: weights and X come in turns
_COPY = 2.0  # cycles of a vector that is packed
_CALL = 80.0  # cycles of a call of a panel
_CHUNKS = (4, 8, 16)
_BLOCKS = (0, 256, 512)


@dataclass(frozen=True)
class _Facts:
    """The facts of a weight that an estimate needs. nonzeros: by panel; columns: live ones of all panels together."""

    view: Operand
    live: int
    nonzeros: tuple[int, ...]
    columns: int

    @staticmethod
    def of(problem: Problem, weight: FloatArray, rows: int) -> _Facts:
        """With panels of so many rows at most."""
        mask = weight != 0
        live = mask.any(axis=0)
        bounds = cut_rows(len(weight), rows)[:-1]
        counts = np.add.reduceat(np.count_nonzero(mask, axis=1), bounds)
        columns = int(np.count_nonzero(np.logical_or.reduceat(mask, bounds, axis=0)))
        return _Facts(operand(problem, live), int(live.sum()), tuple(int(c) for c in counts), columns)


def space(problem: Problem, weight: FloatArray, core: Core) -> Sequence[Config]:
    """The MOST that the estimate likes best."""
    if why := unsuited(problem):
        return refuse(why)
    if problem.features_last:
        return refuse("it computes float32 in layout features_first")
    if problem.n < core.lanes // 2:
        return refuse(f"it needs {core.lanes // 2} columns, and this has {problem.n}")
    if not core.unrolls:
        return refuse("engines of WebAssembly do not run straight-line code fast")
    nonzeros = int(np.count_nonzero(weight))
    if nonzeros > MAX_FMAS:
        return refuse(f"its code would have {nonzeros} multiply-adds, more than {MAX_FMAS}")
    if 4 * _largest(problem, weight) > MAX_BYTES:
        return refuse(f"it addresses operands of up to {MAX_BYTES} bytes")
    found: dict[tuple[int, ...], tuple[float, Config]] = {}
    most = core.registers - registers(0, 1, core)
    for rows in (most - 4, most):  # with two vectors a column serves half as many rows: that was never faster
        facts = _Facts.of(problem, weight, rows)
        cut = tiles_of(facts.view, problem, core, 1)
        for kblock in (size for size in _BLOCKS if size < 0.75 * facts.live):
            for chunk in sorted({min(size, cut.count) for size in _CHUNKS}):
                for pack in (0, 1):
                    config = {"rows": rows, "vectors": 1, "kblock": kblock, "chunk": chunk, "pack": pack}
                    blocks = cut_columns(max(facts.nonzeros), facts.live, kblock, find_writer(core).function_fmas)
                    key = (len(facts.nonzeros), blocks, chunk, pack)
                    if key not in found:
                        found[key] = _cost(problem, core, config, facts, cut), config
    return tuple(config for _, config in sorted(found.values(), key=lambda item: item[0])[:MOST])


def size(problem: Problem, weight: FloatArray, core: Core, config: Config) -> int:
    """Multiply-adds, one for each non-zero and vector of a tile, times what one costs the writer of the core."""
    del problem
    return int(np.count_nonzero(weight)) * config["vectors"] * find_writer(core).effort


def tiles_of(view: Operand, problem: Problem, core: Core, vectors: int) -> Tiles:
    """The positions of one batch item in tiles of at most so many vectors."""
    height, width, pitch = (1, problem.n, problem.n) if view.direct else (view.height, view.width, view.row)
    return tiles(height, width, pitch, core.lanes, vectors)


def threads(problem: Problem, weight: FloatArray, core: Core) -> int:
    """1 where to wake other threads costs as much as the work."""
    cycles = np.count_nonzero(weight) * float(problem.n * problem.batch) / core.lanes / core.rates.fmas
    return threads_for(problem, cycles)


def estimate(problem: Problem, weight: FloatArray, core: Core, config: Config) -> float:
    """Expected milliseconds on a nominal core, see cost.py."""
    facts = _Facts.of(problem, weight, config["rows"])
    return _cost(problem, core, config, facts, tiles_of(facts.view, problem, core, config["vectors"]))


def _largest(problem: Problem, weight: FloatArray) -> int:
    """Elements of the largest array that panels reach into."""
    view = operand(problem, (weight != 0).any(axis=0))
    return max(int(np.prod(problem.x_shape)), int(np.prod(problem.y_shape)), view.staged)


def _usable(problem: Problem, lines: int, sets: int) -> float:
    """The share of a cache's sets that so many neighbouring lines of each row of X can lie in."""
    return min(1.0, lines / gcd(max(problem.n * 4 // 64, 1), sets)) if problem.pointwise else 1.0


def _cost(problem: Problem, core: Core, config: Config, facts: _Facts, cut: Tiles) -> float:
    """For each tile the largest of FMAs, loads and X from a cache, + code, from the second-level one for each chunk."""
    vectors, line = len(cut.reads), 4 * core.lanes
    fmas, columns = sum(facts.nonzeros) * vectors, facts.columns
    blocks = cut_columns(
        max(facts.nonzeros, default=0) * vectors, facts.live, config["kblock"], find_writer(core).function_fmas
    )
    chunk = min(config["chunk"] or cut.count, cut.count)
    part = facts.live / blocks * vectors * line * chunk
    near, middle = (1.0, 1.0) if config["pack"] else (_usable(problem, chunk * vectors, sets) for sets in (64, 1024))
    rate = np.inf if part <= near * core.l1_bytes * 0.75 else core.rates.l2_bytes
    rate = core.rates.far_bytes if part > middle * core.l2_bytes * 0.6 else rate
    straddles = not problem.pointwise or problem.n % core.lanes != 0 or problem.alignment < 64
    split = cost.straddling(core) if straddles and not config["pack"] else 1.0
    loads = columns * vectors * split + fmas / vectors
    tile = cost.together(fmas / core.rates.fmas, loads / (_LOADS * core.rates.loads), columns * vectors * line / rate)
    if core.steps > 1:
        weights = fmas / vectors / (core.lanes if core.by_element else 1)
        # of a packed tile two columns are read at once; the panel that packs takes an instruction more for a vector
        others = 0.0 if config["pack"] and not core.in_order else columns * vectors / 2
        others += facts.live * vectors if config["pack"] and find_writer(core).packs else 0.0
        step = cost.step(core, fmas, weights, columns * vectors * split, others, 0.0)
        tile = cost.together(step, columns * vectors * line / rate)
    tile += cost.finishing(problem.epilogue, problem.m * vectors) + (blocks - 1) * problem.m * vectors * 1.5
    if fmas * _FMA_BYTES > core.l1_bytes // 2:
        tile += fmas * _FMA_BYTES / _CODE_BYTES_PER_CYCLE / chunk
    tile += _CALL * len(facts.nonzeros) * blocks / chunk
    tile += _COPY * facts.live * vectors if config["pack"] and not find_writer(core).packs else 0.0
    used = threads_for(problem, sum(facts.nonzeros) * float(problem.n * problem.batch) / core.lanes / core.rates.fmas)
    regions = 2 * core.rates.call * problem.batch if used > 1 else 0.0
    work = problem.batch * (cut.count * tile + facts.view.copied / core.lanes * 3) / used
    return float(core.rates.call + regions + work) / core.rates.cycles_per_ms
