"""Real trackers and servers on 127.0.0.1, each a process that is ended by its id, with what it started."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tesa.measure.remote.tracker import Listing, Tracker, TrackerLost
from tests.support import PATIENCE_S, until

KEY = "here"
TRACKER = """
import sys
from tvm.rpc.tracker import PopenTrackerServerState
port = int(sys.argv[1])
PopenTrackerServerState("127.0.0.1", port, port + 1)
"""
"""What tvm.exec.rpc_tracker starts in a child, without the child, which would outlive its parent."""

OURS = ("-m", "tesa.measure.remote.server")
TVMS = ("-m", "tvm.exec.rpc_server")


def free_port() -> int:
    """One that nobody listens at now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def end_with_parent() -> None:
    """Let a test run that is killed leave nothing behind (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Program:
    """A process started for a test, and all that it starts itself."""

    def __init__(self, words: list[str], log: Path, python: str = sys.executable) -> None:
        self.log, self.port, self.key = log, 0, ""
        env = {name: value for name, value in os.environ.items() if name != "TVM_NUM_THREADS"}  # a device has its own
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [python, *words],
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=end_with_parent,
                env=env,
            )

    @property
    def family(self) -> list[psutil.Process]:
        """The process and its children, as far as they live."""
        try:
            parent = psutil.Process(self.process.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the whole family."""
        for member in self.family:
            with suppress(ProcessLookupError):
                os.kill(member.pid, number)

    def end(self) -> None:
        """Kill the family; nothing of it stays."""
        family = self.family
        self.send(signal.SIGKILL)
        self.process.wait(PATIENCE_S)
        _, alive = psutil.wait_procs(family, PATIENCE_S)
        assert alive == []


class Park:
    """A tracker and its servers."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.programs: list[Program] = []
        self.tracker = self.start_tracker()

    def start_tracker(self) -> Program:
        """TVM's tracker, at the same port each time."""
        return self._start(["-c", TRACKER, str(self.port)])

    def server(
        self, key: str = KEY, words: Sequence[str] = OURS, port: int | None = None, python: str = sys.executable
    ) -> Program:
        """A server that registers under the key; words: which one, OURS or another command line."""
        port = free_port() if port is None else port
        place = ["--host", "127.0.0.1", "--port", str(port), "--port-end", str(port + 1)]
        program = self._start([*words, *place, "--tracker", f"127.0.0.1:{self.port}", "--key", key], python)
        program.port, program.key = port, key
        return program

    def faulty(self, flag: Path, key: str) -> Program:
        """A server of ours that is wrong while the file flag exists."""
        return self.server(key, (str(Path(__file__).with_name("faulty.py")), str(flag)))

    def running(self, pid: int) -> Program:
        """The program that the process belongs to."""
        return next(program for program in self.programs if pid in [member.pid for member in program.family])

    def await_servers(self, count: int, key: str = KEY) -> None:
        """Wait until that many servers of the key are free."""
        until(lambda: self.listing().free.get(key, 0) == count, f"{count} free servers of {key}")

    def listing(self) -> Listing:
        """What the tracker knows; nothing while there is none."""
        tracker = Tracker("127.0.0.1", self.port)
        try:
            return tracker.listing()
        except TrackerLost:
            return Listing((), {})
        finally:
            tracker.close()

    def tidy(self) -> None:
        """End what a test has started under keys of its own, where it failed before it did so itself."""
        for program in self.programs:
            if program.key not in ("", KEY):
                program.end()

    def close(self) -> None:
        """End everything."""
        for program in self.programs:
            program.end()

    def _start(self, words: list[str], python: str = sys.executable) -> Program:
        self.programs.append(Program(words, self.folder / f"program{len(self.programs)}.log", python))
        return self.programs[-1]


@contextmanager
def two_servers(folder: Path) -> Iterator[Park]:
    """A tracker with two servers, until the end of the block."""
    park = Park(folder)
    try:
        park.server()
        park.server()
        yield park
    finally:
        park.close()
