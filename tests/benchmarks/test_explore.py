"""The benchmark of explorations on a network that takes a second: its sections run, and their rows hold."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import explore
from tests.explore.networks import chain, inputs


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(explore, "HALVINGS", 2)
    return explore.Bench(chain(), inputs(4), None, ("0.5", "0.8"))


def accuracy(config: Any) -> float:
    return 1.0


@pytest.mark.slow
def test_explored_is_never_worse_than_uniform_at_its_error(bench: Any) -> None:
    rows = explore.uniform(bench, accuracy)
    assert all(row["explored error"] <= row["error"] and row["faster"] > 0 for row in rows)


@pytest.mark.slow
def test_searches_keep_their_evaluations(bench: Any) -> None:
    rows = explore.searches(bench, accuracy, evaluations=2)
    assert [row["share"] for row in rows] == list(explore.SHARES)
    assert all(row["with annealing"] <= row["programme"] for row in rows)


@pytest.mark.slow
def test_the_uneven_network_is_what_its_layers_are() -> None:
    made = explore.Bench(explore.uneven(), {"image": inputs(2)["x"].repeat(2, axis=1)}, None, ("0.5",))
    assert list(made.latencies.ms) == ["early", "filters", "middle", "wide", "late", "large", "last"]
