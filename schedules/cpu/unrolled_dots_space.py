"""The configurations of an unrolled kernel of int8 that are worth trying, and the time that each should take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.schedules.cpu import cost
from tesa.schedules.cpu.arithmetic import arithmetic
from tesa.schedules.cpu.cut import threads_for
from tesa.schedules.cpu.places import grouped, in_runs, places
from tesa.schedules.cpu.requantize import makes_codes, stretches_of
from tesa.schedules.cpu.writers import find_dot_writer
from tesa.schedules.dots import GROUP
from tesa.schedules.panels import cut_columns, cut_rows
from tesa.schedules.refusal import NO_DOT, refuse, unsuited
from tesa.schedules.tiles import Tiles, tiles
from tesa.schedules.types import Config, Core, FloatArray, Output, Problem

MAX_DOTS = 400_000
"""Dot products of one kernel, as many as live groups: some four megabytes of code and weights."""

MOST = 8
"""Configurations that are offered: a compile measures the first few, tuning all of them."""

_DENSEST = 0.8
"""Share of live groups above which loops over all of them are no slower."""

DOT_BYTES = 11
"""Of code and weights."""

_CODE_BYTES_PER_CYCLE = 64  # from the second-level cache, measured
_EXPOSED = 0.5  # of the reading of X from there: what is not hidden behind dot products, measured
_LOADS = 0.85  # of those that could start in a cycle, measured: weights and X come in turns
_CALL = 60.0  # cycles of a call of a panel
_REGROUP = {True: 5.0, False: 4.0}  # cycles of a vector of X, by whether features are last
_ONWARD = (
    0.5  # of the cycles of what follows a rounding on the way, where codes and not sums are put in order, measured
)
_CHUNKS = (2, 4, 16)
_BLOCKS = (0, 256)


def applies(problem: Problem, core: Core) -> bool:
    """True for a product of int8 on a core that adds dot products of four bytes up, and whose panels have a writer."""
    dot = core.dot
    return (
        problem.dtype == "int8"
        and problem.op in ("linear", "conv2d")
        and (problem.pointwise or problem.features_last)
        and dot is not None
        and dot.group == GROUP
        and dot.adds
        and not dot.signed
        and dot.intrinsic(core.lanes) is not None
        and find_dot_writer(core) is not None
    )


def stored(problem: Problem) -> Output | None:
    """The kind of the codes that panels store themselves, None where they leave sums.

    Those of Y, where nothing but a clip lies between a sum and its code; or those that sums are rounded to first, which
    are put in order in a quarter of the room of sums before the rest of the epilogue makes codes of Y of them.
    """
    e, output = problem.epilogue, problem.output
    if not e.scale or not makes_codes(problem):
        return None
    if problem.inner:
        first = stretches_of(problem)[0]
        return first.kind if problem.features_last and first.biased and first.residual is None else None
    return None if e.residual else output


def flattened(problem: Problem) -> Problem:
    """The same problem as one of a single batch item, where the rows of X of all items lie one behind the other."""
    if problem.features_last and problem.pointwise:
        return replace(problem, batch=1, n=problem.batch * problem.n)
    return problem


def dot_elements(problem: Problem, weight: FloatArray, core: Core) -> NDArray[Any]:
    """W (m, k) in groups of four, (m, groups) of int32: of a convolution in the order in which X has its features."""
    if not problem.features_last:
        return arithmetic(problem, core).matrix(weight)
    view = places(problem, arithmetic(problem, core))
    window = None if problem.pointwise else problem.window
    found = grouped(in_runs(weight, window, view.rows * view.taps), GROUP, view.run >= GROUP)
    return np.ascontiguousarray(found.astype(np.int8)).view("<i4").reshape(len(weight), -1)


def dot_tiles(problem: Problem, core: Core, vectors: int) -> Tiles:
    """The positions of one batch item in tiles of at most so many vectors."""
    return tiles(1, problem.n, problem.n, core.lanes, vectors)


def dot_threads(problem: Problem, elements: NDArray[Any], core: Core) -> int:
    """1 where to wake other threads costs as much as the work. elements: W in groups."""
    cycles = np.count_nonzero(elements) * float(problem.n * problem.batch) / core.lanes / core.rates.fmas
    return threads_for(problem, cycles)


@dataclass(frozen=True)
class _Facts:
    """The facts of a weight that an estimate needs.

    live: columns of groups; dots: live groups by panel; columns: live ones of all panels together.
    """

    groups: int
    live: int
    dots: tuple[int, ...]
    columns: int

    @staticmethod
    def of(elements: NDArray[Any], rows: int) -> _Facts:
        """With panels of so many rows at most."""
        mask = elements != 0
        bounds = cut_rows(len(mask), rows, GROUP)[:-1]
        counts = np.add.reduceat(np.count_nonzero(mask, axis=1), bounds)
        columns = int(np.count_nonzero(np.logical_or.reduceat(mask, bounds, axis=0)))
        return _Facts(mask.shape[1], int(mask.any(axis=0).sum()), tuple(int(c) for c in counts), columns)


def dot_space(problem: Problem, weight: FloatArray, core: Core) -> Sequence[Config]:
    """The MOST that the estimate likes best."""
    problem, writer = flattened(problem), find_dot_writer(core)
    if why := unsuited(problem, dtypes=("int8",), pointwise=not problem.features_last):
        return refuse(why)
    if writer is None or not applies(problem, core) or not core.unrolls:
        return refuse(NO_DOT)
    if problem.n < core.lanes // 2:
        return refuse(f"it needs {core.lanes // 2} columns, and this has {problem.n}")
    elements = dot_elements(problem, weight, core)
    live = int(np.count_nonzero(elements))
    if live > _DENSEST * elements.size:
        return refuse(f"{live} of its {elements.size} groups of four are not zero: it needs whole groups of zeros")
    if live > MAX_DOTS:
        return refuse(f"its code would have {live} products, more than {MAX_DOTS}")
    found: dict[tuple[int, ...], tuple[float, Config]] = {}
    # with two vectors code is longer and a column serves half as many rows: that was never faster
    cut, rows = dot_tiles(problem, core, 1), _rows(core, 1)
    facts = _Facts.of(elements, rows)
    for kblock in (size for size in _BLOCKS if size < 0.75 * facts.live):
        for chunk in sorted({min(size, cut.count) for size in _CHUNKS}):
            config = {"rows": rows, "vectors": 1, "kblock": kblock, "chunk": chunk}
            blocks = cut_columns(max(facts.dots), facts.live, kblock, writer.function_dots)
            found.setdefault((blocks, chunk), (_cost(problem, core, config, facts, cut), config))
    return tuple(config for _, config in sorted(found.values(), key=lambda item: item[0])[:MOST])


def _rows(core: Core, vectors: int) -> int:
    """The most rows of a panel, a multiple of four, that the registers hold."""
    writer, rows = find_dot_writer(core), GROUP
    assert writer is not None  # see applies
    while writer.registers(rows + GROUP, vectors, core) <= core.registers:
        rows += GROUP
    return rows


def dot_size(problem: Problem, weight: FloatArray, core: Core, config: Config) -> int:
    """Dot products, one for each live group and vector of a tile, times what one costs the writer of the core."""
    writer = find_dot_writer(core)
    effort = 1 if writer is None else writer.effort
    return int(np.count_nonzero(dot_elements(problem, weight, core))) * config["vectors"] * effort


def dot_estimate(problem: Problem, weight: FloatArray, core: Core, config: Config) -> float:
    """Expected milliseconds on a nominal core, see cost.py."""
    problem = flattened(problem)
    facts = _Facts.of(dot_elements(problem, weight, core), config["rows"])
    return _cost(problem, core, config, facts, dot_tiles(problem, core, config["vectors"]))


def _cost(problem: Problem, core: Core, config: Config, facts: _Facts, cut: Tiles) -> float:
    """For each tile the largest of dot products and loads, X, Y and, for each chunk, code from the next cache."""
    vectors, line, writer = len(cut.reads), 4 * core.lanes, find_dot_writer(core)
    assert writer is not None  # see applies
    dots = sum(facts.dots) * vectors
    blocks = cut_columns(max(facts.dots) * vectors, facts.live, config["kblock"], writer.function_dots)
    chunk = min(config["chunk"] or cut.count, cut.count)
    part = facts.live / blocks * vectors * line * chunk
    rate = np.inf if part <= core.l1_bytes * 0.75 else core.rates.l2_bytes / _EXPOSED
    rate = core.rates.far_bytes if part > core.l2_bytes * 0.6 else rate
    loads = facts.columns * vectors + dots / vectors
    tile = cost.together(dots / core.rates.fmas, loads / (_LOADS * core.rates.loads))
    tile += facts.columns * vectors * line / rate
    tile += facts.groups * vectors * _REGROUP[problem.features_last]
    tile += cost.finishing(problem.epilogue, problem.m * vectors) + (blocks - 1) * problem.m * vectors * 1.5
    tile += problem.m * vectors * (3.0 if problem.features_last else 0.0)
    if problem.inner and stored(problem) is not None:
        tile += problem.m * vectors * _ONWARD * cost.on_the_way(problem)
    elif problem.epilogue.residual or problem.inner or not problem.output.quantized:
        tile += problem.m * vectors * (6.0 + cost.on_the_way(problem) if problem.features_last else 1.5)
    code = dots * DOT_BYTES
    if code > core.l1_bytes // 2:
        tile += code / (_CODE_BYTES_PER_CYCLE if code <= core.l2_bytes // 2 else core.rates.far_bytes) / chunk
    tile += _CALL * len(facts.dots) * blocks / chunk
    used = threads_for(problem, sum(facts.dots) * float(problem.n * problem.batch) / core.lanes / core.rates.fmas)
    regions = 2 * core.rates.call * problem.batch if used > 1 else 0.0
    work = problem.batch * cut.count * tile / used
    return float(core.rates.call + regions + work) / core.rates.cycles_per_ms
