"""A record counts where its family emits today what was measured."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tesa.build.cache import Cache
from tesa.records import emitted as room
from tesa.records.emitted import emitted_by_families
from tesa.records.record import Record
from tesa.records.task import Task
from tesa.records.validity import Emitted, valid
from tesa.schedules import registry
from tesa.schedules.registry import family, find, forget, install
from tesa.schedules.types import Code, Config, Core, FloatArray, Problem
from tesa.targets.target import parse_target
from tests.build import toy

TARGET = parse_target("x86:znver5")
PROBLEM = Problem("linear", 32, 64, 48, (1, 64, 48), (1, 32, 48))
RNG = np.random.default_rng(0)
WEIGHT = (RNG.standard_normal((32, 64)) * (RNG.random((32, 64)) < 0.3)).astype(np.float32)
TASK = Task.of(PROBLEM, WEIGHT)
FAMILIES = ("dense", "indexed", "block", "unrolled")


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def emitted(cache: Cache) -> Emitted:
    return emitted_by_families(PROBLEM, WEIGHT, TARGET, TASK.pattern.digest, cache)


def record(family: str, config: Config, code: str, time: str = "2026", ok: bool = True) -> Record:
    median = 1.0 if ok else None
    return Record(TASK, TARGET.name, {"cpu": "a"}, family, config, median, median, ok, "", {}, time, code)


def measured(cache: Cache) -> list[Record]:
    """Two records of every family."""
    options = [(name, c) for name in FAMILIES for c in list(find(name).space(PROBLEM, WEIGHT, TARGET.core))[:2]]
    return [
        record(name, config, emitted(cache)(name, config), str(2000 + i)) for i, (name, config) in enumerate(options)
    ]


@pytest.fixture
def registered() -> Iterator[None]:
    known = dict(registry._FAMILIES)
    yield
    registry._FAMILIES.clear()
    registry._FAMILIES.update(known)


def other_code(name: str, **changes: Any) -> None:
    """Let a family emit something else from now on."""
    old = find(name)

    def emit(problem: Problem, weight: FloatArray, core: Core, config: Config, symbol: str) -> Code:
        code = old.emit(problem, weight, core, config, symbol)
        return replace(code, main=code.main.with_attr("tirx.noalias", False))

    install(replace(old, emit=emit))


@pytest.mark.usefixtures("registered")
def test_a_changed_instruction_of_one_family_makes_its_records_old_and_no_others(cache: Cache) -> None:
    records = measured(cache)
    assert valid(records, emitted(cache)) == records
    other_code("indexed")
    assert valid(records, emitted(cache)) == [r for r in records if r.family != "indexed"]


@pytest.mark.usefixtures("registered")
def test_a_new_family_and_a_family_that_is_gone_leave_the_others_valid(cache: Cache) -> None:
    records = measured(cache)

    @family("newest", kind="cpu", space=lambda p, w, core: [{}], estimate=lambda p, w, core, c: 1.0)
    def newest(problem: Problem, weight: FloatArray, core: Core, config: Config, symbol: str) -> Code:
        """Applies to everything."""
        return toy.code(problem, weight, symbol)

    assert valid(records, emitted(cache)) == records
    forget("block")
    assert valid(records, emitted(cache)) == [r for r in records if r.family != "block"]


def test_an_edit_that_changes_no_code_leaves_every_record_valid(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other source files: a docstring, a new core, another target. The memory is of no use then; the code is."""
    records = measured(cache)
    monkeypatch.setattr(room, "source_digest", lambda *names: "of other files")
    asked = []
    plain = room.code_digest
    monkeypatch.setattr(room, "code_digest", lambda *args: asked.append(args) or plain(*args))
    assert valid(records, emitted(cache)) == records
    assert len(asked) == len(FAMILIES)  # one of each family stands for all


def test_where_a_function_stands_in_its_file_is_no_part_of_the_code(tmp_path: Path) -> None:
    source = Path(toy.__file__).read_text()
    digests = set()
    for number, text in enumerate((source, source.replace("    @T.prim_func", "    # a comment\n\n    @T.prim_func"))):
        path = tmp_path / f"toy{number}.py"
        path.write_text(text)
        code = (
            f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import toy{number} as toy\n"
            "from tesa.build.digest import code_digest\n"
            f"problem = toy.linear(); symbol = 'tesa_{number}'\n"
            "print(code_digest(toy.code(problem, toy.weight(problem), symbol), symbol))"
        )
        digests.add(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
    assert len(digests) == 1


def test_digests_are_remembered_until_the_sources_change(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    (first, *_) = measured(cache)
    asked: list[str] = []
    old = find(first.family)

    def emit(*args: Any) -> Code:
        asked.append(args[-1])
        return old.emit(*args)

    emit.__module__ = old.emit.__module__
    monkeypatch.setitem(registry._FAMILIES, ("cpu", first.family), replace(old, emit=emit))
    assert emitted(cache)(first.family, first.config) == first.code
    assert asked == []
    monkeypatch.setattr(room, "source_digest", lambda *names: "of other files")
    for _ in range(2):
        assert emitted(cache)(first.family, first.config) == first.code
    assert len(asked) == 1
    emit.__module__ = "a user's file"  # which may change whenever the user likes
    for _ in range(2):
        assert emitted(cache)(first.family, first.config) == first.code
    assert len(asked) == 3


def test_what_cannot_be_emitted_is_old(cache: Cache) -> None:
    assert emitted(cache)("of another day", {}) == ""
    assert emitted(cache)("dense", {"no such": 1}) == ""
    assert valid([record("of another day", {}, ""), record("dense", {"no such": 1}, "")], emitted(cache)) == []


def test_failures_count_with_the_records_of_their_time() -> None:
    old, good = record("a", {"x": 1}, "old", "2001"), record("a", {"x": 2}, "new", "2003")
    early = record("a", {"x": 3}, "", "2002", ok=False)
    late = record("a", {"x": 4}, "", "2004", ok=False)  # nothing was built: no digest
    alone = record("b", {}, "", "2004", ok=False)
    of_version_1 = record("a", {"x": 5}, "", "2005")
    assert valid([late, old, good, early, alone, of_version_1], lambda family, config: "new") == [late, good]


@given(st.integers(0, 40), st.integers(0, 40))
def test_the_moment_when_a_family_changed_is_found(old: int, new: int) -> None:
    records = [record("a", {"x": i}, "old" if i < old else "new", f"{i:03}") for i in range(old + new)]
    asked: list[int] = []

    def today(family: str, config: Config) -> str:
        asked.append(config["x"])
        return "new"

    assert valid(records[::-1], today) == records[old:][::-1]
    assert len(asked) <= 9  # the oldest, the newest, and halves of 80
    assert len(asked) == 1 or old > 0 or not records


def test_the_families_that_ship_are_remembered() -> None:
    assert all(find(name).emit.__module__.startswith("tesa.schedules.") for name in FAMILIES)
