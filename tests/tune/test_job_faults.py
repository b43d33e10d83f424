"""A job whose device, disk or builder fails it, or that is killed: what is known stays, and it ends with a result."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from tesa.build.product import Product
from tesa.errors import UsageError
from tesa.measure.failure import Failure, FailureKind
from tesa.measure.interfaces import BuildRequest
from tesa.measure.local import BUDGET_MS
from tesa.measure.timing import Timing
from tesa.records.log import Log, Record
from tesa.schedules import registry
from tesa.schedules.types import config_key
from tests.support import PATIENCE_S, kill_family, with_tests
from tests.tune import fake
from tests.tune.fake import FakeBuilder, FakeRunner
from tests.tune.test_job import SPACE, lines, tune


@pytest.fixture(autouse=True)
def _families(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_FAMILIES", fake.families())


class Failing(FakeBuilder):
    """Cannot write any more from the first turn of these on, as long as there are some; one kernel was ready then."""

    def __init__(self, *turns: int) -> None:
        super().__init__()
        self._turns, self._turn = turns, 0

    def build(self, requests: Sequence[BuildRequest], folder: Path) -> Iterator[tuple[int, Product | Failure]]:
        self._turn += 1
        for built in super().build(requests, folder):
            yield built
            if self._turn in self._turns:
                raise OSError(errno.ENOSPC, "No space left on device")


FEW = [config_key("sparse", {"r": rows, "v": 1, "c": 1}) for rows in (1, 2, 3)]
NO_SPACE = "OSError: [Errno 28] No space left on device"


def test_who_no_device_can_run_is_given_up_and_told_of() -> None:
    fails = {key: Failure(FailureKind.DEVICE, "too large for the board") for key in FEW}
    tuned = tune(runner=FakeRunner(fails=fails), trials=SPACE)
    (layer,) = tuned.layers
    assert (layer.trials, layer.failed, layer.given_up) == (SPACE - 3, 0, 3)
    assert tuned.notes == ("fc: given up, without a result: 3 candidates (too large for the board)",)
    assert tune().layers[0].given_up == 0


@pytest.mark.parametrize("overlap", [False, True])
def test_a_builder_that_fails_once_costs_that_turn(tmp_path: Path, overlap: bool) -> None:
    tuned = tune(log=Log.load(tmp_path, device="fake"), builder=Failing(3), trials=40, overlap=overlap)
    assert tuned.stopped == ""
    assert tuned.layers[0].final
    assert tuned.layers[0].trials == 40
    assert tuned.notes == (f"fc: a batch could not be built: {NO_SPACE}",)
    assert len(lines(tmp_path / "fake.jsonl")) == tuned.measured


@pytest.mark.parametrize("overlap", [False, True])
def test_a_builder_that_always_fails_ends_the_job_with_the_best_so_far(tmp_path: Path, overlap: bool) -> None:
    class Dead(FakeBuilder):
        turn = 0

        def build(self, requests: Sequence[BuildRequest], folder: Path) -> Iterator[tuple[int, Product | Failure]]:
            self.turn += 1
            if self.turn >= 3:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().build(requests, folder)

    tuned = tune(log=Log.load(tmp_path, device="fake"), builder=Dead(), trials=SPACE, overlap=overlap)
    assert tuned.stopped == f"nothing could be measured in 3 turns: {NO_SPACE}"
    assert tuned.layers[0].best_ms is not None
    assert len(lines(tmp_path / "fake.jsonl")) == tuned.measured > 0


def test_no_room_for_a_turns_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, calls = tempfile.mkdtemp, 0

    def full(*words: Any, **named: Any) -> str:
        nonlocal calls
        calls += 1
        if calls > 3:  # the job's own, and two turns'
            raise OSError(errno.ENOSPC, "No space left on device")
        return make(*words, **named)

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    tuned = tune(log=Log.load(tmp_path, device="fake"), trials=SPACE)
    assert tuned.stopped == f"nothing could be measured in 3 turns: {NO_SPACE}"
    assert len(lines(tmp_path / "fake.jsonl")) == tuned.measured > 0


def test_whatever_ends_the_job_what_was_measured_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log had no room in the first turns; then comes a defect that nobody expects."""
    log = Log.load(tmp_path, device="fake")
    write, calls = log.append, 0

    def full(records: Sequence[Record]) -> None:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(records)

    def watch(status: Any) -> None:
        if calls == 2:
            raise ZeroDivisionError("a defect")

    monkeypatch.setattr(log, "append", full)
    with pytest.raises(ZeroDivisionError):
        tune(log=log, watch=watch)
    assert len(lines(tmp_path / "fake.jsonl")) > 0


def test_a_device_that_is_away_says_nothing_about_a_kernel(tmp_path: Path) -> None:
    """Some of the candidates were on it: they are not in the log, and get another chance."""

    class Flaky(FakeRunner):
        def run(self, *args: Any, **named: Any) -> list[Timing | Failure]:
            results = super().run(*args, **named)
            lost: list[Timing | Failure] = [Failure(FailureKind.DEVICE, "gone")]
            return results[:-1] + lost if len(self.turns) == 2 and len(results) > 1 else results

    runner = Flaky()
    tuned = tune(log=Log.load(tmp_path, device="fake"), runner=runner, trials=SPACE)
    assert (tuned.layers[0].trials, tuned.layers[0].failed) == (SPACE, 0)
    assert not [line for line in lines(tmp_path / "fake.jsonl") if not line["ok"]]


def test_no_device_any_more_ends_the_job_with_the_best_so_far() -> None:
    class Gone(FakeRunner):
        def run(self, *args: Any, **named: Any) -> list[Timing | Failure]:
            results = super().run(*args, **named)
            return [Failure(FailureKind.DEVICE, "the board is off")] * len(results) if len(self.turns) > 3 else results

    runner = Gone()
    tuned = tune(runner=runner, trials=SPACE)
    assert tuned.stopped == "nothing could be measured in 3 turns: the board is off"
    assert len(runner.turns) == 6
    assert tuned.layers[0].best_ms is not None
    assert not tuned.layers[0].final

    class Raises(FakeRunner):
        def run(self, *args: Any, **named: Any) -> list[Timing | Failure]:
            if len(self.turns) > 2:
                raise UsageError("no device with key board")
            return super().run(*args, **named)

    assert tune(runner=Raises()).stopped == "no device with key board"
    with pytest.raises(UsageError, match="no tracker"):
        tune(runner=FakeRunner(raises={0: UsageError("no tracker")}))


def test_a_turn_that_the_runner_cannot_do_costs_that_turn() -> None:
    runner = FakeRunner(raises={1: MemoryError("16 GiB")})
    tuned = tune(runner=runner, trials=40)
    assert tuned.stopped == ""
    assert tuned.layers[0].trials == 40
    assert tuned.notes == ("fc: a batch could not be measured: MemoryError: 16 GiB",)


def test_a_full_disk_does_not_end_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log.load(tmp_path, device="fake")
    write, calls = log.append, 0

    def full(records: Sequence[Record]) -> None:
        nonlocal calls
        calls += 1
        if calls < 4:
            raise UsageError("cannot write the tuning log: the disk is full")
        write(records)

    monkeypatch.setattr(log, "append", full)
    tuned = tune(log=log)
    assert tuned.layers[0].trials == 32
    assert [note for note in tuned.notes if "the disk is full" in note]
    assert tuned.unsaved == 0
    assert len(lines(tmp_path / "fake.jsonl")) == tuned.measured  # once there was room, all of it was written

    def for_ever(records: Sequence[Record]) -> None:
        raise UsageError("cannot write the tuning log: the disk is full")

    monkeypatch.setattr(log, "append", for_ever)
    lost = tune(log=log, trials=40)
    assert lost.layers[0].final
    assert lost.unsaved == lost.measured > 0
    assert f"{lost.unsaved} results are not in the log: cannot write the tuning log: the disk is full" in lost.notes


CHILD = """
import sys, time
from pathlib import Path
import tesa.schedules.cpu
from tesa.schedules import registry
from tests.tune import fake
from tesa.tune.budget import Budget
from tesa.tune.job import JobOptions, tune_layers
from tesa.records.log import Log

registry._FAMILIES = fake.families()

class Slow(fake.FakeRunner):
    def run(self, *args, **named):
        time.sleep(0.05)
        return super().run(*args, **named)

folder, seed, go = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
log = Log.load(folder, device="fake")
print("ready", flush=True)
while not go.exists():
    time.sleep(0.001)
tuned = tune_layers([fake.layer("a"), fake.layer("b", 1)], fake.TARGET, log=log, builder=fake.FakeBuilder(),
                    runner=Slow(), options=JobOptions(Budget(80), mode="random", seed=seed))
print(tuned.measured)
"""


def start(folder: Path, seed: int, go: Path) -> subprocess.Popen[str]:
    """A job in a process of its own, which has read the log and waits for the file go."""
    words = [sys.executable, "-c", CHILD, str(folder), str(seed), str(go)]
    child = subprocess.Popen(words, env=with_tests(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n", child.communicate()[1]
    return child


@pytest.mark.slow
def test_two_jobs_at_once_on_one_log(tmp_path: Path) -> None:
    """Two processes that write the same file at the same time: every result of both is in it, whole."""
    folder, go = tmp_path / "logs", tmp_path / "go"
    children = [start(folder, seed, go) for seed in (1, 2)]
    go.touch()
    answers = [child.communicate(timeout=PATIENCE_S) for child in children]
    measured = [int(out) for out, _ in answers]
    found = lines(folder / "fake.jsonl")
    assert len(found) == sum(measured)
    keys = {(line["task"]["pattern"]["digest"], config_key(line["family"], line["config"])) for line in found}
    assert len(keys) > 160  # they went different ways
    works = [fake.layer("a"), fake.layer("b", 1)]
    tuned = tune(works, log=Log.load(folder, device="fake"), mode="random", trials=80)
    assert sum(row.trials for row in tuned.layers) == len(keys)


def test_killed_at_any_moment_it_goes_on_from_there(tmp_path: Path) -> None:
    """kill -9 loses the turn at work and nothing else."""
    log = tmp_path / "fake.jsonl"
    for least in (1, 30, 72):  # lines; the two layers' weights have one each
        child = start(tmp_path, 0, tmp_path)
        try:
            deadline = time.monotonic() + PATIENCE_S
            while (not log.exists() or log.read_bytes().count(b"\n") < least) and child.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.005)
            assert child.poll() is None, child.communicate()[1]
        finally:
            kill_family(child.pid)
        child.communicate()
    before = [(line["task"]["pattern"]["digest"], line["family"], str(line["config"])) for line in lines(log)]
    assert len(before) == len(set(before)) >= 70  # each was measured once, whichever of the three jobs it was
    runner = FakeRunner()
    works = [fake.layer("a"), fake.layer("b", 1)]
    tuned = tune(works, log=Log.load(tmp_path, device="fake"), runner=runner, trials=80, mode="random")
    assert sum(row.trials for row in tuned.layers) == 160
    plain = [key for turn, ms in zip(runner.turns, runner.budgets, strict=True) if ms == BUDGET_MS for key in turn]
    assert len(plain) == 160 - len(before)


ENDLESS = """
import sys
from pathlib import Path
from tesa.build.objects import build_objects, write_objects
from tesa.build.product import Product
from tesa.measure.local import LocalRunner
from tests.build import toy

problem = toy.linear()
weight, folder = toy.weight(problem), Path(sys.argv[1])
code = toy.code(problem, weight, "tesa_endless", repeat=2_000_000_000)
(object_file,) = write_objects(build_objects("tesa_endless", code, toy.TARGET), folder)
print("ready", flush=True)
LocalRunner().run(problem, weight, [Product("tesa_endless", (object_file,), code.constants)], budget_ms=5)
"""


@pytest.mark.slow
def test_a_kernel_that_never_ends_does_not_outlive_the_job(tmp_path: Path) -> None:
    """kill -9 of the job while its measuring process is deep in generated code."""
    child = subprocess.Popen([sys.executable, "-c", ENDLESS, str(tmp_path)], env=with_tests(), stdout=subprocess.PIPE)
    assert child.stdout is not None
    family, busy = list[psutil.Process](), 0.0
    try:
        assert child.stdout.readline() == b"ready\n"
        deadline = time.monotonic() + PATIENCE_S
        while busy < 5.0:  # importing and linking take less
            assert time.monotonic() < deadline
            family = psutil.Process(child.pid).children(recursive=True)
            busy = max((sum(process.cpu_times()[:2]) for process in family), default=0.0)
            time.sleep(0.05)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
        assert psutil.wait_procs(family, timeout=PATIENCE_S)[1] == []
    finally:
        for pid in (child.pid, *(process.pid for process in family)):
            kill_family(pid)
