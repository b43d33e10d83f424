"""Smaller kernels in place of the fastest ones: what is chosen, what is said, and what is refused."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tesa
from tesa.errors import UsageError
from tesa.records.log import Record, Task
from tesa.schedules.types import Problem, config_key
from tesa.tune.shrink import Ways, shrunk

TASK = Task.of(Problem("linear", 2, 2, 1, (2, 1), (2, 1)), np.eye(2, dtype=np.float32))
WEIGHT = np.where(np.random.default_rng(0).random((64, 128)) < 0.3, 1.0, 0.0)


def _record(name: str, ms: float | None) -> Record:
    return Record(TASK, "x86", {"cpu": "a"}, name, {}, ms, ms, ok=ms is not None, error="" if ms else "wrong numbers")


@st.composite
def ways(draw: st.DrawFn) -> Ways:
    names = [f"family{i}" for i in range(draw(st.integers(1, 4)))]
    keys = [config_key(name, {}) for name in names]
    predicted = {key: draw(st.integers(1, 40)) / 8 for key in keys}
    sizes = {key: draw(st.integers(1, 30)) for key in keys}
    measured = [(k, n, draw(st.sampled_from([None, 0.0, 1.0, 2.0, 4.0]))) for k, n in zip(keys, names, strict=True)]
    records = {k: _record(n, ms or None) for k, n, ms in measured[1:] if ms is not None}
    return Ways([(n, {}) for n in names], records, predicted, sizes, keys[0], "estimated", draw(st.integers(1, 3)))


@settings(max_examples=200)
@given(st.lists(st.lists(ways(), min_size=1, max_size=2), min_size=1, max_size=3), st.integers(1, 100))
def test_it_fits_and_nothing_that_fits_is_faster(contests: list[list[Ways]], room: int) -> None:
    rows = [[(w, key, item) for w in contest for key, item in w.items().items()] for contest in contests]
    totals = [
        (sum(item.ms * w.times for w, _, item in some), some)
        for some in product(*rows) if sum(item.bytes for _, _, item in some) <= room
    ]  # fmt: skip
    if not totals:
        least = sum(min((item.bytes for _, _, item in some), default=0) for some in rows)
        with pytest.raises(UsageError, match=f"{least:,} bytes at the least"):
            shrunk(contests, room)
        return
    found = shrunk(contests, room)
    time = size = 0.0
    for contest, (place, decision) in zip(contests, found, strict=True):
        mine = contest[place]
        key = mine.chosen if decision is None else config_key(decision.family, decision.config)
        item = mine.items()[key]  # none that has failed
        time, size = time + item.ms * mine.times, size + item.bytes
        assert decision is None or f"may have {room:,} bytes" in decision.reason
    assert size <= room
    assert time == pytest.approx(min(ms for ms, _ in totals))


def test_a_kernel_of_at_most_so_many_bytes() -> None:
    fast = tesa.kernel(WEIGHT, n=64, measure=False)
    size = fast.plan.footprint.total
    assert size > 0
    same = tesa.kernel(WEIGHT, n=64, measure=False, max_bytes=size)
    assert same.plan == fast.plan
    sizes = [c.bytes for c in tesa.kernel(WEIGHT, n=64, measure=False, max_bytes=size - 1).plan.parts[0].candidates]
    least = min(found for found in sizes if found is not None)
    small = tesa.kernel(WEIGHT, n=64, measure=False, max_bytes=least)
    assert small.plan.footprint.total == least < size
    x = np.random.default_rng(1).random((128, 64), np.float32)
    np.testing.assert_allclose(small(x), WEIGHT.astype(np.float32) @ x, rtol=1e-4)
    assert "may have" in small.plan.parts[0].reason
    with pytest.raises(UsageError, match=f"take {least:,} bytes at the least"):
        tesa.kernel(WEIGHT, n=64, measure=False, max_bytes=least - 1)
