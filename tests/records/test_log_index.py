"""A hundred thousand records are found; and whatever way a line is written, it means the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tesa.records.format import IndexEntry, Unreadable, encoded, scan
from tesa.records.log import Log, Record, Task
from tesa.records.lookup import lookup
from tesa.schedules.types import Depth, Epilogue, Output, Problem, Window, config_key
from tests.records.lines import old_data

PROBLEM = Problem("linear", 8, 12, 16, (1, 12, 16), (1, 8, 16))
RNG = np.random.default_rng(0)
WEIGHT = (RNG.standard_normal((8, 12)) * (RNG.random((8, 12)) < 0.4)).astype(np.float32)
TARGET = "x86:haswell"


def record(task: Task | None = None, median: float = 1.0, rows: int = 4, **more: Any) -> Record:
    versions = {"tesa": "0.1.0", "tvm": "0.27"}
    facts: dict[str, Any] = {"versions": versions, "time": "2026-11-21T10:13:18+00:00", **more}
    known = Task.of(PROBLEM, WEIGHT) if task is None else task
    return Record(known, TARGET, {"cpu": "haswell"}, "indexed", {"rows": rows}, median, median, **facts)


@pytest.mark.slow
def test_a_hundred_thousand_records(tmp_path: Path) -> None:
    weights, each = 1000, 100
    template = record().to_json()
    rng = np.random.default_rng(1)
    times = rng.uniform(1, 2, (weights, each))
    with open(tmp_path / "a.jsonl", "w") as file:
        for i in range(weights):
            template["task"]["n"] = 16 + i % 10
            template["task"]["pattern"]["digest"] = f"{i:016x}"
            for j in range(each):
                template["config"] = {"rows": j}
                template["median_ms"] = template["min_ms"] = times[i, j]
                file.write(json.dumps(template) + "\n")
    log = Log.load(tmp_path)
    assert len(log) == weights * each
    base = Task.of(PROBLEM, WEIGHT)
    for i in (0, 17, 999):
        task = replace(base, n=16 + i % 10, pattern=replace(base.pattern, digest=f"{i:016x}"))
        found = lookup(log, task, None, TARGET, limit=5)
        assert found.how == "exact"
        assert [r.config["rows"] for r in found.records] == list(np.argsort(times[i])[:5])
        assert [r.median_ms for r in found.records] == sorted(times[i])[:5]
        assert {r.task.key for r in found.records} == {task.key}
    stranger = replace(base, pattern=replace(base.pattern, digest="f" * 16))
    assert lookup(log, stranger, None, TARGET, limit=5).how == "nearest"
    assert lookup(log, replace(base, n=99), None, TARGET).how == "default"


def test_no_more_than_so_many_patterns_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log()
    base = Task.of(PROBLEM, WEIGHT)
    log.append([record(replace(base, pattern=replace(base.pattern, digest=f"{i:016x}"))) for i in range(2000)])
    known = base.pattern.statistics
    assert known is not None
    compared = []
    monkeypatch.setattr("tesa.records.lookup.distance", lambda one, other: compared.append(other) or 0.1)
    assert lookup(log, base, known, TARGET).how == "nearest"
    assert len(compared) == 256


def only(line: bytes | str) -> IndexEntry:
    (entry,) = scan(line.encode() if isinstance(line, str) else line)
    assert isinstance(entry, IndexEntry), entry
    return entry


WAYS: dict[str, Callable[[Any], str]] = {
    "as tesa writes": json.dumps,
    "sorted": lambda data: json.dumps(data, sort_keys=True),
    "without spaces": lambda data: json.dumps(data, separators=(",", ":")),
    "in unicode": lambda data: json.dumps(data, ensure_ascii=False),
    "with a carriage return": lambda data: json.dumps(data) + "\r",
}

words = st.text(max_size=12)
numbers = st.floats(1e-9, 1e6)


@pytest.mark.parametrize("way", WAYS)
@given(words, words, words, words, numbers, st.dictionaries(words, st.integers(-(2**31), 2**31)), st.booleans())
def test_a_record_comes_back_however_it_is_written(
    way: str, family: str, error: str, cpu: str, digest: str, median: float, config: dict[str, int], ok: bool
) -> None:
    base = Task.of(PROBLEM, WEIGHT)
    task = replace(base, pattern=replace(base.pattern, digest=digest))
    device = {"cpu": cpu, "cpus": 2}
    there = Record(
        task, TARGET, device, family, config, median if ok else None, median if ok else None, ok, error, {}, "now"
    )
    for data in (there.to_json(), old_data(there), old_data(there, statistics=False)):
        same_as(there, only(WAYS[way](data)), "statistics" in data)
    (line,) = (line for line in encoded([IndexEntry.of(there)], [digest]))
    same_as(there, only(line), False)


def same_as(there: Record, entry: IndexEntry, statistics: bool) -> None:
    task, config, digest = there.task, there.config, there.task.pattern.digest
    assert entry.record == there
    assert entry.statistics == entry.record.statistics == (there.statistics if statistics else None)
    assert (entry.shape, entry.digest, entry.key) == (task.shape, digest, task.key)
    assert (entry.target, entry.option) == (TARGET, config_key(there.family, config))
    assert (entry.ok, entry.median_ms, entry.time) == (there.ok, there.median_ms, "now")
    assert (entry.kind, entry.sparsity, entry.cpu) == (task.pattern.kind, task.pattern.sparsity, there.cpu)


def test_every_kind_of_problem_is_found_again() -> None:
    window = Window(5, 5, (2, 2))
    problems = [
        PROBLEM,
        replace(PROBLEM, epilogue=Epilogue(True, True, "relu6")),
        replace(PROBLEM, dtype="int8", x_zero=3, output=Output("uint8", 0.1, 7), epilogue=Epilogue(scale=True)),
        Problem("conv2d", 8, 12, 16, (1, 3, 5, 5), (1, 8, 4, 4), window=window, storage="float16"),
        Problem("conv2d", 8, 12, 16, (1, 1, 5, 5, 5), (1, 8, 2, 4, 4), 2, window, depth=Depth(size=5, taps=3, out=2)),
    ]
    for problem in problems:
        there = record(Task.of(problem, WEIGHT), error='a "quoted" \\ line\nand {more}')
        for data in (there.to_json(), old_data(there)):
            entry = only(json.dumps(data))
            assert entry.record == there
            assert entry.key == there.task.key


@given(st.integers(1, 10_000))
def test_a_line_cut_anywhere_is_no_record(cut: int) -> None:
    line = json.dumps(record().to_json()).encode()
    cut = cut % len(line)
    found = list(scan(line[:cut]))
    assert all(isinstance(item, Unreadable) and not item.other_version for item in found)
    glued = list(scan(line[:cut] + b"\n" + line))
    assert sum(isinstance(item, IndexEntry) for item in glued) == 1


def test_a_line_that_lies_about_itself_is_told_when_it_is_read(tmp_path: Path) -> None:
    good, bad = record(rows=1), record(rows=2, median=0.5)
    text = json.dumps({**bad.to_json(), "min_ms": "fast"})
    (tmp_path / "a.jsonl").write_text(json.dumps(good.to_json()) + "\n" + text + "\n")
    log = Log.load(tmp_path)
    with pytest.warns(UserWarning, match="damaged record"):
        best = log.best(good.task, TARGET)
    assert best is not None
    assert best.config == {"rows": 1}


def test_another_version_is_left_out_and_known_as_such() -> None:
    data = record().to_json()
    for version in (3, "2", 0):
        (bad,) = scan(json.dumps({**data, "v": version}).encode())
        assert isinstance(bad, Unreadable)
        assert bad.other_version
        assert f"version {version!r} of the format; this tesa reads versions 1 to 2" in bad.why
