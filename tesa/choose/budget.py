"""The kernels that take the least time together and fit into a number of bytes: a knapsack, one choice for each layer.

The exact optimum, by dynamic programming over the layers. A state is what some layers take together; one that is not
smaller than another and not faster is dropped, and one that cannot get below the best known time, by the bound of the
fractional problem (P. Sinha and A. Zoltners, The multiple-choice knapsack problem, 1979).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

MOST_STATES = 200_000
"""States that are kept after a layer; of more those with the best bounds, and the result may miss the optimum."""

_ROUNDING = 1e-12


class Item(NamedTuple):
    """One way to run a layer: bytes of its kernel, and milliseconds."""

    bytes: int
    ms: float


class _State(NamedTuple):
    """The cost of the layers so far. chosen: their items, the last one first, as nested pairs."""

    bytes: int
    ms: float
    chosen: tuple[int, object] | None


def least_bytes(groups: Sequence[Sequence[Item]]) -> int:
    """The fewest bytes that an item of each group can take together."""
    return sum(min(item.bytes for item in group) for group in groups)


def within(groups: Sequence[Sequence[Item]], room: int) -> list[int] | None:
    """The item to take of each group, by its place, so that all fit into `room` bytes and take the least time.

    None where not even the smallest fit. Of equal times the smaller one is taken.

    >>> layers = [[Item(100, 1.0), Item(30, 1.5)], [Item(100, 1.0), Item(40, 4.0)]]
    >>> within(layers, 200), within(layers, 199), within(layers, 69)
    ([0, 0], [1, 0], None)
    """
    fronts = [_front(group) for group in groups]
    suffixes = [_Suffix([front for _, front in fronts[at:]]) for at in range(len(fronts) + 1)]
    if suffixes[0].bytes > room:
        return None
    best = suffixes[0].quick(room)
    states = [_State(0, 0.0, None)]
    for (places, items), after in zip(fronts, suffixes[1:], strict=True):
        grown = [
            _State(state.bytes + item.bytes, state.ms + item.ms, (place, state.chosen))
            for state in states
            for place, item in zip(places, items, strict=True)
            if state.bytes + item.bytes + after.bytes <= room
        ]
        best = min(best, *(state.ms + after.ms for state in grown))
        bounded = [(state.ms + after.bound(room - state.bytes), state) for state in grown]
        kept = [(bound, state) for bound, state in bounded if bound <= best * (1 + _ROUNDING)]
        if len(kept) > MOST_STATES:
            kept = sorted(kept, key=lambda pair: pair[0])[:MOST_STATES]
        states = _undominated([state for _, state in kept])
    found, chosen = min(states, key=lambda state: (state.ms, state.bytes)).chosen, []
    while found is not None:
        chosen.append(found[0])
        found = found[1]  # type: ignore[assignment]  # a nested pair
    return chosen[::-1]


def _front(group: Sequence[Item]) -> tuple[list[int], list[Item]]:
    """The places of the items of which none is both smaller and faster, the smallest first, and the items."""
    places: list[int] = []
    for place in sorted(range(len(group)), key=lambda place: (group[place].bytes, group[place].ms)):
        if not places or group[place].ms < group[places[-1]].ms:
            places.append(place)
    return places, [group[place] for place in places]


def _undominated(states: list[_State]) -> list[_State]:
    kept: list[_State] = []
    for state in sorted(states, key=lambda state: (state.bytes, state.ms)):
        if not kept or state.ms < kept[-1].ms:
            kept.append(state)
    return kept


class _Suffix:
    """The layers that are still to come. bytes, ms: of the smallest item of each."""

    def __init__(self, fronts: Sequence[Sequence[Item]]) -> None:
        self.bytes, self.ms = sum(front[0].bytes for front in fronts), sum(front[0].ms for front in fronts)
        steps = sorted(
            (step for front in fronts for step in _steps(front)), key=lambda step: step[1] / step[0], reverse=True
        )
        self._sizes = list(accumulate((size for size, _ in steps), initial=0))
        self._gains = list(accumulate((gain for _, gain in steps), initial=0.0))
        self._steps = steps

    def bound(self, room: int) -> float:
        """No choice that fits into `room` bytes takes less time: the last step may be taken in part."""
        left = room - self.bytes
        at = bisect_right(self._sizes, left) - 1
        gain = self._gains[at]
        if at < len(self._steps):
            size, more = self._steps[at]
            gain += more * (left - self._sizes[at]) / size
        return self.ms - gain

    def quick(self, room: int) -> float:
        """The time of a choice that fits: whole steps, the best first, up to one that does not."""
        at = bisect_right(self._sizes, room - self.bytes) - 1
        return self.ms - self._gains[at]


def _steps(front: Sequence[Item]) -> list[tuple[int, float]]:
    """(bytes more, milliseconds less) from corner to corner of the convex hull below a front."""
    corners: list[Item] = []
    for item in front:
        while len(corners) > 1 and _gain(corners[-2], corners[-1]) <= _gain(corners[-2], item):
            corners.pop()
        corners.append(item)
    return [(b.bytes - a.bytes, a.ms - b.ms) for a, b in pairwise(corners)]


def _gain(a: Item, b: Item) -> float:
    return (a.ms - b.ms) / (b.bytes - a.bytes)
