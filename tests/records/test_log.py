"""The log: what goes in comes out, torn lines cost nothing else, several may write, errors are clear."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tesa.errors import UsageError
from tesa.records.locations import open_log
from tesa.records.log import Log, Record, Task
from tesa.schedules.types import Depth, Epilogue, Problem, Window
from tesa.tune.search.elsewhere import problem_of
from tests.build import toy
from tests.records.lines import old_line

PROBLEM = toy.linear()
VOLUME = Problem(
    "conv2d", 8, 12, 16, (1, 1, 5, 5, 5), (1, 8, 2, 4, 4), 2, Window(5, 5, (2, 2)), depth=Depth(size=5, taps=3, out=2)
)
WEIGHT = toy.weight(PROBLEM)
TASK = Task.of(PROBLEM, WEIGHT)


def record(median: float = 1.0, family: str = "dense", **more: Any) -> Record:
    return Record(TASK, "x86:haswell", {"cpu": "haswell"}, family, {"rows": 4}, median, median / 2, **more)


def test_round_trip(tmp_path: Path) -> None:
    log = Log.load(tmp_path / "logs", device="znver5")
    assert len(log) == 0
    failed = Record(TASK, "x86:haswell", {"cpu": "haswell"}, "block", {}, None, None, ok=False, error="wrong")
    log.append([record(), record(0.5, "indexed"), failed])
    again = Log.load(tmp_path / "logs")
    assert again.records(TASK, "x86:haswell") == log.records(TASK, "x86:haswell")
    assert len(again) == 3
    best = again.best(TASK, "x86:haswell")
    assert best is not None
    assert (best.family, best.median_ms) == ("indexed", 0.5)
    assert best.time.endswith("+00:00")
    assert again.best(TASK, "x86:znver5") is None
    weight, *rows = map(json.loads, (tmp_path / "logs" / "znver5.jsonl").read_text().splitlines())
    assert (weight["v"], weight["weight"]) == (2, TASK.pattern.digest)
    assert [row["v"] for row in rows] == [2, 2, 2]
    assert all(row["task"]["pattern"]["digest"] == weight["weight"] and "statistics" not in row for row in rows)
    assert all(r.statistics == TASK.pattern.statistics for r in again.records(TASK, "x86:haswell"))


def test_last_record_counts(tmp_path: Path) -> None:
    log = Log.load(tmp_path, device="a")
    log.append([record(1.0)])
    log.append([record(2.0)])
    (only,) = Log.load(tmp_path).records(TASK, "x86:haswell")
    assert only.median_ms == 2.0


def test_the_task_names_all_that_matters() -> None:
    problems = [
        PROBLEM,
        replace(PROBLEM, n=17, x_shape=(1, 12, 17), y_shape=(1, 8, 17)),
        replace(PROBLEM, threads=2),
        replace(PROBLEM, epilogue=Epilogue(activation="relu")),
        replace(PROBLEM, batch=2, x_shape=(2, 12, 16), y_shape=(2, 8, 16)),
        replace(PROBLEM, op="conv2d", window=Window(4, 4, (1, 1))),
        replace(PROBLEM, op="conv2d", window=Window(4, 4, (1, 1), stride=(2, 2))),
        VOLUME,
        replace(VOLUME, depth=Depth(size=6, taps=3, out=2)),
    ]
    keys = {Task.of(problem, WEIGHT).key for problem in problems} | {Task.of(PROBLEM, WEIGHT * 2).key}
    assert len(keys) == len(problems) + 1
    assert Task.of(PROBLEM, WEIGHT.copy()).key == TASK.key
    assert Task.of(replace(PROBLEM, x_shape=(12, 16)), WEIGHT).key == TASK.key  # the same work, written otherwise


def test_window_survives_json() -> None:
    for problem in (replace(VOLUME, k=12, depth=None), VOLUME):
        there = Record(Task.of(problem, WEIGHT), "t", {}, "dense", {}, 1.0, 1.0)
        back = Record.from_json(json.loads(json.dumps(there.to_json())))
        assert back == there
        assert back.task.key == there.task.key
    assert problem_of(Task.of(VOLUME, WEIGHT).to_json()) == VOLUME


def test_a_torn_line_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    log = Log.load(tmp_path, device="a")
    log.append([record(family="dense")])
    with open(path, "a") as file:
        file.write(json.dumps(record().to_json())[:50])
    with pytest.warns(UserWarning, match="line 3"):
        torn = Log.load(tmp_path, device="a")
    assert len(torn) == 1
    torn.append([record(family="block")])
    with pytest.warns(UserWarning, match="line 3"):
        assert len(Log.load(tmp_path)) == 2


@pytest.mark.parametrize(
    "line",
    [
        "5",
        "[]",
        "{}",
        '{"v": 3}',
        '{"v": 2}',
        '{"v": 1}',
        '{"v": 1, "task": {}}',
        '{"v": 2, "weight": "a"}',
        "\x00\xff",
    ],
)
def test_strange_lines_are_left_out(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.jsonl").write_text(line + "\n" + json.dumps(record().to_json()) + "\n")
    with pytest.warns(UserWarning, match="line 1"):
        assert len(Log.load(tmp_path)) == 1


def test_folders_and_files_in_order(tmp_path: Path) -> None:
    for name, median in (("one", 1.0), ("two", 2.0)):
        Log.load(tmp_path / name, device="a").append([record(median)])
    for places, expected in ((("one", "two"), 2.0), (("two", "one/a.jsonl"), 1.0), (("missing", "one"), 1.0)):
        (only,) = Log.load(*(tmp_path / place for place in places)).records(TASK, "x86:haswell")
        assert only.median_ms == expected


def test_several_processes_append(tmp_path: Path) -> None:
    code = (
        "from tests.records.test_log import *\n"
        "log = Log.load(sys.argv[1], device='a')\n"
        "for i in range(20): log.append([record(family=sys.argv[2] + str(i))])\n"
    )
    root = str(Path(__file__).parents[2])
    children = [
        subprocess.Popen([sys.executable, "-c", f"import sys; sys.path.append({root!r})\n{code}", str(tmp_path), name])
        for name in ("x", "y")
    ]
    assert [child.wait() for child in children] == [0, 0]
    assert len(Log.load(tmp_path)) == 40


def test_a_file_in_the_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    log = Log.load(tmp_path / "file" / "logs", device="a")
    with pytest.raises(UsageError, match=r"cannot write .*a\.jsonl: .*file exists and is a file; remove"):
        log.append([record()])
    with pytest.raises(UsageError, match=r"file: it is a file; give a folder"):
        Log.load(tmp_path / "file", device="a")
    (tmp_path / "a.jsonl").mkdir()
    with pytest.raises(UsageError, match=r"cannot read the tuning log .*a\.jsonl: Is a directory"):
        Log.load(tmp_path, device="a")


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "the disk is full; free some space in"),
        (errno.EDQUOT, "quota is used up; free"),
        (errno.EROFS, "is read-only; give another folder with --log"),
        (errno.EACCES, "no permission to write in .*; change its permissions, or give"),
        (errno.EIO, "Input/output error; give another folder"),
    ],
)
def test_a_failing_write_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, message: str
) -> None:
    def refuse(_: int) -> None:
        raise OSError(number, os.strerror(number))

    kept = Log.load(tmp_path / "old", device="a")
    kept.append([record(family="dense")])
    before = (tmp_path / "old" / "a.jsonl").read_bytes()
    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(UsageError, match=message):
        kept.append([record(family="block")])
    assert (tmp_path / "old" / "a.jsonl").read_bytes() == before
    with pytest.raises(UsageError, match=message):
        Log.load(tmp_path / "new", device="a").append([record()])
    assert list((tmp_path / "new").iterdir()) == []


def test_an_optional_log_warns_once_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    log = Log.load(tmp_path / "file" / "logs", device="a", optional=True)
    with pytest.warns(UserWarning, match="is a file; .*not remembered"):
        log.append([record(family="dense")])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        log.append([record(family="block")])
    assert len(log) == 2
    with pytest.warns(UserWarning, match="it is a file; .*not remembered") as told:
        assert len(Log.load(tmp_path / "file", tmp_path / "file", device="a", optional=True)) == 0
    assert len(told) == 1


def test_the_default_log_is_optional_and_a_named_one_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").write_text("")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    log = open_log(None)
    with pytest.warns(UserWarning, match="not remembered"):
        log.append([record()])
    with pytest.raises(UsageError, match="exists and is a file"):
        open_log(tmp_path / "data" / "logs").append([record()])


def test_memory_only() -> None:
    log = Log()
    log.append([record()])
    assert len(log) == 1
    assert np.isclose(log.records(TASK, "x86:haswell")[0].median_ms or 0, 1.0)


def elsewhere(cpu: str, median: float | None, rows: int = 4, **more: Any) -> Record:
    ok = median is not None
    return Record(TASK, "x86:haswell", {"cpu": cpu}, "dense", {"rows": rows}, median, median, ok, **more)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_devices_never_shadow_each_other(tmp_path: Path, order: tuple[int, int]) -> None:
    both = [elsewhere("haswell", 0.5), elsewhere("znver5", 9.5)]
    log = Log.load(tmp_path, device="a")
    log.append([both[i] for i in order])
    for known in (log, Log.load(tmp_path)):
        assert len(known) == 2
        for cpu, median in (("haswell", 0.5), ("znver5", 9.5)):
            best = known.best(TASK, "x86:haswell", [cpu])
            assert best is not None
            assert best.median_ms == median
            (only,) = known.records(TASK, "x86:haswell", [cpu])
            assert only.median_ms == median
        assert {r.median_ms for r in known.all_records(TASK, "x86:haswell")} == {0.5, 9.5}


def test_another_cpu_only_where_there_is_none_of_the_own() -> None:
    log = Log()
    log.append([elsewhere("haswell", 0.5), elsewhere("haswell", None, 8, error="crash: SIGILL")])
    (only,) = log.records(TASK, "x86:haswell", ["znver5"])  # what crashed there says nothing of this CPU
    assert only.median_ms == 0.5
    assert len(log.records(TASK, "x86:haswell", ["haswell"])) == 2
    log.append([elsewhere("znver5", 9.5, 16)])
    assert [r.config["rows"] for r in log.records(TASK, "x86:haswell", ["znver5"])] == [16]
    assert [r.config["rows"] for r in log.records(TASK, "x86:haswell", ["other", "znver5"])] == [16]


def test_records_of_tesa_0_1_are_read(tmp_path: Path) -> None:
    there = [record(1.0, "dense"), record(2.0, "block"), record(3.0, "indexed")]
    (tmp_path / "a.jsonl").write_text("".join(old_line(item) + "\n" for item in there))
    log = Log.load(tmp_path, device="a")
    assert log.records(TASK, "x86:haswell", ["haswell"]) == tuple(there)
    assert all(r.statistics == TASK.pattern.statistics for r in log.all_records(TASK, "x86:haswell"))
    log.append([record(4.0, "vector", code="0123")])
    lines = [json.loads(text) for text in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [row["v"] for row in lines] == [1, 1, 1, 2, 2]
    assert [r.code for r in Log.load(tmp_path).records(TASK, "x86:haswell", ["haswell"])] == ["", "", "", "0123"]


def test_the_statistics_of_a_weight_stand_once(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    other = replace(TASK, pattern=replace(TASK.pattern, digest="0" * 16))

    def weights() -> list[str]:
        return [row["weight"] for row in map(json.loads, path.read_text().splitlines()) if "weight" in row]

    log = Log.load(path, device="a")
    log.append([record(1.0, "dense"), record(1.0, "block")])
    log.append([record(1.0, "indexed"), replace(record(), task=other)])
    Log.load(path, device="a").append([record(1.0, "vector"), replace(record(2.0), task=other)])
    assert weights() == [TASK.pattern.digest, "0" * 16]
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(text for text in lines if TASK.pattern.digest not in text))  # as another process may prune
    log.append([record(3.0, "dense")])
    assert weights() == ["0" * 16, TASK.pattern.digest]
    assert all(entry.statistics is not None for entry in Log.load(path).entries())


def test_only_records_of_the_code_of_today_are_asked_for() -> None:
    log = Log()
    log.append([elsewhere("a", 1.0, 4, code="old"), elsewhere("b", 2.0, 4, code="new", time="2050")])
    log.append([elsewhere("a", None, 8, error="wrong: no", code="old"), elsewhere("a", 3.0, 16)])

    def found(*cpus: str) -> list[float | None]:
        return [r.median_ms for r in log.records(TASK, "x86:haswell", cpus, lambda family, config: "new")]

    assert found("b") == [2.0]
    assert found("a") == [2.0]  # the own ones are of other code, or do not tell it
    assert len(log.records(TASK, "x86:haswell", ["a"])) == 3
