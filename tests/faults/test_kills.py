"""kill -9 at some moments of compile and tune; `make test-kills` tries two hundred."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.kills import kills


@pytest.mark.slow
def test_a_killed_run_leaves_nothing_that_the_next_one_trips_over(tmp_path: Path) -> None:
    kills(tmp_path, count=2, seed=1, every=2)
