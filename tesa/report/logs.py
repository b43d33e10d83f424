"""The files of the tuning log, as tables and as plain data."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from tesa.records.format import IndexEntry
from tesa.records.log import Log
from tesa.records.maintenance import Merged, Pruned, Summary
from tesa.records.record import Record
from tesa.records.task import Task
from tesa.report.numbers import counted, milliseconds, percent, size
from tesa.report.plain import plain
from tesa.report.table import FittedTable, table

_HOW = ("family", "config", "median_ms", "min_ms", "device", "versions", "time")
BEST = 100
"""Columns that the best of each task take at most."""

_BEST_OPTIONAL = ("tried", "failed", "target", "sparsity", "configuration", "pattern")
_OPTIONAL = ("first", "bytes", "targets", "device", "target", "least ms", "time", "epilogue")


@dataclass(frozen=True)
class Best:
    """One task on one target: its fastest record, None if all failed, and how many configurations were tried."""

    task: Task
    target: str
    record: Record | None
    tried: int
    failed: int


def best_of_each(log: Log, target: str | None = None) -> list[Best]:
    """The best of every task that the log knows, in the order of first appearance."""
    groups: dict[tuple[str, str], list[IndexEntry]] = {}
    for entry in log.entries():
        if target is None or entry.target == target:
            groups.setdefault((entry.key, entry.target), []).append(entry)
    found = []
    for (_, place), entries in groups.items():
        failed = sum(not entry.ok for entry in entries)
        timed = sorted((e.median_ms, i) for i, e in enumerate(entries) if e.ok and e.median_ms is not None)
        fast = next(filter(None, (log.record(entries[i]) for _, i in timed)), None)
        some = fast or next(filter(None, map(log.record, entries)), None)
        if some is not None:
            found.append(Best(some.task, place, fast, len(entries), failed))
    return found


def summaries_json(files: Sequence[Summary]) -> list[dict[str, Any]]:
    """One object a file."""
    names = ("path", "bytes", "records", "tasks", "failed", "failed_share", "other_versions", "unreadable", "devices",
             "targets", "first", "last")  # fmt: skip
    rows = [{name: plain(getattr(file, name)) for name in names} for file in files]
    return [{**row, "first": row["first"] or None, "last": row["last"] or None} for row in rows]


def summaries_view(files: Sequence[Summary], looked_in: Sequence[str]) -> list[RenderableType]:
    """One row a file, and how many records do not tell which code was measured."""
    if not files:
        return [Text(f"no tuning logs in {', '.join(looked_in)}")]
    columns = (
        "file", "records", "tasks", "failed", "no digest", "devices", "targets", "first", "last", "bytes", "left out",
    )  # fmt: skip
    rows = [
        (
            str(file.path), str(file.records), str(file.tasks), percent(file.failed_share), str(file.without_code),
            ", ".join(file.devices), ", ".join(file.targets), _day(file.first), _day(file.last), size(file.bytes),
            _left_out(file),
        )
        for file in files
    ]  # fmt: skip
    right = ("records", "tasks", "failed", "no digest", "bytes")
    found = [FittedTable(columns, rows, optional=_OPTIONAL, right=right)]
    return [*found, *_old(sum(file.without_code for file in files), sum(file.records for file in files))]


def record_json(record: Record) -> dict[str, Any]:
    """A record as it stands in the file, with the key of its task and the statistics of its weight."""
    known = {} if record.statistics is None else {"statistics": record.statistics.to_json()}
    return {"key": record.task.key, **record.to_json(), **known}


def records_view(records: Sequence[Record], what: str) -> list[RenderableType]:
    """One row a record, and what its tasks are."""
    if not records:
        return [Text(f"no record of {what}")]
    tasks = {record.task.key: record.task for record in records}
    right = ("ms", "least ms")
    columns = ("task", "family", "configuration", "ms", "least ms", "device", "target", "time", "note")
    rows = [
        (
            record.task.key, record.family, _config(record.config), milliseconds(record.median_ms),
            milliseconds(record.min_ms), str(record.device.get("cpu", "")), record.target, record.time, record.error,
        )
        for record in records
    ]  # fmt: skip
    old = _old(sum(not record.code for record in records), len(records))
    return [_tasks(tasks.values()), FittedTable(columns, rows, optional=_OPTIONAL, right=right), *old]


def best_json(found: Sequence[Best]) -> list[dict[str, Any]]:
    """One object a task and target. best is null if every configuration failed."""
    return [
        {
            "key": item.task.key,
            "task": item.task.to_json(),
            "target": item.target,
            "tried": item.tried,
            "failed": item.failed,
            "best": item.record and {name: value for name, value in item.record.to_json().items() if name in _HOW},
        }
        for item in found
    ]


def best_view(found: Sequence[Best]) -> list[RenderableType]:
    """One row a task and target, the slowest first."""
    if not found:
        return [Text("no records")]
    columns = ("task", "layer", "pattern", "sparsity", "target", "family", "configuration", "ms", "tried", "failed")
    rows = []
    for item in sorted(found, key=lambda item: -_ms(item)):
        best = item.record
        rows.append(
            (
                item.task.key, layer_text(item.task), item.task.pattern.kind, percent(item.task.pattern.sparsity),
                item.target, best.family if best else "-", _config(best.config) if best else "all failed",
                milliseconds(best.median_ms if best else None), str(item.tried), str(item.failed),
            )
        )  # fmt: skip
    right = ("sparsity", "ms", "tried", "failed")
    return [FittedTable(columns, rows, optional=_BEST_OPTIONAL, right=right, most=BEST)]


def _ms(item: Best) -> float:
    """The milliseconds of a task's fastest record; without one it comes first, since it has no kernel at all."""
    found = None if item.record is None else item.record.median_ms
    return float("inf") if found is None else found


def pruned_json(files: Sequence[Pruned], dry_run: bool) -> dict[str, Any]:
    """The records dropped of each file, and why."""
    return {"dry_run": dry_run, "files": plain(files)}


def pruned_view(files: Sequence[Pruned], dry_run: bool) -> list[RenderableType]:
    """One row a file."""
    columns = ("file", "would keep" if dry_run else "kept", "would drop" if dry_run else "dropped", "bytes")
    rows = []
    for file in files:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(file.dropped.items())) or "nothing"
        rows.append((str(file.path), str(file.kept), reasons, f"{size(file.bytes_before)} -> {size(file.bytes_after)}"))
    return [table(columns, rows, right=(columns[1],))] if rows else [Text("no tuning logs")]


def merged_text(done: Merged) -> str:
    """The file that was written, in one sentence."""
    facts = {
        "duplicates left out": done.duplicates,
        "of another version, kept as they are": done.other_versions,
        "unreadable, left out": done.unreadable,
    }
    more = "".join(f"; {what}: {count}" for what, count in facts.items() if count)
    return f"{done.path}: {counted(done.lines, 'line')} of {counted(len(done.sources), 'file')}{more}"


def layer_text(task: Task) -> str:
    """A task in a few words: operator, sizes, type, what follows, threads.

    >>> from tesa.records.task import Pattern
    >>> layer_text(Task("linear", 8, 12, 16, 1, None, "float32", {"bias": True}, 2, Pattern("dense", 0.0, "")))
    'linear 8x12x16 float32 +bias, 2 threads'
    """
    window = ""
    if task.window is not None:
        taps = [task.window["depth"]["taps"]] if "depth" in task.window else []
        window = " " + "x".join(str(side) for side in (*taps, *task.window["kernel"]))
    batch = f" batch {task.batch}" if task.batch != 1 else ""
    after = "".join(f" +{name}" for name in ("bias", "residual", "scale") if task.epilogue.get(name))
    activation = f" +{task.epilogue['activation']}" if task.epilogue.get("activation") else ""
    threads = f", {task.threads} threads" if task.threads != 1 else ""
    return f"{task.op}{window} {task.m}x{task.k}x{task.n}{batch} {task.dtype}{after}{activation}{threads}"


def _old(count: int, total: int) -> list[Text]:
    """A line that says what it means if some records are without a digest of their code."""
    if not count:
        return []
    which = f"{count} of {counted(total, 'record')} {'does' if count == 1 else 'do'} not tell which code was measured"
    return [Text(f"{which}: such weights are measured again, and meanwhile the times serve as a guess", style="dim")]


def _tasks(tasks: Iterable[Task]) -> Table:
    columns = ("task", "digest", "layer (m x k x n)", "pattern", "sparsity")
    rows = [
        (task.key, task.pattern.digest, layer_text(task), task.pattern.kind, percent(task.pattern.sparsity))
        for task in tasks
    ]
    return table(columns, rows, right=("sparsity",))


def _config(config: Mapping[str, int]) -> str:
    return json.dumps(dict(config))[1:-1].replace('"', "").replace(": ", "=").replace(", ", " ") or "-"


def _day(time: str) -> str:
    return time[:16].replace("T", " ") or "-"


def _left_out(file: Summary) -> str:
    parts = ((file.other_versions, "of another version"), (file.unreadable, "unreadable"))
    return ", ".join(f"{count} {what}" for count, what in parts if count) or "-"
