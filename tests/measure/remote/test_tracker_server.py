"""The documented tracker: one process that devices register at, whose end leaves nothing behind."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tesa.measure.remote.tracker import Tracker, TrackerLost
from tests.measure.remote.park import Program, free_port
from tests.support import PATIENCE_S, until

SERVER = "tesa.measure.remote.tracker_server"


def answers(port: int) -> bool:
    tracker = Tracker("127.0.0.1", port)
    try:
        return tracker.listing().servers == ()
    except TrackerLost:
        return False
    finally:
        tracker.close()


@pytest.mark.slow
def test_its_end_frees_the_port_and_leaves_no_child(tmp_path: Path) -> None:
    port = free_port()
    program = Program(["-m", SERVER, "--port", str(port)], tmp_path / "tracker.log")
    try:
        until(lambda: answers(port), "the tracker")
        family = program.family
        second = [sys.executable, "-m", SERVER, "--port", str(port)]
        refused = subprocess.run(second, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        assert refused.returncode == 1
        assert f"cannot listen at 127.0.0.1:{port}" in refused.stderr
        assert "Traceback" not in refused.stderr
        program.process.terminate()
        assert program.process.wait(PATIENCE_S) == 143
        _, alive = psutil.wait_procs(family, PATIENCE_S)
        assert alive == []
        with socket.socket() as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.bind(("127.0.0.1", port))
    finally:
        program.end()
