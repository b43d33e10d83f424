"""Two minutes of load; `make test-soak` runs an hour of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.soak import soak


@pytest.mark.slow
def test_a_process_under_load_stays_as_it_was(tmp_path: Path) -> None:
    soak(tmp_path, 120.0, rest_s=2.0)  # other tests run beside it
