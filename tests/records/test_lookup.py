"""Look-up: the very weight first, then one like it, then nothing; never another weight's records as its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tesa.attributes.statistics import statistics_of
from tesa.records.locations import shipped
from tesa.records.log import Log, Pattern, Record, Task
from tesa.records.lookup import Found, lookup
from tesa.schedules.types import Epilogue, Problem, Window
from tests.attributes.test_statistics import mask
from tests.records.lines import line

TARGET = "x86:haswell"
PROBLEM = Problem("linear", 64, 96, 16, (1, 96, 16), (1, 64, 16))


def task(density: float, block: tuple[int, int] = (1, 1), seed: int = 0, problem: Problem = PROBLEM) -> Task:
    values = np.random.default_rng(seed).uniform(0.5, 1, (problem.m, problem.k))
    return Task.of(problem, (mask(problem.m, problem.k, block, density, seed) * values).astype(np.float32))


def record(of: Task, median: float, rows: int = 4, target: str = TARGET, **more: Any) -> Record:
    return Record(of, target, {"cpu": "haswell"}, "indexed", {"rows": rows}, median, median, **more)


def found(log: Log, of: Task, target: str = TARGET) -> Found:
    return lookup(log, of, of.pattern.statistics, target)


def test_exact_then_nearest_then_default() -> None:
    known, near, far = task(0.10), task(0.105, seed=1), task(0.3, seed=2)
    log = Log()
    assert found(log, known) == Found("default")
    log.append([record(known, 2.0, 4), record(known, 1.0, 8)])
    exact = found(log, known)
    assert (exact.how, [r.config["rows"] for r in exact.records]) == ("exact", [8, 4])
    nearest = found(log, near)
    assert nearest.how == "nearest"
    assert nearest.best is not None
    assert nearest.best.task == known
    assert str(nearest).startswith("nearest: sparsity 0.9")
    assert 0 < nearest.distance < 0.23
    assert found(log, far).how == "default"
    log.append([record(near, 3.0)])
    assert (found(log, near).how, found(log, near).records[0].median_ms) == ("exact", 3.0)


def test_the_nearest_of_several() -> None:
    log = Log()
    for i, density in enumerate((0.09, 0.10, 0.12)):
        log.append([record(task(density, seed=i), 1.0 + i)])
    near = found(log, task(0.10, seed=7))
    assert near.best is not None
    assert near.best.median_ms == 2.0


@pytest.mark.parametrize(
    "other",
    [
        replace(PROBLEM, n=17, x_shape=(1, 96, 17), y_shape=(1, 64, 17)),
        replace(PROBLEM, threads=2),
        replace(PROBLEM, storage="float16"),
        replace(PROBLEM, epilogue=Epilogue(bias=True)),
        replace(PROBLEM, batch=2, x_shape=(2, 96, 16), y_shape=(2, 64, 16)),
        replace(PROBLEM, op="conv2d", window=Window(4, 4, (1, 1))),
        Problem("linear", 96, 64, 16, (1, 64, 16), (1, 96, 16)),
    ],
)
def test_another_shape_is_never_near(other: Problem) -> None:
    log = Log()
    log.append([record(task(0.1), 1.0)])
    assert found(log, task(0.1, seed=1)).how == "nearest"
    assert found(log, task(0.1, seed=1, problem=other)).how == "default"


def test_another_target_is_never_near() -> None:
    log = Log()
    log.append([record(task(0.1), 1.0)])
    assert found(log, task(0.1), "x86:znver5").how == "default"
    assert found(log, task(0.1, seed=1), "x86:znver5").how == "default"


def test_another_structure_of_the_same_sparsity_is_not_near() -> None:
    log = Log()
    log.append([record(task(0.1, (4, 4)), 1.0)])
    assert found(log, task(0.1, (4, 4), seed=3)).how in ("nearest", "default")
    assert found(log, task(0.1, (1, 1), seed=3)).how == "default"
    assert found(log, task(0.1, (1, 16), seed=3)).how == "default"


def test_failures_are_no_answer() -> None:
    known, other = task(0.1), task(0.1, seed=1)
    log = Log()
    log.append([record(known, 1.0), replace(record(other, 1.0), ok=False, median_ms=None, min_ms=None, error="wrong")])
    assert found(log, other).how == "nearest"
    log.append([replace(record(known, 1.0), ok=False, median_ms=None, min_ms=None, error="wrong")])
    assert found(log, other).how == found(log, known).how == "default"


def test_records_without_statistics_speak_by_kind_and_sparsity(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(line(record(task(0.1), 1.0)) + "\n")
    log = Log.load(tmp_path)
    assert found(log, task(0.1)).how == "exact"
    assert found(log, task(0.1, seed=1)).how == "nearest"
    assert found(log, task(0.3, seed=1)).how == "default"
    assert found(log, task(0.1, (4, 4), seed=1)).how == "default"
    assert lookup(log, replace(task(0.1), pattern=Pattern("unstructured", 0.9, "0")), None, TARGET).how == "nearest"


def test_what_ships_is_found() -> None:
    log = Log.load(shipped())
    assert len(log) > 200
    for entry in log.entries():
        one = entry.record
        assert entry.key == one.task.key
        assert (entry.ok, entry.median_ms) == (one.ok, one.median_ms)
        answer = found(log, one.task, one.target)
        assert answer.how == "exact" or not any(r.ok for r in log.records(one.task, one.target))


def test_the_words_for_a_difference() -> None:
    log = Log()
    log.append([record(task(0.10), 1.0)])
    text = str(found(log, task(0.10, seed=5)))
    assert text.startswith("nearest: sparsity ")
    assert text.endswith(", unstructured in both")
    here, there = task(0.10, seed=5).pattern.sparsity, task(0.10).pattern.sparsity
    assert f"{there:.2f}" in text or f"{here:.3f}" in text


values = arrays(np.float32, (6, 8), elements=st.sampled_from([0.0, 0.0, 1.0, 2.0]))


@settings(max_examples=200)
@given(values, values)
def test_two_weights_of_one_shape_never_collide(one: Any, other: Any) -> None:
    problem = Problem("linear", 6, 8, 4, (1, 8, 4), (1, 6, 4))
    a, b = Task.of(problem, one), Task.of(problem, other)
    same = bool(np.array_equal(one, other))
    assert (a.key == b.key) == same
    log = Log()
    log.append([record(a, 1.0)])
    assert (log.best(b, TARGET) is not None) == same
    assert (lookup(log, b, statistics_of(other), TARGET).how == "exact") == same


@settings(max_examples=50)
@given(st.lists(st.integers(0, 11), min_size=1, max_size=12, unique=True))
def test_each_of_many_weights_keeps_its_own(chosen: list[int]) -> None:
    log = Log()
    tasks = {seed: task(0.1, seed=seed) for seed in chosen}
    log.append([record(known, 1.0 + seed) for seed, known in tasks.items()])
    for seed, known in tasks.items():
        answer = found(log, known)
        assert (answer.how, answer.best and answer.best.median_ms) == ("exact", 1.0 + seed)
    stranger = found(log, task(0.1, seed=99))
    assert stranger.how == "nearest"
    assert stranger.best is not None
    assert stranger.best.task in tasks.values()


def test_the_own_cpu_comes_first() -> None:
    known, near = task(0.10), task(0.105, seed=1)
    mine, theirs = replace(record(known, 9.5), device={"cpu": "znver5"}), record(known, 0.5)
    log = Log()
    log.append([theirs, mine])
    for cpu, median in (("haswell", 0.5), ("znver5", 9.5)):
        for of, how in ((known, "exact"), (near, "nearest")):
            answer = lookup(log, of, None, TARGET, cpus=[cpu])
            assert (answer.how, [r.median_ms for r in answer.records]) == (how, [median])
    assert lookup(log, known, None, TARGET, cpus=["other"]).how == "exact"


def test_a_nearest_weight_of_the_own_cpu_goes_before_one_of_another() -> None:
    log, wanted = Log(), task(0.10)
    here, there = task(0.101, seed=1), task(0.11, seed=2)
    log.append([record(here, 1.0), replace(record(there, 2.0), device={"cpu": "znver5"})])
    for cpu, median in (("haswell", 1.0), ("znver5", 2.0)):
        best = lookup(log, wanted, None, TARGET, cpus=[cpu]).best
        assert best is not None
        assert best.median_ms == median
