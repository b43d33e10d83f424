"""What the tests of several families share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tesa.schedules.cpu import cut


@pytest.fixture(scope="module")
def any_work_on_threads() -> Iterator[None]:
    """Even the smallest problem runs on all its threads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cut, "SERIAL_CYCLES", 0)
        yield
