"""Who gets which candidate, and what several devices together say about it: without any device."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path

import pytest

from tesa.measure.failure import Failure, FailureKind
from tesa.measure.remote.address import Address
from tesa.measure.remote.device_state import DeviceStates
from tesa.measure.remote.dispatcher import Dispatcher, Job
from tesa.measure.remote.messages import CHECKING, RUNNING, SENDING, About, Outcome, Report
from tesa.measure.timing import UNTIMED, Timing

A, B = Address("a", 1), Address("b", 1)
TIMING = Timing(1.0, 1.0, 0.0, 3)
ABOUT = About("cpu", "model", "x86_64", 2, "host", {})
OK = Report(Outcome.OK, RUNNING, timing=TIMING)


def dispatcher(count: int = 1, others: tuple[Address, ...] = (A, B)) -> tuple[Dispatcher, DeviceStates]:
    devices = DeviceStates()
    library: Future[Path] = Future()
    found = Dispatcher([Job(index, library) for index in range(count)], devices)
    found.others = frozenset(others)
    return found, devices


def taken(work: Dispatcher, device: Address) -> Job:
    job = work.take(device)
    assert job is not None
    return job


def test_every_candidate_is_handed_out_once() -> None:
    work, _ = dispatcher(3)
    jobs = [taken(work, device) for device in (A, B, A)]
    assert sorted(job.index for job in jobs) == [0, 1, 2]
    assert (work.take(A), work.active, work.waiting, work.done) == (None, 3, 0, False)
    for job in jobs:
        work.settle(job, A, OK)
    assert work.done
    assert work.results == dict.fromkeys(range(3), TIMING)
    assert work.active == 0


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        (Outcome.WRONG, FailureKind.WRONG),
        (Outcome.LOST, FailureKind.CRASH),
        (Outcome.LOAD, FailureKind.LOAD),
        (Outcome.HUNG, FailureKind.TIMEOUT),
    ],
)
def test_two_devices_condemn_a_candidate(outcome: Outcome, kind: FailureKind) -> None:
    work, devices = dispatcher()
    work.settle(taken(work, A), A, Report(outcome, RUNNING, "first"))
    assert not work.done
    assert devices.must_check(A)
    assert work.take(A) is None  # the other one shall try it
    work.settle(taken(work, B), B, Report(outcome, RUNNING, "second"))
    assert work.results == {0: Failure(kind, "second")}


def test_a_lone_device_tries_twice_itself() -> None:
    work, _ = dispatcher(others=(A,))
    for _ in range(2):
        work.settle(taken(work, A), A, Report(Outcome.WRONG, RUNNING, "no"))
    assert work.results == {0: Failure(FailureKind.WRONG, "no")}


def test_a_device_that_ends_a_session_in_time_is_believed() -> None:
    work, devices = dispatcher()
    work.settle(taken(work, A), A, Report(Outcome.EXPIRED, RUNNING, "no result after 3 s"))
    assert work.results == {0: Failure(FailureKind.TIMEOUT, "no result after 3 s")}
    assert devices.suspended_s(A) == 0


@pytest.mark.parametrize(
    ("outcome", "stage"),
    [
        (Outcome.LOST, SENDING),
        (Outcome.HUNG, CHECKING),
        (Outcome.REFUSED, CHECKING),
        (Outcome.UNSOUND, CHECKING),
    ],
)
def test_what_happens_before_the_candidate_runs_is_the_devices_fault(outcome: Outcome, stage: int) -> None:
    work, devices = dispatcher()
    for _ in range(5):
        work.settle(taken(work, A), A, Report(outcome, stage, "broken"))
    assert (work.done, work.waiting) == (False, 1)
    assert devices.suspended_s(A) > 10
    assert devices.usable((A, B)) == {B}
    assert devices.reasons((A, B)) == ("a:1: broken",)
    work.settle(taken(work, B), B, OK)
    assert work.results == {0: TIMING}


def test_a_device_whose_word_is_refuted_is_suspended_and_what_it_said_forgotten() -> None:
    work, devices = dispatcher(3)
    work.settle(taken(work, A), A, OK)
    work.settle(taken(work, A), A, Report(Outcome.WRONG, RUNNING, "off"))
    assert work.results == {0: TIMING}
    work.settle(taken(work, B), B, OK)
    assert devices.suspended_s(A) > 30
    assert 0 not in work.results
    assert "right on b:1" in devices.reasons((A,))[0]
    for _ in range(2):
        work.settle(taken(work, B), B, OK)
    assert work.done


def test_a_device_that_died_may_come_back_soon() -> None:
    work, devices = dispatcher(2)
    work.settle(taken(work, A), A, OK)
    work.settle(taken(work, A), A, Report(Outcome.LOST, RUNNING, "the connection broke"))
    work.settle(taken(work, B), B, OK)
    assert work.done
    assert devices.suspended_s(A) <= 2


def test_a_failed_check_takes_back_what_the_device_said() -> None:
    work, _ = dispatcher(2)
    work.settle(taken(work, A), A, OK)
    work.settle(taken(work, A), A, Report(Outcome.UNSOUND, CHECKING, "wrong numbers"))
    assert work.results == {}
    assert work.waiting == 2


def test_a_check_lasts_for_a_while_and_success_forgives() -> None:
    devices = DeviceStates()
    assert devices.must_check(A)
    devices.suspend(A, "died")
    assert 0 < devices.suspended_s(A) <= 2
    devices.suspend(A, "died")
    assert 2 < devices.suspended_s(A) <= 4
    devices.mark_sound(A, ABOUT)
    assert devices.suspended_s(A) == 0
    assert not devices.must_check(A)
    assert devices.reasons((A,)) == ()
    devices.require_check(A)
    assert devices.must_check(A)


def test_a_visit_and_a_candidate_that_cannot_be_linked() -> None:
    work, _ = dispatcher(2)
    work.settle(taken(work, A), A, Report(Outcome.OK, CHECKING, about=ABOUT))
    work.fail(taken(work, A), Failure(FailureKind.LINK, "no"))
    assert work.results == {0: UNTIMED, 1: Failure(FailureKind.LINK, "no")}
    assert work.done
