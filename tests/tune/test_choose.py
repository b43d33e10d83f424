"""The choice: by measurement, by log, by estimate; bad candidates lose, and the reasons are told."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tesa.base.progress import Event
from tesa.build.product import Product
from tesa.choose.pick import pick
from tesa.decompose.candidates import candidates
from tesa.errors import CheckFailed, UnsupportedError, UsageError
from tesa.layers.layer import Layer
from tesa.measure.failure import Failure
from tesa.measure.local import LocalRunner
from tesa.measure.timing import Timing
from tesa.records.emitted import EmittedByFamilies
from tesa.records.log import Log, Record, Task
from tesa.records.record import STAMP
from tesa.schedules import registry
from tesa.schedules.registry import Family
from tesa.schedules.types import Code, Config, Core, FloatArray, Problem, Window, config_key
from tesa.targets.target import host_cpu
from tesa.tune.backend import shared_builder
from tesa.tune.choose import choose
from tests.build import toy

PROBLEM = toy.linear()
WEIGHT = toy.weight(PROBLEM)
TASK = Task.of(PROBLEM, WEIGHT)

Results = list[Timing | Failure]
Emit = Callable[[Problem, FloatArray, str, Config], Code]


def family(name: str, emit: Emit, configs: list[Config], estimates: list[float]) -> Family:
    def estimate(problem: Problem, weight: FloatArray, core: Core, config: Config) -> float:
        return estimates[configs.index(config)]

    def full(problem: Problem, weight: FloatArray, core: Core, config: Config, symbol: str) -> Code:
        return emit(problem, weight, symbol, config)

    def space(problem: Problem, weight: FloatArray, core: Core) -> list[Config]:
        return configs if problem.op == "linear" else []

    return Family(name, "cpu", name, space, estimate, full, dense=lambda weight, config: name == "dense")


def loop(problem: Problem, weight: FloatArray, symbol: str, config: Config) -> Code:
    return toy.code(problem, weight, symbol, repeat=config["repeat"])


def wrong(problem: Problem, weight: FloatArray, symbol: str, config: Config) -> Code:
    return toy.code(problem, weight, symbol, error=1.0)


def broken(problem: Problem, weight: FloatArray, symbol: str, config: Config) -> Code:
    return toy.broken(problem, weight, symbol)


def refusing(problem: Problem, weight: FloatArray, symbol: str, config: Config) -> Code:
    raise ZeroDivisionError("no such kernel")


@pytest.fixture
def families(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], Family]:
    """The registry, with a slow sparse form, a faster dense one, and nothing else."""
    found = {
        ("cpu", "sparse"): family("sparse", loop, [{"repeat": 400}, {"repeat": 200}], [0.1, 0.2]),
        ("cpu", "dense"): family("dense", loop, [{"repeat": 1}], [0.5]),
    }
    monkeypatch.setattr(registry, "_FAMILIES", found)
    return found


class Comparing(LocalRunner):
    """Compares, and refuses to measure."""

    def run(self, problem: Problem, weight: FloatArray, kernels: Sequence[Product], *, budget_ms: float) -> Results:
        assert budget_ms == 0, "measured again"
        return super().run(problem, weight, kernels, budget_ms=budget_ms)


def layers(*names: str) -> list[Layer]:
    return [Layer(name, PROBLEM, WEIGHT) for name in names]


@pytest.mark.usefixtures("families")
def test_candidates_dense_first() -> None:
    found = candidates(PROBLEM, WEIGHT, toy.TARGET)
    assert found == [("dense", {"repeat": 1}), ("sparse", {"repeat": 400}), ("sparse", {"repeat": 200})]
    assert candidates(PROBLEM, WEIGHT, toy.TARGET, ["sparse"]) == found[1:]
    with pytest.raises(UsageError, match="unknown kernel family 'spars'; did you mean sparse"):
        candidates(PROBLEM, WEIGHT, toy.TARGET, ["spars"])
    with pytest.raises(UnsupportedError, match="no kernel family applies to conv2d"):
        candidates(replace(PROBLEM, op="conv2d"), WEIGHT, toy.TARGET)


@pytest.mark.usefixtures("families")
def test_by_measurement_and_then_by_log(tmp_path: Path) -> None:
    events: list[Event] = []
    first, second = choose(layers("a", "b"), toy.TARGET, log=tmp_path, progress=events.append)
    assert (first.layer, second.layer) == ("a", "b")
    assert first.product.symbol == second.product.symbol
    assert first.part.family == "dense"
    assert first.part.reason.startswith("measured: dense ")
    assert all(row.measured_ms for row in first.part.candidates)
    assert [row.predicted_ms for row in first.part.candidates] == [0.5, 0.1, 0.2]
    assert first.part.nonzeros == (WEIGHT != 0).sum()
    assert len(first.product.objects) == 1
    assert {event.total for event in events} == {1}
    assert events[-1].done == 1

    third, _ = choose(layers("a", "b"), toy.TARGET, log=tmp_path, runner=Comparing())
    assert third.part == first.part
    assert third.product.objects[0].read_bytes() == first.product.objects[0].read_bytes()
    (fourth,) = choose(layers("a"), toy.TARGET, log=Log.load(tmp_path), measure=False, jobs=1)
    assert fourth.part == first.part


@pytest.mark.usefixtures("families")
def test_by_estimate() -> None:
    (kernel,) = choose(layers("a"), toy.TARGET, measure=False)
    assert (kernel.part.family, kernel.part.config) == ("sparse", {"repeat": 400})
    assert kernel.part.reason == "estimated: sparse 0.1 ms, dense 0.5 ms"
    assert {row.note for row in kernel.part.candidates} == {"not measured"}


@pytest.mark.usefixtures("families")
def test_a_target_that_does_not_run_here_is_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tesa.measure.runners.runs_here", lambda target: False)
    (kernel,) = choose(layers("a"), toy.TARGET)
    assert kernel.part.reason.endswith("(this machine cannot run x86:haswell)")


def test_bad_candidates_lose(families: dict[tuple[str, str], Family], tmp_path: Path) -> None:
    for name, emit in (("wrong", wrong), ("broken", broken), ("refusing", refusing)):
        families["cpu", name] = family(name, emit, [{}], [0.001])
    (kernel,) = choose(layers("a"), toy.TARGET, log=tmp_path)
    notes = {row.family: row.note for row in kernel.part.candidates}
    assert kernel.part.family == "dense"
    assert notes["wrong"].startswith("wrong: largest error 1")
    assert notes["broken"].startswith("build: ")
    assert notes["refusing"] == "build: cannot be generated: ZeroDivisionError: no such kernel"
    known = {record.family: record.ok for record in Log.load(tmp_path).records(TASK, toy.TARGET.name)}
    assert known == {"dense": True, "sparse": True, "wrong": False, "broken": False, "refusing": False}


@pytest.mark.usefixtures("families")
def test_records_of_other_code_are_measured_again(tmp_path: Path) -> None:
    choose(layers("a"), toy.TARGET, log=tmp_path)
    (path,) = tmp_path.glob("*.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    text = path.read_text()
    for row in rows:
        if row.get("family") == "sparse":
            text = text.replace(f'"code":"{row["code"]}"', '"code":"of other instructions"')
    path.write_text(text)
    (kernel,) = choose(layers("a"), toy.TARGET, log=tmp_path, measure=False)
    assert [row.measured_ms is None for row in kernel.part.candidates] == [False, True, True]
    choose(layers("a"), toy.TARGET, log=tmp_path)
    added = [json.loads(line) for line in path.read_text().splitlines()[len(rows) :]]
    assert sorted(row["family"] for row in added) == ["dense", "sparse", "sparse"]  # dense is there to compare with
    assert {row["code"] for row in added} == {row["code"] for row in rows if "code" in row}


@pytest.mark.usefixtures("families")
def test_records_that_do_not_tell_their_code_help_as_those_of_the_nearest_weight_do() -> None:
    log = Log()
    log.append([record("sparse", {"repeat": 200}, 0.1), record("dense", {"repeat": 1}, 0.2)])
    (kernel,) = choose(layers("a"), toy.TARGET, log=log, measure=False)
    assert (kernel.part.family, kernel.part.config) == ("sparse", {"repeat": 200})
    assert kernel.part.reason == "nearest: sparse 0.1 ms, of kernels from before the code changed"


@pytest.mark.usefixtures("families")
def test_the_code_of_what_is_chosen_is_compared_with_that_of_its_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records of the files of today count without a look; the one that is chosen is looked at all the same."""
    monkeypatch.setattr(EmittedByFamilies, "stamp", lambda self, family: "now")
    choose(layers("a"), toy.TARGET, log=tmp_path)
    log = Log.load(tmp_path)
    known = {r.config["repeat"]: r for r in log.records(TASK, toy.TARGET.name)}
    now = {STAMP: "now"}
    log.append([replace(known[200], median_ms=1e-6, code="of other instructions", time="2040", versions=now)])
    log.append([replace(known[repeat], time="2030", versions=now) for repeat in (1, 400)])
    (kernel,) = choose(layers("a"), toy.TARGET, log=log, measure=False)
    assert kernel.part.family == "dense"
    times = [row.measured_ms for row in kernel.part.candidates]
    assert times == [known[1].median_ms, known[400].median_ms, None]


@pytest.mark.usefixtures("families")
def test_times_of_another_cpu_are_not_compared_with_those_of_this_one(tmp_path: Path) -> None:
    choose(layers("a"), toy.TARGET, log=tmp_path)
    (path,) = tmp_path.glob("*.jsonl")
    lines = [line for line in path.read_text().splitlines() if '"repeat":400' not in line]
    text = "".join(line.replace(f'{{"cpu":"{host_cpu()}"', '{"cpu":"somewhere"') + "\n" for line in lines)
    path.write_text(text)
    choose(layers("a"), toy.TARGET, log=tmp_path)
    added = [json.loads(line) for line in path.read_text().splitlines()[len(lines) :]]
    assert sorted(row["config"]["repeat"] for row in added) == [1, 200, 400]  # all, not only the one that was missing
    path.write_text(text.replace('"cpu":"somewhere"', '"cpu":"haswell"'))
    (kernel,) = choose(layers("a"), toy.TARGET, log=tmp_path)  # of the very device that the target names
    assert len(path.read_text().splitlines()) == len(lines)
    assert kernel.part.family == "dense"


def test_an_estimate_is_checked_too(families: dict[tuple[str, str], Family]) -> None:
    families["cpu", "wrong"] = family("wrong", wrong, [{}], [0.001])
    families["cpu", "refusing"] = family("refusing", refusing, [{}], [0.002])
    (kernel,) = choose(layers("a"), toy.TARGET, measure=False)
    assert kernel.part.family == "sparse"


def test_a_stale_record_does_not_let_a_wrong_kernel_in(families: dict[tuple[str, str], Family]) -> None:
    families["cpu", "wrong"] = family("wrong", wrong, [{}], [0.001])
    log = Log()
    options = candidates(PROBLEM, WEIGHT, toy.TARGET)
    emitted = EmittedByFamilies(PROBLEM, WEIGHT, toy.TARGET, TASK.pattern.digest)
    times = [0.5 if name == "wrong" else 1.0 for name, _ in options]
    known = [record(*option, time) for option, time in zip(options, times, strict=True)]
    log.append([replace(r, code=emitted(r.family, r.config)) for r in known])
    (kernel,) = choose(layers("a"), toy.TARGET, log=log)
    assert kernel.part.family == "dense"
    assert [row.measured_ms for row in kernel.part.candidates] == [1.0, 1.0, 1.0, None]


def test_nothing_works(families: dict[tuple[str, str], Family]) -> None:
    families.clear()
    families["cpu", "wrong"] = family("wrong", wrong, [{}], [0.001])
    with pytest.raises(CheckFailed, match=r"layer a: every kernel for linear \(m=8(.|\n)*largest error"):
        choose(layers("a"), toy.TARGET)


def record(family: str, config: Config, median: float) -> Record:
    return Record(TASK, toy.TARGET.name, {}, family, config, median, median)


@pytest.mark.parametrize(
    ("dense", "sparse", "winner", "reason"),
    [
        (1.0, 0.97, "sparse", "measured: sparse 0.97 ms, dense 1 ms"),
        (1.0, 0.99, "dense", "measured: sparse 0.99 ms, dense 1 ms: sparse gains less than 2%"),
        (1.0, 1.01, "dense", "measured: dense 1 ms, sparse 1.01 ms"),
    ],
)
def test_a_sparse_form_must_gain_more_than_noise(dense: float, sparse: float, winner: str, reason: str) -> None:
    options: list[tuple[str, Config]] = [("dense", {"a": 1}), ("sparse", {"b": 1}), ("sparse", {"b": 2})]
    times = [dense, 2.0, sparse]
    known = {config_key(*o): record(*o, time) for o, time in zip(options, times, strict=True)}
    decision = pick(options, known, {}, {config_key(*options[0])})
    assert decision is not None
    assert (decision.family, decision.reason) == (winner, reason)


def test_the_real_families(tmp_path: Path) -> None:
    problem = toy.linear(16, 24, 32)
    (kernel,) = choose([Layer("a", problem, toy.weight(problem, density=0.2))], toy.TARGET, log=tmp_path)
    assert {row.family for row in kernel.part.candidates} >= {"dense", "block", "indexed"}
    assert {row.note for row in kernel.part.candidates} == {""}


def test_dense_is_a_configuration_of_every_family() -> None:
    """The dense self of a depthwise layer, and of a matrix times a vector, computes with the zeros too."""
    window = Window(6, 6, (3, 3), padding=(1, 1, 1, 1))
    taps = np.tile(np.eye(3, dtype=np.float32).reshape(1, 9), (8, 1))
    depthwise = Problem("depthwise", 8, 9, 36, (1, 8, 6, 6), (1, 8, 6, 6), window=window)
    sparse = np.zeros((32, 16), np.float32)
    sparse[:, 3] = 1
    product = Problem("linear", 32, 16, 1, (1, 16), (1, 32))
    for problem, weight, family_name in ((depthwise, taps, "depthwise"), (product, sparse, "vector")):
        every = [option for option in candidates(problem, weight, toy.TARGET) if option[0] == family_name]
        dense = candidates(problem, weight, toy.TARGET, ["dense"])
        own = [option for option in dense if option[0] == family_name]
        assert 0 < len(own) < len(every)
        (kernel,) = choose([Layer("a", problem, weight)], toy.TARGET, measure=False)
        rows = [row for row in kernel.part.candidates if row.family == family_name]
        assert {row.dense for row in rows} == {True, False}
        assert not next(row for row in rows if dict(row.config) == dict(kernel.part.config)).dense


@pytest.mark.usefixtures("families")
def test_memory_bounds_the_compilers_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tesa.build.objects.free_memory", lambda: 1 << 30)
    monkeypatch.setattr("tesa.build.objects.usable_cpus", lambda: 3)
    asked: list[int] = []

    def spy(count: int) -> Any:
        asked.append(count)
        return shared_builder(count)

    monkeypatch.setattr("tesa.tune.choose.shared_builder", spy)
    events: list[Event] = []
    choose(layers("a"), toy.TARGET, measure=False, progress=events.append)
    assert asked == [1]
    assert events[0].text.startswith("compiling with 1 process, not 3: 1.0 GiB of memory are free")
    events.clear()
    choose(layers("a"), toy.TARGET, measure=False, progress=events.append, jobs=2)
    assert asked == [1, 2]
    assert not events[0].text.startswith("compiling with")
