"""Measures kernels on this machine: links each candidate, and has a child process check it and time it in turns.

A child process is the default, because a candidate is machine code that nobody has run before: a crash must cost that
candidate and not the notebook or the hours of tuning around it. The child has the right size of TVM's thread pool
from its start, no other threads, and lives on for the next layer, so that it costs its start of 0.6 s only once.
"""

import atexit
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

from tesa.base.hostinfo import usable_cpus
from tesa.base.scratch import Scratch
from tesa.base.worker import TimedOut, Worker, WorkerDied, WorkerError
from tesa.build.product import Product
from tesa.errors import UsageError
from tesa.measure.device import this_device
from tesa.measure.failure import Failure, FailureKind
from tesa.measure.heartbeat import Heartbeat
from tesa.measure.process import Linked, run
from tesa.measure.reference import Inputs
from tesa.measure.timing import Timing
from tesa.schedules.types import FloatArray, Problem
from tesa.targets.toolchain import NATIVE

BUDGET_MS = 80.0
"""Time for one candidate. A slow one is still called three times, one that is much slower than the best no more."""

_LIMIT_S = 300.0  # for all candidates of a layer together
_ONE_S = 30.0  # for one of them until it lets the next have its turn: generated code that loops for ever ends here
_LOOK_S = 0.5


class LocalRunner:
    """A Runner (tesa.measure.interfaces) in a child process of this one: all kernels of a call take turns.

    limit_s: seconds for all kernels of one call together; one_s: for one of them until the next has its turn.
    alone: held while it measures, for a caller that must not disturb it from another thread.

    >>> sorted(LocalRunner().device())
    ['cache_kib', 'cpu', 'cpus', 'model', 'system']
    """

    def __init__(
        self, *, limit_s: float = _LIMIT_S, one_s: float = _ONE_S, alone: AbstractContextManager[Any] | None = None
    ) -> None:
        self._limit_s, self._one_s = limit_s, one_s
        self._alone: AbstractContextManager[Any] = nullcontext() if alone is None else alone

    def run(
        self, problem: Problem, weight: FloatArray, kernels: Sequence[Product], *, budget_ms: float
    ) -> list[Timing | Failure]:
        """The time of each kernel, or why it has none, in their order; budget_ms=0 only compares."""
        if not kernels:
            return []
        with self._alone:
            return measure(problem, weight, kernels, budget_ms=budget_ms, limit_s=self._limit_s, one_s=self._one_s)

    def device(self) -> dict[str, Any]:
        """This machine, as records name it, see tesa.measure.device."""
        return dict(this_device())

    def close(self) -> None:
        """Do nothing: the measuring process is shared with the rest of tesa and ends with this one."""


def measure(
    problem: Problem,
    weight: FloatArray,
    kernels: Sequence[Product],
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
    with Scratch() as folder:
        linked = _link_all(kernels, Path(folder))
        results: dict[int, Timing | Failure] = {i: one for i, one in enumerate(linked) if isinstance(one, Failure)}
        while waiting := [i for i in range(len(kernels)) if i not in results]:
            batch = [one for one in (linked[i] for i in waiting) if isinstance(one, Linked)]
            heartbeat = str(Path(folder) / "heartbeat")
            Heartbeat(heartbeat).close()
            arguments = (problem, weight, batch, inputs, budget_ms, heartbeat)
            found = _in_child(arguments, limit_s, one_s) if isolate else run(*arguments)
            if not isinstance(found, Failure):
                results.update(zip(waiting, found, strict=True))
            elif (culprit := Heartbeat.last(heartbeat)) >= 0:
                results[waiting[culprit]] = found
            else:  # no candidate ran yet
                results.update(dict.fromkeys(waiting, Failure(FailureKind.DEVICE, found.message)))
    return [results[i] for i in range(len(kernels))]


def _in_child(arguments: tuple[Any, ...], limit_s: float, one_s: float) -> list[Timing | Failure] | Failure:
    """The results of run(*arguments) in the measuring process, or what it died of."""
    worker = _worker(arguments[0].threads)
    with _watched(worker, arguments[-1], one_s) as late:
        try:
            results: list[Timing | Failure] = worker.call("tesa.measure.process:run", *arguments, timeout=limit_s)
        except TimedOut as error:
            return Failure(FailureKind.TIMEOUT, str(error))
        except WorkerDied as error:
            if late.is_set():
                return Failure(FailureKind.TIMEOUT, f"no result after {one_s:g} s")
            return Failure(FailureKind.CRASH, str(error))
        except WorkerError as error:
            return Failure(FailureKind.CALL, str(error).split("\nTraceback")[0])
    return results


@contextmanager
def _watched(worker: Worker, heartbeat: str, one_s: float) -> Iterator[threading.Event]:
    """End the worker where one candidate runs for more than one_s seconds: the event tells that this happened.

    The child notes in the heartbeat whenever a candidate's turn begins.
    """
    late, over = threading.Event(), threading.Event()

    def watch() -> None:
        last, since = 0, time.monotonic()
        while not over.wait(_LOOK_S):
            changed = os.stat(heartbeat).st_mtime_ns
            if changed != last or Heartbeat.last(heartbeat) < 0:
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


def _link_all(kernels: Sequence[Product], folder: Path) -> list[Linked | Failure]:
    """Link each into a library of its own and under its own name: a process loads one path only once."""
    NATIVE.compiler()  # without one, say so once and not for each candidate

    def one(item: tuple[int, Product]) -> Linked | Failure:
        index, kernel = item
        path = folder / f"candidate{index}.so"
        try:
            NATIVE.link(kernel.objects, path)
        except UsageError as error:
            return Failure(FailureKind.LINK, str(error))
        return Linked(str(path), kernel.symbol, kernel.constants)

    with ThreadPoolExecutor(usable_cpus()) as pool:
        return list(pool.map(one, enumerate(kernels)))


@cache
def _worker(threads: int) -> Worker:
    """The measuring process for a number of threads, which lives as long as this one."""
    # TVM ties the threads of its pool to cores. For one thread that is no gain, and two measuring processes of one
    # machine would meet on the same core.
    bind = os.environ.get("TVM_BIND_THREADS", "0" if threads == 1 else "1")
    worker = Worker({"TVM_NUM_THREADS": str(threads), "TVM_BIND_THREADS": bind}, ["tvm", "tesa.measure.process"])
    atexit.register(worker.close)
    return worker
