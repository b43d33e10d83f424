"""A record counts where its family emits today what was measured."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tesa.build.cache import Cache
from tesa.records import emitted as room
from tesa.records.emitted import EmittedByFamilies, stamp
from tesa.records.record import STAMP, Record
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
    return EmittedByFamilies(PROBLEM, WEIGHT, TARGET, TASK.pattern.digest, cache)


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
    assert len(FAMILIES) <= len(asked) <= 2 * len(FAMILIES)  # one of each setting of switches stands for all


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


class Today:
    """Code of today by family and configuration, as the records of old should be."""

    def __init__(self, codes: Callable[[str, Config], str], stamps: Mapping[str, str] | None = None) -> None:
        self.codes, self.stamps, self.asked = codes, stamps or {}, list[tuple[str, Config]]()

    def __call__(self, family: str, config: Config) -> str:
        self.asked.append((family, config))
        return self.codes(family, config)

    def stamp(self, family: str) -> str:
        return self.stamps.get(family, "")


def test_every_failure_is_looked_at_and_one_without_code_counts_with_the_others() -> None:
    good = record("a", {"x": 2}, "new")
    mended, same = record("a", {"x": 3}, "old", ok=False), record("a", {"x": 4}, "new", ok=False)
    unbuilt, of_version_1 = record("a", {"x": 5}, "", ok=False), record("a", {"x": 6}, "")
    alone = record("b", {"x": 5}, "", ok=False)
    records = [mended, good, same, unbuilt, of_version_1, alone]
    assert valid(records, Today(lambda family, config: "new")) == [good, same, unbuilt]


def test_what_one_switch_turns_on_may_change_alone() -> None:
    records = [record("a", {"pack": pack, "rows": rows}, f"old {pack} {rows}") for pack in (0, 1) for rows in (4, 8)]
    today = Today(lambda family, config: f"{'new' if config['pack'] else 'old'} {config['pack']} {config['rows']}")
    assert valid(records, today) == records[:2]
    assert len(today.asked) == 2  # one of each setting stands for the others


def test_records_of_other_files_are_judged_apart() -> None:
    """A family that was changed and changed back: what was measured in between is old."""
    records = [
        replace(record("a", {"rows": rows}, code), versions={STAMP: stamp})
        for rows, code, stamp in ((4, "first", "1"), (8, "second", "2"), (16, "first", "3"))
    ]
    assert valid(records, Today(lambda family, config: "first")) == [records[0], records[2]]


def test_records_of_the_files_of_today_count_without_a_look() -> None:
    made = [
        replace(record(name, {}, code), versions={STAMP: "now"}) for name, code in (("a", "x"), ("a", ""), ("b", "y"))
    ]
    today = Today(lambda family, config: "other", {"a": "now"})
    assert valid(made, today) == made[:2]
    assert [family for family, _ in today.asked] == ["b"]


def test_families_of_users_have_no_stamp(registered: None) -> None:
    assert stamp("dense", TARGET) == stamp("cover", TARGET) != ""
    other_code("indexed")
    assert stamp("indexed", TARGET) == ""
    assert stamp("cover", TARGET) == ""  # one of its pieces may be that family's
    assert stamp("dense", TARGET) != ""


def test_the_families_that_ship_are_remembered() -> None:
    assert all(find(name).emit.__module__.startswith("tesa.schedules.") for name in FAMILIES)
