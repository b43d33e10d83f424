"""A hundred thousand records: only what is asked for is read; and whatever way a line is written, it means the same."""

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

from tesa.records.lines import Entry, Odd, scan
from tesa.records.log import Log, Record, Task
from tesa.records.lookup import lookup
from tesa.schedules.types import Epilogue, Output, Problem, Window, config_key

PROBLEM = Problem("linear", 8, 12, 16, (1, 12, 16), (1, 8, 16))
RNG = np.random.default_rng(0)
WEIGHT = (RNG.standard_normal((8, 12)) * (RNG.random((8, 12)) < 0.4)).astype(np.float32)
TARGET = "x86:haswell"


def record(task: Task | None = None, median: float = 1.0, rows: int = 4, **more: Any) -> Record:
    versions = {"tesa": "0.1.0", "tvm": "0.27"}
    facts: dict[str, Any] = {"versions": versions, "time": "2026-11-21T10:13:18+00:00", **more}
    known = Task.of(PROBLEM, WEIGHT) if task is None else task
    return Record(known, TARGET, {"cpu": "haswell"}, "indexed", {"rows": rows}, median, median, **facts)


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
    assert (len(log), log.parsed) == (weights * each, 0)
    base = Task.of(PROBLEM, WEIGHT)
    for i in (0, 17, 999):
        task = replace(base, n=16 + i % 10, pattern=replace(base.pattern, digest=f"{i:016x}"))
        before = log.parsed
        found = lookup(log, task, None, TARGET, limit=5)
        assert found.how == "exact"
        assert [r.config["rows"] for r in found.records] == list(np.argsort(times[i])[:5])
        assert [r.median_ms for r in found.records] == sorted(times[i])[:5]
        assert {r.task.key for r in found.records} == {task.key}
        assert log.parsed == before + 5
    before = log.parsed
    stranger = replace(base, pattern=replace(base.pattern, digest="f" * 16))
    assert lookup(log, stranger, None, TARGET, limit=5).how == "nearest"
    assert log.parsed <= before + 256 + 5
    before = log.parsed
    assert lookup(log, replace(base, n=99), None, TARGET).how == "default"
    assert log.parsed == before


def test_no_more_than_so_many_patterns_are_compared() -> None:
    log = Log()
    base = Task.of(PROBLEM, WEIGHT)
    lines = b"".join(
        json.dumps(
            record(replace(base, pattern=replace(base.pattern, digest=f"{i:016x}", sparsity=base.pattern.sparsity)))
            .to_json()
        ).encode()
        + b"\n"
        for i in range(2000)
    )  # fmt: skip
    log._add(entry for entry in scan(lines) if isinstance(entry, Entry))
    known = base.pattern.statistics
    assert known is not None
    assert lookup(log, base, replace(known, nonzeros=known.nonzeros + 1), TARGET).how == "nearest"
    assert 0 < log.parsed <= 264


def only(line: bytes | str) -> Entry:
    (entry,) = scan(line.encode() if isinstance(line, str) else line)
    assert isinstance(entry, Entry), entry
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
@given(words, words, words, words, numbers, st.dictionaries(words, st.integers()), st.booleans())
def test_the_quick_reading_is_the_long_one(
    way: str, family: str, error: str, cpu: str, digest: str, median: float, config: dict[str, int], ok: bool
) -> None:
    base = Task.of(PROBLEM, WEIGHT)
    task = replace(base, pattern=replace(base.pattern, digest=digest))
    device = {"cpu": cpu, "cpus": 2}
    there = Record(
        task, TARGET, device, family, config, median if ok else None, median if ok else None, ok, error, {}, "now"
    )
    entry = only(WAYS[way](there.to_json()))
    assert entry.record == there
    assert entry.record.statistics == there.statistics
    assert (entry.shape, entry.digest, entry.key) == (task.shape, digest, task.key)
    assert (entry.target, entry.option) == (TARGET, config_key(family, config))
    assert (entry.ok, entry.median_ms, entry.time) == (ok, there.median_ms, "now")
    assert (entry.kind, entry.sparsity, entry.cpu) == (task.pattern.kind, task.pattern.sparsity, cpu)


def test_what_tesa_writes_is_not_parsed() -> None:
    window = Window(5, 5, (2, 2))
    problems = [
        PROBLEM,
        replace(PROBLEM, epilogue=Epilogue(True, True, "relu6")),
        replace(PROBLEM, dtype="int8", x_zero=3, output=Output("uint8", 0.1, 7), epilogue=Epilogue(scale=True)),
        Problem("conv2d", 8, 12, 16, (1, 3, 5, 5), (1, 8, 4, 4), window=window, storage="float16"),
    ]
    for problem in problems:
        there = record(Task.of(problem, WEIGHT), error='a "quoted" \\ line\nand {more}')
        for data in (there.to_json(), {name: x for name, x in there.to_json().items() if name != "statistics"}):
            entry = only(json.dumps(data))
            assert not entry.parsed
            assert entry.record == there
            assert entry.key == there.task.key


@given(st.integers(1, 10_000))
def test_a_line_cut_anywhere_is_no_record(cut: int) -> None:
    line = json.dumps(record().to_json()).encode()
    cut = cut % len(line)
    found = list(scan(line[:cut]))
    assert all(isinstance(item, Odd) and not item.foreign for item in found)
    glued = list(scan(line[:cut] + b"\n" + line))
    assert sum(isinstance(item, Entry) for item in glued) == 1


def test_a_line_that_lies_about_itself_is_told_when_it_is_read(tmp_path: Path) -> None:
    good, bad = record(rows=1), record(rows=2, median=0.5)
    text = json.dumps(bad.to_json()).replace('"tvm": "0.27"', '"tvm": 0.2.7')
    (tmp_path / "a.jsonl").write_text(json.dumps(good.to_json()) + "\n" + text + "\n")
    log = Log.load(tmp_path)
    with pytest.warns(UserWarning, match="damaged record"):
        best = log.best(good.task, TARGET)
    assert best is not None
    assert best.config == {"rows": 1}


def test_another_version_is_left_out_and_known_as_such() -> None:
    data = record().to_json()
    for version in (2, "3", 0):
        (odd,) = scan(json.dumps({**data, "v": version}).encode())
        assert isinstance(odd, Odd)
        assert odd.foreign
        assert f"version {version!r} of the format; this tesa reads version 1" in odd.why
