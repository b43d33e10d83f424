"""The lines of a log, indexed without reading them as JSON.

A log has a hundred thousand lines and a look-up wants ten of them. The lines that tesa writes have their names in one
order, so that one regular expression finds what an index needs; a line is only read as JSON when its record is asked
for. A line that looks otherwise (another writer, a nested device) is read at once, and means the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from tesa.records.records import VERSION, Record, canonical_shape, key_of
from tesa.schedules.types import config_key

_HEAD = b'{"v": %d, "task": ' % VERSION
_PATTERN = b', "pattern": {"kind": "'
_WORD = rb'"([^"\\]*)"'
_TEXT = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_NUMBER = rb"-?[0-9][0-9.eE+-]*"
_REST = re.compile(
    rb', "pattern": \{"kind": ' + _WORD + rb', "sparsity": (' + _NUMBER + rb'), "digest": ' + _WORD + rb"\}\}"
    rb', "target": ' + _WORD + rb', "device": (\{[^{}]*\})'
    rb', "(?:family|schedule)": ' + _WORD + rb', "config": (\{[^{}]*\})'
    rb', "median_ms": (null|' + _NUMBER + rb'), "min_ms": (?:null|' + _NUMBER + rb')'
    rb', "ok": (true|false), "error": ' + _TEXT + rb', "versions": (\{[^{}]*\}), "time": ' + _WORD +
    rb'(?:, "statistics": \{"kind": .*\})?\}'
)  # fmt: skip


class Entry:
    """One good line. shape: Task.shape; option: config_key; device, made: JSON text, made of the record's versions;
    line: empty if only in memory."""

    __slots__ = (
        "_record", "device", "digest", "kind", "line", "made", "median_ms", "ok", "option", "shape", "sparsity",
        "target", "time",
    )  # fmt: skip

    line: bytes
    shape: str
    kind: str
    sparsity: float
    digest: str
    target: str
    device: str
    made: str
    option: str
    median_ms: float | None
    ok: bool
    time: str
    _record: Record | None

    @staticmethod
    def of(record: Record, line: bytes = b"") -> Entry:
        """The entry of a record that is there already."""
        entry = Entry()
        pattern = record.task.pattern
        entry.line, entry._record = line, record
        entry.shape, entry.kind, entry.sparsity = record.task.shape, pattern.kind, pattern.sparsity
        entry.digest, entry.target, entry.time = pattern.digest, record.target, record.time
        entry.device, entry.made = json.dumps(record.device), json.dumps(dict(record.versions))
        entry.option = config_key(record.family, record.config)
        entry.median_ms, entry.ok = record.median_ms, record.ok
        return entry

    @property
    def parsed(self) -> bool:
        """True where the record is there already."""
        return self._record is not None

    @property
    def record(self) -> Record:
        """The record; read when it is first asked for. ValueError if the line turns out to be none."""
        if self._record is None:
            self._record = Record.from_json(json.loads(self.line))
        return self._record

    @property
    def has_statistics(self) -> bool:
        """True where the record carries the statistics of its weight."""
        if self._record is not None:
            return self._record.statistics is not None
        return b', "statistics": {' in self.line

    @property
    def key(self) -> str:
        """Of the task."""
        return key_of(self.shape, self.digest)

    @property
    def cpu(self) -> str:
        """LLVM's name of the CPU that measured, "" if it is not told."""
        return _word(self.device, "cpu")

    @property
    def kernels(self) -> str:
        """Digest of the code that made the kernel, see tesa.records.sources; "" in older records."""
        return _word(self.made, "kernels")


@lru_cache(maxsize=4096)
def _word(text: str, name: str) -> str:
    """A value of an object that is JSON text; "" if there is none."""
    try:
        found = json.loads(text)
    except ValueError:
        return ""
    return str(found.get(name, "")) if isinstance(found, dict) else ""


@dataclass(frozen=True)
class Odd:
    """A line that holds no record of this version, and why. foreign: it is one of another version."""

    line: bytes
    number: int
    why: str
    foreign: bool


def scan(data: bytes) -> Iterator[Entry | Odd]:
    """What the lines of a file hold, in their order; blank lines are passed over."""
    reader = _Reader()
    for number, line in enumerate(data.split(b"\n"), 1):
        if line and not line.isspace():
            entry = reader.quick(line)
            yield _read(line, number) if entry is None else entry


class _Reader:
    """Reads what the index needs; texts that come again and again are read once."""

    def __init__(self) -> None:
        self.shapes: dict[bytes, str] = {}
        self.options: dict[tuple[bytes, bytes], str] = {}
        self.texts: dict[bytes, str] = {}
        self.shares: dict[bytes, float] = {}

    def quick(self, line: bytes) -> Entry | None:
        """The entry of a line as tesa writes it, or None."""
        middle = line.find(_PATTERN)
        found = _REST.fullmatch(line, middle) if middle > 0 and line.startswith(_HEAD) else None
        if found is None:
            return None
        kind, share, digest, target, device, family, config, median, ok, made, time = found.groups()
        entry = Entry()
        entry.line, entry._record = line, None
        entry.ok = ok == b"true"
        try:
            entry.shape = self._shape(line[len(_HEAD) : middle])
            entry.option = self._option(family, config)
            entry.sparsity = self._share(share)
            entry.kind, entry.target, entry.device = self._text(kind), self._text(target), self._text(device)
            entry.made = self._text(made)
            entry.digest, entry.time = digest.decode(), time.decode()
            entry.median_ms = None if median == b"null" else float(median)
        except (ValueError, KeyError, TypeError, AttributeError):  # no number, no UTF-8, not these names, no object
            return None
        return None if entry.ok and entry.median_ms is None else entry

    def _shape(self, text: bytes) -> str:
        if text not in self.shapes:
            self.shapes[text] = canonical_shape(json.loads(text + b"}"))
        return self.shapes[text]

    def _option(self, family: bytes, config: bytes) -> str:
        pair = (family, config)
        if pair not in self.options:
            self.options[pair] = config_key(family.decode(), json.loads(config))
        return self.options[pair]

    def _share(self, text: bytes) -> float:
        if text not in self.shares:
            self.shares[text] = float(text)
        return self.shares[text]

    def _text(self, text: bytes) -> str:
        if text not in self.texts:
            self.texts[text] = text.decode()
        return self.texts[text]


def _read(line: bytes, number: int) -> Entry | Odd:
    """The long way: as JSON."""
    try:
        data = json.loads(line)
        if not isinstance(data, dict):
            raise ValueError("not a record: no JSON object")
        version = data.get("v")
        if version is not None and version != VERSION:
            why = f"version {version!r} of the format; this tesa reads version {VERSION}"
            return Odd(line, number, why, foreign=True)
        return Entry.of(Record.from_json(data), line)
    except (ValueError, TypeError, AttributeError) as error:  # json's error is a ValueError; the rest: wrong types
        return Odd(line, number, str(error), foreign=False)
