"""Puts items into groups of given sizes so that the sum of their scores is as large as it can be, or no less."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

EXACT = 512
"""Items up to which the best assignment is computed; its time grows with their cube. Beyond that pairs are swapped."""

Ids = NDArray[np.int64]


def assign(scores: NDArray[np.float64], group: Ids) -> Ids:
    """For each place the item that goes there. scores: (items, groups); group: of each place; item i lies at place i.

    Never worse than leaving all items where they are.

    >>> assign(np.array([[0.0, 5], [0, 1], [3, 0], [4, 0]]), np.array([0, 0, 1, 1])).tolist()
    [2, 3, 0, 1]
    """
    if len(group) <= EXACT:
        return _exact(scores, group)
    return _swapped(scores, group)


def _exact(scores: NDArray[np.float64], group: Ids) -> Ids:
    from scipy.optimize import linear_sum_assignment

    items, places = linear_sum_assignment(scores[:, group], maximize=True)
    into = np.empty(len(group), np.int64)
    into[items] = group[places]
    return _placed(into, group)


def _swapped(scores: NDArray[np.float64], group: Ids, sweeps: int = 400) -> Ids:
    """Swap the pair of items, of each two groups, that gains most, as long as any does."""
    into = group.copy()
    groups = scores.shape[1]
    for _ in range(sweeps):
        order = np.argsort(into, kind="stable")
        starts = np.searchsorted(into[order], np.arange(groups))
        gain = (scores - scores[np.arange(len(into)), into][:, None])[order]
        best = np.maximum.reduceat(gain, starts, axis=0)  # (from, to): the most that an item gains by that move
        both = np.triu(best + best.T, 1)
        pairs = np.argwhere(both > 1e-9 * max(float(np.abs(scores).max()), 1e-30))
        if not len(pairs):
            break
        pairs = pairs[np.argsort(-both[tuple(pairs.T)], kind="stable")]
        ends = np.append(starts[1:], len(order))
        busy: set[int] = set()
        for a, b in pairs.tolist():
            if a in busy or b in busy:
                continue
            busy |= {a, b}
            one = order[starts[a] + int(np.argmax(gain[starts[a] : ends[a], b]))]
            other = order[starts[b] + int(np.argmax(gain[starts[b] : ends[b], a]))]
            into[one], into[other] = b, a
    return _placed(into, group)


def _placed(into: Ids, group: Ids) -> Ids:
    """For each place an item of its group; items that stay in their group keep their place."""
    item = np.full(len(group), -1)
    stay = into == group
    item[stay] = np.flatnonzero(stay)
    empty, homeless = np.flatnonzero(~stay), np.flatnonzero(~stay)
    empty = empty[np.argsort(group[empty], kind="stable")]
    homeless = homeless[np.argsort(into[homeless], kind="stable")]
    item[empty] = homeless
    return item
