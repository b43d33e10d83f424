"""Measuring on this machine through the interface that devices have."""

from __future__ import annotations

from pathlib import Path

from tesa.target import host_cpu
from tesa.tune.interfaces import Runner
from tesa.tune.measure import Failure, Timing
from tesa.tune.remote import LocalRunner
from tests.tune.remote import kernels


def test_right_and_wrong(tmp_path: Path) -> None:
    runner: Runner = LocalRunner()
    made = [kernels.right(tmp_path), kernels.off(tmp_path), kernels.crashing(tmp_path)]
    right, off, crash = runner.run(kernels.PROBLEM, kernels.WEIGHT, made, budget_ms=5)
    assert isinstance(right, Timing)
    assert isinstance(off, Failure)
    assert isinstance(crash, Failure)
    assert (off.kind, crash.kind) == ("wrong", "crash")
    assert runner.device()["cpu"] == host_cpu()
    assert runner.run(kernels.PROBLEM, kernels.WEIGHT, [], budget_ms=5) == []
    runner.close()
    runner.close()
