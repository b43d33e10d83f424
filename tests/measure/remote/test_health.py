"""Which devices are sound, as the library tells it."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tesa.errors import UsageError
from tesa.measure.local import LocalRunner
from tesa.measure.remote import RpcRunner, devices
from tesa.measure.remote.checkup import examine
from tesa.measure.remote.health import BROKEN, BUSY, FREE
from tests.measure.remote import kernels
from tests.measure.remote.park import KEY, Park, free_port
from tests.support import PATIENCE_S, until, with_tests


@pytest.mark.slow
def test_sound_and_broken_devices(park: Park, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tesa.measure.remote.health._GRACE_S", PATIENCE_S)
    flag = tmp_path / "wrong"
    flag.touch()
    wrong, stopped = park.faulty(flag, "wrong"), park.server("stopped")
    park.await_servers(1, "wrong")
    park.await_servers(1, "stopped")
    stopped.send(signal.SIGSTOP)
    try:  # those that answer have all the time that they need
        asked = [*((key, PATIENCE_S) for key in (KEY, "wrong")), ("stopped", 3)]
        listed = [device for key, s in asked for device in devices("127.0.0.1", park.port, key=key, answer_s=s)]
        found = {(device.key, device.address.port): device for device in listed}
    finally:
        stopped.send(signal.SIGCONT)
    assert [device.state for (key, _), device in found.items() if key == KEY] == [FREE, FREE]
    sound = next(device for (key, _), device in found.items() if key == KEY)
    assert sound.about is not None
    assert sound.about.cpu == LocalRunner().device()["cpu"]
    assert sound.about.cores == len(os.sched_getaffinity(0))
    assert sound.about.latency_ms > 0
    assert sound.about.link_mb_s > 0
    assert sound.about.versions["server"] == "tesa"
    assert sound.about.versions["tvm"].startswith("0.27")
    assert found["wrong", wrong.port].state == BROKEN
    assert "wrong numbers: 1 of" in found["wrong", wrong.port].reason
    assert found["stopped", stopped.port].state == BROKEN
    assert "no answer" in found["stopped", stopped.port].reason
    wrong.end()
    stopped.end()
    until(lambda: len(park.listing().servers) == 2, "the tracker forgetting them")


@pytest.mark.slow
def test_one_key_and_a_busy_device(park: Park, tmp_path: Path) -> None:
    busy = park.server("busy")
    park.await_servers(1, "busy")
    told, go = tmp_path / "pids", tmp_path / "go"
    code = (
        "import pickle, sys; from tesa.measure.remote import RpcRunner; from tests.measure.remote.kernels import *;"
        f"RpcRunner('127.0.0.1', {park.port}, 'busy').run(PROBLEM, WEIGHT, pickle.load(sys.stdin.buffer), budget_ms=1)"
    )
    client = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, env=with_tests())
    try:
        assert client.stdin is not None
        client.stdin.write(pickle.dumps([kernels.waiting(tmp_path, "one", told, go)]))
        client.stdin.close()
        until(lambda: told.exists() or client.poll() is not None, "the candidate running")
        assert client.poll() is None
        (device,) = devices("127.0.0.1", park.port, key="busy")
        assert (device.state, device.about) == (BUSY, None)
        family = psutil.Process(client.pid).children(recursive=True)
        assert family
        client.kill()  # its children notice by themselves, and the device is free again
        client.wait()
        assert psutil.wait_procs(family, PATIENCE_S)[1] == []
    finally:
        client.kill()
        go.touch()
    park.await_servers(1, "busy")
    busy.end()


def test_no_tracker() -> None:
    with pytest.raises(UsageError, match=r"cannot reach an RPC tracker at 127.0.0.1:\d+ .*tracker_server --host"):
        devices("127.0.0.1", free_port())


def test_closing_a_runner_ends_its_processes(park: Park, tmp_path: Path) -> None:
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    runner = RpcRunner("127.0.0.1", park.port, KEY)
    runner.run(kernels.PROBLEM, kernels.WEIGHT, [kernels.right(tmp_path)], budget_ms=0)
    mine = [process for process in psutil.Process().children(recursive=True) if process.pid not in before]
    assert mine
    runner.close()
    assert psutil.wait_procs(mine, PATIENCE_S)[1] == []


def test_a_device_of_another_architecture_than_the_compilers() -> None:
    class Board:
        """A session with a device that gets no further than saying what it is."""

        def get_function(self, name: str) -> Any:
            return lambda: '{"machine": "aarch64", "server": "tesa"}'

    failed, about = examine(Board(), {"x86_64": "probe.so"})
    assert about is None
    assert "it is aarch64, and code is made for x86_64: give the target of the device" in failed
