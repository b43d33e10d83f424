"""Measures on this machine."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from tesa.base.worker import Worker, WorkerDied, WorkerError
from tesa.measure.device import this_device
from tesa.measure.local import Built, Failure, Timing, measure
from tesa.measure.remote.orders import Order, Report, Workload
from tesa.measure.timing import UNTIMED
from tesa.schedules.types import FloatArray, Problem


class LocalRunner:
    """A Runner in a child process of this one: all kernels of a call take turns, see tesa.measure.local.

    limit_s: seconds for all kernels of one call together; one_s: for one of them until the next has its turn.
    alone: held while it measures, for a caller that must not disturb it from another thread.

    >>> sorted(LocalRunner().device())
    ['cache_kib', 'cpu', 'cpus', 'model', 'system']
    """

    def __init__(
        self, *, limit_s: float = 300.0, one_s: float = 30.0, alone: AbstractContextManager[Any] | None = None
    ) -> None:
        self._limit_s, self._one_s = limit_s, one_s
        self._alone: AbstractContextManager[Any] = nullcontext() if alone is None else alone

    def run(
        self, problem: Problem, weight: FloatArray, kernels: Sequence[Built], *, budget_ms: float
    ) -> list[Timing | Failure]:
        """The time of each kernel, or why it has none, in their order; budget_ms=0 only compares."""
        if not kernels:
            return []
        with self._alone:
            return measure(problem, weight, kernels, budget_ms=budget_ms, limit_s=self._limit_s, one_s=self._one_s)

    def measure(self, layer: Workload, kernels: Sequence[Path], *, budget_ms: float) -> list[Timing | Failure]:
        """The same, one after the other, for libraries whose "main" is called with (x, *extra, y)."""
        one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        worker = Worker({**one, "TVM_NUM_THREADS": str(layer.threads)})
        with tempfile.TemporaryDirectory(prefix="tesa-") as name:
            (Path(name) / "layer").write_bytes(pickle.dumps(layer))
            try:
                return [self._one(worker, kernel, Path(name), budget_ms) for kernel in kernels]
            finally:
                worker.close()

    def _one(self, worker: Worker, kernel: Path, folder: Path, budget_ms: float) -> Timing | Failure:
        order = Order(
            "", 0, "", self._limit_s, self._limit_s, str(folder / "slot"),
            library=str(kernel), symbol="main", helpers=False, layer=str(folder / "layer"), budget_ms=budget_ms,
        )  # fmt: skip
        try:
            report: Report = worker.call("tesa.measure.remote.session:run_here", order, timeout=self._limit_s)
        except WorkerDied as error:
            return Failure("timeout" if str(error).startswith("no result") else "crash", str(error))
        except WorkerError as error:
            return Failure("call", str(error).split("\nTraceback")[0])
        if report.kind != "ok":
            return Failure(report.kind, report.message)
        return UNTIMED if report.timing is None else report.timing

    def device(self) -> dict[str, Any]:
        """What a compile's records say of this machine, see tesa.measure.device."""
        return dict(this_device())

    def close(self) -> None:
        """The measuring process is shared with the rest of tesa and ends with this one."""
