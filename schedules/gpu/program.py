"""The neutral program of panels on a GPU: a grid of blocks, each of which computes one panel of rows for some columns.

A block has `groups` groups of `threads` threads. Every group has the same columns and its own part of k, so that there
is work for more threads; at the end the groups add their sums up through shared memory. What a group does for a panel
is one list of steps (steps.py), without loops and branches. A writer (writers/) spells it.

Where X is staged, its elements come to shared memory by asynchronous copies, in tiles of some rows, `depth` tiles under
way: loads in flight then take no registers. Rows of X that lie one behind the other are copied by 16 bytes and shared
by the threads of a group; else each thread copies the elements of its own column, with zeros beyond the border.

After SparseRT (Wang, PACT 2020), whose generated code has the weights as immediates and splits k over threads.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from tesa.schedules.gpu import steps
from tesa.schedules.gpu.view import View
from tesa.schedules.types import FloatArray, Problem

SLOTS = 16
"""Elements of X that a thread holds in registers at once, where a writer itself orders loads and waits."""

EXCHANGE_BYTES = 24 * 1024
"""Shared memory through which groups add up their sums, twice."""


@dataclass(frozen=True)
class Grid:
    """The facts that all panels of a kernel share.

    rows: of a panel, at most. threads: of a group; groups: of a block. pairs: "" for sums of float32, or "float16" or
    "bfloat16" for pairs of such. staged: "" for loads into registers, "rows" or "own" for copies of rows by 16 bytes
    and of own elements. tile: rows of X of a tile; depth: tiles of the stage.
    """

    problem: Problem
    view: View = field(repr=False)
    rows: int
    threads: int
    groups: int = 1
    pairs: str = ""
    staged: str = ""
    tile: int = 16
    depth: int = 3

    @property
    def columns(self) -> int:
        """Columns of a thread: each `threads` behind the one before."""
        return 2 if self.pairs else 1

    @property
    def across(self) -> int:
        """Blocks for all columns."""
        return -(-self.view.columns // (self.threads * self.columns))

    @property
    def stage_rows(self) -> int:
        """Rows of the stage of a group."""
        return self.tile * self.depth if self.staged else 0

    @property
    def stage_bytes(self) -> int:
        """Shared memory of the stages of all groups."""
        return 4 * self.stage_rows * self.threads * self.columns * self.groups

    @property
    def exchanged(self) -> int:
        """Sums of a group that are exchanged at once."""
        if self.groups == 1:
            return 0
        return max(1, min(self.rows, EXCHANGE_BYTES // 2 // (4 * self.threads * self.columns * (self.groups - 1))))

    @property
    def exchange_bytes(self) -> int:
        """Shared memory of the exchange: one half is written while the other one is read."""
        return 2 * 4 * self.exchanged * self.threads * self.columns * max(self.groups - 1, 0)


@dataclass(frozen=True)
class Panel:
    """Rows first ... first + rows of W; programs: the steps of each group."""

    first: int
    rows: int
    fmas: int
    programs: tuple[tuple[steps.Step, ...], ...] = field(repr=False)

    def __str__(self) -> str:
        parts = [f"group {group}:\n" + "\n".join(map(str, program)) for group, program in enumerate(self.programs)]
        return f"rows {self.first} to {self.first + self.rows}\n" + "\n".join(parts)


def panels(grid: Grid, weight: FloatArray) -> list[Panel]:
    """The panels of a weight (m, k), in the order of their rows.

    >>> from tesa.schedules.gpu.view import view
    >>> problem = Problem("linear", 1, 2, 64, (1, 2, 64), (1, 1, 64))
    >>> (panel,) = panels(Grid(problem, view(problem), 16, 64), np.array([[1, 2]], np.float32))
    >>> print(panel)
    rows 0 to 1
    group 0:
    x0 = X[0]
    x1 = X[64]
    a0 = 1.0 * x0
    a0 += 2.0 * x1
    values of a0
    Y[0] = a0
    """
    count = -(-len(weight) // grid.rows)
    bounds = [len(weight) * i // count for i in range(count + 1)]
    return [_panel(grid, low, weight[low:high]) for low, high in pairwise(bounds)]


def _panel(grid: Grid, first: int, weight: FloatArray) -> Panel:
    live = np.flatnonzero((weight != 0).any(axis=0))
    work = np.cumsum(np.count_nonzero(weight[:, live], axis=0)) if len(live) else np.zeros(0, np.int64)
    total = int(work[-1]) if len(work) else 0
    cuts = [int(np.searchsorted(work, total * g / grid.groups)) for g in range(1, grid.groups)]
    parts = np.split(live, cuts)
    programs = tuple(
        (*_sums(grid, weight, part), *_results(grid, first, len(weight), group)) for group, part in enumerate(parts)
    )
    return Panel(first, len(weight), int(np.count_nonzero(weight)), programs)


def _sums(grid: Grid, weight: FloatArray, live: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Iterator[steps.Step]:
    known: set[int] = set()
    source = _staged(grid, live.tolist()) if grid.staged else _loaded(grid, live.tolist())
    for made in source:
        if not isinstance(made, tuple):
            yield made
            continue
        slot, k = made
        for row in np.flatnonzero(weight[:, k]).tolist():
            value = float(weight[row, k])
            yield steps.MultiplyAdd(row, slot, value) if row in known else steps.Multiply(row, slot, value)
            known.add(row)
    yield from (steps.Zero(row) for row in range(len(weight)) if row not in known)


def _loaded(grid: Grid, live: list[int]) -> Iterator[steps.Step | tuple[int, int]]:
    """The loads of the elements of X, SLOTS at most under way; a pair is the register of an element that is there."""
    view = grid.view

    def load(i: int) -> steps.Load:
        return steps.Load(i % SLOTS, int(view.offsets[live[i]]), view.masked(live[i]))

    yield from (load(i) for i in range(min(SLOTS, len(live))))
    for i, k in enumerate(live):
        yield i % SLOTS, k
        if i + SLOTS < len(live):
            yield load(i + SLOTS)


def _staged(grid: Grid, live: list[int]) -> Iterator[steps.Step | tuple[int, int]]:
    """The same by tiles of the stage."""
    tiles = _tiles(grid, live)
    ahead = grid.depth - 1
    for t in range(min(ahead, len(tiles))):
        yield from _copies(grid, tiles[t], t)
    for t, tile in enumerate(tiles):
        yield steps.Arrive(min(ahead, len(tiles) - t) - 1)
        if grid.staged == "rows":
            yield steps.Together()  # also: everybody has read what is overwritten next
        if t + ahead < len(tiles):
            yield from _copies(grid, tiles[t + ahead], t + ahead)
        base = t % grid.depth * grid.tile
        for i, (place, k) in enumerate(tile):
            yield steps.Read(i % SLOTS, base + place)
            yield i % SLOTS, k


def _tiles(grid: Grid, live: list[int]) -> list[list[tuple[int, int]]]:
    """The elements that are read of each tile: (row of the tile, k)."""
    if grid.staged == "own":
        return [list(enumerate(live[i : i + grid.tile])) for i in range(0, len(live), grid.tile)]
    tiles: list[list[tuple[int, int]]] = []
    first = -grid.tile
    for k in live:
        if k >= first + grid.tile:
            tiles.append([])
            first = k
        tiles[-1].append((k - first, k))
    return tiles


def _copies(grid: Grid, tile: list[tuple[int, int]], number: int) -> Iterator[steps.Step]:
    base = number % grid.depth * grid.tile
    if grid.staged == "rows":
        yield steps.CopyRows(base, tile[0][1], tile[-1][0] + 1)
    else:
        for place, k in tile:
            yield steps.Copy(base + place, int(grid.view.offsets[k]), grid.view.masked(k))
    yield steps.Commit()


def _results(grid: Grid, first: int, rows: int, group: int) -> Iterator[steps.Step]:
    """The end of a group: some of the rows are its own, for which it takes the sums of the other groups."""
    yield from (steps.Widen(row) for row in range(rows))
    if grid.groups == 1:
        for row in range(rows):
            yield from _finish(grid, row, first + row)
        return
    step = grid.exchanged
    half = step * (grid.groups - 1)
    for turn, start in enumerate(range(0, rows, step)):
        own, base, chunk = turn % grid.groups, turn % 2 * half, range(start, min(start + step, rows))
        if group != own:
            index = group if group < own else group - 1
            yield from (steps.Give(row, base + index * step + row - start) for row in chunk)
        yield steps.Meet()
        if group == own:
            for row in chunk:
                places = (base + other * step + row - start for other in range(grid.groups - 1))
                yield from (steps.Take(row, place) for place in places)
                yield from _finish(grid, row, first + row)


def _finish(grid: Grid, sum: int, row: int) -> Iterator[steps.Step]:
    epilogue = grid.problem.epilogue
    if epilogue.bias:
        yield steps.Bias(sum, row)
    if epilogue.residual:
        yield steps.Residual(sum, row)
    if epilogue.activation:
        yield steps.Activate(sum, epilogue.activation)
    yield steps.Store(sum, row)
