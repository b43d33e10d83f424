"""The worker's side of a Dask cluster: it carries out each job in a child of its own, where it can be ended.

A worker of distributed lives long and cannot interrupt a thread. So its threads only wait for children.
"""

import asyncio
import contextlib
import pickle
import socket
import threading
import time
from collections.abc import Mapping
from functools import cache as once
from typing import Any

from tesa.base import version
from tesa.base.installed import source_digest
from tesa.base.pool import CancelToken, Pool
from tesa.base.told import line
from tesa.base.worker import WorkerError
from tesa.build.cache import Cache
from tesa.measure.failure import Failure, FailureKind
from tesa.schedules.types import FloatArray
from tesa.tune.builders.local import MODULES, WORK, judged
from tesa.tune.builders.work import Job, Result

_START_S = 120.0  # for a child to start and to import TVM
_TRIM_EVERY = 256
_END_S = 3.0
_MOST = 256  # more than a worker has threads; a child starts only when a thread needs one

_ROOMS = tuple(f"tesa.{room}" for room in ("schedules", "attributes", "build", "decompose", "targets"))  # of an object

_lock = threading.Lock()
_tokens: dict[str, CancelToken] = {}
_done = 0
_folder: str | None = None


def serve(job: bytes, weight: FloatArray, token: str, limit_s: float, wanted: Mapping[str, str]) -> Result:
    """Carry out a pickled Job in a child, and end the child after limit_s seconds.

    weight: the job's, (m, k). token: of the build that this belongs to, see end. wanted: the client's versions; a
    worker that has others answers with a failure of the machine.
    """
    _settle(None)
    host = socket.gethostname()
    try:
        found = _found()
    except WorkerError as error:
        reason = f"a compiler process cannot start on {host}: {error}".split("\nTraceback")[0]
        return Failure(FailureKind.MACHINE, reason)
    if found != wanted:
        return Failure(FailureKind.MACHINE, f"worker on {host}: {difference(found, wanted)}")
    whole: Job = pickle.loads(job).with_weight(weight)
    try:
        result = judged(_pool().call((WORK, (whole, None)), limit_s, _token(token)))
    except WorkerError as error:
        result = judged(error)
    _tidy()
    if isinstance(result, Failure) and result.kind is FailureKind.MACHINE:
        return Failure(FailureKind.MACHINE, f"{host}: {result.message}")
    return result


async def fingerprint(dask_worker: Any = None) -> dict[str, str]:
    """The versions of this machine. Asked of a worker, it does not keep it from its other duties.

    dask_worker: the worker, which distributed adds.
    """
    _settle(dask_worker)
    return await asyncio.to_thread(_found)


async def end(token: str) -> None:
    """End the children of a build, and those that its last jobs would start."""
    cancel, until = _token(token), time.monotonic() + _END_S
    cancel.cancel()
    while cancel.busy and time.monotonic() < until:
        await asyncio.sleep(0.05)
        cancel.cancel()


def can_import() -> bool:
    """Asked of the scheduler, which has to unpickle the name of serve."""
    return True


def versions() -> dict[str, str]:
    """All that decides the objects and has to be the same everywhere: versions, and tesa's code that generates them."""
    return {**version.versions(), "sources": source_digest(*_ROOMS)[:12]}


def difference(found: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    """In words, the client's version beside each one that is not the same."""
    names = {"tesa": "tesa", "tvm": "TVM", "tvm_ffi": "TVM-FFI", "sources": "sources of tesa"}
    rows = [
        f"{names.get(name, name)} {line(str(found.get(name, 'missing')))} instead of {value}"
        for name, value in wanted.items()
        if found.get(name) != value
    ]
    return ", ".join(rows)


@once
def _found() -> dict[str, str]:
    """The versions, read in a child: the worker itself does not need TVM in its memory."""
    found: dict[str, str] = _pool().call((f"{__name__}:versions", ()), _START_S)
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
def _shared_pool() -> Pool:
    return Pool(_MOST, MODULES, _folder)


def _pool() -> Pool:
    with _lock:  # two threads with the first two jobs
        return _shared_pool()


def _token(name: str) -> CancelToken:
    with _lock:
        return _tokens.setdefault(name, CancelToken())


def _tidy() -> None:
    global _done
    with _lock:
        _done += 1
        due = _done % _TRIM_EVERY == 0
    if due:
        Cache().trim()
