"""Cuts the work of one problem into bands, tiles and shares for the threads."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tesa.schedules.cpu.operand import LINE, Operand, Tiling, tiling
from tesa.schedules.types import Core, Problem

SCRATCH_BYTES = 256 * 1024
"""A band's scratch is kept below this where it can be."""

SERIAL_CYCLES = 40_000
"""Less work than this, some ten microseconds, stays on one thread: in a network, where the others have gone idle since
the last layer that used them, to wake them costs as much as they would save."""


@dataclass(frozen=True)
class Cut:
    """The work of one problem in bands, tiles and shares.

    band: output rows of a band (0: no bands, a direct operand). bounds: the rows of W in shares, share i is
    bounds[i] <= m < bounds[i + 1]. With more than one share the tasks are the shares and each goes over all tiles,
    otherwise the tasks are tiles or bands. threads: how many of the problem's threads are used, 1 for no parallel loop.
    """

    operand: Operand
    tiling: Tiling
    bounds: tuple[int, ...]
    band: int = 0
    threads: int = 1

    @property
    def parts(self) -> int:
        """The number of shares of the rows."""
        return len(self.bounds) - 1

    @property
    def bands(self) -> int:
        """The number of bands; the last one starts earlier where they do not fit evenly."""
        return -(-self.operand.height // self.band) if self.band else 1

    @property
    def stride(self) -> int:
        """Elements of a scratch row. An odd number of lines, so that the rows fall into different sets of the cache."""
        return (-(-self.tiling.count * self.tiling.width // LINE) | 1) * LINE


def threads_for(problem: Problem, cycles: float) -> int:
    """The number of threads that so much work is worth: one, or all of the problem's."""
    return 1 if cycles < SERIAL_CYCLES else problem.threads


def cut(
    problem: Problem,
    core: Core,
    view: Operand,
    vectors: int,
    work: NDArray[np.int64],
    panel: int = 1,
    tail: bool = False,
) -> Cut:
    """Cut the work: by tiles or bands if there are enough for the threads, else by rows.

    work: (m,), the FMAs of a row for each output; shares of the rows cost about the same, in multiples of `panel` rows.
    tail: the kernel knows what to do with a tail (see operand.tiling).
    """
    threads = threads_for(problem, float(work.sum()) * problem.n * problem.batch / core.lanes / core.rates.fmas)
    if view.direct:
        tiles = tiling(problem.n, core.lanes, vectors, tail=tail)
        units = tiles.count * (1 if view.staged else problem.batch)
        return Cut(view, tiles, shares(work, panel, 1 if units >= threads else threads), threads=threads)
    rows = max(SCRATCH_BYTES // (4 * problem.m * view.row), 2)
    if view.height >= 2 * threads:
        rows = min(rows, -(-view.height // threads))
    band = -(-view.height // -(-view.height // min(rows, view.height)))
    parts = 1 if -(-view.height // band) >= threads else threads
    tiles = tiling(view.length(band), core.lanes, vectors, padded=True)
    return Cut(view, tiles, shares(work, panel, parts), band, threads)


def shares(work: NDArray[np.int64], panel: int, parts: int) -> tuple[int, ...]:
    """Bounds of at most `parts` contiguous shares of the rows that cost about the same, multiples of `panel` rows.

    >>> shares(np.array([9, 1, 1, 1, 1, 5]), 1, 2)
    (0, 2, 6)
    """
    rows = len(work)
    ends = np.minimum(np.arange(1, -(-rows // panel) + 1) * panel, rows)
    total = np.cumsum(work + 1)[ends - 1]
    wanted = total[-1] * np.arange(1, parts) / parts
    inner = {int(ends[np.argmin(np.abs(total - w))]) for w in wanted}
    return (0, *sorted(inner - {rows}), rows)
