"""Non-zeros that stand alone, beside the tiles of a kernel: which rows of X each row of the weight takes, as data.

For a row of Y they lie one behind the other in groups of four, filled up with entries that count for nothing, so that
a lane of a matrix unit, which has sums of a few rows, reads four of its row's at once while others read theirs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.schedules.gpu.tiling import Tiling
from tesa.schedules.gpus import Gpu, GpuRates  # noqa: F401  the rates are for examples
from tesa.schedules.types import FloatArray

GROUP = 4
"""Entries of a group."""


TILE = 16
"""Rows of a tile of a matrix unit."""


@dataclass(frozen=True)
class Scattered:
    """The non-zeros of a weight (m, k) for a kernel of tiles.

    rows: (row blocks, rows of one, 2) of int32: where the row's first group begins, in bytes, and how many it has.
    groups: (groups, 4, 2 or 3) of int32, each entry: where its row of X lies, in bytes behind where a column begins;
    the weight, the bits of a float32 or for int8 a number, 0 for what fills up; and with a border how far its tap lies
    from the window's first one, row | column << 16.
    """

    rows: NDArray[np.int32] = field(repr=False)
    groups: NDArray[np.int32] = field(repr=False)


def batches(gpu: Gpu) -> NDArray[np.int64]:
    """(16,): the number of the batch of each row of a tile. A lane takes the rows of a batch together, and of each
    batch it has all or none; its rows' lists are filled up to the longest one.

    >>> gpu = Gpu("sm_80", "ptx", 108, GpuRates(1.4, 64, 256, 64, 4000, 1555, 40 << 20))
    >>> batches(gpu).tolist()
    [0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7]
    """
    row = np.arange(TILE)
    if gpu.writer == "ptx":
        return row % 8
    return row // 4 if gpu.warp == 64 else row % 2 + row // 8 * 2


def passes(gpu: Gpu) -> int:
    """Batches that a lane takes of a tile, one behind the other."""
    return 2 if gpu.writer == "amd" and gpu.warp == 32 else 1


def entry_words(tiling: Tiling) -> int:
    """Words of an entry."""
    return 2 if tiling.view.border is None else 3


def group_bytes(tiling: Tiling) -> int:
    """Bytes of a group."""
    return 4 * GROUP * entry_words(tiling)


def scattered(tiling: Tiling, gpu: Gpu, weight: FloatArray, first_rows: NDArray[np.int32]) -> Scattered:
    """The non-zeros of a weight. first_rows: of the kernel's row blocks, in their order."""
    counts = _padded(tiling, np.count_nonzero(weight, axis=1))
    many = (-(-counts // GROUP)).reshape(-1, TILE)
    of_batch = batches(gpu)
    for batch in range(of_batch.max() + 1):
        many[:, of_batch == batch] = many[:, of_batch == batch].max(axis=1, keepdims=True)
    groups = many.reshape(-1)
    first = np.concatenate([[0], np.cumsum(groups)[:-1]])
    row, k = np.nonzero(weight)
    before = np.concatenate([[0], np.cumsum(counts)[:-1]])
    entries = np.zeros((max(1, int(groups.sum())) * GROUP, entry_words(tiling)), np.int32)
    entries[GROUP * first[row] + np.arange(len(row)) - before[row]] = _entries(tiling, weight[row, k], k)
    table = np.stack([first * group_bytes(tiling), groups], -1)
    places = first_rows.astype(np.int64)[:, None] + np.arange(tiling.rows)
    return Scattered(table[places].astype(np.int32), entries.reshape(-1, GROUP, entry_words(tiling)))


def _padded(tiling: Tiling, counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts of rows up to the end of the last row block."""
    found = np.zeros(-(-len(counts) // tiling.rows) * tiling.rows, np.int64)
    found[: len(counts)] = counts
    return found


def _entries(tiling: Tiling, values: FloatArray, k: NDArray[Any]) -> NDArray[np.int32]:
    view = tiling.view
    whole = tiling.problem.dtype == "int8"
    bits = values.astype(np.int32) if whole else np.ascontiguousarray(values, np.float32).view(np.int32)
    words = [(view.offsets[k] * tiling.x_bytes).astype(np.int32), bits]
    if view.border is not None:
        far = [view.border.rows[row][0] | view.border.columns[column][0] << 16 for row, column in view.taps]
        words.append(np.array(far, np.int32)[k])
    return np.stack(words, -1)


def turns(tiling: Tiling, gpu: Gpu, counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """(row blocks,): how often a warp reads groups, one for each row of a batch. counts: (m,), the entries of each row.

    >>> from tesa.schedules.gpu.view import view
    >>> from tesa.schedules.types import Problem
    >>> from tesa.schedules.gpus import MatrixUnit
    >>> gpu = Gpu("sm_80", "ptx", 108, GpuRates(1.4, 64, 256, 64, 4000, 1555, 40 << 20))
    >>> p = Problem("linear", 16, 8, 64, (1, 8, 64), (1, 16, 64))
    >>> tiling = Tiling(p, view(p), MatrixUnit("mma", 16, 8, 8, "tfloat32", "float32", 512), 16, 64, 8, 128)
    >>> turns(tiling, gpu, np.array([1, 5] + [0] * 14)).tolist()
    [2]
    """
    groups = -(-_padded(tiling, counts) // GROUP)
    found = groups.reshape(-1, tiling.rows // TILE, passes(gpu), TILE // passes(gpu)).max(axis=3).sum(axis=(1, 2))
    return np.asarray(found, np.int64)
