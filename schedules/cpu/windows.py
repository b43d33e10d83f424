"""Weights of an integer kernel as steps: each lane of a slice of rows takes its next few weights from one window of X.

A step has one window for all rows of the slice. It begins at the first column that any lane still needs, rounded down;
a lane whose next weights lie beyond it waits. So each weight costs its value and its place in the window, a byte each.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tesa.schedules.types import FloatArray

GROUP = 4
"""Weights that a lane takes in a step: the products that an instruction adds up."""

_NEVER = np.iinfo(np.int32).max


@dataclass(frozen=True)
class Steps:
    """The weights in reading order.

    values, places: (steps, lanes, GROUP), codes and their columns from the window's first; bases: (steps,), where the
    windows begin; starts: (slices + 1,), the steps of each slice; rows: (slices, lanes), the row of each lane, -1 for
    none.
    """

    values: NDArray[np.int8]
    places: NDArray[np.uint8]
    bases: NDArray[np.int32]
    starts: NDArray[np.int32]
    rows: NDArray[np.int32]


def pack(
    weight: FloatArray,
    lanes: int,
    window: int,
    align: int,
    order: NDArray[np.int32] | None = None,
    last: NDArray[np.int64] | None = None,
    limited: bool = False,
) -> Steps:
    """Cut a matrix (m, k) of codes into slices of `lanes` rows, sorted by their number of weights.

    window: columns that a step sees, at most 256; align: its first one is a multiple of this. order: (slices * lanes,),
    the row of each lane, -1 for none, instead of sorted ones; last: (k,), where a window for a column begins at most.
    limited: the weights 0 and 1, and 2 and 3, of a lane are such that their products with two bytes fit into int16.
    """
    m = len(weight)
    counts = np.count_nonzero(weight, axis=1)
    if order is None:
        rows = np.full(-(-m // lanes) * lanes, -1, np.int32)
        rows[:m] = np.argsort(-counts, kind="stable")
    else:
        rows = order
    slices = len(rows) // lanes
    columns, codes, first = _listed(weight, counts)
    at = np.where(rows >= 0, first[rows], len(columns) - GROUP).reshape(slices, lanes)  # the last ones are _NEVER
    live = np.arange(slices)
    made: list[tuple[NDArray[np.int64], ...]] = []
    while True:
        least = columns[at[live]].min(axis=1, initial=_NEVER)
        live, least = live[least < _NEVER], least[least < _NEVER]
        if not len(live):
            break
        base = least // align * align
        if last is not None:
            base = np.minimum(base, last[least])
        following = at[live][..., None] + np.arange(GROUP)
        place = columns[following] - base[:, None, None].astype(np.int64)
        # a row's list ends with _NEVER, and what follows is the next row's: none of it may be taken
        taken = np.logical_and.accumulate(place < window, axis=2)
        value = np.where(taken, codes[following], 0)
        if limited:
            turn, count = _paired(value)
            taken &= np.arange(GROUP) < count[..., None]
            value, place, taken = (np.take_along_axis(a, turn, axis=2) for a in (value * taken, place, taken))
        made.append((live, base, value, np.where(taken, place, 0)))
        at[live] += taken.sum(axis=2)
    lengths = np.zeros(slices, np.int64)
    for number, (live, *_) in enumerate(made):
        lengths[live] = number + 1
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    total = max(int(starts[-1]), 1)
    values, places = np.zeros((total, lanes, GROUP), np.int8), np.zeros((total, lanes, GROUP), np.uint8)
    bases = np.zeros(total, np.int32)
    for number, (live, base, value, place) in enumerate(made):
        step = starts[live] + number
        values[step], places[step], bases[step] = value, place, base
    return Steps(values, places, bases, starts, rows.reshape(slices, lanes))


def _listed(
    weight: FloatArray, counts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Columns and codes of the non-zeros row by row, each row ended by GROUP times _NEVER, and where the rows start."""
    where = np.nonzero(weight)
    first = np.concatenate([[0], np.cumsum(counts + GROUP)[:-1]])
    size = int(counts.sum()) + GROUP * (len(counts) + 1)
    columns, codes = np.full(size, _NEVER, np.int64), np.zeros(size, np.int64)
    place = np.arange(len(where[0])) + GROUP * where[0]
    columns[place], codes[place] = where[1], weight[where].astype(np.int64)
    return columns, codes, first


_TURNS = np.array([[0, 1, 2, 3], [0, 2, 1, 3], [0, 3, 1, 2]])
"""The ways to make two pairs of four."""

_LARGEST = 128
"""Sum of the sizes of two weights whose products with bytes fit into int16: 255 * 128 < 2**15."""


def _paired(values: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The order of the next GROUP weights of each lane (..., GROUP) in which pairs of them are small enough, and how
    many of them may be taken so: two always, one in each pair."""
    sizes = np.abs(values)
    turn, count = np.zeros(values.shape, np.int64) + _TURNS[1], np.full(values.shape[:-1], 2)
    for many in (3, 4):
        some = sizes * (np.arange(GROUP) < many)
        for order in _TURNS:
            fit = (some[..., order].reshape(*values.shape[:-1], 2, 2).sum(axis=-1) <= _LARGEST).all(axis=-1)
            turn, count = np.where(fit[..., None], order, turn), np.where(fit, many, count)
    return turn, count
