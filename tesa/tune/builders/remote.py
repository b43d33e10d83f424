"""What runs inside the workers of a Dask cluster: each job in a child of the worker, where it can be ended.

A worker of distributed lives long and cannot interrupt a thread. So its threads only wait for children.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import pickle
import socket
import threading
import time
from collections.abc import Mapping
from functools import cache as once
from pathlib import Path
from typing import Any

import tesa
import tesa.schedules
from tesa.base.process_pool import Crew, Hold
from tesa.base.workers import WorkerError
from tesa.build import jobs
from tesa.build.cache import Cache
from tesa.schedules.types import FloatArray
from tesa.tune.builders.local import judged
from tesa.tune.builders.work import Result, Trouble

_START_S = 120.0  # for a child to start and to import TVM
_TRIM_EVERY = 256
_END_S = 3.0
_MOST = 256  # more than a worker has threads; a child starts only when a thread needs one

_lock = threading.Lock()
_holds: dict[str, Hold] = {}
_done = 0
_folder: str | None = None


def serve(job: bytes, weight: FloatArray | None, token: str, limit_s: float, wanted: Mapping[str, str]) -> Result:
    """Carry out a pickled Job in a child, and end the child after limit_s seconds.

    token: of the build that this belongs to, see end. wanted: the client's versions; a worker that has others answers
    with Trouble.
    """
    _settle(None)
    try:
        found = _found()
    except WorkerError as error:
        return Trouble(f"a compiler process cannot start on {socket.gethostname()}: {error}".split("\nTraceback")[0])
    if found != wanted:
        return Trouble(f"worker on {socket.gethostname()}: {difference(found, wanted)}")
    call = ("tesa.tune.builders.work:work", (pickle.loads(job), weight, None, limit_s, os.getpid()))
    try:
        result = _crew().call(call, limit_s, _hold(token))
    except WorkerError as error:
        result = error
    _tidy()
    answer = judged(result)
    return Trouble(f"{socket.gethostname()}: {answer.message}") if isinstance(answer, Trouble) else answer


async def fingerprint(dask_worker: Any = None) -> dict[str, str]:
    """The versions of this machine. Asked of a worker, it does not keep it from its other duties.

    dask_worker: the worker, which distributed adds.
    """
    _settle(dask_worker)
    return await asyncio.to_thread(_found)


async def end(token: str) -> None:
    """End the children of a build, and those that its last jobs would start."""
    hold, until = _hold(token), time.monotonic() + _END_S
    hold.end()
    while hold.working and time.monotonic() < until:
        await asyncio.sleep(0.05)
        hold.end()


def can_import() -> bool:
    """Asked of the scheduler, which has to unpickle the name of serve."""
    return True


def versions() -> dict[str, str]:
    """What has to be the same everywhere for the same objects: versions, and tesa's own code that generates them."""
    hasher = hashlib.sha256()
    home = Path(tesa.__file__).parent
    for folder in (Path(next(iter(tesa.schedules.__path__))), home / "build", home / "decompose"):
        for path in sorted(folder.rglob("*.py")):
            hasher.update(f"{path.relative_to(folder).as_posix()}\n".encode() + path.read_bytes())
    return {**jobs.versions(), "sources": hasher.hexdigest()[:12]}


def difference(found: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    """In words, the client's version beside each one that is not the same."""
    names = {"tesa": "tesa", "tvm": "TVM", "tvm_ffi": "TVM-FFI", "sources": "sources of tesa"}
    rows = [
        f"{names.get(name, name)} {found.get(name, 'missing')} instead of {value}"
        for name, value in wanted.items()
        if found.get(name) != value
    ]
    return ", ".join(rows)


@once
def _found() -> dict[str, str]:
    """The versions, read in a child: the worker itself does not need TVM in its memory."""
    found: dict[str, str] = _crew().call((f"{__name__}:versions", ()), _START_S)
    return found


def _settle(worker: Any) -> None:
    """Have temporary files in the worker's own folder: distributed removes it, however the worker ended."""
    global _folder
    if worker is None:
        from distributed import get_worker

        with contextlib.suppress(ValueError):  # in no worker
            worker = get_worker()
    _folder = _folder or getattr(worker, "local_directory", None)


@once
def _shared_crew() -> Crew:
    return Crew(_MOST, folder=_folder)


def _crew() -> Crew:
    with _lock:  # two threads with the first two jobs
        return _shared_crew()


def _hold(token: str) -> Hold:
    with _lock:
        return _holds.setdefault(token, Hold())


def _tidy() -> None:
    global _done
    with _lock:
        _done += 1
        due = _done % _TRIM_EVERY == 0
    if due:
        Cache().trim()
