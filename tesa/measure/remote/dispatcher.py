"""Hands the candidates of one call of a runner to devices, and judges each by what several devices say of it."""

import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from numpy.typing import NDArray

from tesa.measure.failure import Failure, FailureKind
from tesa.measure.remote.address import Address
from tesa.measure.remote.device_state import DeviceStates
from tesa.measure.remote.messages import RUNNING, Outcome, Report
from tesa.measure.timing import UNTIMED, Timing

_PATIENCE_S = 20.0  # that a candidate waits for a device that has not seen it
_OPINIONS = 2  # that condemn a candidate


@dataclass(frozen=True)
class Opinion:
    """A device's word against a candidate. silent: it ended without one, for which it was suspended already."""

    device: Address
    kind: FailureKind
    message: str
    silent: bool


@dataclass
class Job:
    """A candidate on its way. library: of its kernel; None for a session that only checks a device."""

    index: int
    library: Future[Path] | None = None
    symbol: str = ""
    constants: tuple[NDArray[Any], ...] = ()
    opinions: list[Opinion] = field(default_factory=list)
    since: float = 0.0


class Dispatcher:
    """Gives jobs to devices and gathers their reports. Safe to use from several threads.

    A candidate that fails on one device is tried on another before it counts as failed: the first may be at fault.
    active: number of candidates that run.
    """

    def __init__(self, jobs: list[Job], devices: DeviceStates) -> None:
        self._queue, self._devices = list(jobs), devices
        self._jobs = {job.index: job for job in jobs}
        self.results: dict[int, Timing | Failure] = {}
        self._by: dict[int, Address] = {}
        self.active = 0
        self._lock = Lock()
        self._wanted = len(jobs)
        self.stopped = False
        self.error: BaseException | None = None
        self.last_good = time.monotonic()
        self.others: frozenset[Address] = frozenset()

    @property
    def done(self) -> bool:
        """True where nothing is left to do, or nobody wants it any more."""
        return self.stopped or len(self.results) == self._wanted

    @property
    def waiting(self) -> int:
        """Number of candidates that wait for a device."""
        return len(self._queue)

    @property
    def left(self) -> int:
        """Number of candidates without a result."""
        return self._wanted - len(self.results)

    def take(self, device: Address) -> Job | None:
        """A job for this device: one that has not failed there, if any other device could try those that have."""
        with self._lock:
            alone = not self._devices.usable(self.others - {device})
            for job in self._queue:
                seen = any(device == opinion.device for opinion in job.opinions)
                if not seen or alone or time.monotonic() - job.since > _PATIENCE_S:
                    self._queue.remove(job)
                    self.active += 1
                    return job
        return None

    def fail(self, job: Job, failure: Failure) -> None:
        """Settle a job that cannot run anywhere."""
        with self._lock:
            self.active -= 1
            self.results[job.index] = failure

    def settle(self, job: Job, device: Address, report: Report) -> None:
        """Take in what a session with the candidate came to."""
        outcome = report.outcome
        with self._lock:
            if outcome is Outcome.OK:
                self._right(job, device, report)
            elif outcome.blames_device or (report.stage < RUNNING and outcome.silent):
                unsound = outcome is Outcome.UNSOUND
                self._devices.suspend(device, report.message, longest=unsound)
                if unsound:
                    self._take_back(device)
                self._again(job)
            else:
                self.last_good = time.monotonic()
                self._failed(job, device, report)

    def _right(self, job: Job, device: Address, report: Report) -> None:
        self._devices.mark_sound(device, report.about)
        for other in job.opinions:
            if other.device != device and not other.silent:
                reason = f"{other.kind} ({other.message}) for a kernel that is right on {device}"
                self._devices.suspend(other.device, reason, longest=True)
                self._take_back(other.device)
        self.active -= 1
        self.last_good = time.monotonic()
        self.results[job.index] = UNTIMED if report.timing is None else report.timing
        self._by[job.index] = device

    def _failed(self, job: Job, device: Address, report: Report) -> None:
        kind, expired = report.outcome.failure, report.outcome is Outcome.EXPIRED
        job.opinions.append(Opinion(device, kind, report.message, report.outcome.silent))
        if report.outcome.silent and not expired:
            self._devices.suspend(device, report.message)
        else:
            self._devices.require_check(device)
        # A device that ends the session in time and goes on is sound: the kernel does not end.
        if len(job.opinions) >= _OPINIONS or expired:
            self.active -= 1
            self.results[job.index] = Failure(kind, report.message)
            self._by[job.index] = device
        else:
            self._again(job)

    def _again(self, job: Job) -> None:
        job.since = time.monotonic()
        self.active -= 1
        self._queue.insert(0, job)

    def _take_back(self, device: Address) -> None:
        """Forget all results of a faulty device, and measure these candidates again."""
        for index in [index for index, by in self._by.items() if by == device]:
            del self._by[index], self.results[index]
            job = self._jobs[index]
            job.opinions.clear()
            self._queue.append(job)
