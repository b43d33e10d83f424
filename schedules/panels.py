"""Cuts a sparse weight into panels: some rows times some columns, small enough for one straight-line function."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.schedules.types import Config


@dataclass(frozen=True)
class Panel:
    """A part of W: rows first ... first + len(weights), the columns `columns`, weights[r, i] for columns[i].

    weights: float32, or groups of int8 as int32. begins, ends: it has the first columns, the last ones. fmas:
    multiply-adds of a tile, on whole vectors. packs: the columns that it copies into the packed tile on its way, in
    order, its own among them.
    """

    name: str
    first: int
    columns: tuple[int, ...]
    weights: NDArray[Any]
    begins: bool
    ends: bool
    fmas: int
    packs: tuple[int, ...] = ()


def cut_rows(m: int, rows: int, unit: int = 1) -> list[int]:
    """The first rows of panels of at most so many rows, and m: as equal as can be in multiples of `unit` rows.

    >>> cut_rows(10, 4)
    [0, 3, 6, 10]
    >>> cut_rows(41, 16, 4)
    [0, 12, 28, 41]
    """
    units = -(-m // unit)
    count = -(-units // (rows // unit))
    return [min(units * i // count * unit, m) for i in range(count + 1)]


def cut_columns(fmas: int, live: int, kblock: int, limit: int) -> int:
    """Into how many blocks the live columns are cut.

    fmas: of the panel that has the most; kblock: columns of a block at most, 0 for any number; limit: multiply-adds of
    a function.
    """
    blocks = max(-(-fmas // limit), -(-live // kblock) if kblock else 1)
    return max(1, min(blocks, live))


def panels(
    weight: NDArray[Any], config: Config, vectors: int, symbol: str, limit: int, unit: int = 1
) -> list[list[Panel]]:
    """The panels of a weight (m, k): for each block of columns, one for each run of rows.

    config: rows of a panel, in multiples of `unit`, kblock as in cut_columns; limit: multiply-adds of a function.
    """
    live = np.flatnonzero((weight != 0).any(axis=0))
    bounds = cut_rows(len(weight), config["rows"], unit)
    heaviest = max(int(np.count_nonzero(weight[a:b])) for a, b in pairwise(bounds))
    blocks = cut_columns(heaviest * vectors, len(live), config["kblock"], limit)
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


def groups(found: Iterable[Panel], limit: int) -> list[list[Panel]]:
    """The panels in runs of about `limit` multiply-adds: one object file, and one unit of parallel work, each."""
    result: list[list[Panel]] = []
    room = 0
    for panel in found:
        if room < panel.fmas or not result:
            result.append([])
            room = limit
        result[-1].append(panel)
        room -= panel.fmas
    return result


def balance(functions: list[list[Panel]], threads: int) -> list[int]:
    """Bounds of at most `threads` runs of panels, none of them empty, with about the same number of FMAs each."""
    work = np.cumsum([sum(row[i].fmas + 1 for row in functions) for i in range(len(functions[0]))])
    cuts = [int(np.searchsorted(work, work[-1] * i / threads)) for i in range(1, threads)]
    return sorted({0, *cuts, len(work)})
