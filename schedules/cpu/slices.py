"""An unstructured matrix in slices of rows, its weights in the order in which a window that slides over X meets them.

See tesa.schedules.cpu.sliced, which computes with them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.schedules.types import FloatArray

_NEVER = np.iinfo(np.int32).max
"""The column that ends each row: beyond any other."""


@dataclass(frozen=True)
class Slices:
    """The weights in reading order.

    places and values: (steps, lanes); bases: (steps / share,), where the windows begin; starts: (slices + 1,), in
    steps; rows: (slices, lanes), the row of each lane, -1 for none; sorted: whether these are not simply in order.
    """

    values: FloatArray
    places: NDArray[np.uint8]
    bases: NDArray[np.int32]
    starts: NDArray[np.int32]
    rows: NDArray[np.int32]
    sorted: bool


def pack(weight: FloatArray, lanes: int, window: int, share: int, unroll: int) -> Slices:
    """Cut a matrix (m, k), k >= window, into slices.

    The steps of a slice are a multiple of unroll, which is one of share. All slices are walked at once, `share` steps
    of each at a time.
    """
    m, k = weight.shape
    slices = -(-m // lanes)
    counts = np.count_nonzero(weight, axis=1)
    order, is_sorted = order_of(counts, lanes)
    rows = np.full(slices * lanes, -1, np.int32)
    rows[:m] = order
    columns, first = _columns(weight, counts)
    at = np.where(rows >= 0, first[rows], len(columns) - 1).reshape(slices, lanes)  # the last one is _NEVER
    source = rows.reshape(slices, lanes)
    groups: list[tuple[NDArray[Any], NDArray[Any]]] = []
    steps: list[tuple[NDArray[Any], NDArray[Any]]] = []
    live = np.arange(slices)
    while True:
        least = columns[at[live]].min(axis=1, initial=_NEVER)
        live, least = live[least < _NEVER], least[least < _NEVER]
        if not len(live):
            break
        base = np.minimum(least, k - window)
        groups.append((live, base))
        for _ in range(share):
            following = columns[at[live]]
            place = following.astype(np.int64) - base[:, None]
            taken = place < window
            value = np.where(taken, weight[source[live], np.where(taken, following, 0)], np.float32(0))
            steps.append((np.where(taken, place, 0).astype(np.uint8), value))
            at[live] += taken
    lengths = np.bincount(np.concatenate([g[0] for g in groups] or [np.zeros(0, np.int64)]), minlength=slices) * share
    starts = np.concatenate([[0], np.cumsum(-(-lengths // unroll) * unroll)]).astype(np.int32)
    total = max(unroll, int(starts[-1]))
    values, places = np.zeros((total, lanes), np.float32), np.zeros((total, lanes), np.uint8)
    bases = np.zeros(total // share, np.int32)
    for number, (place, value) in enumerate(steps):
        live, base = groups[number // share]
        places[starts[live] + number], values[starts[live] + number] = place, value
        bases[(starts[live] + number) // share] = base
    return Slices(values, places, bases, starts, source, is_sorted)


def order_of(counts: NDArray[np.int64], lanes: int) -> tuple[NDArray[np.int64], bool]:
    """The rows as they are, or by their number of weights where slices then end at least 5 % earlier."""
    order = np.argsort(-counts, kind="stable")
    if longest(counts[order], lanes) < 0.95 * longest(counts, lanes):
        return order, True
    return np.arange(len(counts)), False


def longest(counts: NDArray[np.int64], lanes: int) -> int:
    return int(np.maximum.reduceat(counts, np.arange(0, len(counts), lanes)).sum())


def _columns(weight: FloatArray, counts: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The columns of the non-zeros row by row, each row ended by _NEVER, and where the rows start."""
    where = np.nonzero(weight)
    first = np.concatenate([[0], np.cumsum(counts + 1)[:-1]])
    columns = np.full(int(counts.sum()) + len(counts), _NEVER, np.int32)
    columns[np.arange(len(where[0])) + where[0]] = where[1]
    return columns, first
