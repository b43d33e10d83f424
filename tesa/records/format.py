"""The lines of a log: a record, or the statistics of a weight, which stand once before the first record of it.

A log has a hundred thousand records and a look-up wants ten of them. So a line is read once for the index, which keeps
the line and what it sorts by, and a second time when its record is asked for. Lines of the first version, which had the
statistics in every record, become those of the present one as they are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

from tesa.attributes.statistics import Statistics
from tesa.base.told import DEEPEST, milliseconds, shallow, shown
from tesa.base.told import line as told_line
from tesa.records.record import FIRST, VERSION, Record, checked_config, upgraded
from tesa.records.task import canonical_shape, checked_shape, key_of
from tesa.schedules.types import config_key


@dataclass(frozen=True)
class WeightLine:
    """The line that has the statistics of a weight. offset: where it begins in the file."""

    digest: str
    offset: int


@dataclass(frozen=True)
class Unreadable:
    """A line that cannot be read, and why. other_version: because a newer tesa has written it, so that it is kept."""

    line: bytes
    number: int
    why: str
    other_version: bool


@dataclass(slots=True, eq=False)
class IndexEntry:
    """A record as the index has it. shape: Task.shape; digest: of the weight; option: config_key; code: Record.code."""

    line: bytes
    shape: str
    kind: str
    sparsity: float
    digest: str
    target: str
    cpu: str
    option: str
    median_ms: float | None
    ok: bool
    time: str
    code: str
    weights: Mapping[str, Statistics]

    @staticmethod
    def of(record: Record) -> IndexEntry:
        """The entry of a record that is in no file. ValueError for a record that could not be read again."""
        known = record.statistics
        weights = {} if known is None else {record.task.pattern.digest: known}
        data = record.to_json()
        return _entry(data, orjson.dumps(data, option=orjson.OPT_NON_STR_KEYS), weights)

    @property
    def record(self) -> Record:
        """The record, read from its line. ValueError if the line turns out to be none."""
        return Record.from_json(orjson.loads(self.line), self.statistics)

    @property
    def statistics(self) -> Statistics | None:
        """Statistics of the weight; None where its file has none."""
        return self.weights.get(self.digest)

    @property
    def key(self) -> str:
        """The key of the task."""
        return key_of(self.shape, self.digest)


def scan(data: bytes) -> Iterator[IndexEntry | WeightLine | Unreadable]:
    """The content of each line of a file, in their order; blank lines are passed over."""
    weights: dict[str, Statistics] = {}
    offset = 0
    for number, line in enumerate(data.split(b"\n"), 1):
        if line and not line.isspace():
            yield _read(line, number, offset, weights)
        offset += len(line) + 1


def encoded(entries: Iterable[IndexEntry | Unreadable], described: Iterable[str] = ()) -> Iterator[bytes]:
    """The lines of a file, each with its end: before the first record of a weight those with its statistics.

    described: digests of weights whose statistics are there already.
    """
    there = set(described)
    for entry in entries:
        if isinstance(entry, IndexEntry) and entry.digest not in there and entry.statistics is not None:
            there.add(entry.digest)
            facts = {"v": VERSION, "weight": entry.digest, "statistics": entry.statistics.to_json()}
            yield orjson.dumps(facts) + b"\n"
        yield entry.line + b"\n"


def head_of(digest: str) -> bytes:
    """The bytes with which the line of a weight's statistics begins."""
    return orjson.dumps({"v": VERSION, "weight": digest})[:-1] + b","


def _read(
    line: bytes, number: int, offset: int, weights: dict[str, Statistics]
) -> IndexEntry | WeightLine | Unreadable:
    try:
        data = orjson.loads(line)
        if not isinstance(data, dict):
            raise ValueError("not a record: no JSON object")
        if line.count(b"{") + line.count(b"[") > DEEPEST:  # a record has a dozen of them
            shallow(data)
        version = data.get("v")
        if version is not None and version not in range(FIRST, VERSION + 1):
            why = f"version {shown(version)} of the format; this tesa reads versions {FIRST} to {VERSION}"
            return Unreadable(line, number, why, other_version=True)
        if "weight" in data:
            digest = _text(data["weight"])
            weights[digest] = Statistics.from_json(data["statistics"])
            return WeightLine(digest, offset)
        if data["v"] != VERSION:
            digest, statistics = data["task"]["pattern"]["digest"], data.get("statistics")
            if statistics is not None and digest not in weights:
                weights[digest] = Statistics.from_json(statistics)
            data = dict(upgraded(data))
            line = orjson.dumps(data)
        return _entry(data, line, weights)
    except KeyError as error:
        return Unreadable(line, number, f"not a record: {error} is missing", other_version=False)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:  # orjson's error is a ValueError
        return Unreadable(line, number, told_line(str(error)), other_version=False)


def _entry(data: Mapping[str, Any], line: bytes, weights: Mapping[str, Statistics]) -> IndexEntry:
    """The entry of a line of the present version. KeyError, TypeError, AttributeError or ValueError if it is none."""
    task = dict(data["task"])
    pattern = task.pop("pattern")
    entry = IndexEntry(
        line=line,
        shape=_shape(orjson.dumps(task)),
        kind=_text(pattern["kind"]),
        sparsity=_share(pattern["sparsity"]),
        digest=_text(pattern["digest"]),
        target=_text(data["target"]),
        cpu=_text(data["device"].get("cpu", "")),
        option=_option(_text(data["family"]), orjson.dumps(data["config"])),
        median_ms=None if data["median_ms"] is None else milliseconds(data["median_ms"], "a record"),
        ok=_flag(data.get("ok", True)),
        time=_text(data.get("time", "")),
        code=_text(data.get("code", "")),
        weights=weights,
    )
    if entry.ok and entry.median_ms is None:
        raise ValueError("no median_ms, although ok")
    return entry


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"not a record: {shown(value)} in the place of a text")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"not a record: {shown(value)} in the place of true or false")
    return value


def _share(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise TypeError(f"not a record: {shown(value)} in the place of a sparsity")
    return float(value)


@lru_cache(maxsize=4096)
def _shape(task: bytes) -> str:
    return canonical_shape(checked_shape(orjson.loads(task)))


@lru_cache(maxsize=4096)
def _option(family: str, config: bytes) -> str:
    return config_key(family, checked_config(orjson.loads(config)))
