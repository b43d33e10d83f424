"""Child processes: results, errors, deaths, time limits."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tesa.base.pool import Pool
from tesa.base.worker import StartFailed, TimedOut, Worker, WorkerDied, WorkerError
from tests.support import children, when

LONG_S = 10_000
"""Whoever waits for the end of that has failed."""


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker({"TESA_TEST_WORKER": "yes"})
    yield made
    made.close()


def test_results_come_back_and_the_child_stays(worker: Worker) -> None:
    assert worker.call("math:hypot", 3.0, 4.0) == 5.0
    child = worker.call("os:getpid")
    assert child != os.getpid()
    assert worker.call("os:getpid") == child
    assert worker.call("os:getenv", "TESA_TEST_WORKER") == "yes"


def test_output_does_not_disturb_the_pipe(worker: Worker) -> None:
    assert worker.call("builtins:print", "hello") is None
    assert worker.call("os:system", "echo hello") == 0
    assert worker.call("math:sqrt", 4.0) == 2.0


def test_an_exception_leaves_the_child_alive(worker: Worker) -> None:
    with pytest.raises(WorkerError, match=r"ValueError: .*domain"):
        worker.call("math:sqrt", -1.0)
    assert worker.call("math:sqrt", 1.0) == 1.0


def test_a_crash_is_reported_and_the_next_call_starts_anew(worker: Worker) -> None:
    with pytest.raises(WorkerDied, match="SIGABRT"):
        worker.call("os:abort")
    assert worker.call("math:sqrt", 1.0) == 1.0
    with pytest.raises(WorkerDied, match="exit code 7"):
        worker.call("os:_exit", 7)


def test_time_limit(worker: Worker) -> None:
    with pytest.raises(TimedOut, match=r"no result after 0\.5 s"):
        worker.call("time:sleep", LONG_S, timeout=0.5)


def test_jobs_fail_alone() -> None:
    jobs: list[tuple[str, tuple[Any, ...]]] = [("math:sqrt", (float(i * i),)) for i in range(6)]
    jobs[2] = ("os:abort", ())
    jobs[4] = ("math:nothing", ())
    with Pool(2) as pool:
        results = dict(pool.as_completed(jobs))
    assert [results[i] for i in (0, 1, 3, 5)] == [0.0, 1.0, 3.0, 5.0]
    assert isinstance(results[2], WorkerDied)
    assert isinstance(results[4], WorkerError)


def test_closing_an_iterator_ends_its_children() -> None:
    with Pool(2) as pool:
        results = pool.as_completed([("os:getpid", ()), ("time:sleep", (LONG_S,))])
        next(results)
        results.close()
        assert pool.call(("math:sqrt", (4.0,))) == 2.0


def test_children_of_a_pool_live_on() -> None:
    with Pool(1) as pool:
        assert pool.call(("os:getpid", ())) == pool.call(("os:getpid", ()))


def test_ctrl_c_while_waiting() -> None:
    before = children()
    with Pool(1) as pool:
        when(lambda: children() - before, lambda: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            list(pool.as_completed([("time:sleep", (LONG_S,))]))


def test_a_child_is_made_ready_before_its_first_call() -> None:
    worker = Worker(modules=["json.tool", "wave"])
    assert {"json.tool", "wave"} <= set(worker.call("tests.base.test_pool:modules", timeout=60))
    worker.close()


def modules() -> list[str]:
    return list(sys.modules)


def test_a_child_that_cannot_be_made_ready() -> None:
    worker = Worker(modules=["no_such_module"])
    with pytest.raises(StartFailed, match="a process cannot start: ModuleNotFoundError"):
        worker.call("math:sqrt", 4.0)
    worker.close()
