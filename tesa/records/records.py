"""What one measurement is: the task, how it was computed, on what, how long it took."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime, timezone
from functools import cached_property, lru_cache
from typing import Any

from tesa.attributes.statistics import Statistics, statistics_of
from tesa.attributes.zeros import zeros_of
from tesa.records.sources import sources
from tesa.schedules.types import Config, FloatArray, Problem

VERSION = 1
"""Of the format. A record of another version is left out, with a warning."""


@dataclass(frozen=True)
class Pattern:
    """Which weight it was. kind is for the reader; digest identifies values and places.

    statistics say which other weights are like it; None in records from before there were any. They take no part in
    a comparison: the digest says it all.
    """

    kind: str
    sparsity: float
    digest: str
    statistics: Statistics | None = field(default=None, compare=False)


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
        window = None if problem.window is None else plain(asdict(problem.window))
        zeros = zeros_of(weight)
        known = statistics_of(zeros)
        pattern = Pattern(known.kind, known.sparsity, zeros.digest, known)
        return Task(
            problem.op, problem.m, problem.k, problem.n, problem.batch, window, _dtype(problem),
            _epilogue(problem), problem.threads, pattern,
        )  # fmt: skip

    @cached_property
    def key(self) -> str:
        """16 hexadecimal digits that identify the task."""
        return key_of(self.shape, self.pattern.digest)

    @cached_property
    def shape(self) -> str:
        """Everything but the pattern, as canonical JSON: tasks that differ in their weight alone share it."""
        return canonical_shape(self._facts())

    def to_json(self) -> dict[str, Any]:
        """Plain data, without the statistics."""
        pattern = {"kind": self.pattern.kind, "sparsity": self.pattern.sparsity, "digest": self.pattern.digest}
        return {**self._facts(), "pattern": pattern}

    def _facts(self) -> dict[str, Any]:
        facts = {name: getattr(self, name) for name in _SHAPE}
        return {**facts, "window": plain(self.window), "epilogue": plain(self.epilogue)}


_SHAPE = tuple(item.name for item in fields(Task) if item.name != "pattern")


def canonical_shape(facts: Mapping[str, Any]) -> str:
    """The text that Task.shape is, of the facts of a task without its pattern. KeyError if one is missing."""
    return json.dumps({name: facts[name] for name in _SHAPE}, sort_keys=True)


def key_of(shape: str, weight_digest: str) -> str:
    """The key of the task with that Task.shape and that digest of its weight."""
    head, tail = _around(shape)
    return hashlib.sha256((head + json.dumps(weight_digest) + tail).encode()).hexdigest()[:16]


@lru_cache(maxsize=4096)
def _around(shape: str) -> tuple[str, str]:
    """The text before and after the digest in what a key is the hash of."""
    mark = "\0"
    head, tail = json.dumps({**json.loads(shape), "pattern": mark}, sort_keys=True).split(json.dumps(mark))
    return head, tail


def _dtype(problem: Problem) -> str:
    """Words for what differs from the usual only, so that older tasks keep their keys."""
    words = [problem.dtype]
    if problem.storage != "float32":
        words.append(f"weights {problem.storage}")
    if problem.alignment != 64:
        words.append(f"X at {problem.alignment} bytes")
    return ", ".join(words)


def _epilogue(problem: Problem) -> dict[str, Any]:
    """What follows the sum. What belongs to int8 alone is left out elsewhere: float32 tasks keep their keys."""
    facts = asdict(problem.epilogue)
    if problem.dtype == "float32":
        del facts["scale"]
        return facts
    return {**facts, "x_zero": problem.x_zero, "output": asdict(problem.output)}


@dataclass(frozen=True)
class Record:
    """One measurement. median_ms and min_ms are None where ok is False, and error says why.

    device: what is known of who measured, at least {"cpu": name}; see tesa.measure.device. time: ISO 8601, in UTC.
    versions: of what made the kernel; "kernels" is a digest of the code that did, see tesa.records.sources.
    """

    task: Task
    target: str
    device: Mapping[str, Any]
    family: str
    config: Config
    median_ms: float | None
    min_ms: float | None
    ok: bool = True
    error: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    time: str = ""

    @property
    def current(self) -> bool:
        """True where it is of the kernels as they are now. Records that do not tell, as older ones, are of others."""
        return self.versions.get("kernels") == sources()

    @property
    def statistics(self) -> Statistics | None:
        """Of the weight; None in a record from before there were any."""
        return self.task.pattern.statistics

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and lists, with the version of the format first.

        The order of the names is what lines.py scans for; the statistics stand last, where readers from before
        there were any do not mind them.
        """
        data = {
            "v": VERSION,
            "task": self.task.to_json(),
            "target": self.target,
            "device": plain(self.device),
            "family": self.family,
            "config": dict(self.config),
            "median_ms": self.median_ms,
            "min_ms": self.min_ms,
            "ok": self.ok,
            "error": self.error,
            "versions": dict(self.versions),
            "time": self.time,
        }
        return data if self.statistics is None else {**data, "statistics": self.statistics.to_json()}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Record:
        """The inverse of to_json. ValueError if it is not a record of this version."""
        if data.get("v") != VERSION:
            raise ValueError(f"version {data.get('v')!r} of the format, expected {VERSION}")
        try:
            task = dict(data["task"])
            found = data.get("statistics")
            statistics = None if found is None else Statistics.from_json(found)
            task["pattern"] = Pattern(**{**task["pattern"], "statistics": statistics})
            rest = {_OLD_NAMES.get(name, name): value for name, value in data.items()}
            rest = {name: value for name, value in rest.items() if name in _NAMES}
            record = Record(**{**rest, "task": Task(**task)})
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a record: {error}") from error
        if record.ok and not _is_time(record.median_ms):
            raise ValueError("no median_ms, although ok")
        return record


_NAMES = frozenset(item.name for item in fields(Record))
_OLD_NAMES = {"schedule": "family"}  # as logs of tesa 0.1 have them


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def stamped(record: Record) -> Record:
    """The record with the time of now and the digest of the kernels as they are, where it tells none."""
    if "kernels" not in record.versions:
        record = replace(record, versions={**record.versions, "kernels": sources()})
    if record.time:
        return record
    return replace(record, time=datetime.now(timezone.utc).isoformat(timespec="seconds"))


def plain(value: Any) -> Any:
    """Tuples as lists, so that a record is equal to itself after a trip through JSON."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value
