"""The client's side of one session with a device. Runs in a child process, which is ended where the device hangs.

A session is one process on the device, for one candidate: what a candidate destroys ends with it.
"""

from __future__ import annotations

import functools
import os
import pickle
import threading
import time
from typing import Any

from tesa.base.told import Untruthful, line
from tesa.base.worker import Worker
from tesa.measure.heartbeat import Heartbeat
from tesa.measure.remote.checkup import examine, measure_link
from tesa.measure.remote.device_kernel import DeviceKernel
from tesa.measure.remote.messages import (
    CHECKING,
    CONNECTING,
    RUNNING,
    SENDING,
    About,
    Outcome,
    Report,
    SessionRequest,
    Workload,
)
from tesa.measure.remote.tracker import Lease
from tesa.measure.timing import UNTIMED

_SILENT = 3  # exit code of a process that ended because the device did not answer
_BRIEF_S = 5.0  # a session in which nothing happens
_MOST_SAID = 1 << 16  # characters at the end of an error, which is the device's text
_EARLY_S = 0.5  # before its time is over a server may end a session


def new_worker() -> Worker:
    """A child for one session after another. It has TVM's part for sessions in memory before a device waits for it."""
    return Worker({"TVM_NUM_THREADS": "1"}, ["tvm.rpc", __name__])


def release(lease: Lease) -> None:
    """Begin a session and end it at once: the device is free again sooner than if nobody came."""
    from tvm import rpc

    rpc.connect(lease.address.host, lease.address.port, lease.matchkey, _BRIEF_S)


def run(request: SessionRequest) -> Report:
    """Connect, check the device if asked to, then compare the candidate with NumPy and time it."""
    from tvm import rpc

    heartbeat, start = Heartbeat(request.heartbeat), time.monotonic()
    heartbeat.beat(CONNECTING)
    unanswered = threading.Timer(request.answer_s, os._exit, (_SILENT,))
    unanswered.daemon = True
    unanswered.start()
    steps = _Session(request, heartbeat, unanswered)
    try:
        session = rpc.connect(request.host, request.port, request.matchkey, request.limit_s)
    except Exception as error:
        return Report(Outcome.REFUSED, CONNECTING, line_of(error))
    else:
        return _carried_out(steps, session, start)
    finally:
        unanswered.cancel()
        heartbeat.close()


def _carried_out(steps: _Session, session: Any, start: float) -> Report:
    """The report of all steps, or of the one that raised. start: time.monotonic() before the session."""
    try:
        return steps.go(session)
    except Exception as error:
        outcome, message, limit_s = Outcome.CALL, line_of(error), steps.request.limit_s
        if not _alive(session):
            over = "RPCSessionTimeoutError" in message or time.monotonic() - start > limit_s - _EARLY_S
            outcome = Outcome.EXPIRED if over else Outcome.LOST
            message = f"no result after {limit_s:g} s" if over else f"the connection broke: {message}"
        elif isinstance(error, Untruthful):
            outcome = Outcome.UNSOUND
        elif steps.stage < RUNNING:
            outcome = Outcome.LOAD if steps.stage == SENDING else Outcome.UNSOUND
        return Report(outcome, steps.stage, message, about=steps.about)


class _Session:
    """The steps of a session; stage and about tell how far it came when something raised."""

    def __init__(self, request: SessionRequest, heartbeat: Heartbeat, unanswered: threading.Timer) -> None:
        self.request, self._heartbeat, self._unanswered = request, heartbeat, unanswered
        self.stage = CONNECTING
        self.about: About | None = None

    def go(self, session: Any) -> Report:
        """Take all steps."""
        request = self.request
        if request.probes:
            self._enter(CHECKING)
            failed, self.about = examine(session, request.probes)
            if failed or self.about is None:
                return Report(Outcome.UNSOUND, CHECKING, failed, about=self.about)
            if request.time_link:
                self.about = measure_link(session, self.about)
        if not request.library:
            return Report(Outcome.OK, self.stage, about=self.about)
        layer = _layer(request.layer)
        self._enter(CHECKING)
        short = set_threads(session, layer.threads)
        if short:
            return Report(Outcome.UNSOUND, CHECKING, short, about=self.about)
        self._enter(SENDING)
        session.upload(request.library, "candidate.so")
        kernel = DeviceKernel(session, session.load_module("candidate.so"), request, layer)
        self._enter(RUNNING)
        wrong = kernel.compare()
        if wrong:
            return Report(Outcome.WRONG, RUNNING, wrong, about=self.about)
        timing = kernel.time(request.budget_ms) if request.budget_ms > 0 else UNTIMED
        return Report(Outcome.OK, RUNNING, timing=timing, about=self.about)

    def _enter(self, stage: int) -> None:
        self.stage = stage
        self._heartbeat.beat(stage)
        if stage >= SENDING:
            self._unanswered.cancel()


def set_threads(session: Any, threads: int) -> str:
    """Give the device's pool that many threads; what is wrong, if it cannot have them.

    Kernels for one thread do not touch the pool, and asking would start it.
    """
    if threads == 1:
        return ""
    session.get_function("runtime.config_threadpool")(1, threads)
    found = int(session.get_function("runtime.NumThreads")())
    if found == threads:
        return ""
    return f"its thread pool has {found} threads and not {threads}; start its server with TVM_NUM_THREADS={threads}"


def _alive(session: Any) -> bool:
    try:
        session.get_function("runtime.NumThreads")
    except Exception:
        return False
    return True


@functools.lru_cache(maxsize=1)
def _layer(path: str) -> Workload:
    """The workload in a file, which all candidates of a layer share."""
    with open(path, "rb") as file:
        found: Workload = pickle.load(file)
    return found


def line_of(error: Exception) -> str:
    """The line of an error that says something: TVM puts the device's stack, and what carried it, around it."""
    rows = [row.strip() for row in str(error)[-_MOST_SAID:].splitlines() if row.strip()]
    told = [row for row in rows if "Error: " in row and not row.endswith("Error caught from RPC call:")]
    text = line((told or rows or ["no message"])[-1])
    return text if "Error: " in text else f"{type(error).__name__}: {text}"
