"""The job: what is measured when, what is kept, and that it ends with the best that is known whatever happens."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tesa.build.product import Product
from tesa.errors import UsageError
from tesa.measure.failure import Failure, FailureKind
from tesa.measure.local import BUDGET_MS
from tesa.measure.timing import Timing
from tesa.records.log import Log, Record
from tesa.schedules import registry
from tesa.schedules.types import config_key
from tesa.tune.budget import Budget, Share, next_layer
from tesa.tune.comparison import finalists
from tesa.tune.job import BATCH, FINAL, JobOptions, tune_layers
from tesa.tune.layer_search import LayerSearch
from tesa.tune.search.registry import TRIALS
from tesa.tune.status import Status, Tuned
from tests.support import logged
from tests.tune import fake
from tests.tune.fake import FakeBuilder, FakeRunner

SPACE = 256
BEST = ("sparse", {"r": 3, "v": 4, "c": 8})


@pytest.fixture(autouse=True)
def _families(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_FAMILIES", fake.families())


def tune(
    layers: Sequence[LayerSearch] | None = None,
    *,
    log: Log | None = None,
    builder: FakeBuilder | None = None,
    runner: Any = None,
    **options: Any,
) -> Tuned:
    watch = options.pop("watch", lambda status: None)
    clock = options.pop("clock", time.monotonic)
    plan = JobOptions(Budget(options.pop("trials", 32), options.pop("minutes", None)), **options)
    return tune_layers(
        [fake.layer()] if layers is None else layers, fake.TARGET, log=Log() if log is None else log,
        builder=builder or FakeBuilder(), runner=runner or FakeRunner(), options=plan, watch=watch, clock=clock,
    )  # fmt: skip


def lines(path: Path) -> list[dict[str, Any]]:
    return logged(path)


def test_finds_the_best_and_compares_it_with_the_default(tmp_path: Path) -> None:
    runner, log = FakeRunner(), Log.load(tmp_path, device="fake")
    tuned = tune(log=log, runner=runner, trials=96)
    (row,) = tuned.layers
    assert (row.trials, row.total, row.failed, row.final) == (96, SPACE, 0, True)
    assert row.best == BEST
    assert row.best_ms == pytest.approx(fake.law(*BEST))
    assert row.default is not None
    assert row.default_ms == pytest.approx(fake.law(*row.default))
    assert row.gain == pytest.approx(fake.law(*row.default) / fake.law(*BEST))
    assert row.dense_ms is not None
    assert (tuned.interrupted, tuned.stopped, tuned.notes, tuned.device) == (False, "", (), {"cpu": "fake"})
    # first what an untuned compile measures; at the end the leaders together, for longer, and both are in the log
    layer = LayerSearch(fake.layer(), fake.TARGET)
    assert runner.turns[0] == [config_key(*option) for option in layer.short]
    assert {config_key(*row.default), config_key(*BEST)} <= set(runner.turns[-1])
    assert runner.budgets == [BUDGET_MS] * (len(runner.budgets) - 1) + [FINAL * BUDGET_MS]
    found = lines(tmp_path / "fake.jsonl")
    assert len(found) == tuned.measured == 96 + len(runner.turns[-1])
    assert {line["time"] for line in found[96:]} == {found[-1]["time"]} != {found[0]["time"]}
    assert found[0]["device"] == {"cpu": "fake"}
    assert found[0]["versions"]["tesa"]


def test_simply_running_again_measures_nothing(tmp_path: Path) -> None:
    first = tune(log=Log.load(tmp_path, device="fake"))
    runner, builder = FakeRunner(), FakeBuilder()
    again = tune(log=Log.load(tmp_path, device="fake"), runner=runner, builder=builder)
    assert (runner.turns, builder.asked, again.measured) == ([], [], 0)
    assert again.layers == first.layers
    more = tune(log=Log.load(tmp_path, device="fake"), runner=runner, trials=40)
    assert more.layers[0].trials == 40
    assert sum(len(turn) for turn in runner.turns[:-1]) == 8


@pytest.mark.parametrize("mode", ["model", "random", "exhaustive"])
def test_no_candidate_twice_but_in_the_comparison(mode: str) -> None:
    runner = FakeRunner(noise=0.05)
    tuned = tune([fake.layer("a"), fake.layer("b", 1)], runner=runner, mode=mode, trials=40, seed=3)
    plain = [key for turn, ms in zip(runner.turns, runner.budgets, strict=True) if ms == BUDGET_MS for key in turn]
    assert max(Counter(plain).values()) == 2  # once in each layer
    assert sum(layer.trials for layer in tuned.layers) == len(plain) == 80
    again = FakeRunner(noise=0.05)
    tune([fake.layer("a"), fake.layer("b", 1)], runner=again, mode=mode, trials=40, seed=3)
    assert again.turns == runner.turns  # the same for the same seed


def test_exhaustive_has_no_end_but_the_space() -> None:
    assert tune(trials=None, mode="exhaustive").layers[0].trials == SPACE
    assert tune(trials=None, mode="random").layers[0].trials == TRIALS
    assert tune(trials=10_000, mode="random").layers[0].trials == SPACE


def test_never_slower_than_untuned_with_noise() -> None:
    """The winner's curse: without a second look, the luckiest would win and be slower than it seemed."""
    for seed in range(5):
        runner = FakeRunner(noise=0.1)
        (row,) = tune(runner=runner, trials=64, seed=seed).layers
        assert row.final
        assert row.best_ms is not None
        assert row.default_ms is not None
        assert row.best_ms <= row.default_ms
        assert row.best is not None
        assert runner.count[config_key(*row.best)] > 1
        assert not finalists(_filled(runner, row.best), {config_key(*row.best)})


def _filled(runner: FakeRunner, best: Any) -> LayerSearch:
    layer = LayerSearch(fake.layer(), fake.TARGET)
    name, config = best
    layer.keep([Record(layer.task, fake.TARGET.name, {}, name, config, 0.1, 0.1, time="1")])
    return layer


def test_who_seems_faster_than_the_winner_has_to_come_in() -> None:
    layer = LayerSearch(fake.layer(), fake.TARGET)
    options = [layer.short[0], *layer.space.options[40:60]]
    layer.keep(
        Record(layer.task, fake.TARGET.name, {}, name, config, 1.0 + 0.001 * i, 0.1, time="1")
        for i, (name, config) in enumerate(options)
    )
    first = [config_key(*option) for option in finalists(layer, set())]
    assert len(first) >= 4
    # measured again, all of them turn out to be slower than one that was left at its time of before
    worse = [replace(layer.records[key], median_ms=2.0, time="2") for key in first]
    layer.keep(worse)
    second = [config_key(*option) for option in finalists(layer, set(first))]
    assert set(second) - set(first)
    layer.keep(replace(layer.records[key], median_ms=0.5, time="3") for key in second)
    assert finalists(layer, {*first, *second}) == []


def test_layers_with_equal_weights_are_one() -> None:
    works = [fake.layer("a"), fake.layer("b", 1), fake.layer("c")]
    tuned = tune(works)
    assert [(layer.name, layer.layers) for layer in tuned.layers] == [("a", 2), ("b", 1)]


def test_more_than_was_asked_for_has_a_reason() -> None:
    told: list[Status] = []
    tuned = tune(trials=1, watch=told.append)
    (row,) = tuned.layers
    assert tuned.measured == row.trials + tuned.compared
    assert row.trials > 1
    (note,) = tuned.notes
    assert f"fc: {row.trials} measured, more than the 1 that were asked for: an untuned compile" in note
    assert {status.total for status in told} == {row.trials}
    exact = tune(trials=row.trials)
    assert (exact.layers[0].trials, exact.notes) == (row.trials, ())


def test_trials_go_where_the_time_is() -> None:
    def law(name: str, config: Any) -> float:
        return 10 * fake.law(name, config)

    class Uneven(FakeRunner):
        def run(self, problem: Any, weight: Any, kernels: Any, *, budget_ms: float) -> list[Timing | Failure]:
            self.law = law if problem.m == 16 else fake.law
            return super().run(problem, weight, kernels, budget_ms=budget_ms)

    tuned = tune([fake.layer("small"), fake.layer("large", 1, m=16)], runner=Uneven(), trials=64)
    small, large = tuned.layers
    assert small.trials + large.trials == 128
    assert small.trials >= 32
    assert large.trials > small.trials + BATCH


def test_budget_refuses_what_is_none() -> None:
    with pytest.raises(UsageError, match="trials must be at least 1, got 0"):
        Budget(0)
    for minutes in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(UsageError, match="minutes must be a number above 0"):
            Budget(None, minutes)


def test_next_layer() -> None:
    assert next_layer([], 8) is None
    assert next_layer([Share(3, 0, 1.0, 0)], 8) is None  # nothing is open
    assert next_layer([Share(16, 5, 1.0, 0), Share(0, 5, 0.1, 0)], 8) is None  # the budget is used up
    assert next_layer([Share(9, 5, 9.0, 0), Share(1, 5, 0.1, 9)], 8) == 1  # its floor first
    assert next_layer([Share(4, 5, 1.0, 0), Share(4, 5, 1.0, 0)], 8) == 0
    assert next_layer([Share(4, 5, 1.0, 1), Share(4, 5, 1.0, 0)], None) == 1


def test_minutes_end_a_job_in_time_for_the_comparison() -> None:
    class Clock:
        now = 0.0

        def __call__(self) -> float:
            return self.now

    clock = Clock()

    class Slow(FakeRunner):
        def run(self, *args: Any, **named: Any) -> list[Timing | Failure]:
            clock.now += 10
            return super().run(*args, **named)

    runner = Slow()
    tuned = tune(runner=runner, trials=None, minutes=2.0, clock=clock)
    assert tuned.layers[0].final
    assert 80 <= tuned.seconds <= 120
    assert len(runner.turns) == tuned.seconds / 10


def test_failures_are_recorded_and_not_tried_again(tmp_path: Path) -> None:
    layer = LayerSearch(fake.layer(), fake.TARGET)
    keys = layer.space.keys
    crash, wrong = Failure(FailureKind.CRASH, "SIGSEGV"), Failure(FailureKind.WRONG, "largest error 1")
    broken = {key: Failure(FailureKind.BUILD, "LLVM says no") for key in keys[1::5]}
    runner = FakeRunner(fails={**dict.fromkeys(keys[2::5], crash), **dict.fromkeys(keys[3::5], wrong)})
    tuned = tune(log=Log.load(tmp_path, device="fake"), builder=FakeBuilder(broken), runner=runner, trials=SPACE)
    (row,) = tuned.layers
    assert row.trials == SPACE
    assert row.failed == sum(len(keys[i::5]) for i in (1, 2, 3))
    assert row.best is not None
    assert keys.index(config_key(*row.best)) % 5 in (0, 4)
    errors = Counter(line["error"] for line in lines(tmp_path / "fake.jsonl"))
    assert errors["build: LLVM says no"] == len(keys[1::5])
    assert errors["crash: SIGSEGV"] == len(keys[2::5])
    again = FakeRunner()
    tune(log=Log.load(tmp_path, device="fake"), runner=again, trials=SPACE)
    assert again.turns == []


def test_all_candidates_fail() -> None:
    layer = LayerSearch(fake.layer(), fake.TARGET)
    runner = FakeRunner(fails=dict.fromkeys(layer.space.keys, Failure(FailureKind.TIMEOUT, "no result after 300 s")))
    (row,) = tune(runner=runner, trials=20).layers
    assert (row.trials, row.failed, row.best, row.best_ms, row.gain) == (20, 20, None, None, None)


@pytest.mark.parametrize("overlap", [False, True])
def test_ctrl_c_keeps_the_best_so_far(tmp_path: Path, overlap: bool) -> None:
    runner = FakeRunner(raises={3: KeyboardInterrupt()})
    tuned = tune(log=Log.load(tmp_path, device="fake"), runner=runner, overlap=overlap)
    assert tuned.interrupted
    assert tuned.layers[0].best_ms is not None
    assert not tuned.layers[0].final
    measured = sum(len(turn) for turn in runner.turns[:3])
    assert len(lines(tmp_path / "fake.jsonl")) == tuned.layers[0].trials == measured
    resumed = tune(log=Log.load(tmp_path, device="fake"))
    assert resumed.layers[0].trials == 32
    assert resumed.layers[0].final


def test_killed_in_the_comparison_it_is_made_up_for(tmp_path: Path) -> None:
    class Impatient(FakeRunner):
        def run(self, *args: Any, budget_ms: float, **named: Any) -> list[Timing | Failure]:
            if budget_ms > BUDGET_MS:
                raise KeyboardInterrupt
            return super().run(*args, budget_ms=budget_ms, **named)

    assert tune(log=Log.load(tmp_path, device="fake"), runner=Impatient()).interrupted
    runner = FakeRunner()
    tuned = tune(log=Log.load(tmp_path, device="fake"), runner=runner)
    assert runner.budgets == [FINAL * BUDGET_MS]
    assert tuned.layers[0].final


def test_the_next_turn_is_built_while_this_one_is_measured() -> None:
    events: list[str] = []

    class Builder(FakeBuilder):
        def build(self, requests: Any, folder: Path) -> Any:
            events.append("build")
            yield from super().build(requests, folder)

    class Runner(FakeRunner):
        def run(self, *args: Any, **named: Any) -> list[Timing | Failure]:
            count = len(events) if "run" in events else 1  # the first build ahead does come, perhaps it did
            until = time.monotonic() + (0.3 if "run" in events else 600)
            while len(events) <= count and time.monotonic() < until:
                time.sleep(0.001)
            events.append("run")
            return super().run(*args, **named)

    plain, builder = FakeRunner(), Builder()
    ahead = tune([fake.layer("a"), fake.layer("b", 1)], builder=builder, runner=Runner(), overlap=True, trials=24)
    assert events[:4] == ["build", "build", "run", "build"]
    assert sum(layer.trials for layer in ahead.layers) == 48
    assert all(layer.final for layer in ahead.layers)
    tune([fake.layer("a")], builder=builder, runner=plain, overlap=True, trials=SPACE)
    measured = [key for turn, ms in zip(plain.turns, plain.budgets, strict=True) if ms == BUDGET_MS for key in turn]
    assert len(measured) == len(set(measured)) == SPACE


def test_a_layer_that_nothing_applies_to_is_named() -> None:
    work = fake.layer("odd")
    empty = {name: replace(item, space=lambda *_: []) for name, item in fake.families().items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_FAMILIES", empty)
        tuned = tune([work])
    assert tuned.layers == ()
    assert tuned.notes[0].startswith("odd: left out: no kernel family applies to linear")


def test_live_progress_counts_and_expects() -> None:
    seen: list[Status] = []
    layer = LayerSearch(fake.layer(), fake.TARGET)
    runner = FakeRunner(fails=dict.fromkeys(layer.space.keys[::9], Failure(FailureKind.CRASH, "SIGSEGV")))
    tuned = tune([fake.layer("a"), fake.layer("b", 1)], runner=runner, watch=seen.append)
    assert [status.phase for status in seen] == sorted((status.phase for status in seen), reverse=True)
    done = [status.done for status in seen]
    assert done == sorted(done)
    last = seen[-1]
    assert (last.done, last.total, last.known, last.phase) == (64, 64, 0, "compare")
    assert last.failed == sum(item.failed for item in tuned.layers)
    assert [row.name for row in last.layers] == ["a", "b"]
    assert all(status.left_s is None or status.left_s >= 0 for status in seen)
    expected = [status.left_s or 0.0 for status in seen if status.phase == "compare"]
    assert expected[-1] < expected[0]


def test_objects_are_removed_after_their_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    most = 0

    class Looking(FakeRunner):
        def run(self, problem: Any, weight: Any, kernels: Sequence[Product], *, budget_ms: float) -> Any:
            nonlocal most
            most = max(most, len(list(tmp_path.rglob("*.o"))))
            return super().run(problem, weight, kernels, budget_ms=budget_ms)

    tune(runner=Looking(), trials=80)
    assert 0 < most <= 16
    assert list(tmp_path.iterdir()) == []
