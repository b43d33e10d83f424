"""A Dask cluster that a test may harm: the command lines of docs/cluster.md, each a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

_DASK = [sys.executable, "-c", "import sys; from dask.__main__ import main; sys.exit(main())"]


@dataclass(frozen=True)
class Cluster:
    """address: of the scheduler. Both processes can be sent signals; the worker's includes its nanny."""

    address: str
    scheduler: subprocess.Popen[bytes]
    worker: subprocess.Popen[bytes]


@contextlib.contextmanager
def own_cluster(folder: Path, port: int = 0) -> Iterator[Cluster]:
    """A scheduler and one worker on this machine. Everything is gone at the end, however the test left it."""
    file = folder / "scheduler.json"
    where = ["--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(file)]
    scheduler = _dask(["scheduler", "--port", str(port), *where], folder)
    worker = None
    try:
        until = time.monotonic() + 30
        while not file.exists() and time.monotonic() < until:
            time.sleep(0.05)
        worker = _dask(["worker", "--nthreads", "1", *where], folder)
        yield Cluster(str(json.loads(file.read_text())["address"]), scheduler, worker)
    finally:
        for process in (scheduler, worker):
            if process is not None:
                kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started, so that nothing of it can start them again."""
    if process.poll() is not None:
        return
    for pid in [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def _dask(arguments: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*_DASK, *arguments],
        cwd=folder,
        env={**os.environ, "TESA_CACHE_DIR": str(folder / "cache"), "DASK_TEMPORARY_DIRECTORY": str(folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
