"""A Dask cluster that a test may harm: the command lines of docs/cluster.md, each a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tesa.tune.builders import ClusterBuilder
from tests.measure.remote.park import end_with_parent
from tests.support import PATIENCE_S, kill_family, until

PATIENT = {f"DASK_DISTRIBUTED__COMM__TIMEOUTS__{name}": f"{PATIENCE_S:g}s" for name in ("CONNECT", "TCP")}
"""Settings of Dask's processes, for a machine that is busy."""

_DASK = [sys.executable, "-c", "import sys; from dask.__main__ import main; sys.exit(main())"]


@dataclass(frozen=True)
class Cluster:
    """address: of the scheduler. Both processes can be sent signals; the worker's includes its nanny."""

    address: str
    scheduler: subprocess.Popen[bytes]
    worker: subprocess.Popen[bytes]


def cluster_builder(address: str, **named: Any) -> ClusterBuilder:
    """A builder that waits for its cluster as long as it takes."""
    return ClusterBuilder(address, **{"connect_s": PATIENCE_S, "workers_s": PATIENCE_S, "jobs": 1, **named})


@contextlib.contextmanager
def own_cluster(folder: Path, port: int = 0) -> Iterator[Cluster]:
    """A scheduler and one worker that has arrived. Everything is gone at the end, however the test left it."""
    file = folder / "scheduler.json"
    where = ["--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(file)]
    scheduler = _dask(["scheduler", "--port", str(port), *where], folder)
    worker = None
    try:
        until(lambda: _address(file) or scheduler.poll() is not None, "a scheduler")
        address = _address(file)
        assert address, "the scheduler has ended"
        worker = _dask(["worker", "--nthreads", "1", *where], folder)
        _await_worker(address)
        yield Cluster(address, scheduler, worker)
    finally:
        for process in (scheduler, worker):
            if process is not None:
                kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started, so that nothing of it can start them again."""
    if process.poll() is None:
        kill_family(process.pid)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # those whose parent has ended already
    process.wait()


def _address(file: Path) -> str:
    """Of the scheduler that writes that file; nothing until it has."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        return str(json.loads(file.read_text())["address"])
    return ""


def _await_worker(address: str) -> None:
    import distributed

    with distributed.Client(address, set_as_default=False, timeout=PATIENCE_S) as client:
        client.wait_for_workers(1, timeout=PATIENCE_S)


def _dask(arguments: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*_DASK, *arguments],
        cwd=folder,
        env={**os.environ, **PATIENT, "TESA_CACHE_DIR": str(folder / "cache"), "DASK_TEMPORARY_DIRECTORY": str(folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=end_with_parent,
    )
