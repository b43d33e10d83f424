"""What the functions of an unrolled kernel are made of: every non-zero of some rows and columns is an instruction.

A function runs over a range of tiles, see unrolled.py for the loop nest, and assembly.py for its code. Its parameters
are bare pointers to where the batch item begins, and the range.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tesa.schedules.cpu.activations import INLINE
from tesa.schedules.cpu.grid import Grid
from tesa.schedules.types import Config, FloatArray, Problem

FUNCTION_FMAS = 3000
"""FMA instructions of one function: beyond it, columns are cut into blocks."""

OBJECT_FMAS = 40_000
"""FMA instructions of one object file: a fifth of a second of an assembler, and one unit of parallel work."""


@dataclass(frozen=True)
class Panel:
    """One function: rows first ... first + len(weights) of W, the columns `columns`, weights[r, i] for columns[i]."""

    name: str
    first: int
    columns: tuple[int, ...]
    weights: FloatArray
    begins: bool
    ends: bool
    fmas: int


def cut_rows(m: int, rows: int) -> list[int]:
    """Where panels of at most so many rows begin, and m: as equal as can be.

    >>> cut_rows(10, 4)
    [0, 3, 6, 10]
    """
    count = -(-m // rows)
    return [m * i // count for i in range(count + 1)]


def cut_columns(fmas: int, live: int, kblock: int) -> int:
    """Into how many blocks the live columns are cut. fmas: of the panel that has the most; kblock: columns of a block
    at most, 0 for as many as a function may hold."""
    blocks = max(-(-fmas // FUNCTION_FMAS), -(-live // kblock) if kblock else 1)
    return max(1, min(blocks, live))


def panels(weight: FloatArray, config: Config, vectors: int, symbol: str) -> list[list[Panel]]:
    """The functions: for each block of columns, the panels of rows."""
    live = np.flatnonzero((weight != 0).any(axis=0))
    bounds = cut_rows(len(weight), config["rows"])
    heaviest = max(int(np.count_nonzero(weight[a:b])) for a, b in pairwise(bounds))
    blocks = cut_columns(heaviest * vectors, len(live), config["kblock"])
    result = []
    for block, columns in enumerate(np.array_split(live, blocks)):
        row = []
        for i, (low, high) in enumerate(pairwise(bounds)):
            part = weight[low:high, columns]
            used = np.flatnonzero((part != 0).any(axis=0))
            values = np.ascontiguousarray(part[:, used])
            name = f"{symbol}_p{i}_{block}"
            fmas = int(np.count_nonzero(values)) * vectors
            wanted = tuple(int(c) for c in columns[used])
            row.append(Panel(name, low, wanted, values, block == 0, block == blocks - 1, fmas))
        result.append(row)
    return result


@dataclass(frozen=True)
class Scene:
    """What all functions of one kernel share.

    offsets: where column k begins in S, in a packed tile or in X. masked: a row of X is shorter than a vector. packed:
    elements of a packed tile, 0 without. blocked: sums wait in a scratch between blocks of columns. threads: used ones.
    """

    problem: Problem
    grid: Grid
    lanes: int
    offsets: dict[int, int]
    masked: bool
    packed: int
    blocked: bool
    threads: int

    @property
    def vectors(self) -> int:
        return len(self.grid.reads)

    @property
    def scratch(self) -> bool:
        """True where sums wait in a scratch: for the next block of columns, or for their activation."""
        return self.blocked or self.late

    @property
    def late(self) -> bool:
        """True where the activation follows in a loop of its own: it is too long to be written out."""
        return self.problem.epilogue.activation not in INLINE


def groups(functions: list[list[Panel]]) -> list[list[Panel]]:
    """The functions in groups of about the same number of FMAs: what an object file holds."""
    found: list[list[Panel]] = []
    room = 0
    for panel in (panel for row in functions for panel in row):
        if room < panel.fmas or not found:
            found.append([])
            room = OBJECT_FMAS
        found[-1].append(panel)
        room -= panel.fmas
    return found
