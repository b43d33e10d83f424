"""Measures kernels: links each candidate, and has a child process compare it with NumPy and time it in turns.

A child process is the default, because a candidate is machine code that nobody has run before: a crash must cost that
candidate and not the notebook or the hours of tuning around it. The child has the right size of TVM's thread pool
from its start, no other threads, and lives on for the next layer, so that it costs its start of 0.6 s only once.
"""

from __future__ import annotations

import atexit
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tesa.base.hostinfo import usable_cpus
from tesa.base.workers import Worker, WorkerDied, WorkerError
from tesa.build.objects import c_compiler, link
from tesa.errors import UsageError
from tesa.measure.reference import Inputs
from tesa.measure.timing import Failure, Linked, Slot, Timing, run
from tesa.schedules.types import FloatArray, Problem

__all__ = ["BUDGET_MS", "Built", "Failure", "Inputs", "Timing", "measure"]

BUDGET_MS = 80.0
"""Time for one candidate. A slow one is still called three times, one that is much slower than the best no more."""

_LIMIT_S = 300.0  # for all candidates of a layer together
_ONE_S = 30.0  # for one of them until it lets the next have its turn: generated code that loops for ever ends here
_LOOK_S = 0.5


@dataclass(frozen=True)
class Built:
    """A kernel as object files: called as symbol(X, *constants, bias if any, residual if any, Y).

    code: the digest of what was emitted, see tesa.build.digest; "" where nobody records it.
    """

    symbol: str
    objects: tuple[Path, ...]
    constants: tuple[NDArray[Any], ...] = ()
    code: str = ""


def measure(
    problem: Problem,
    weight: FloatArray,
    kernels: Sequence[Built],
    *,
    inputs: Inputs | None = None,
    budget_ms: float = BUDGET_MS,
    isolate: bool = True,
    limit_s: float = _LIMIT_S,
    one_s: float = _ONE_S,
) -> list[Timing | Failure]:
    """The time of each kernel for the problem, weight (m, k), or why it has none.

    A kernel whose result is not the reference's within rounding is a Failure of kind "wrong" and is not timed. The
    others take turns of a few milliseconds until each had about budget_ms; those 1.5 times slower than the best after
    three rounds drop out with what they have. budget_ms=0 only compares, and the times are zero. problem.threads is
    the size of the thread pool. isolate=False measures in this process: a candidate that crashes ends it. limit_s: what
    all may take together; one_s: what one may take for its check or in one of its turns.
    """
    inputs = Inputs.random(problem) if inputs is None else inputs
    results: list[Timing | Failure | None] = [None] * len(kernels)
    with tempfile.TemporaryDirectory(prefix="tesa-") as folder:
        linked = _link_all(kernels, Path(folder))
        waiting: list[int] = []
        for index, item in enumerate(linked):
            if isinstance(item, Failure):
                results[index] = item
            else:
                waiting.append(index)
        while waiting:
            batch = [item for item in (linked[index] for index in waiting) if not isinstance(item, Failure)]
            slot = str(Path(folder) / "slot")
            Slot(slot).close()
            arguments = (problem, weight, batch, inputs, budget_ms, slot)
            outcome = _in_child(arguments, limit_s, one_s) if isolate else run(*arguments)
            if isinstance(outcome, Failure):
                culprit = Slot.read(slot)
                for index in waiting if culprit < 0 else [waiting[culprit]]:
                    results[index] = outcome
                waiting = [] if culprit < 0 else [i for i in waiting if i != waiting[culprit]]
                continue
            for index, result in zip(waiting, outcome, strict=True):
                results[index] = result
            waiting = []
    return [result for result in results if result is not None]


def _in_child(arguments: tuple[Any, ...], limit_s: float, one_s: float) -> list[Timing | Failure] | Failure:
    """run(*arguments) in the measuring process, or what it died of."""
    worker = _worker(arguments[0].threads)
    with _watched(worker, arguments[-1], one_s) as late:
        try:
            results: list[Timing | Failure] = worker.call("tesa.measure.timing:run", *arguments, timeout=limit_s)
        except WorkerDied as error:
            if late.is_set():
                return Failure("timeout", f"no result after {one_s:g} s")
            kind = "timeout" if str(error).startswith("no result") else "crash"
            return Failure(kind, str(error))
        except WorkerError as error:
            return Failure("call", str(error).split("\nTraceback")[0])
    return results


@contextmanager
def _watched(worker: Worker, slot: str, one_s: float) -> Iterator[threading.Event]:
    """End the worker where one candidate runs for more than one_s seconds: the event tells that this happened.

    The child writes to the slot whenever a candidate's turn begins: the file's time of change is a sign of life.
    """
    late, over = threading.Event(), threading.Event()

    def watch() -> None:
        last, since = 0, time.monotonic()
        while not over.wait(_LOOK_S):
            changed = os.stat(slot).st_mtime_ns
            if changed != last or Slot.read(slot) < 0:
                last, since = changed, time.monotonic()
            elif time.monotonic() - since > one_s:
                late.set()
                worker.kill()
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield late
    finally:
        over.set()
        thread.join()
        if late.is_set():
            worker.close()  # it may have ended a worker that had just answered


def _link_all(kernels: Sequence[Built], folder: Path) -> list[Linked | Failure]:
    """Each as a library of its own and under its own name: a process loads one path only once."""
    c_compiler()  # without one, say so once and not for each candidate

    def one(item: tuple[int, Built]) -> Linked | Failure:
        index, kernel = item
        path = folder / f"candidate{index}.so"
        try:
            link(kernel.objects, path)
        except UsageError as error:
            return Failure("link", str(error))
        return Linked(str(path), kernel.symbol, kernel.constants)

    with ThreadPoolExecutor(usable_cpus()) as pool:
        return list(pool.map(one, enumerate(kernels)))


@cache
def _worker(threads: int) -> Worker:
    """The measuring process for a number of threads. NumPy's own threads would spin beside the kernels."""
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    # TVM ties the threads of its pool to cores. For one thread that is no gain, and two measuring processes of one
    # machine would meet on the same core.
    bind = os.environ.get("TVM_BIND_THREADS", "0" if threads == 1 else "1")
    worker = Worker({**one, "TVM_NUM_THREADS": str(threads), "TVM_BIND_THREADS": bind})
    atexit.register(worker.close)
    return worker
