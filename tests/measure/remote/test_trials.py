"""Who gets which candidate, and what several devices together say about it: without any device."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path

import pytest

from tesa.measure.remote.device_state import Devices
from tesa.measure.remote.orders import CHECKING, RUNNING, SENDING, About, Report
from tesa.measure.remote.tracker import Place
from tesa.measure.remote.trials import HUNG, Job, Round
from tesa.measure.timing import UNTIMED, Failure, Timing

A, B = Place("a", 1), Place("b", 1)
TIMING = Timing(1.0, 1.0, 0.0, 3)
ABOUT = About("cpu", "model", "x86_64", 2, "host", {})
OK = Report("ok", RUNNING, timing=TIMING)


def a_round(count: int = 1, others: tuple[Place, ...] = (A, B)) -> tuple[Round, Devices]:
    devices = Devices()
    library: Future[Path] = Future()
    found = Round([Job(index, library) for index in range(count)], devices)
    found.others = frozenset(others)
    return found, devices


def taken(work: Round, place: Place) -> Job:
    job = work.take(place)
    assert job is not None
    return job


def test_every_candidate_is_handed_out_once() -> None:
    work, _ = a_round(3)
    jobs = [taken(work, place) for place in (A, B, A)]
    assert sorted(job.index for job in jobs) == [0, 1, 2]
    assert (work.take(A), work.active, work.waiting, work.done) == (None, 3, 0, False)
    for job in jobs:
        work.settle(job, A, OK)
    assert work.done
    assert work.results == dict.fromkeys(range(3), TIMING)
    assert work.active == 0


@pytest.mark.parametrize(
    ("kind", "final"), [("wrong", "wrong"), ("lost", "crash"), ("load", "load"), (HUNG, "timeout")]
)
def test_two_devices_condemn_a_candidate(kind: str, final: str) -> None:
    work, devices = a_round()
    work.settle(taken(work, A), A, Report(kind, RUNNING, "first"))
    assert not work.done
    assert devices.must_check(A)
    assert work.take(A) is None  # the other one shall try it
    work.settle(taken(work, B), B, Report(kind, RUNNING, "second"))
    assert work.results == {0: Failure(final, "second")}


def test_a_lone_device_tries_twice_itself() -> None:
    work, _ = a_round(others=(A,))
    for _ in range(2):
        work.settle(taken(work, A), A, Report("wrong", RUNNING, "no"))
    assert work.results == {0: Failure("wrong", "no")}


def test_a_device_that_ends_a_session_in_time_is_believed() -> None:
    work, devices = a_round()
    work.settle(taken(work, A), A, Report("expired", RUNNING, "no result after 3 s"))
    assert work.results == {0: Failure("timeout", "no result after 3 s")}
    assert devices.pause(A) == 0


@pytest.mark.parametrize(
    ("kind", "stage"), [("lost", SENDING), (HUNG, CHECKING), ("refused", CHECKING), ("bad", CHECKING)]
)
def test_what_happens_before_the_candidate_runs_is_the_devices_fault(kind: str, stage: int) -> None:
    work, devices = a_round()
    for _ in range(5):
        work.settle(taken(work, A), A, Report(kind, stage, "broken"))
    assert (work.done, work.waiting) == (False, 1)
    assert devices.pause(A) > 10
    assert devices.usable((A, B)) == {B}
    assert devices.reasons((A, B)) == ("a:1: broken",)
    work.settle(taken(work, B), B, OK)
    assert work.results == {0: TIMING}


def test_a_device_whose_word_is_refuted_is_set_aside_and_what_it_said_forgotten() -> None:
    work, devices = a_round(3)
    work.settle(taken(work, A), A, OK)
    work.settle(taken(work, A), A, Report("wrong", RUNNING, "off"))
    assert work.results == {0: TIMING}
    work.settle(taken(work, B), B, OK)
    assert devices.pause(A) > 30
    assert 0 not in work.results
    assert "right on b:1" in devices.reasons((A,))[0]
    for _ in range(2):
        work.settle(taken(work, B), B, OK)
    assert work.done


def test_a_device_that_died_may_come_back_soon() -> None:
    work, devices = a_round(2)
    work.settle(taken(work, A), A, OK)
    work.settle(taken(work, A), A, Report("lost", RUNNING, "the connection broke"))
    work.settle(taken(work, B), B, OK)
    assert work.done
    assert devices.pause(A) <= 2


def test_a_failed_check_takes_back_what_the_device_said() -> None:
    work, _ = a_round(2)
    work.settle(taken(work, A), A, OK)
    work.settle(taken(work, A), A, Report("bad", CHECKING, "wrong numbers"))
    assert work.results == {}
    assert work.waiting == 2


def test_a_check_lasts_for_a_while_and_success_forgives() -> None:
    devices = Devices()
    assert devices.must_check(A)
    devices.strike(A, "died")
    assert 0 < devices.pause(A) <= 2
    devices.strike(A, "died")
    assert 2 < devices.pause(A) <= 4
    devices.sound(A, ABOUT)
    assert devices.pause(A) == 0
    assert not devices.must_check(A)
    assert devices.reasons((A,)) == ()
    devices.doubt(A)
    assert devices.must_check(A)


def test_a_visit_and_a_candidate_that_cannot_be_linked() -> None:
    work, _ = a_round(2)
    work.settle(taken(work, A), A, Report("ok", CHECKING, about=ABOUT))
    work.fail(taken(work, A), Failure("link", "no"))
    assert work.results == {0: UNTIMED, 1: Failure("link", "no")}
    assert work.done
