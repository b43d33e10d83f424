"""The client of the tracker, against TVM's own and against things that are none."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from tvm import rpc

from tesa.measure.remote.address import Address
from tesa.measure.remote.tracker import Lease, Tracker, TrackerLost
from tests.measure.remote.park import KEY, Park, free_port
from tests.support import PATIENCE_S


def test_listing_and_request(park: Park) -> None:
    tracker = Tracker("127.0.0.1", park.port)
    listing = tracker.listing()
    assert len(listing.of(KEY)) == 2
    assert listing.of("nobody") == ()
    assert listing.free[KEY] == 2
    leases = [tracker.request(KEY, until=time.monotonic() + PATIENCE_S) for _ in range(2)]
    assert {lease.address for lease in leases if lease is not None} == set(listing.of(KEY))
    assert tracker.listing().free[KEY] == 0
    assert tracker.request(KEY, until=time.monotonic() + 0.2) is None
    assert tracker.request("nobody", until=time.monotonic() + PATIENCE_S, stop=lambda: True) is None
    assert len(tracker.listing().of(KEY)) == 2  # by a new connection
    tracker.close()
    tracker.close()
    for lease in leases:  # a session that ends at once brings a server back sooner than waiting for it would
        assert lease is not None
        rpc.connect(lease.address.host, lease.address.port, lease.matchkey)
    park.await_servers(2)


def test_a_lease_goes_stale() -> None:
    assert not Lease(Address("a", 1), "key", time.monotonic()).stale
    assert Lease(Address("a", 1), "key", time.monotonic() - 10).stale


@contextmanager
def answering(answer: Callable[[socket.socket], bytes], answer_s: float) -> Iterator[Tracker]:
    """Something that accepts one connection, tells its answer and closes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            client, _ = listener.accept()
            client.sendall(answer(client))
            client.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield Tracker("127.0.0.1", listener.getsockname()[1], answer_s=answer_s)
        thread.join()


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_something_else_answers(answer: bytes) -> None:
    with answering(lambda client: answer, 2) as tracker, pytest.raises(TrackerLost):
        tracker.listing()


def test_silence_has_an_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        tracker = Tracker("127.0.0.1", listener.getsockname()[1], answer_s=0.3)
        with pytest.raises(TrackerLost, match="timed out"):
            tracker.listing()
        tracker.close()
    with pytest.raises(TrackerLost, match="refused"):
        Tracker("127.0.0.1", free_port()).request(KEY, until=time.monotonic() + 1)


@pytest.mark.parametrize("count", ["1e999", "true", "-1", '"many"', "null", "[]"])
def test_a_tracker_that_tells_no_number_of_free_devices(count: str) -> None:
    answer = f'[0, {{"server_info": [], "queue_info": {{"a": {{"free": {count}, "pending": 0}}}}}}]'.encode()
    with answering(lambda client: client.recv(4) + struct.pack("<i", len(answer)) + answer, 5) as tracker:
        with pytest.raises(TrackerLost):
            tracker.listing()
        tracker.close()
