"""What was measured, as JSON lines: one file for each device, only ever appended to, safe for several writers."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
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
_DENIED = (errno.EACCES, errno.EPERM)
_FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}
_IN_THE_WAY = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR)
_ELSEWHERE = "give another folder with --log DIR (log=DIR in Python)"


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
            problem.op, problem.m, problem.k, problem.n, problem.batch, window, _dtype(problem),
            _epilogue(problem), problem.threads, pattern,
        )  # fmt: skip

    @property
    def key(self) -> str:
        """16 hexadecimal digits that identify the task."""
        facts = asdict(self)
        facts["pattern"] = self.pattern.digest
        return hashlib.sha256(json.dumps(_plain(facts), sort_keys=True).encode()).hexdigest()[:16]


def _dtype(problem: Problem) -> str:
    return problem.dtype if problem.storage == "float32" else f"{problem.dtype}, weights {problem.storage}"


def _epilogue(problem: Problem) -> dict[str, Any]:
    """What follows the sum. What belongs to int8 alone is left out elsewhere: float32 tasks keep their keys."""
    facts = asdict(problem.epilogue)
    if problem.dtype == "float32":
        del facts["scale"]
        return facts
    return {**facts, "x_zero": problem.x_zero, "output": asdict(problem.output)}


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

    def __init__(self, path: Path | None = None, *, optional: bool = False) -> None:
        """optional: where path cannot be written, warn once and go on in memory."""
        self.path = path
        self.optional = optional
        self._records: dict[tuple[str, str], dict[str, Record]] = {}

    @staticmethod
    def load(*places: str | Path, device: str | None = None, optional: bool = False) -> Log:
        """All records of the given folders (their *.jsonl files) and files, in this order; later ones count.

        device: name of the CPU that new records are for; they are appended to DEVICE.jsonl in the first place if that
        is a folder (it is made at the first record if there is none yet), or to the first place itself if that is a
        file ending in .jsonl. Without it nothing is written. Lines that cannot be read are left out with a warning.

        optional: for places that the user did not name: what cannot be read or written is told in a warning, once, and
        is no error. Otherwise it is a UsageError.
        """
        log = Log(_writable(Path(places[0]), device) if places and device else None, optional=optional)
        unreadable = ""
        for place in places:
            try:
                for path in _files(Path(place)):
                    log._add(_read(path))
            except UsageError as error:
                if not optional:
                    raise
                unreadable = unreadable or str(error)
        if unreadable:
            log._forget(unreadable)
        return log

    def append(self, records: Sequence[Record]) -> None:
        """Add records: in memory, and at the end of the file in one synced write.

        Raises UsageError, with what to do, if the file cannot be written; an optional log warns once instead.
        """
        stamped = [_stamped(record) for record in records]
        if self.path is not None and stamped:
            text = "".join(json.dumps(record.to_json(), allow_nan=False) + "\n" for record in stamped)
            try:
                _write(self.path, text)
            except UsageError as error:
                if not self.optional:
                    raise
                self._forget(str(error))
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

    def _forget(self, why: str) -> None:
        """Write nothing from now on. The path is gone with it, so that this is said once."""
        self.path = None
        warnings.warn(f"{why}; what is measured now is not remembered", stacklevel=4)

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
    try:
        if place.is_dir():
            return sorted(place.glob("*.jsonl"))
        if not place.is_file():
            return []
    except OSError as error:  # a folder above it that may not be searched
        raise UsageError(f"cannot read the tuning log {place}: {error.strerror}; {_ELSEWHERE}") from error
    if place.suffix != ".jsonl":
        raise UsageError(
            f"cannot use the tuning log {place}: it is a file; give a folder, or a file whose name ends in .jsonl"
        )
    return [place]


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
    """Append whole lines. A line that a crash cut short before is ended first; what fails leaves nothing behind."""
    lock = path.with_name(f".{path.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = [item for item in (path, lock) if not item.exists()]
        try:
            with FileLock(lock, timeout=_LOCK_S):
                _append(path, text.encode())
        except OSError as error:
            for item in [] if isinstance(error, Timeout) else fresh:
                with suppress(OSError):  # perhaps it was never made
                    if item.stat().st_size == 0:
                        item.unlink()
            raise
    except Timeout as error:
        raise UsageError(f"cannot write the tuning log {path}: another process holds its lock; {_ELSEWHERE}") from error
    except OSError as error:
        raise UsageError(f"cannot write the tuning log {path}: {_advice(error, path)}") from error


def _append(path: Path, data: bytes) -> None:
    with open(path, "ab+", buffering=0) as file:  # a buffer would be written once more when the file is closed
        end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(end - 1)
            data = data if file.read(1) == b"\n" else b"\n" + data
        try:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
            os.fsync(file.fileno())
        except BaseException:
            with suppress(OSError):
                file.truncate(end)
            raise


def _advice(error: OSError, path: Path) -> str:
    """What is in the way, and what to do about exactly that."""
    folder = path.parent
    if error.errno in _FULL:
        return f"{_FULL[error.errno]}; free some space in {folder}, or {_ELSEWHERE}"
    if error.errno in _DENIED:
        return f"no permission to write in {folder}; change its permissions, or {_ELSEWHERE}"
    if error.errno == errno.EROFS:
        return f"{folder} is read-only; {_ELSEWHERE}"
    if error.errno in _IN_THE_WAY:
        wrong = next((item for item in reversed(path.parents) if item.exists() and not item.is_dir()), None)
        what = f"{wrong} exists and is a file" if wrong is not None else f"{path} exists and is a folder"
        return f"{what}; remove it, or {_ELSEWHERE}"
    return f"{error.strerror or error}; {_ELSEWHERE}"
