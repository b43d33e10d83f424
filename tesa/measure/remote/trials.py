"""The candidates of one call of a runner: which wait, which run, and what several devices together say about each."""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from numpy.typing import NDArray

from tesa.measure.remote.device_state import Devices
from tesa.measure.remote.orders import RUNNING, Report
from tesa.measure.remote.tracker import Place
from tesa.measure.timing import UNTIMED, Failure, Timing

_PATIENCE_S = 20.0  # that a candidate waits for a device that has not seen it
_ENDED = ("crash", "timeout")  # without a word: for these a device was set aside already
_OPINIONS = 2  # that condemn a candidate

HUNG = "hung"
"""A Report's kind for a session that tesa had to end: neither the candidate nor the device gave an answer."""


_DEVICE = ("bad", "refused")  # the device's own faults
_EITHER = ("lost", "expired", HUNG)  # and those that are, unless the candidate ran


@dataclass
class Job:
    """A candidate on its way. library: of its kernel; None for a visit that only checks a device. helpers: as in Order.

    opinions: (device, kind, message) of each device that it failed on.
    """

    index: int
    library: Future[Path] | None = None
    symbol: str = ""
    constants: tuple[NDArray[Any], ...] = ()
    helpers: bool = True
    opinions: list[tuple[Place, str, str]] = field(default_factory=list)
    since: float = 0.0


class Round:
    """Hands candidates to devices and gathers what they say. Safe to use from several threads.

    A candidate that fails on one device is tried on another before it counts as failed: the first may be at fault.
    """

    def __init__(self, jobs: list[Job], devices: Devices) -> None:
        self._queue, self._devices = list(jobs), devices
        self._jobs = {job.index: job for job in jobs}
        self.results: dict[int, Timing | Failure] = {}
        self._by: dict[int, Place] = {}
        self._active = 0
        self._lock = Lock()
        self._wanted = len(jobs)
        self.stopped = False
        self.error: BaseException | None = None
        self.last_good = time.monotonic()
        self.others: frozenset[Place] = frozenset()

    @property
    def done(self) -> bool:
        """True where nothing is left to do, or nobody wants it any more."""
        return self.stopped or len(self.results) == self._wanted

    @property
    def waiting(self) -> int:
        """How many candidates wait for a device."""
        return len(self._queue)

    @property
    def left(self) -> int:
        """How many have no result."""
        return self._wanted - len(self.results)

    @property
    def active(self) -> int:
        """How many run."""
        return self._active

    def take(self, place: Place) -> Job | None:
        """A candidate for this device: one that has not failed there, if any other device could try those that have."""
        with self._lock:
            alone = not self._devices.usable(self.others - {place})
            for job in self._queue:
                seen = any(place == other for other, _, _ in job.opinions)
                if not seen or alone or time.monotonic() - job.since > _PATIENCE_S:
                    self._queue.remove(job)
                    self._active += 1
                    return job
        return None

    def give_back(self, job: Job) -> None:
        """It did not run, and nobody is to blame."""
        with self._lock:
            self._again(job)

    def fail(self, job: Job, failure: Failure) -> None:
        """It cannot run anywhere."""
        with self._lock:
            self._active -= 1
            self.results[job.index] = failure

    def settle(self, job: Job, place: Place, report: Report) -> None:
        """What a session with the candidate came to."""
        with self._lock:
            if report.kind == "ok":
                self._right(job, place, report)
            elif report.kind in _DEVICE or (report.stage < RUNNING and report.kind in _EITHER):
                self._devices.strike(place, report.message, longest=report.kind == "bad")
                if report.kind == "bad":
                    self._take_back(place)
                self._again(job)
            else:
                self.last_good = time.monotonic()
                self._failed(job, place, report)

    def _right(self, job: Job, place: Place, report: Report) -> None:
        self._devices.sound(place, report.about)
        for other, kind, message in job.opinions:
            if other != place and kind not in _ENDED:
                self._devices.strike(other, f"{kind} ({message}) for a kernel that is right on {place}", longest=True)
                self._take_back(other)
        self._active -= 1
        self.last_good = time.monotonic()
        self.results[job.index] = UNTIMED if report.timing is None else report.timing
        self._by[job.index] = place

    def _failed(self, job: Job, place: Place, report: Report) -> None:
        kind = {"lost": "crash", "expired": "timeout", HUNG: "timeout"}.get(report.kind, report.kind)
        job.opinions.append((place, kind, report.message))
        if report.kind in ("lost", HUNG):
            self._devices.strike(place, report.message)
        else:
            self._devices.doubt(place)
        # A device that ends the session in time and goes on is sound: the kernel does not end.
        if len(job.opinions) >= _OPINIONS or report.kind == "expired":
            self._active -= 1
            self.results[job.index] = Failure(kind, report.message)
            self._by[job.index] = place
        else:
            self._again(job)

    def _again(self, job: Job) -> None:
        job.since = time.monotonic()
        self._active -= 1
        self._queue.insert(0, job)

    def _take_back(self, place: Place) -> None:
        """Nothing that a faulty device said in this round counts."""
        for index in [index for index, by in self._by.items() if by == place]:
            del self._by[index], self.results[index]
            job = self._jobs[index]
            job.opinions.clear()
            self._queue.append(job)
