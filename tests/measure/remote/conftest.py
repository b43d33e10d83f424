"""One tracker with two servers for all tests of this folder: each takes seconds to start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.measure.remote.park import Park, two_servers


@pytest.fixture(scope="session")
def whole_park(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Park]:
    with two_servers(tmp_path_factory.mktemp("park")) as park:
        yield park


@pytest.fixture
def park(whole_park: Park) -> Iterator[Park]:
    """The same, with two servers that are free."""
    whole_park.await_servers(2)
    yield whole_park
    whole_park.tidy()
