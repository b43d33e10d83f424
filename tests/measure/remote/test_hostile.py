"""Devices and trackers that mean harm: what they tell is data, and nothing of it becomes a path, a crash or a giant."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tesa.base.told import Untruthful
from tesa.measure.remote import devices
from tesa.measure.remote.checkup import examine
from tesa.measure.remote.device_kernel import DeviceKernel
from tesa.measure.remote.health import BROKEN, FREE
from tesa.measure.remote.session import line_of
from tesa.measure.remote.tracker import Tracker, TrackerLost
from tests.measure.remote.park import Park
from tests.support import PATIENCE_S, until

HONEST = {"server": "tesa", "python": "3.11", "machine": "", "tvm": "0.27", "tvm_ffi": "0.1", "llvm_cpu": "znver5"}


def lies(**more: object) -> str:
    return json.dumps({**HONEST, **more})


LIES = {"a path": repr(lies(llvm_cpu="../../../x")), "a giant": "'[' * 40_000_000", "no text": "[1.5]"}


@pytest.mark.slow
def test_devices_that_lie_about_themselves(park: Park, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tesa.measure.remote.health._GRACE_S", PATIENCE_S)
    told = tmp_path / "told"
    device = park.server("lying", (str(Path(__file__).with_name("lying.py")), str(told)))
    for what, lie in LIES.items():
        told.write_text(lie)
        park.await_servers(1, "lying")
        (found,) = devices("127.0.0.1", park.port, key="lying", answer_s=PATIENCE_S)
        assert found.state == BROKEN, what
        assert found.about is None
        assert 0 < len(found.reason) <= 400
        assert found.reason.isprintable()
    told.unlink()
    until(lambda: devices("127.0.0.1", park.port, key="lying")[0].state == FREE, "it tells the truth again")
    device.end()


class Fake:
    """A session with a device that is sound but for what it tells. told: what tesa.about answers; about: tesa_about."""

    def __init__(self, told: object, about: bytes) -> None:
        self._told, self._about_text = told, about

    def get_function(self, name: str) -> Any:
        return lambda: self._told

    def upload(self, path: str, name: str) -> None:
        """Take it."""

    def load_module(self, name: str) -> Any:
        def known(a: Any, b: Any, y: Any) -> None:
            y.copyfrom(a.numpy() @ b.numpy())

        def about(room: Any) -> int:
            content = np.zeros(room.shape, np.uint8)
            content[: len(self._about_text)] = np.frombuffer(self._about_text, np.uint8)
            room.copyfrom(content)
            return len(self._about_text)

        return {"tesa_about": about, "tesa_known": known}

    def cpu(self, number: int) -> Any:
        import tvm

        return tvm.cpu(number)


TEXT = b"machine=x86_64\ncores=4\nhost=here\nkernel=x86_64\nbus=ACPI\ntvm_ffi=0.1\n\nmodel name : "


@pytest.mark.parametrize(
    ("told", "about"),
    [
        (lies(llvm_cpu="../../../x"), TEXT),
        (lies(llvm_cpu="/tmp/x"), TEXT),
        (lies(tvm=27), TEXT),
        (lies(tvm={"a": 1}), TEXT),
        ("[" * 10_000, TEXT),
        ("[1, 2]", TEXT),
        ("hello", TEXT),
        (1.5, TEXT),
        (lies(), TEXT.replace(b"cores=4", b"cores=-4")),
        (lies(), TEXT.replace(b"cores=4", b"cores=" + b"9" * 5000)),
        (lies(), TEXT.replace(b"machine=x86_64", b"machine=../../x")),
        (lies(), b"machine"),
    ],
)
def test_a_lie_is_refused(told: object, about: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        examine(Fake(told, about), {"": "probe.so"})


def test_a_name_of_linux_becomes_a_name_of_a_file() -> None:
    wrong, about = examine(
        Fake(json.dumps({**HONEST, "llvm_cpu": ""}), TEXT + b"../../\x1b[31m/etc/passwd of \xff"), {"": "probe.so"}
    )
    assert not wrong
    assert about is not None
    assert about.cpu == "31m-etc-passwd-of"
    assert about.model.isprintable()


class Clock:
    """The functions of device.c on a device whose clock and caches are made up."""

    def __init__(self, times: list[float], caches: tuple[int, int] = (0, 0)) -> None:
        self._times, self._sizes = times, caches

    def get_function(self, name: str) -> Any:
        return getattr(self, name, None)

    def tesa_caches(self, room: Any) -> None:
        room.copyfrom(np.array(self._sizes, np.int64))

    def tesa_time(self, number: int, other: Any, times: Any, *arguments: Any) -> None:
        times.copyfrom(np.resize(np.array(self._times), number))


def timed(clock: Clock) -> Any:
    class Layer:
        x, extra, y_shape, y_dtype, threads, weight_bytes, columns = (
            np.zeros(1, np.float32),
            (),
            (1,),
            "float32",
            1,
            1 << 30,
            1,
        )

    class Request:
        symbol, constants = "tesa_candidate", ()

    return DeviceKernel(Fake("", b""), clock, Request(), Layer()).time(5.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("times", [[float("nan")], [float("inf")], [-1.0, 5.0], [0.0]])
def test_times_that_no_clock_tells(times: list[float]) -> None:
    with pytest.raises(Untruthful, match="no clock tells"):
        timed(Clock(times))


@pytest.mark.parametrize("caches", [(-1, 1 << 20), (1 << 20, 1 << 62)])
def test_caches_that_no_machine_has(caches: tuple[int, int]) -> None:
    with pytest.raises(Untruthful, match="cache"):
        timed(Clock([1e6], caches))
    assert timed(Clock([1e6])).median_ms == 1.0


def test_an_error_is_one_short_line() -> None:
    said = line_of(RuntimeError("x" * 10**6 + "\nValueError: \x1b[2Jgone " + "y" * 10**6))
    assert len(said) <= 400
    assert said.isprintable()


@contextmanager
def tracker(*answers: bytes, pause_s: float = 0.0) -> Iterator[Tracker]:
    """A client of a tracker that answers the magic number, then this, piece after piece."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                client.sendall(client.recv(4))
                for answer in answers:
                    time.sleep(pause_s)
                    try:
                        client.sendall(answer)
                    except OSError:
                        return
                client.recv(1 << 16)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        found = Tracker("127.0.0.1", listener.getsockname()[1], answer_s=2)
        yield found
        found.close()
        thread.join()


def message(data: object) -> bytes:
    text = (data if isinstance(data, str) else json.dumps(data)).encode()
    return struct.pack("<i", len(text)) + text


@pytest.mark.parametrize(
    "answer",
    ["[" * 60_000, [0], [0, 1], [0, {"server_info": 1, "queue_info": {}}], [0, {"server_info": [1], "queue_info": {}}],
     [0, {"server_info": [], "queue_info": []}], "{}", "NaN"],
)  # fmt: skip
def test_a_tracker_that_answers_nonsense(answer: object) -> None:
    with tracker(message(answer)) as found, pytest.raises(TrackerLost):
        found.listing()


def test_servers_without_a_proper_address_are_left_out() -> None:
    rows: list[object] = [
        {"key": f"server:{key}", "addr": address}
        for key, address in (
            ("good", ["10.0.0.1", 9090]), ("\x1b[2J", ["10.0.0.1", 9090]), ("a", ["10.0.0.1", 0]), ("b", ["a b", 1]),
            ("c", ["10.0.0.1", "9090"]), ("d", "10.0.0.1:9090"), ("e", ["-" * 300, 1]), ("f" * 300, ["10.0.0.1", 1]),
        )
    ]  # fmt: skip
    with tracker(message([0, {"server_info": rows, "queue_info": {"good": {"free": 1}}}])) as found:
        assert [key for key, _ in found.listing().servers] == ["good"]


@pytest.mark.parametrize("lease", [["a b", 1, "key"], ["10.0.0.1", 1 << 70, "key"], ["10.0.0.1", 1, {}], 7])
def test_a_lease_that_is_none(lease: object) -> None:
    with tracker(message([0, lease])) as found, pytest.raises(TrackerLost):
        found.request("key", until=time.monotonic() + PATIENCE_S)


def test_an_answer_in_drops_has_an_end() -> None:
    with (
        tracker(struct.pack("<i", 1000), *[b" "] * 1000, pause_s=0.05) as found,
        pytest.raises(TrackerLost, match="end"),
    ):
        found.listing()
