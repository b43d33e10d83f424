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
from tesa.schedules.types import Epilogue, Problem, Window
from tests.build import toy

PROBLEM = toy.linear()
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
    line = json.loads((tmp_path / "logs" / "znver5.jsonl").read_text().splitlines()[0])
    assert line["v"] == 1
    assert line["task"]["pattern"]["kind"] == "unstructured"


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
    ]
    keys = {Task.of(problem, WEIGHT).key for problem in problems} | {Task.of(PROBLEM, WEIGHT * 2).key}
    assert len(keys) == len(problems) + 1
    assert Task.of(PROBLEM, WEIGHT.copy()).key == TASK.key
    assert Task.of(replace(PROBLEM, x_shape=(12, 16)), WEIGHT).key == TASK.key  # the same work, written otherwise


def test_window_survives_json() -> None:
    problem = Problem("conv2d", 8, 12, 16, (1, 3, 5, 5), (1, 8, 4, 4), window=Window(5, 5, (2, 2)))
    there = Record(Task.of(problem, WEIGHT), "t", {}, "dense", {}, 1.0, 1.0)
    back = Record.from_json(json.loads(json.dumps(there.to_json())))
    assert back == there
    assert back.task.key == there.task.key


def test_a_torn_line_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    log = Log.load(tmp_path, device="a")
    log.append([record(family="dense")])
    with open(path, "a") as file:
        file.write(json.dumps(record().to_json())[:50])
    with pytest.warns(UserWarning, match="line 2"):
        torn = Log.load(tmp_path, device="a")
    assert len(torn) == 1
    torn.append([record(family="block")])
    with pytest.warns(UserWarning, match="line 2"):
        assert len(Log.load(tmp_path)) == 2


@pytest.mark.parametrize("line", ["5", "[]", "{}", '{"v": 2}', '{"v": 1}', '{"v": 1, "task": {}}', "\x00\xff"])
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


def test_what_failed_with_other_kernels_counts_for_nothing(tmp_path: Path) -> None:
    log = Log.load(tmp_path, device="a")
    log.append([elsewhere("a", 1.0), elsewhere("a", None, 8, error="wrong: no", time="2026-01-01T00:00:00+00:00")])
    assert all(record.current for record in log.records(TASK, "x86:haswell", ["a"]))
    assert len(Log.load(tmp_path).records(TASK, "x86:haswell", ["a"])) == 2
    text = (tmp_path / "a.jsonl").read_text()
    assert text.count('"kernels": "') == 2
    for changed in (text.replace('"kernels": "', '"kernels": "0'), text.replace('"kernels"', '"other"')):
        (tmp_path / "a.jsonl").write_text(changed)
        again = Log.load(tmp_path)
        (old,) = again.records(TASK, "x86:haswell", ["a"])  # its time is better than none
        assert old.ok
        assert not old.current
        assert len(again) == 2
