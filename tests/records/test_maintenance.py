"""Summing up, merging and pruning: what goes is what the rule says, and nothing else."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tesa.errors import UsageError
from tesa.records.log import Log, Record, Task
from tesa.records.maintenance import Rule, merge, parse_age, prune, summarize
from tesa.report.logs import records_view, summaries_view
from tesa.schedules.types import Problem
from tests.records.lines import old_line

TASKS = [
    Task.of(Problem("linear", 4, 4, n, (1, 4, n), (1, 4, n)), np.eye(4, dtype=np.float32) * scale)
    for n in (8, 16)
    for scale in (1, 2)
]


def record(
    task: int = 0, rows: int = 4, median: float | None = 1.0, day: int = 1, cpu: str = "a", target: str = "x86:haswell"
) -> Record:
    ok = median is not None
    time = f"2026-01-{day:02}T00:00:00+00:00" if day else ""
    return Record(
        TASKS[task], target, {"cpu": cpu}, "indexed", {"rows": rows}, median, median, ok, "" if ok else "wrong: no",
        {}, time,
    )  # fmt: skip


def write(path: Path, records: Iterable[Record | str]) -> Path:
    lines = [item if isinstance(item, str) else json.dumps(item.to_json()) for item in records]
    path.write_text("".join(line + "\n" for line in lines))
    return path


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


NEWER = json.dumps({"v": 3, "what": "new"})
TORN = '{"v": 1, "task": {"op": "lin'


def test_a_summary(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl",
        [record(day=3), record(1, day=2), record(1, 8, None, day=5, cpu="b"), record(target="x86:znver5"), NEWER, TORN],
    )
    found = summarize(path)
    assert (found.records, found.tasks, found.failed, found.failed_share) == (4, 3, 1, 0.25)
    assert (found.devices, found.targets) == (("a", "b"), ("x86:haswell", "x86:znver5"))
    assert (found.first, found.last) == ("2026-01-01T00:00:00+00:00", "2026-01-05T00:00:00+00:00")
    assert (found.other_versions, found.unreadable, found.bytes) == (1, 1, path.stat().st_size)


def test_an_empty_file(tmp_path: Path) -> None:
    found = summarize(write(tmp_path / "a.jsonl", []))
    assert (found.records, found.failed_share, found.first, found.last) == (0, 0.0, "", "")


def test_merging_keeps_each_record_once_in_the_order_of_time(tmp_path: Path) -> None:
    shared = record(2, day=4)
    one = write(tmp_path / "one.jsonl", [record(0, day=3), shared, NEWER, TORN])
    two = write(tmp_path / "two.jsonl", [record(1, day=1), shared, record(0, median=9.0, day=2)])
    done = merge([one, two], tmp_path / "out.jsonl")
    assert (done.lines, done.duplicates, done.other_versions, done.unreadable) == (5, 1, 1, 1)
    days = [json.loads(line).get("time", "new")[8:10] for line in lines(done.path)]
    assert days == ["01", "02", "03", "04", ""]
    assert lines(done.path)[-1] == NEWER
    with pytest.warns(UserWarning, match="version 3"):
        best = Log.load(two, one).best(TASKS[0], "x86:haswell")
    with pytest.warns(UserWarning, match="version 3"):
        assert Log.load(done.path).best(TASKS[0], "x86:haswell") == best == record(0, day=3)


def test_merging_into_a_source_and_merging_again(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one.jsonl", [record(0)]), write(tmp_path / "two.jsonl", [record(1, day=2)])
    merge([one, two], one)
    assert len(lines(one)) == 2
    again = merge([one, two], one)
    assert (again.lines, again.duplicates) == (2, 1)


def test_merging_refuses_to_overwrite(tmp_path: Path) -> None:
    one, out = write(tmp_path / "one.jsonl", [record(0)]), write(tmp_path / "out.jsonl", [record(1)])
    with pytest.raises(UsageError, match=r"out\.jsonl exists; name it among the logs"):
        merge([one], out)
    with pytest.raises(UsageError, match=r"the name of a log ends in \.jsonl"):
        merge([one], tmp_path / "out.txt")
    assert len(lines(out)) == 1


def test_pruning_by_each_rule(tmp_path: Path) -> None:
    first: list[Record | str] = [
        record(0, 4, 3.0, 1), record(0, 4, 2.0, 2), record(0, 8, 1.0, 3), record(0, 16, None, 4), record(1, 4, 5.0, 5),
        NEWER, TORN,
    ]  # fmt: skip
    day = datetime(2026, 1, 3, tzinfo=timezone.utc)
    for rule, dropped, kept in (
        (Rule(), {}, [0, 1, 2, 3, 4, 5, 6]),
        (Rule(superseded=True), {"superseded": 1}, [1, 2, 3, 4, 5, 6]),
        (Rule(failed=True), {"failed": 1}, [0, 1, 2, 4, 5, 6]),
        (Rule(unreadable=True), {"unreadable": 1}, [0, 1, 2, 3, 4, 5]),
        (Rule(before=day), {"old": 2}, [2, 3, 4, 5, 6]),
        (Rule(keep=1), {"superseded": 1, "not among the best": 2}, [2, 4, 5, 6]),
        (Rule(keep=2), {"superseded": 1, "not among the best": 1}, [1, 2, 4, 5, 6]),
    ):
        path = write(tmp_path / "a.jsonl", first)
        before = lines(path)
        told = prune(path, rule, dry_run=True)
        assert lines(path) == before
        assert not path.with_name(".a.jsonl.lock").exists() or rule != Rule()
        done = prune(path, rule)
        assert done == told
        assert (done.dropped, done.kept) == (dropped, len(kept))
        assert lines(path) == [before[i] for i in kept]
        assert (done.bytes_before, done.bytes_after) == (sum(len(x) + 1 for x in before), path.stat().st_size)


def test_devices_and_targets_are_kept_apart(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl",
        [record(cpu="a"), record(cpu="b"), record(target="x86:znver5"), record(1), record(0, 8, 0.5)],
    )
    assert prune(path, Rule(superseded=True)).dropped == {}
    assert prune(path, Rule(keep=1)).dropped == {"not among the best": 1}


def test_a_record_without_a_time_is_of_no_age(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [record(day=0), replace(record(1), time="yesterday"), record(2)])
    assert prune(path, Rule(before=datetime(2030, 1, 1, tzinfo=timezone.utc))).dropped == {"old": 1}


def test_a_later_failure_takes_the_place_of_a_time(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [record(), record(median=None)])
    assert prune(path, Rule(superseded=True)).kept == 1
    assert Log.load(path).best(TASKS[0], "x86:haswell") is None


many = st.lists(
    st.builds(
        record, st.integers(0, 3), st.sampled_from((4, 8)), st.one_of(st.none(), st.floats(0.1, 9)), st.integers(1, 3)
    ),
    max_size=12,
)


@given(many)
def test_pruning_changes_no_answer(tmp_path_factory: Any, records: list[Record]) -> None:
    path = write(tmp_path_factory.mktemp("log") / "a.jsonl", records)
    before = Log.load(path)
    for rule in (Rule(superseded=True), Rule(superseded=True, failed=True), Rule(keep=1)):
        prune(path, rule)
        after = Log.load(path)
        for task in TASKS:
            one, other = before.best(task, "x86:haswell"), after.best(task, "x86:haswell")
            assert (one and one.median_ms) == (other and other.median_ms)
        if rule == Rule(superseded=True):
            assert len(after) == len(before) == len(lines(path))


@given(many, many)
def test_merging_loses_nothing(tmp_path_factory: Any, one: list[Record], other: list[Record]) -> None:
    folder = tmp_path_factory.mktemp("log")
    sources = [write(folder / "one.jsonl", one), write(folder / "other.jsonl", other)]
    done = merge(sources, folder / "out.jsonl")
    assert sorted(lines(done.path)) == sorted({*lines(sources[0]), *lines(sources[1])})


@pytest.mark.parametrize(("text", "seconds"), [("90m", 5400), ("12h", 43200), ("30d", 2592000), ("4w", 2419200)])
def test_ages(text: str, seconds: int) -> None:
    now = datetime(2026, 6, 1, tzinfo=timezone.utc)
    assert (now - parse_age(text, now)).total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "30", "d", "1.5d", "-3d", "99999999999w", "yesterday"])
def test_no_ages(text: str) -> None:
    with pytest.raises(ValueError, match=r"Invalid isoformat|before all times"):
        parse_age(text)


def test_records_without_a_digest_are_counted_and_told(tmp_path: Path) -> None:
    log = Log.load(tmp_path / "a.jsonl", device="a")
    log.append([replace(record(0), code="12"), replace(record(1), code="34")])
    assert summarize(tmp_path / "a.jsonl").without_code == 0
    old = write(tmp_path / "old.jsonl", [old_line(record(2)), old_line(record(3))])
    found = [summarize(tmp_path / "a.jsonl"), summarize(old)]
    assert [file.without_code for file in found] == [0, 2]
    some = [record(2), *log.records(TASKS[0], "x86:haswell", ["a"])]
    console = Console(width=200, file=io.StringIO())
    for part in (*summaries_view(found, []), *records_view(some, "")):
        console.print(part)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "2 of 4 records do not tell which code was measured" in text
    assert "1 of 2 records does not tell which code was measured" in text


def test_records_of_tesa_0_1_are_merged_and_pruned_as_records_of_now(tmp_path: Path) -> None:
    """Version 1 has the statistics in each record; what is written has them once a weight, before its first record."""
    there = [record(0, 4, 3.0, 1), record(0, 4, 2.0, 2), record(1, 8, 1.0, 3)]
    old = write(tmp_path / "old.jsonl", [old_line(item) for item in there])
    log = Log.load(tmp_path / "new.jsonl", device="a")
    log.append(there)
    done = merge([old, tmp_path / "new.jsonl"], tmp_path / "all.jsonl")
    assert (done.lines, done.duplicates) == (3, 3)
    assert done.path.read_bytes() == (tmp_path / "new.jsonl").read_bytes()
    assert prune(old, Rule(superseded=True)).dropped == {"superseded": 1}
    assert prune(tmp_path / "new.jsonl", Rule(superseded=True)).dropped == {"superseded": 1}
    assert old.read_bytes() == (tmp_path / "new.jsonl").read_bytes()
    weights = [row["weight"] for row in map(json.loads, lines(old)) if "weight" in row]
    assert weights == [TASKS[0].pattern.digest, TASKS[1].pattern.digest]
    assert prune(old, Rule(before=datetime(2026, 1, 3, tzinfo=timezone.utc))).kept == 1
    assert len(lines(old)) == 2  # the statistics went with the last record of their weight
