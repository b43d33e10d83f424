"""Measures on the devices of an RPC tracker: as many at once as there are, whatever happens to any of them."""

import pickle
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from tesa.base.hostinfo import usable_cpus
from tesa.base.scratch import Scratch
from tesa.base.worker import Worker
from tesa.build.product import Product
from tesa.errors import UsageError
from tesa.measure.failure import Failure, FailureKind
from tesa.measure.remote.address import Address
from tesa.measure.remote.checkup import FOREIGN
from tesa.measure.remote.code import DeviceLinker
from tesa.measure.remote.device_thread import DevicePool, DeviceThread
from tesa.measure.remote.dispatcher import Dispatcher, Job
from tesa.measure.remote.messages import Workload
from tesa.measure.remote.session import new_worker
from tesa.measure.remote.tracker import Listing, Tracker, TrackerLost
from tesa.measure.timing import Timing
from tesa.schedules.types import FloatArray, Problem
from tesa.targets.toolchain import NATIVE, Toolchain

_POLL_S = 0.1
_LISTING_S = 1.0  # between two looks at who is registered


class RpcRunner:
    """A Runner (tesa.measure.interfaces) on all devices with one key at an RPC tracker of TVM.

    One session, and so one process on the device, for each candidate. Each is compared with NumPy before its time
    counts. A device is checked with a kernel that is known to be right before it is trusted; one that fails, dies or
    hangs is suspended, and what it had is tried elsewhere. Only devices of one CPU are compared with each other: that
    of the first one that answers, or the one named.

    limit_s: seconds for one candidate on a device. wait_s: how long to wait while no device can be had. toolchain: of
    the target; compiler: the C compiler that links code for the devices instead, such as "aarch64-linux-gnu-g++". cpu:
    as `tesa devices` names it. tell: gets a sentence when a device dies, leaves, is set aside or comes back; it is
    called by the thread that calls run() or device().
    """

    def __init__(
        self,
        host: str,
        port: int,
        key: str,
        *,
        limit_s: float = 60.0,
        wait_s: float = 60.0,
        compiler: str | None = None,
        toolchain: Toolchain = NATIVE,
        cpu: str | None = None,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._host, self._port, self._key, self._wait_s = host, port, key, wait_s
        self._home = Scratch()
        self._tools = DeviceLinker(Path(self._home.name), replace(toolchain, command=compiler or toolchain.command))
        self._pool = DevicePool(host, port, key, limit_s, self._tools, cpu)
        self._workers: list[Worker] = []
        self._unreachable, self._listing, self._reached = "", Listing((), {}), False
        self._tell, self._gone = tell, set[Address]()

    def run(
        self, problem: Problem, weight: FloatArray, kernels: Sequence[Product], *, budget_ms: float
    ) -> list[Timing | Failure]:
        """The time of each kernel, or why it has none, in their order; budget_ms=0 only compares.

        Raises UsageError if no device could be had for wait_s, and at once where there was never a tracker; where some
        kernels were measured before that, the others get a Failure of kind "device" instead.
        """
        if not kernels:
            return []
        self._tools.probe()
        with Scratch() as name, ThreadPoolExecutor(usable_cpus()) as linkers:
            folder = Path(name)
            (folder / "layer").write_bytes(pickle.dumps(Workload.of(problem, weight)))
            jobs = []
            for index, kernel in enumerate(kernels):
                library = linkers.submit(self._link, kernel, folder / f"candidate{index}.so")
                jobs.append(Job(index, library, kernel.symbol, kernel.constants))
            try:
                results = self._carry_out(jobs, folder, budget_ms)
            finally:
                linkers.shutdown(cancel_futures=True)
        if len(results) == len(kernels):
            return [results[index] for index in range(len(kernels))]
        lost = Failure(FailureKind.DEVICE, self._why_none())
        if not results:
            raise UsageError(lost.message)
        return [results.get(index, lost) for index in range(len(kernels))]

    def device(self) -> dict[str, Any]:
        """The CPU that all times are of, what else the first such device said, and the key.

        Meets a device if none was met yet; raises UsageError if none can be had.
        """
        if self._pool.about is None:
            self._tools.probe()
            with Scratch() as name:
                self._carry_out([Job(0)], Path(name), 0.0)
        if self._pool.about is None:
            raise UsageError(self._why_none())
        return self._pool.about.record(self._key)

    def close(self) -> None:
        """End the processes that talk to devices. May be called twice."""
        for worker in self._workers:
            worker.close()
        self._workers.clear()
        self._home.cleanup()

    def _link(self, kernel: Product, path: Path) -> Path:
        self._tools.link(kernel, path)
        return path

    def _carry_out(self, jobs: list[Job], folder: Path, budget_ms: float) -> dict[int, Timing | Failure]:
        """The results by index; incomplete where no device could be had any more."""
        work = Dispatcher(jobs, self._pool.states)
        threads: list[DeviceThread] = []
        tracker, looked = Tracker(self._host, self._port), 0.0
        self._unreachable = ""
        try:
            while not work.done:
                if time.monotonic() - looked > _LISTING_S:
                    self._look(tracker, work)
                    looked = time.monotonic()
                    if not self._reached:  # a wrong address more likely than a tracker that restarts
                        break
                    while len(threads) < min(work.left, len(self._listing.of(self._key))):
                        threads.append(DeviceThread(self._pool, self._worker(len(threads)), work, folder, budget_ms))
                        threads[-1].start()
                self._tell_news()
                if work.error is not None:
                    raise work.error
                if not work.active and (time.monotonic() - work.last_good > self._wait_s or self._all_foreign()):
                    break
                time.sleep(_POLL_S)
        finally:
            work.stopped = True
            tracker.close()
            for thread in threads:
                thread.end()
        self._tell_news()
        return work.results

    def _worker(self, index: int) -> Worker:
        if index == len(self._workers):
            self._workers.append(new_worker())
        return self._workers[index]

    def _tell_news(self) -> None:
        news = self._pool.states.news
        while news:
            self._tell(news.popleft())

    def _look(self, tracker: Tracker, work: Dispatcher) -> None:
        before = frozenset(self._listing.of(self._key))
        try:
            self._listing = tracker.listing()
            self._unreachable, self._reached = "", True
        except TrackerLost as error:
            if not self._unreachable and self._reached:
                self._tell(f"the tracker {tracker} cannot be reached: {error}; it is tried again")
            self._unreachable = str(error)
        now = frozenset(self._listing.of(self._key))
        for device in sorted(before - now):
            self._tell(f"device {device} ({self._key}) is gone: it is no longer registered at the tracker")
        for device in sorted(now & self._gone):
            self._tell(f"device {device} ({self._key}) is back at the tracker")
        self._gone = (self._gone | before) - now
        work.others = frozenset(self._listing.of(self._key))

    def _all_foreign(self) -> bool:
        """True where there are devices, and none of them can ever run the code."""
        addresses = self._listing.of(self._key)
        reasons = self._pool.states.reasons(addresses)
        return bool(addresses) and len(reasons) == len(addresses) and all(FOREIGN in reason for reason in reasons)

    def _why_none(self) -> str:
        """The reason why there is no device, and what to do."""
        where, key = f"the RPC tracker at {self._host}:{self._port}", self._key
        if self._unreachable:
            return (
                f"cannot reach {where} ({self._unreachable}); start it: "
                f"python -m tesa.measure.remote.tracker_server --host {self._host} --port {self._port}"
            )
        addresses = self._listing.of(key)
        start = f"on the device: python -m tesa.measure.remote.server --tracker {self._host}:{self._port} --key {key}"
        if not addresses:
            keys = sorted({name for name, _ in self._listing.servers})
            return f"no device with key {key!r} at {where}; keys there: {', '.join(keys) or 'none'}; {start}"
        reasons = self._pool.states.reasons(addresses)
        if reasons:
            return f"no sound device with key {key!r} at {where}: {'; '.join(reasons)}; see `tesa devices`"
        return f"none of the {len(addresses)} devices with key {key!r} at {where} was free for {self._wait_s:g} s"
