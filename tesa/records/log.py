"""What was measured, as JSON lines: one file for each device, only ever appended to, safe for several writers.

A record is looked up by its task; its line is read as JSON only then. What a record is stands in tesa.records.records,
which weights are alike in tesa.attributes.statistics, how files are written in tesa.records.store; lookup.py finds the
best that is known of a task, or of the nearest one.
"""

from __future__ import annotations

import heapq
import json
import math
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from tesa.errors import UsageError
from tesa.records import store
from tesa.records.lines import Entry, scan
from tesa.records.records import VERSION, Pattern, Record, Task, stamped
from tesa.records.sources import sources
from tesa.schedules.types import config_key
from tesa.targets.target import host_cpu

__all__ = ["VERSION", "Log", "Pattern", "Record", "Shelf", "Task", "config_key"]

_STEP = math.log(1.05)  # between two bins of density


class Shelf:
    """The entries of all weights of one shape on one target: by digest, then by CPU and config_key.

    Of two the later one counts; those of two CPUs are two, whose times have nothing to do with each other. timed: the
    CPUs that have a time, by digest.
    """

    def __init__(self) -> None:
        self.entries: dict[str, dict[tuple[str, str], Entry]] = {}
        self.timed: dict[str, set[str]] = {}
        self._bins: dict[int, dict[str, list[str]]] = {}

    def put(self, entry: Entry) -> None:
        """Add an entry, in the place of an earlier one of the same weight, CPU and configuration."""
        known = self.entries.get(entry.digest)
        if known is None:
            known = self.entries[entry.digest] = {}
            self._bins.setdefault(_bin(entry.sparsity), {}).setdefault(entry.kind, []).append(entry.digest)
        cpu = entry.cpu
        known[cpu, entry.option] = entry
        if entry.ok:
            self.timed.setdefault(entry.digest, set()).add(cpu)

    def of(self, weight_digest: str, cpus: Sequence[str] | None, *, timed: bool = False) -> list[Entry]:
        """What counts of one weight for a machine: the entries of the first of cpus that has any.

        Failures of other kernels than those of now count for nothing. Where none of cpus has any, the times of another
        CPU, the one that measured last; what failed there says nothing. timed: only those that have a time.
        """
        if timed and len(self.timed.get(weight_digest, ())) < 2:  # to ask for this machine's CPU would load LLVM
            return [entry for entry in self.entries.get(weight_digest, {}).values() if entry.ok]
        cpus = (*own_cpus(cpus), "")  # a record that does not tell its CPU is taken for one of this machine
        by: dict[str, list[Entry]] = {}
        for (cpu, _), entry in self.entries.get(weight_digest, {}).items():
            if entry.ok or (cpu in cpus and not timed and entry.kernels == sources()):
                by.setdefault(cpu, []).append(entry)
        own = next((by[cpu] for cpu in cpus if cpu in by), None)
        if own is not None or not by:
            return own or []
        return max(by.values(), key=lambda entries: max(entry.time for entry in entries))

    def near(self, kind: str, sparsity: float, reach: float) -> Iterator[str]:
        """The digests of weights whose density differs by no more than reach, a logarithm of ratio, or a little more.

        Those of the same kind first, the nearest density first, the last measured first.
        """
        middle, steps = _bin(sparsity), math.ceil(reach / _STEP)
        order = sorted(range(middle - steps, middle + steps + 1), key=lambda number: abs(number - middle))
        bins = [self._bins[number] for number in order if number in self._bins]
        same = (reversed(group.get(kind, ())) for group in bins)
        others = (reversed(found) for group in bins for name, found in group.items() if name != kind)
        return chain.from_iterable(chain(same, others))


def _bin(sparsity: float) -> int:
    """Densities of one bin differ by a few percent."""
    return round(math.log(max(1.0 - sparsity, 1e-9)) / _STEP)


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
        self.parsed = 0
        """How many lines have been read as JSON."""
        self._shelves: dict[tuple[str, str], Shelf] = {}

    @staticmethod
    def load(*places: str | Path, device: str | None = None, optional: bool = False) -> Log:
        """All records of the given folders (their *.jsonl files) and files, in this order; later ones count.

        device: name of the CPU that new records are for; they are appended to DEVICE.jsonl in the first place if that
        is a folder (it is made at the first record if there is none yet), or to the first place itself if that is a
        file ending in .jsonl. Without it nothing is written. Lines that cannot be read are left out with a warning.

        optional: for places that the user did not name: what cannot be read or written is told in a warning, once, and
        is no error. Otherwise it is a UsageError.
        """
        log = Log(store.writable(Path(places[0]), device) if places and device else None, optional=optional)
        unreadable = ""
        for place in _last_of_each(places):
            try:
                for path in store.files(place):
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
        fresh = [stamped(record) for record in records]
        if self.path is not None and fresh:
            text = "".join(json.dumps(record.to_json(), allow_nan=False) + "\n" for record in fresh)
            try:
                store.append(self.path, text.encode())
            except UsageError as error:
                if not self.optional:
                    raise
                self._forget(str(error))
        self._add(Entry.of(record) for record in fresh)

    def records(self, task: Task, target: str, cpus: Sequence[str] | None = None) -> tuple[Record, ...]:
        """What is known of exactly this task on this target: the last record of each family and configuration.

        All are of one CPU: the first of cpus (by default only this machine's) that has any, else another one, of which
        only times count. What failed with other kernels than those of now is left out.
        """
        return self._read_all(self.shelf(task, target).of(task.pattern.digest, cpus))

    def all_records(self, task: Task, target: str) -> tuple[Record, ...]:
        """The same of every CPU and of all kernels."""
        return self._read_all(self.shelf(task, target).entries.get(task.pattern.digest, {}).values())

    def best(self, task: Task, target: str, cpus: Sequence[str] | None = None) -> Record | None:
        """The fastest of records(), or None."""
        return next(iter(self.fastest(task.pattern.digest, self.shelf(task, target), 1, cpus)), None)

    def fastest(
        self, weight_digest: str, shelf: Shelf, limit: int, cpus: Sequence[str] | None = None
    ) -> tuple[Record, ...]:
        """At most limit records of one weight, the fastest first, all of one CPU; those that failed are left out."""
        known = enumerate(shelf.of(weight_digest, cpus, timed=True))
        timed = [(entry.median_ms, i, entry) for i, entry in known if entry.ok and entry.median_ms is not None]
        found: list[Record] = []
        for count in (limit, len(timed)):  # all of them only if one of the first turns out to be damaged
            read = (self.record(entry) for _, _, entry in heapq.nsmallest(count, timed))
            found = [record for record in read if record is not None]
            if len(found) >= min(limit, len(timed)):
                break
        return tuple(found[:limit])

    def shelf(self, task: Task, target: str) -> Shelf:
        """What is known of all weights of this task's shape on this target."""
        return self._shelves.get((task.shape, target)) or Shelf()

    def record(self, entry: Entry) -> Record | None:
        """The record of an entry; None, with a warning, if its line turns out to be damaged."""
        if entry.parsed:
            return entry.record
        self.parsed += 1
        try:
            return entry.record
        except (ValueError, AttributeError) as error:
            warnings.warn(f"tuning log: left out a damaged record ({error})", stacklevel=3)
            return None

    def entries(self) -> Iterator[Entry]:
        """Every entry that counts."""
        for shelf in self._shelves.values():
            for known in shelf.entries.values():
                yield from known.values()

    def __len__(self) -> int:
        return sum(len(known) for shelf in self._shelves.values() for known in shelf.entries.values())

    def _read_all(self, entries: Iterable[Entry]) -> tuple[Record, ...]:
        return tuple(record for record in map(self.record, entries) if record is not None)

    def _forget(self, why: str) -> None:
        """Write nothing from now on. The path is gone with it, so that this is said once."""
        self.path = None
        warnings.warn(f"{why}; what is measured now is not remembered", stacklevel=4)

    def _read(self, path: Path) -> None:
        self._add(read_entries(path, stacklevel=4))

    def _add(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self._put(entry)

    def _put(self, entry: Entry) -> None:
        shelf = self._shelves.get((entry.shape, entry.target))
        if shelf is None:
            shelf = self._shelves[entry.shape, entry.target] = Shelf()
        shelf.put(entry)


def own_cpus(cpus: Sequence[str] | None) -> Sequence[str]:
    """By default this machine's."""
    return (host_cpu(),) if cpus is None else cpus


def read_entries(path: Path, *, stacklevel: int = 2) -> Iterator[Entry]:
    """The entries of one file, in its order. What cannot be read is told in one warning, at the end."""
    odd = []
    for found in scan(store.read(path)):
        if isinstance(found, Entry):
            yield found
        else:
            odd.append(f"line {found.number}: {found.why}")
    if odd:
        more = f", and {len(odd) - 1} more" if len(odd) > 1 else ""
        warnings.warn(f"tuning log {path}: left out what cannot be read ({odd[0]}{more})", stacklevel=stacklevel)


def _last_of_each(places: Sequence[str | Path]) -> list[Path]:
    """Each place once, where it stands last: what was read of it before would be replaced by itself."""
    last = {os.path.realpath(place): index for index, place in enumerate(places)}
    return [Path(places[index]) for index in sorted(last.values())]
