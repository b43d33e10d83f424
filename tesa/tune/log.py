"""What was measured, as JSON lines: one file for each device, only ever appended to, safe for several writers."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from tesa.errors import UsageError
from tesa.pattern import classify, digest
from tesa.schedules.types import Config, FloatArray, Problem

VERSION = 1
"""Of the format. A record of another version is left out, with a warning."""

_LOCK_S = 60.0


@dataclass(frozen=True)
class Pattern:
    """Which weight it was. kind is for the reader; digest identifies values and places."""

    kind: str
    sparsity: float
    digest: str


@dataclass(frozen=True)
class Task:
    """What was measured, apart from how: two equal keys are the same work. window is None for a linear layer."""

    op: str
    m: int
    k: int
    n: int
    batch: int
    window: Mapping[str, Any] | None
    dtype: str
    epilogue: Mapping[str, Any]
    threads: int
    pattern: Pattern

    @staticmethod
    def of(problem: Problem, weight: FloatArray) -> Task:
        """The task of a problem with its weight (m, k)."""
        window = None if problem.window is None else _plain(asdict(problem.window))
        zeros = 1.0 - np.count_nonzero(weight) / weight.size if weight.size else 0.0
        pattern = Pattern(str(classify(weight)), round(zeros, 6), digest(weight))
        return Task(
            problem.op, problem.m, problem.k, problem.n, problem.batch, window, problem.dtype,
            asdict(problem.epilogue), problem.threads, pattern,
        )  # fmt: skip

    @property
    def key(self) -> str:
        """16 hexadecimal digits that identify the task."""
        facts = asdict(self)
        facts["pattern"] = self.pattern.digest
        return hashlib.sha256(json.dumps(_plain(facts), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Record:
    """One measurement. median_ms and min_ms are None where ok is False, and error says why."""

    task: Task
    target: str
    device: Mapping[str, Any]
    schedule: str
    config: Config
    median_ms: float | None
    min_ms: float | None
    ok: bool = True
    error: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    time: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and lists, with the version of the format first."""
        return {"v": VERSION, **_plain(asdict(self))}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Record:
        """The inverse of to_json. ValueError if it is not a record of this version."""
        if data.get("v") != VERSION:
            raise ValueError(f"version {data.get('v')!r} of the format, expected {VERSION}")
        names = {item.name for item in fields(Record)}
        try:
            task = dict(data["task"])
            task["pattern"] = Pattern(**task["pattern"])
            rest = {name: value for name, value in data.items() if name in names}
            record = Record(**{**rest, "task": Task(**task)})
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a record: {error}") from error
        if record.ok and not isinstance(record.median_ms, int | float):
            raise ValueError("no median_ms, although ok")
        return record


class Log:
    """Records in memory, and the file that new ones are appended to.

    >>> log = Log()
    >>> task = Task.of(Problem("linear", 2, 2, 4, (1, 2, 4), (1, 2, 4)), np.eye(2, dtype=np.float32))
    >>> log.append([Record(task, "x86:haswell", {"cpu": "haswell"}, "dense", {"rows": 4}, 0.5, 0.4)])
    >>> log.best(task, "x86:haswell").schedule
    'dense'
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._records: dict[tuple[str, str], dict[str, Record]] = {}

    @staticmethod
    def load(*places: str | Path, device: str | None = None) -> Log:
        """All records of the given folders (their *.jsonl files) and files, in this order; later ones count.

        device: name of the CPU that new records are for; they are appended to DEVICE.jsonl in the first place if that
        is a folder (it is made at the first record if there is none yet), or to the first place itself if that is a
        file ending in .jsonl. Without it nothing is written. Lines that cannot be read are left out with a warning.
        """
        log = Log(_writable(Path(places[0]), device) if places and device else None)
        for place in places:
            for path in _files(Path(place)):
                log._add(_read(path))
        return log

    def append(self, records: Sequence[Record]) -> None:
        """Add records: in memory, and at the end of the file in one synced write.

        Raises UsageError if the file cannot be written.
        """
        stamped = [_stamped(record) for record in records]
        if self.path is not None and stamped:
            _write(self.path, "".join(json.dumps(record.to_json(), allow_nan=False) + "\n" for record in stamped))
        self._add(stamped)

    def records(self, task: Task, target: str) -> tuple[Record, ...]:
        """What is known of exactly this task on this target: the last record of each schedule and configuration."""
        return tuple(self._records.get((task.key, target), {}).values())

    def best(self, task: Task, target: str) -> Record | None:
        """The fastest of them, or None."""
        found = [record for record in self.records(task, target) if record.ok and record.median_ms is not None]
        return min(found, key=lambda record: record.median_ms or 0.0) if found else None

    def __len__(self) -> int:
        return sum(len(known) for known in self._records.values())

    def _add(self, records: Iterable[Record]) -> None:
        for record in records:
            known = self._records.setdefault((record.task.key, record.target), {})
            known[config_key(record.schedule, record.config)] = record


def config_key(schedule: str, config: Config) -> str:
    """Identifies one way to run a task: equal text for equal schedule and configuration."""
    return schedule + json.dumps(dict(config), sort_keys=True)


def _plain(value: Any) -> Any:
    """Tuples as lists, so that a record is equal to itself after a trip through JSON."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _stamped(record: Record) -> Record:
    if record.time:
        return record
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return Record(**{**{item.name: getattr(record, item.name) for item in fields(Record)}, "time": now})


def _writable(place: Path, device: str) -> Path:
    return place if place.suffix == ".jsonl" else place / f"{device}.jsonl"


def _files(place: Path) -> list[Path]:
    if place.is_dir():
        return sorted(place.glob("*.jsonl"))
    return [place] if place.is_file() else []


def _read(path: Path) -> list[Record]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError as error:
        raise UsageError(f"cannot read the tuning log {path}: {error.strerror}") from error
    records, bad = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            records.append(Record.from_json(json.loads(line)))
        except (ValueError, AttributeError) as error:  # json's error is a ValueError; a bare number has no get
            bad.append(f"line {number}: {error}")
    if bad:
        more = f", and {len(bad) - 1} more" if len(bad) > 1 else ""
        warnings.warn(f"tuning log {path}: left out what cannot be read ({bad[0]}{more})", stacklevel=4)
    return records


def _write(path: Path, text: str) -> None:
    """Append whole lines. A line that a crash or a full disk cut short before is ended first."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=_LOCK_S), open(path, "ab+") as file:
            end = file.seek(0, os.SEEK_END)
            if end:
                file.seek(end - 1)
                text = text if file.read(1) == b"\n" else "\n" + text
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
    except Timeout as error:
        raise UsageError(f"cannot write the tuning log {path}: another process holds its lock") from error
    except OSError as error:
        reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or str(error)
        raise UsageError(
            f"cannot write the tuning log {path}: {reason}; free some space or give another folder"
        ) from error
