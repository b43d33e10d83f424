"""Measures kernels on this machine's GPU, in a child process: a kernel that spoils the driver's context ends there."""

from __future__ import annotations

import atexit
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

from tesa.base.told import Untruthful
from tesa.base.worker import TimedOut, Worker, WorkerDied, WorkerError
from tesa.build.product import Product
from tesa.errors import UsageError
from tesa.measure.failure import Failure, FailureKind
from tesa.measure.gpu.driver import VARIABLE, device
from tesa.measure.gpu.process import run
from tesa.measure.timing import Timing
from tesa.schedules.types import FloatArray, Problem
from tesa.targets.target import Target

LIMIT_S = 120.0
"""Seconds for one kernel, with the driver's first load of its code."""

_RUN = "tesa.measure.gpu.process:run"


class GpuRunner:
    """A Runner (tesa.measure.interfaces) on device 0. A kernel's object is a library, see tesa.tune.builders.gpu.

    isolate=False measures in this process: a kernel that reaches beyond its memory makes the GPU useless to it.
    alone: held while it measures. Raises UsageError where there is no such device.
    """

    isolate = True

    def __init__(self, target: Target, *, alone: AbstractContextManager[Any] | None = None) -> None:
        try:
            self._device = device(target).facts()
        except Untruthful as error:
            raise UsageError(f"the driver of the GPU tells what cannot be: {error}") from error
        self._alone: AbstractContextManager[Any] = nullcontext() if alone is None else alone

    def run(
        self, problem: Problem, weight: FloatArray, kernels: Sequence[Product], *, budget_ms: float
    ) -> list[Timing | Failure]:
        """The time of each kernel, or why it has none, in their order; budget_ms=0 only compares."""
        with self._alone:
            return [self._one(str(kernel.objects[0]), problem, weight, budget_ms) for kernel in kernels]

    def device(self) -> dict[str, Any]:
        """Device 0, as records name it."""
        return dict(self._device)

    def close(self) -> None:
        """Do nothing: the measuring process is shared with the rest of tesa and ends with this one."""

    def _one(self, path: str, problem: Problem, weight: FloatArray, budget_ms: float) -> Timing | Failure:
        if not self.isolate:
            return run(path, problem, weight, budget_ms)
        worker = _worker(os.environ.get(VARIABLE, ""))
        try:
            found: Timing | Failure = worker.call(_RUN, path, problem, weight, budget_ms, timeout=LIMIT_S)
        except TimedOut as error:
            return Failure(FailureKind.TIMEOUT, str(error))
        except WorkerDied as error:
            return Failure(FailureKind.CRASH, str(error))
        except WorkerError as error:
            return Failure(FailureKind.CALL, str(error).split("\nTraceback")[0])
        if isinstance(found, Failure) and found.kind is FailureKind.CRASH:
            worker.close()  # the driver answers every later call with the same error
        return found


@cache
def _worker(driver: str) -> Worker:
    """The measuring process, which lives as long as this one. driver: its library, where the user named one."""
    worker = Worker({VARIABLE: driver} if driver else {}, ["tesa.measure.gpu.process"])
    atexit.register(worker.close)
    return worker
