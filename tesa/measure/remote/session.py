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

from tesa.measure.remote.candidate import Candidate
from tesa.measure.remote.checkup import examine, measure_link
from tesa.measure.remote.orders import CHECKING, CONNECTING, RUNNING, SENDING, About, Order, Report, Workload
from tesa.measure.remote.tracker import Offer
from tesa.measure.timing import UNTIMED, Slot

_SILENT = 3  # exit code of a process that ended because the device did not answer
_BRIEF_S = 5.0  # a session in which nothing happens
_EARLY_S = 0.5  # before its time is over a server may end a session


def ready() -> None:
    """Import what takes long, before a device waits for it."""
    from tvm import rpc  # noqa: F401

    _end_with_parent()


def release(offer: Offer) -> None:
    """Begin a session and end it at once: the device is free again sooner than if nobody came."""
    from tvm import rpc

    rpc.connect(offer.place.host, offer.place.port, offer.matchkey, _BRIEF_S)


def run_here(order: Order) -> Report:
    """As run, but in this process, without a device."""
    from tvm import rpc

    slot = Slot(order.slot)
    talk = _Talk(order, slot, threading.Timer(0, int))
    try:
        return talk.go(rpc.LocalSession())
    except Exception as error:
        return Report("call" if talk.stage == RUNNING else "load", talk.stage, _line(error))
    finally:
        slot.close()


def run(order: Order) -> Report:
    """Connect, check the device if asked to, then compare the candidate with NumPy and time it."""
    _end_with_parent()
    from tvm import rpc

    slot, start = Slot(order.slot), time.monotonic()
    slot.set(CONNECTING)
    silence = threading.Timer(order.answer_s, os._exit, (_SILENT,))
    silence.daemon = True
    silence.start()
    talk = _Talk(order, slot, silence)
    try:
        session = rpc.connect(order.host, order.port, order.matchkey, order.limit_s)
    except Exception as error:
        silence.cancel()
        slot.close()
        return Report("refused", CONNECTING, _line(error))
    try:
        report = talk.go(session)
    except Exception as error:
        kind, message = "call", _line(error)
        if not _alive(session):
            over = "RPCSessionTimeoutError" in message or time.monotonic() - start > order.limit_s - _EARLY_S
            kind = "expired" if over else "lost"
            message = f"no result after {order.limit_s:g} s" if over else f"the connection broke: {message}"
        elif talk.stage < RUNNING:
            kind = "load" if talk.stage == SENDING else "bad"
        report = Report(kind, talk.stage, message, about=talk.about)
    silence.cancel()
    slot.close()
    return report


class _Talk:
    """The steps of a session; stage and about tell how far it came when something raised."""

    def __init__(self, order: Order, slot: Slot, silence: threading.Timer) -> None:
        self.order, self.slot, self.silence = order, slot, silence
        self.stage = CONNECTING
        self.about: About | None = None

    def go(self, session: Any) -> Report:
        order = self.order
        if order.probe:
            self._enter(CHECKING)
            failed, self.about = examine(session, order.probe)
            if failed:
                return Report("bad", CHECKING, failed, about=self.about)
            if order.link:
                self.about = measure_link(session, self.about)
        if not order.library:
            return Report("ok", self.stage, about=self.about)
        layer = _layer(order.layer)
        self._enter(CHECKING)
        short = _set_threads(session, layer.threads)
        if short:
            return Report("bad", CHECKING, short, about=self.about)
        self._enter(SENDING)
        session.upload(order.library, "candidate.so")
        library = session.load_module("candidate.so")
        candidate = Candidate(session, library, order, layer)
        self._enter(RUNNING)
        wrong = candidate.compare()
        if wrong:
            return Report("wrong", RUNNING, wrong, about=self.about)
        timing = candidate.time(order.budget_ms) if order.budget_ms > 0 else UNTIMED
        return Report("ok", RUNNING, timing=timing, about=self.about)

    def _enter(self, stage: int) -> None:
        self.stage = stage
        self.slot.set(stage)
        if stage >= SENDING:
            self.silence.cancel()


def _set_threads(session: Any, threads: int) -> str:
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
    with open(path, "rb") as file:
        found: Workload = pickle.load(file)
    return found


def _line(error: Exception) -> str:
    """The line of an error that says something: TVM puts the device's stack, and what carried it, around it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if "Error: " in line and not line.endswith("Error caught from RPC call:")]
    text = (told or lines or ["no message"])[-1]
    return text if "Error: " in text else f"{type(error).__name__}: {text}"


@functools.cache
def _end_with_parent() -> None:
    """A call that waits for a device does not see that nobody waits for it any more: a thread does."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
