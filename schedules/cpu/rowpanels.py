"""Panels of rows of a weight, each with the columns in which any of its rows is live, packed in reading order."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class RowPanels:
    """A packed weight.

    values: (entries, rows) for each block of columns, and in it for each panel, in turn; columns: the k of each entry;
    at: (blocks panels + 1,) where the entries of each start.
    """

    values: NDArray[Any]
    columns: NDArray[np.int64]
    at: NDArray[np.int64]


def starts(m: int, rows: int) -> list[int]:
    """The first rows of the panels. The last panel overlaps the one before it where m is no multiple of its rows: code
    for a shorter panel would cost registers, and the rows met twice get the same values twice."""
    return [min(first, m - rows) for first in range(0, m, rows)]


def pack_rows(weight: NDArray[Any], rows: int, dense: bool, blocks: Sequence[NDArray[np.int64]] = ()) -> RowPanels:
    """The panels of a weight (m, k). blocks: its columns in blocks, by default one. dense: every column counts."""
    values, columns, at = [], [], [0]
    for block in blocks or [np.arange(weight.shape[1])]:
        part = weight[:, block]
        for first in starts(len(weight), rows):
            panel = part[first : first + rows]
            live = np.flatnonzero(live_columns(panel, dense))
            values.append(np.ascontiguousarray(panel[:, live].T).ravel())
            columns.append(block[live])
            at.append(at[-1] + len(live))
    return RowPanels(np.concatenate(values), np.concatenate(columns), np.array(at))


def live_columns(weight: NDArray[Any], dense: bool) -> NDArray[np.bool_]:
    """(k,), True for the columns that are computed."""
    return np.ones(weight.shape[1], bool) if dense else (weight != 0).any(axis=0)


def entries(weight: NDArray[Any], rows: int, dense: bool) -> int:
    """Computed columns of all panels together."""
    if dense:
        return -(-len(weight) // rows) * int(weight.shape[1])
    mask = weight != 0
    whole = len(mask) // rows * rows
    count = int(mask[:whole].reshape(-1, rows, mask.shape[1]).any(axis=1).sum())
    return count + (int(mask[-rows:].any(axis=0).sum()) if whole < len(mask) else 0)
