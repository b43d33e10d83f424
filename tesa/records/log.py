"""The log: what was measured, in memory and in files that are only ever appended to, safe for several writers.

A record is looked up by its task, and read only then. What a record is stands in tesa.records.record, which weights are
alike in tesa.attributes.statistics, how files are written in tesa.records.files; lookup.py finds the best that is known
of a task, or of the nearest one; validity.py says which records are of the code of today.
"""

from __future__ import annotations

import heapq
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tesa.errors import UsageError
from tesa.records import files
from tesa.records.format import IndexEntry, Unreadable, WeightLine, encoded, head_of, scan
from tesa.records.index import ShapeIndex, of_one_cpu
from tesa.records.record import VERSION, Record, dated
from tesa.records.task import Pattern, Task
from tesa.records.validity import Emitted, valid
from tesa.schedules.types import config_key

__all__ = ["VERSION", "Log", "Pattern", "Record", "Task", "config_key"]


class Log:
    """Records in memory, and the file that new ones are appended to.

    >>> import numpy as np
    >>> from tesa.schedules.types import Problem
    >>> log = Log()
    >>> task = Task.of(Problem("linear", 2, 2, 4, (1, 2, 4), (1, 2, 4)), np.eye(2, dtype=np.float32))
    >>> log.append([Record(task, "x86:haswell", {"cpu": "haswell"}, "dense", {"rows": 4}, 0.5, 0.4)])
    >>> log.best(task, "x86:haswell").family
    'dense'
    """

    def __init__(self, path: Path | None = None, *, optional: bool = False) -> None:
        """optional: where path cannot be written, warn once and go on in memory."""
        self.path = path
        self.optional = optional
        self._shapes: dict[tuple[str, str], ShapeIndex] = {}
        self._described: dict[str, int] = {}  # where in the file at path the statistics of a weight stand

    @staticmethod
    def load(*places: str | Path, device: str | None = None, optional: bool = False) -> Log:
        """All records of the given folders (their *.jsonl files) and files, in this order; later ones count.

        device: name of the CPU that new records are for; they are appended to DEVICE.jsonl in the first place if that
        is a folder (it is made at the first record if there is none yet), or to the first place itself if that is a
        file ending in .jsonl. Without it nothing is written. Lines that cannot be read are left out with a warning.

        optional: for places that the user did not name: what cannot be read or written is told in a warning, once, and
        is no error. Otherwise it is a UsageError.
        """
        log = Log(files.writable(Path(places[0]), device) if places and device else None, optional=optional)
        unreadable = ""
        for place in _last_of_each(places):
            try:
                for path in files.files(place):
                    log._read(path)
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
        entries = [IndexEntry.of(dated(record)) for record in records]
        if self.path is not None and entries:
            try:
                self._write(self.path, entries)
            except UsageError as error:
                if not self.optional:
                    raise
                self._forget(str(error))
        self._add(entries)

    def records(
        self,
        task: Task,
        target: str,
        cpus: Sequence[str] | None = None,
        emitted: Emitted | None = None,
    ) -> tuple[Record, ...]:
        """What is known of exactly this task on this target: the last record of each family and configuration.

        All are of one CPU: the first of cpus (by default only this machine's) that has any, else another one, of which
        only times count. emitted: the code that families emit today; with it only records of that code, of a CPU that
        has any. See validity.py.
        """
        found: Sequence[Record] = self.all_records(task, target)
        while emitted is not None and found:
            one = of_one_cpu(found, cpus)
            kept = valid(one, emitted)
            if kept or not one:
                return tuple(kept)
            found = [record for record in found if record.cpu != one[0].cpu]
        return tuple(of_one_cpu(found, cpus))

    def all_records(self, task: Task, target: str) -> tuple[Record, ...]:
        """The records of a task of every CPU and of whatever code."""
        read = map(self.record, self.index_of(task, target).of(task.pattern.digest))
        return tuple(record for record in read if record is not None)

    def best(self, task: Task, target: str, cpus: Sequence[str] | None = None) -> Record | None:
        """The fastest of records(), or None."""
        return next(iter(self.fastest(task.pattern.digest, self.index_of(task, target), 1, cpus)), None)

    def fastest(
        self, weight_digest: str, index: ShapeIndex, limit: int, cpus: Sequence[str] | None = None
    ) -> tuple[Record, ...]:
        """At most limit records of one weight, the fastest first, all of one CPU; those that failed are left out."""
        known = enumerate(index.timed_by(weight_digest, cpus))
        timed = [(entry.median_ms, i, entry) for i, entry in known if entry.median_ms is not None]
        found: list[Record] = []
        for count in (limit, len(timed)):  # all of them only if one of the first turns out to be damaged
            read = (self.record(entry) for _, _, entry in heapq.nsmallest(count, timed))
            found = [record for record in read if record is not None]
            if len(found) >= min(limit, len(timed)):
                break
        return tuple(found[:limit])

    def index_of(self, task: Task, target: str) -> ShapeIndex:
        """What is known of all weights of this task's shape on this target."""
        return self._shapes.get((task.shape, target)) or ShapeIndex()

    def record(self, entry: IndexEntry) -> Record | None:
        """The record of an entry; None, with a warning, if its line turns out to be damaged."""
        try:
            return entry.record
        except (ValueError, AttributeError) as error:
            warnings.warn(f"tuning log: left out a damaged record ({error})", stacklevel=3)
            return None

    def entries(self) -> Iterator[IndexEntry]:
        """Every record that counts, as the index has it."""
        for index in self._shapes.values():
            for known in index.entries.values():
                yield from known.values()

    def __len__(self) -> int:
        return sum(len(known) for index in self._shapes.values() for known in index.entries.values())

    def _forget(self, why: str) -> None:
        """Write nothing from now on. The path is gone with it, so that this is said once."""
        self.path = None
        warnings.warn(f"{why}; what is measured now is not remembered", stacklevel=4)

    def _write(self, path: Path, entries: Sequence[IndexEntry]) -> None:
        """Append records; the statistics of a weight only where the file does not have them: it may be another now."""
        known = {entry.digest: self._described.get(entry.digest) for entry in entries}
        with files.locked(path):
            there = {d for d, offset in known.items() if offset is not None and files.has(path, head_of(d), offset)}
            lines = list(encoded(entries, there))
            offset = files.append_locked(path, b"".join(lines))
        for line in lines:
            self._described.update((digest, offset) for digest in known if line.startswith(head_of(digest)))
            offset += len(line)

    def _read(self, path: Path) -> None:
        own = self.path is not None and path == self.path
        self._add(read_entries(path, described=self._described if own else None, stacklevel=4))

    def _add(self, entries: Iterable[IndexEntry]) -> None:
        for entry in entries:
            index = self._shapes.get((entry.shape, entry.target))
            if index is None:
                index = self._shapes[entry.shape, entry.target] = ShapeIndex()
            index.put(entry)


def read_entries(path: Path, *, described: dict[str, int] | None = None, stacklevel: int = 2) -> Iterator[IndexEntry]:
    """The records of one file, in its order. What cannot be read is told in one warning, at the end.

    described: gets the places of the weights' statistics in the file, by digest.
    """
    bad = []
    for found in scan(files.read(path)):
        if isinstance(found, IndexEntry):
            yield found
        elif isinstance(found, Unreadable):
            bad.append(f"line {found.number}: {found.why}")
        elif isinstance(found, WeightLine) and described is not None:
            described[found.digest] = found.offset
    if bad:
        more = f", and {len(bad) - 1} more" if len(bad) > 1 else ""
        warnings.warn(f"tuning log {path}: left out what cannot be read ({bad[0]}{more})", stacklevel=stacklevel)


def _last_of_each(places: Sequence[str | Path]) -> list[Path]:
    """Each place once, where it stands last: what was read of it before would be replaced by itself."""
    last = {os.path.realpath(place): index for index, place in enumerate(places)}
    return [Path(places[index]) for index in sorted(last.values())]
