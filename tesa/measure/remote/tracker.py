"""A client of TVM's RPC tracker: lists its devices, and leases one that is free. Every wait has an end.

TVM's own client waits for ever for a tracker that does not answer and for a device that does not come. The messages
are TVM's: JSON with the number of its bytes in front.
"""

import json
import re
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from tesa.base.told import Untruthful, line, parsed, whole
from tesa.measure.remote.address import Address

_MAGIC = struct.pack("<i", 0x2F271)
_SUCCESS, _REQUEST, _SUMMARY = 0, 4, 6
_POLL_S = 0.1
_MOST = 1 << 24  # bytes of a message
_HOST = re.compile(r"[0-9A-Za-z_.:%-]{1,255}", re.ASCII)


@dataclass(frozen=True)
class Lease:
    """A free server that the tracker gave away: it waits some seconds for a client with this matchkey."""

    address: Address
    matchkey: str
    since: float

    @property
    def stale(self) -> bool:
        """True where the server may have taken the matchkey back: TVM's waits 6 seconds or a little more."""
        return time.monotonic() - self.since > 4.0


@dataclass(frozen=True)
class Listing:
    """The servers of a tracker: (key, address) of each, and by key how many of them are free."""

    servers: tuple[tuple[str, Address], ...]
    free: dict[str, int]

    def of(self, key: str) -> tuple[Address, ...]:
        """The servers with that key."""
        return tuple(address for name, address in self.servers if name == key)


class TrackerLost(Exception):
    """The tracker cannot be reached, or does not answer as one. The text says why."""


class Tracker:
    """One connection to a tracker, made when it is needed, and again after it was lost. Not for two threads at once."""

    def __init__(self, host: str, port: int, *, answer_s: float = 15.0) -> None:
        self._address, self._answer_s = (host, port), answer_s
        self._socket: socket.socket | None = None

    def __str__(self) -> str:
        return "{}:{}".format(*self._address)

    def close(self) -> None:
        """Close the connection. May be called twice."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def listing(self) -> Listing:
        """The servers that are registered now. Raises TrackerLost."""
        with self._conversation():
            self._send([_SUMMARY])
            answer = self._answer()
            servers = []
            for item in answer["server_info"]:
                with suppress(Untruthful):  # a device chose its key and address itself, and is left out
                    key = _text(item["key"], "a key").removeprefix("server:")
                    servers.append((key, _address(item["addr"])))
            free = {line(str(key)): _free(queue) for key, queue in answer["queue_info"].items()}
        return Listing(tuple(sorted(servers)), free)

    def request(self, key: str, *, until: float, stop: Callable[[], bool] = lambda: False) -> Lease | None:
        """The next free server with that key; None if none was free until then (time.monotonic()) or at stop().

        One that comes at the very moment of stopping is not lost, but the result.

        Raises TrackerLost.
        """
        withdrawn = False
        with self._conversation():
            self._send([_REQUEST, key, "", 1])
            connection = self._connection()
            while not select.select([connection], [], [], _POLL_S)[0]:
                if stop() or time.monotonic() > until:
                    withdrawn = True
                    if not self._withdraw(connection):
                        return None
                    break
            host, port, matchkey = self._answer()
            lease = Lease(_address((host, port)), _text(matchkey, "a match key"), time.monotonic())
            if withdrawn:
                self.close()
        return lease

    def _withdraw(self, connection: socket.socket) -> bool:
        """Take a request back by closing this side: the tracker then forgets it. True if an answer came first."""
        connection.shutdown(socket.SHUT_WR)
        answered = bool(connection.recv(1, socket.MSG_PEEK))
        if not answered:
            self.close()
        return answered

    @contextmanager
    def _conversation(self) -> Iterator[None]:
        """Close the connection and raise TrackerLost where something goes wrong."""
        try:
            yield
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            self.close()
            raise TrackerLost(line(str(error)) or type(error).__name__) from error

    def _connection(self) -> socket.socket:
        if self._socket is None:
            connection = socket.create_connection(self._address, self._answer_s)
            self._socket = connection
            connection.sendall(_MAGIC)
            if self._receive(len(_MAGIC)) != _MAGIC:
                raise ValueError("something else than an RPC tracker answers")
        return self._socket

    def _send(self, message: list[Any]) -> None:
        data = json.dumps(message).encode()
        for fresh in (False, True):
            connection = self._connection()
            try:
                if not fresh and select.select([connection], [], [], 0)[0]:  # nothing is expected: it was closed
                    raise OSError("connection closed")
                connection.sendall(struct.pack("<i", len(data)) + data)
                return
            except OSError:
                self.close()
                if fresh:
                    raise

    def _answer(self) -> Any:
        (length,) = struct.unpack("<i", self._receive(4))
        if not 0 < length <= _MOST:
            raise ValueError("something else than an RPC tracker answers")
        code, value = parsed(self._receive(length))
        if code != _SUCCESS:
            raise ValueError(f"the tracker answers {code}: {value}")
        return value

    def _receive(self, count: int) -> bytes:
        assert self._socket is not None
        parts, until = [], time.monotonic() + self._answer_s
        while count:
            if time.monotonic() > until:  # one that sends a byte now and then would hold us for ever
                raise OSError("the tracker does not come to the end of its answer")
            part = self._socket.recv(min(count, 1 << 16))
            if not part:
                raise OSError("the tracker closed the connection")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)


def _address(value: object) -> Address:
    """The address of a server as a tracker tells it. Raises Untruthful for anything else."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise Untruthful("a server has no address")
    host, port = value
    if not isinstance(host, str) or not _HOST.fullmatch(host):
        raise Untruthful("the address of a server is no name of a host")
    return Address(host, whole(port, "the port of a server", 1, 65535))


def _free(queue: Any) -> int:
    return whole(queue["free"], "the number of free devices", 0, _MOST)


def _text(value: object, what: str) -> str:
    """A short text that can be printed. Raises Untruthful for anything else."""
    if isinstance(value, str) and len(value) <= 256 and value.isprintable():
        return value
    raise Untruthful(f"{what} is no short text")
