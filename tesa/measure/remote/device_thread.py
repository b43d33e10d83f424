"""One thread of a runner: takes a device from the tracker, gives it a candidate, and again."""

from __future__ import annotations

import threading
import time
import warnings
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from tesa.base.worker import Worker, WorkerDied, WorkerError
from tesa.errors import UsageError
from tesa.measure.remote.code import Toolchain
from tesa.measure.remote.device_state import Devices
from tesa.measure.remote.orders import CONNECTING, SENDING, About, Order, Report
from tesa.measure.remote.tracker import Offer, Place, Tracker, TrackerLost
from tesa.measure.remote.trials import HUNG, Job, Round
from tesa.measure.timing import Failure, Slot

_TURN_S = 0.1
_AGAIN_S = 1.0  # between two tries to reach a tracker
_REQUEST_S = 30.0  # that a request waits at the tracker before it is made again
_SHORT_S = 3.0  # worth waiting for a device that is set aside
_HOLD_S = 1.0  # that a device is kept while others try what it cannot judge
_ANSWER_S = 20.0  # that a device has for answering and its check
_MARGIN_S = 5.0  # that a device has for ending a session by itself before tesa does


class Party:
    """What the threads of a runner share: where the devices are, how they stand, and which CPU is measured."""

    def __init__(self, host: str, port: int, key: str, limit_s: float, tools: Toolchain, cpu: str | None) -> None:
        self.host, self.port, self.key, self.limit_s, self.tools = host, port, key, limit_s, tools
        self.devices = Devices()
        self.about: About | None = None
        self._cpu = cpu
        self._lock = threading.Lock()
        self._count = 0

    def number(self) -> int:
        """Another one each time."""
        with self._lock:
            self._count += 1
            return self._count

    def admit(self, place: Place, about: About) -> str:
        """Why this device must not be compared with the others; nothing if it may. The first one decides."""
        with self._lock:
            self._cpu = self._cpu or about.cpu
            if about.cpu == self._cpu:
                self.about = self.about or about
                return ""
        reason = f"its CPU is {about.cpu}, and {self._cpu} is measured: give it a key of its own"
        warnings.warn(f"device {place} is left out: {reason}", stacklevel=2)
        return reason


class Hand(threading.Thread):
    """Serves a round until it is done, with one child process that talks to devices."""

    def __init__(self, party: Party, worker: Worker, work: Round, folder: Path, budget_ms: float) -> None:
        super().__init__(daemon=True)
        self._party, self._worker, self._work = party, worker, work
        self._folder, self._budget_ms = folder, budget_ms
        self._tracker = Tracker(party.host, party.port)

    def end(self) -> None:
        """Wait for it; what it still does after a moment is cut off."""
        self.join(_AGAIN_S)
        while self.is_alive():
            self._worker.kill()
            self.join(_TURN_S)

    def run(self) -> None:
        """The thread."""
        try:
            while not self._work.done:
                self._turn()
        except BaseException as error:  # the caller's thread raises it
            self._work.error = error
        finally:
            self._tracker.close()

    def _turn(self) -> None:
        offer = self._offer()
        job = None if offer is None else self._job(offer)
        if offer is None or job is None:
            return
        report = self._session(self._order(job, offer))
        if self._work.stopped:
            return
        if report.about is not None and report.kind != "bad":
            reason = self._party.admit(offer.place, report.about)
            if reason:
                report = Report("bad", report.stage, reason, about=report.about)
        self._work.settle(job, offer.place, report)

    def _offer(self) -> Offer | None:
        """A device that may be used; None after a while, or where nothing waits for one."""
        work = self._work
        if not work.waiting:
            time.sleep(_TURN_S)
            return None
        try:
            with suppress(WorkerError):
                self._worker.call("tesa.measure.remote.session:ready", timeout=self._party.limit_s)
            until = time.monotonic() + _REQUEST_S
            offer = self._tracker.request(self._party.key, until=until, stop=lambda: work.stopped or not work.waiting)
        except TrackerLost:
            time.sleep(_AGAIN_S)
            return None
        if offer is None:
            return None
        pause = self._party.devices.pause(offer.place)
        if pause > _SHORT_S:
            return None  # its server takes it back to the tracker after some seconds
        until = time.monotonic() + pause
        while time.monotonic() < until and not work.stopped:
            time.sleep(_TURN_S)
        return None if offer.stale else offer

    def _job(self, offer: Offer) -> Job | None:
        """A candidate for the device; None if it is not needed, and then it is free again."""
        until = time.monotonic() + _HOLD_S
        while True:
            job = self._work.take(offer.place)
            failed = None if job is None else _not_linked(job)
            if job is not None and failed is not None:
                self._work.fail(job, failed)
                continue
            if job is not None:
                return job
            if self._work.stopped or not self._work.waiting or time.monotonic() > until:
                break
            time.sleep(_TURN_S)
        with suppress(WorkerError):
            self._worker.call("tesa.measure.remote.session:release", offer, timeout=_ANSWER_S)
        return None

    def _order(self, job: Job, offer: Offer) -> Order:
        check = job.library is None or bool(job.opinions) or self._party.devices.must_check(offer.place)
        limit, slot = self._party.limit_s, self._folder / f"slot{self._party.number()}"
        order = Order(
            offer.place.host, offer.place.port, offer.matchkey, limit, min(_ANSWER_S, limit), str(slot),
            probe=str(self._party.tools.probe()) if check else "",
        )  # fmt: skip
        if job.library is None:
            return order
        return replace(
            order, library=str(job.library.result()), symbol=job.symbol, constants=job.constants, helpers=job.helpers,
            layer=str(self._folder / "layer"), budget_ms=self._budget_ms,
        )  # fmt: skip

    def _session(self, order: Order) -> Report:
        Slot(order.slot).close()
        limit = order.limit_s + min(_MARGIN_S, order.limit_s / 2)
        try:
            report: Report = self._worker.call("tesa.measure.remote.session:run", order, timeout=limit)
        except WorkerDied as error:
            stage = max(CONNECTING, Slot.read(order.slot))
            if str(error).startswith("no result"):
                return Report(HUNG, stage, f"no answer for {limit:g} s")
            if stage < SENDING:
                return Report(HUNG, stage, f"no answer for {order.answer_s:g} s")
            return Report("lost", stage, str(error))
        except WorkerError as error:
            return Report("refused", CONNECTING, str(error).split("\nTraceback")[0])
        return report


def _not_linked(job: Job) -> Failure | None:
    try:
        if job.library is not None:
            job.library.result()
    except UsageError as error:
        return Failure("link", str(error))
    return None
