"""Measuring on this machine through the interface that devices have."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from tesa.measure.device import this_device
from tesa.measure.failure import Failure, FailureKind
from tesa.measure.interfaces import Runner
from tesa.measure.local import LocalRunner
from tesa.measure.timing import Timing
from tesa.targets.target import host_cpu
from tests.measure.remote import kernels
from tests.support import PATIENCE_S

SURE_S = 8.0
"""A limit that is waited for to its end, and a thousand times what any other turn needs."""


def test_right_and_wrong(tmp_path: Path) -> None:
    runner: Runner = LocalRunner()
    made = [kernels.right(tmp_path), kernels.off(tmp_path), kernels.crashing(tmp_path)]
    right, off, crash = runner.run(kernels.PROBLEM, kernels.WEIGHT, made, budget_ms=5)
    assert isinstance(right, Timing)
    assert isinstance(off, Failure)
    assert isinstance(crash, Failure)
    assert (off.kind, crash.kind) == ("wrong", "crash")
    assert runner.run(kernels.PROBLEM, kernels.WEIGHT, [], budget_ms=5) == []
    runner.close()
    runner.close()


def test_records_say_as_much_of_this_machine_as_a_compiles() -> None:
    device = LocalRunner().device()
    assert device["cpu"] == host_cpu()
    assert device == this_device()
    assert json.loads(json.dumps(device)) == device
    device["cpu"] = "another"
    assert this_device()["cpu"] == host_cpu()


@pytest.mark.slow
def test_each_candidate_has_a_limit_of_its_own(tmp_path: Path) -> None:
    """Two that never end cost two short limits, long before that of all; those beside them and after them run."""
    runner = LocalRunner(limit_s=PATIENCE_S, one_s=SURE_S)
    made = [kernels.endless(tmp_path), kernels.right(tmp_path), kernels.endless(tmp_path)]
    first, right, last = runner.run(kernels.PROBLEM, kernels.WEIGHT, made, budget_ms=5)
    assert isinstance(right, Timing)
    assert first == last == Failure(FailureKind.TIMEOUT, f"no result after {SURE_S:g} s")


@pytest.mark.slow
def test_a_slow_candidate_that_goes_on_is_no_hanging_one(tmp_path: Path) -> None:
    """Its calls together take far longer than the limit of one turn."""
    slow = kernels.kernel(tmp_path, "slow", "usleep(60000);")
    (result,) = LocalRunner(limit_s=PATIENCE_S, one_s=SURE_S).run(
        kernels.PROBLEM, kernels.WEIGHT, [slow], budget_ms=1.5e3 * SURE_S
    )
    assert isinstance(result, Timing)
    assert result.median_ms > 50


def test_it_waits_until_it_is_alone(tmp_path: Path) -> None:
    alone, results = threading.Lock(), list[object]()
    runner, made = LocalRunner(alone=alone), [kernels.right(tmp_path)]

    def measure() -> None:
        results.extend(runner.run(kernels.PROBLEM, kernels.WEIGHT, made, budget_ms=0))

    with alone:
        thread = threading.Thread(target=measure)
        thread.start()
        time.sleep(0.5)
        assert results == []
    thread.join(PATIENCE_S)
    assert isinstance(results[0], Timing)
