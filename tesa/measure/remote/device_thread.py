"""One thread of a runner: leases a device from the tracker, has it run a candidate, and again."""

import itertools
import threading
import time
import warnings
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from tesa.base.worker import TimedOut, Worker, WorkerDied, WorkerError
from tesa.errors import UsageError
from tesa.measure.failure import Failure, FailureKind
from tesa.measure.heartbeat import Heartbeat
from tesa.measure.remote.address import Address
from tesa.measure.remote.code import DeviceLinker
from tesa.measure.remote.device_state import DeviceStates
from tesa.measure.remote.dispatcher import Dispatcher, Job
from tesa.measure.remote.messages import CONNECTING, SENDING, About, Outcome, Report, SessionRequest
from tesa.measure.remote.tracker import Lease, Tracker, TrackerLost

_POLL_S = 0.1
_AGAIN_S = 1.0  # between two tries to reach a tracker
_REQUEST_S = 30.0  # that a request waits at the tracker before it is made again
_SHORT_S = 3.0  # worth waiting for a device that is suspended
_KEEP_S = 1.0  # that a device is kept while others try what it cannot judge
_ANSWER_S = 20.0  # that a device has for answering and its check
_MARGIN_S = 5.0  # that a device has for ending a session by itself before tesa does


class DevicePool:
    """The devices with one key at a tracker, as the threads of a runner share them: their states and their CPU."""

    def __init__(self, host: str, port: int, key: str, limit_s: float, tools: DeviceLinker, cpu: str | None) -> None:
        self.host, self.port, self.key, self.limit_s, self.tools = host, port, key, limit_s, tools
        self.states = DeviceStates()
        self.about: About | None = None
        self._cpu = cpu
        self._lock = threading.Lock()
        self.numbers = itertools.count()

    def admit(self, device: Address, about: About) -> str:
        """The reason why this device must not be compared with the others; nothing if it may. The first one decides."""
        with self._lock:
            self._cpu = self._cpu or about.cpu
            if about.cpu == self._cpu:
                self.about = self.about or about
                return ""
        reason = f"its CPU is {about.cpu}, and {self._cpu} is measured: give it a key of its own"
        warnings.warn(f"device {device} is left out: {reason}", stacklevel=2)
        return reason


class DeviceThread(threading.Thread):
    """Works for a dispatcher until it is done, with one child process that talks to devices."""

    def __init__(self, pool: DevicePool, worker: Worker, work: Dispatcher, folder: Path, budget_ms: float) -> None:
        super().__init__(daemon=True)
        self._pool, self._worker, self._work = pool, worker, work
        self._folder, self._budget_ms = folder, budget_ms
        self._tracker = Tracker(pool.host, pool.port)

    def end(self) -> None:
        """Wait for it; what it still does after a moment is cut off."""
        self.join(_AGAIN_S)
        while self.is_alive():
            self._worker.kill()
            self.join(_POLL_S)

    def run(self) -> None:
        """The thread."""
        try:
            while not self._work.done:
                self._serve_one()
        except BaseException as error:  # the caller's thread raises it
            self._work.error = error
        finally:
            self._tracker.close()

    def _serve_one(self) -> None:
        lease = self._lease()
        job = None if lease is None else self._job(lease)
        if lease is None or job is None:
            return
        report = self._session(self._request(job, lease))
        if self._work.stopped:
            return
        if report.about is not None and report.outcome is not Outcome.UNSOUND:
            reason = self._pool.admit(lease.address, report.about)
            if reason:
                report = Report(Outcome.UNSOUND, report.stage, reason, about=report.about)
        self._work.settle(job, lease.address, report)

    def _lease(self) -> Lease | None:
        """A device that may be used; None after a while, or where nothing waits for one."""
        work = self._work
        if not work.waiting:
            time.sleep(_POLL_S)
            return None
        try:
            self._worker.start()  # a device does not wait for long
            until = time.monotonic() + _REQUEST_S
            lease = self._tracker.request(self._pool.key, until=until, stop=lambda: work.stopped or not work.waiting)
        except TrackerLost:
            time.sleep(_AGAIN_S)
            return None
        if lease is None:
            return None
        pause = self._pool.states.suspended_s(lease.address)
        if pause > _SHORT_S:
            return None  # its server takes it back to the tracker after some seconds
        until = time.monotonic() + pause
        while time.monotonic() < until and not work.stopped:
            time.sleep(_POLL_S)
        return None if lease.stale else lease

    def _job(self, lease: Lease) -> Job | None:
        """A candidate for the device; None if it is not needed, and then it is free again."""
        until = time.monotonic() + _KEEP_S
        while True:
            job = self._work.take(lease.address)
            if job is not None:
                try:
                    if job.library is not None:
                        job.library.result()
                except UsageError as error:
                    self._work.fail(job, Failure(FailureKind.LINK, str(error)))
                    continue
                return job
            if self._work.stopped or not self._work.waiting or time.monotonic() > until:
                break
            time.sleep(_POLL_S)
        with suppress(WorkerError):
            self._worker.call("tesa.measure.remote.session:release", lease, timeout=_ANSWER_S)
        return None

    def _request(self, job: Job, lease: Lease) -> SessionRequest:
        tools, limit = self._pool.tools, self._pool.limit_s
        check = job.library is None or bool(job.opinions) or self._pool.states.must_check(lease.address)
        request = SessionRequest(
            lease.address.host, lease.address.port, lease.matchkey, limit, min(_ANSWER_S, limit),
            str(self._folder / f"heartbeat{next(self._pool.numbers)}"),
            probes={tools.machine: str(tools.probe())} if check else {},
        )  # fmt: skip
        if job.library is None:
            return request
        return replace(
            request, library=str(job.library.result()), symbol=job.symbol, constants=job.constants,
            layer=str(self._folder / "layer"), budget_ms=self._budget_ms,
        )  # fmt: skip

    def _session(self, request: SessionRequest) -> Report:
        Heartbeat(request.heartbeat).close()
        limit = request.limit_s + min(_MARGIN_S, request.limit_s / 2)
        try:
            report: Report = self._worker.call("tesa.measure.remote.session:run", request, timeout=limit)
        except WorkerDied as error:
            stage = max(CONNECTING, Heartbeat.last(request.heartbeat))
            if isinstance(error, TimedOut):
                return Report(Outcome.HUNG, stage, f"no answer for {limit:g} s")
            if stage < SENDING:
                return Report(Outcome.HUNG, stage, f"no answer for {request.answer_s:g} s")
            return Report(Outcome.LOST, stage, str(error))
        except WorkerError as error:
            return Report(Outcome.REFUSED, CONNECTING, str(error).split("\nTraceback")[0])
        return report
