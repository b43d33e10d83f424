"""One measurement: the task, the kernel, the device, the time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timezone
from typing import Any, get_type_hints

from tesa.attributes.statistics import Statistics
from tesa.base.told import Untruthful, milliseconds, shown
from tesa.base.typed import reader
from tesa.records.task import Pattern, Task, plain
from tesa.schedules.types import Config

VERSION = 2
"""Version of the format that is written; FIRST and later ones are read."""

FIRST = 1

STAMP = "emitter"
"""The name under which a record's versions have the digest of the source files that emitted its code."""


@dataclass(frozen=True)
class Record:
    """A measurement. median_ms and min_ms are None where ok is False, and error says why.

    device: what is known of who measured, at least {"cpu": name}; see tesa.measure.device. code: the digest of the code
    that was measured, see tesa.build.digest; "" where it is not known. versions: of tesa and TVM. time: ISO 8601, UTC.
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
    code: str = ""

    @property
    def cpu(self) -> str:
        """LLVM's name of the CPU that measured, "" if it is not told."""
        return str(self.device.get("cpu", ""))

    @property
    def stamp(self) -> str:
        """The digest of the source files that emitted the code, "" if it is not told."""
        return self.versions.get(STAMP, "")

    @property
    def statistics(self) -> Statistics | None:
        """Statistics of the weight; None in a record from before there were any."""
        return self.task.pattern.statistics

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and lists, as a line of the log has them: without the statistics, which stand once a weight.

        ValueError if it is not a record that could be read again.
        """
        self._check()
        return {
            "v": VERSION,
            "task": self.task.to_json(),
            "target": self.target,
            "device": plain(self.device),
            "family": self.family,
            "config": dict(self.config),
            "median_ms": self.median_ms,
            "min_ms": self.min_ms,
            "ok": self.ok,
            "error": self.error.encode("utf-8", "replace").decode(),
            "versions": dict(self.versions),
            "time": self.time,
            "code": self.code,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any], statistics: Statistics | None = None) -> Record:
        """The inverse of to_json, with the statistics of its weight. ValueError if it is not a record."""
        version = data.get("v")
        if version not in range(FIRST, VERSION + 1):
            raise ValueError(f"version {version!r} of the format, expected {FIRST} to {VERSION}")
        data = upgraded(data)
        try:
            task = dict(data["task"])
            task["pattern"] = Pattern(**{**task["pattern"], "statistics": statistics})
            record = Record(task=Task(**task), **_facts(data))
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"not a record: {error}") from error
        if record.ok and record.median_ms is None:
            raise ValueError("no median_ms, although ok")
        return record

    def _check(self) -> None:
        checked_config(self.config)
        if self.ok and self.median_ms is None:
            raise ValueError("no median_ms, although ok")
        for time in (self.median_ms, self.min_ms):
            if time is not None:
                milliseconds(time, "a record")


@dataclass(frozen=True)
class _Facts:
    """The kinds of what stands in a record beside its task."""

    target: str
    device: Mapping[str, Any]
    family: str
    config: Mapping[str, int]
    median_ms: float | None
    min_ms: float | None
    ok: bool = True
    error: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    time: str = ""
    code: str = ""


def _facts(data: Mapping[str, Any]) -> dict[str, Any]:
    """What stands in a record beside its task, each of its kind. Raises Untruthful; what is missing is left out.

    A look-up reads thousands of records: so there is one object of each, and no second one for the check.
    """
    found: dict[str, Any] = {}
    name = ""
    try:
        for name, read in _READERS.items():
            if name in data:
                found[name] = read(data[name])
    except Untruthful as error:
        raise Untruthful(f"{name}: {error}") from None
    return found


def _config(value: Any) -> Config:
    """A configuration that was read, checked as checked_config does; whole numbers are no booleans."""
    if type(value) is dict and bool not in map(type, value.values()):
        return checked_config(value)
    raise Untruthful(f"{shown(value)} in the place of a configuration")


def _time(value: Any) -> float | None:
    return None if value is None else milliseconds(value, "a record")


_READERS: dict[str, Callable[[Any], Any]] = {
    **{name: reader(kind) for name, kind in get_type_hints(_Facts).items()},
    "config": _config, "median_ms": _time, "min_ms": _time,
}  # fmt: skip


def checked_config(config: Config) -> Config:
    """A configuration as a family may have one: whole numbers by name. ValueError for anything else."""
    if not isinstance(config, Mapping) or len(config) > _MOST:
        raise ValueError(f"not a record: {shown(config)} in the place of a configuration")
    for name, value in config.items():
        if not isinstance(value, int) or abs(value) > _LARGEST or len(name) > _LONGEST:
            raise ValueError(f"not a record: a configuration has {shown(name)}: {shown(value)}")
    return config


_MOST, _LARGEST, _LONGEST = 256, 1 << 31, 200  # of the entries of a configuration
_NAMES = tuple(item.name for item in fields(Record))


def upgraded(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """The data of a record with the names of the present version; of an older one the digest of the code is unknown."""
    if data.get("v") == VERSION:
        return data
    there = {**data, "v": VERSION, "code": ""}
    if "schedule" in data and "family" not in data:
        there["family"] = data["schedule"]
    return {name: there[name] for name in ("v", *_NAMES) if name in there}


def dated(record: Record) -> Record:
    """The record with the time of now, where it tells none."""
    if record.time:
        return record
    return replace(record, time=datetime.now(timezone.utc).isoformat(timespec="seconds"))
