"""The non-zeros of a weight in the order in which the indexed form uses them; see indexed.py."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Stream:
    """The non-zeros in the order in which they are used.

    values, offsets: of each non-zero. rows: the rows in turn. groups: (groups, 4) of number of row sets, non-zeros of a
    row, where its values start, where its rows start. at: (shares, blocks, 3) first group of a block, first group of
    single rows, end.
    """

    values: NDArray[Any]
    offsets: NDArray[np.int32]
    rows: NDArray[np.int32]
    groups: NDArray[np.int32]
    at: NDArray[np.int32]


class _Writer:
    """Puts a stream together."""

    def __init__(self) -> None:
        self.values: list[NDArray[Any]] = []
        self.offsets: list[NDArray[np.int64]] = []
        self.rows: list[int] = []
        self.groups: list[list[int]] = []
        self._size = 0

    def add(self, sets: list[list[int]], part: NDArray[Any], offsets: NDArray[np.int64]) -> None:
        """Sets of rows, of one size; rows of `part`, whose column j lies at offsets[j]."""
        previous = -1
        for rows in sets:
            length = max(int(np.count_nonzero(part[r])) for r in rows)
            if length != previous:
                self.groups.append([0, length, self._size, len(self.rows)])
                previous = length
            self.groups[-1][0] += 1
            self.rows += rows
            values = np.zeros((length, len(rows)), part.dtype)
            # what a shorter row is filled up with reads X too, where the block reads it anyway
            places = np.full((length, len(rows)), offsets[0] if len(offsets) else 0, np.int64)
            for u, r in enumerate(rows):
                live = np.flatnonzero(part[r])
                values[: len(live), u] = part[r, live]
                places[: len(live), u] = offsets[live]
            self.values.append(values.ravel())
            self.offsets.append(places.ravel())
            self._size += values.size


def stream(
    weight: NDArray[Any],
    blocks: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
    bounds: Sequence[int],
    unit: int,
) -> Stream:
    """The stream of a weight. blocks: the columns of each block and their offsets; bounds: shares of rows; unit: U.

    The last block has all rows, empty ones too, for it stores the results; the others only the rows with non-zeros, and
    empty ones where they make up a set.
    """
    writer, at = _Writer(), []
    pairs = [(bounds[i], bounds[i + 1]) for i in range(len(bounds) - 1)]
    for low, high in pairs:
        for b, (columns, offsets) in enumerate(blocks):
            part = weight[:, columns]
            counts = np.count_nonzero(part[low:high], axis=1)
            rows = np.argsort(counts, kind="stable") + low
            if b < len(blocks) - 1:
                rows = rows[max(len(rows) - -(-np.count_nonzero(counts) // unit) * unit, 0) :]
            whole = len(rows) // unit * unit
            first = len(writer.groups)
            writer.add(rows[:whole].reshape(-1, unit).tolist(), part, offsets)
            single = len(writer.groups)
            writer.add([[int(r)] for r in rows[whole:]], part, offsets)
            at.append((first, single, len(writer.groups)))
    return Stream(
        np.concatenate(writer.values or [np.zeros(0, weight.dtype)]),
        np.concatenate(writer.offsets or [np.zeros(0, np.int64)]).astype(np.int32),
        np.array(writer.rows, np.int32),
        np.array(writer.groups, np.int32).ravel(),
        np.array(at, np.int32).ravel(),
    )
