"""The choice of kernels within a number of bytes, against all combinations."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tesa.choose.budget import Item, least_bytes, within

ITEMS = st.builds(Item, st.integers(0, 30), st.integers(1, 60).map(lambda ms: ms / 8))
GROUPS = st.lists(st.lists(ITEMS, min_size=1, max_size=5), max_size=6)


@settings(max_examples=400)
@given(GROUPS, st.integers(0, 150))
def test_never_above_the_budget_and_never_slower_than_needed(groups: list[list[Item]], room: int) -> None:
    chosen = within(groups, room)
    fitting = [items for items in product(*groups) if sum(item.bytes for item in items) <= room]
    if chosen is None:
        assert not fitting
        assert least_bytes(groups) > room
        return
    items = [group[place] for group, place in zip(groups, chosen, strict=True)]
    assert sum(item.bytes for item in items) <= room
    best = min((sum(i.ms for i in some), sum(i.bytes for i in some)) for some in fitting)
    assert (sum(item.ms for item in items), sum(item.bytes for item in items)) == best


@given(GROUPS.filter(bool))
def test_room_for_all_gives_the_fastest_and_the_least_room_the_smallest(groups: list[list[Item]]) -> None:
    fastest = within(groups, 10**6)
    assert fastest is not None
    for group, place in zip(groups, fastest, strict=True):
        assert group[place].ms == min(item.ms for item in group)
    smallest = within(groups, least_bytes(groups))
    assert smallest is not None
    assert sum(group[place].bytes for group, place in zip(groups, smallest, strict=True)) == least_bytes(groups)
    assert within(groups, least_bytes(groups) - 1) is None


@pytest.mark.parametrize("share", [0.1, 0.4, 0.8])
def test_many_layers(share: float) -> None:
    """As many as a large model has: no choice that is one swap away is better."""
    rng = np.random.default_rng(7)
    groups = [
        [Item(int(size), float(ms)) for size, ms in zip(rng.integers(1e3, 1e6, 20), rng.random(20), strict=True)]
        for _ in range(120)
    ]
    least, most = least_bytes(groups), sum(max(item.bytes for item in group) for group in groups)
    room = int(least + share * (most - least))
    chosen = within(groups, room)
    assert chosen is not None
    items = [group[place] for group, place in zip(groups, chosen, strict=True)]
    left = room - sum(item.bytes for item in items)
    assert left >= 0
    for group, item in zip(groups, items, strict=True):
        assert all(other.ms >= item.ms for other in group if other.bytes <= item.bytes + left)
