"""Sums up, merges and prunes whole log files. Nothing that this version cannot read is destroyed."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from functools import lru_cache
from pathlib import Path

from tesa.errors import UsageError
from tesa.records import files
from tesa.records.format import IndexEntry, Unreadable, WeightLine, encoded, scan

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_NEVER = datetime.min.replace(tzinfo=timezone.utc)

Identity = tuple[str, str, str, str, str]
"""Task.shape, digest, target, device and configuration: of two records that agree in them the later one counts."""


@dataclass(frozen=True)
class Summary:
    """One file. records: all that can be read; tasks: different ones on each target; first, last: ISO times or "".

    other_versions: lines of a newer version of the format; unreadable: lines that are no record, torn ones for example.
    without_code: records that do not tell which code was measured, as those of tesa 0.1.
    """

    path: Path
    bytes: int
    records: int
    tasks: int
    devices: tuple[str, ...]
    targets: tuple[str, ...]
    first: str
    last: str
    failed: int
    other_versions: int
    unreadable: int
    without_code: int = 0

    @property
    def failed_share(self) -> float:
        """The share of failed records, 0 to 1."""
        return self.failed / self.records if self.records else 0.0


@dataclass(frozen=True)
class Rule:
    """The records to drop. keep: all but that many of the fastest of each task, target and device; before: what is
    older."""

    superseded: bool = False
    failed: bool = False
    unreadable: bool = False
    keep: int | None = None
    before: datetime | None = None


@dataclass(frozen=True)
class Pruned:
    """The result of prune, done or only planned. dropped: how many lines for which reason."""

    path: Path
    kept: int
    dropped: Mapping[str, int]
    bytes_before: int
    bytes_after: int


@dataclass(frozen=True)
class Merged:
    """The result of merge. duplicates: lines that were there already; unreadable: lines that were left out."""

    path: Path
    lines: int
    duplicates: int
    other_versions: int
    unreadable: int
    sources: tuple[Path, ...] = ()


def identity(entry: IndexEntry) -> Identity:
    """The facts in which two records agree of which only the later one counts."""
    return entry.shape, entry.digest, entry.target, entry.cpu, entry.option


def summarize(path: Path) -> Summary:
    """Sum up one file. UsageError if it cannot be read."""
    data = files.read(path)
    lines = _lines(data)
    entries = [line for line in lines if isinstance(line, IndexEntry)]
    bad = [line for line in lines if isinstance(line, Unreadable)]
    times = [entry.time for entry in entries if entry.time]
    return Summary(
        path=path,
        bytes=len(data),
        records=len(entries),
        tasks=len({(entry.shape, entry.digest, entry.target) for entry in entries}),
        devices=tuple(sorted({entry.cpu for entry in entries})),
        targets=tuple(sorted({entry.target for entry in entries})),
        first=min(times, key=moment, default=""),
        last=max(times, key=moment, default=""),
        failed=sum(not entry.ok for entry in entries),
        other_versions=sum(line.other_version for line in bad),
        unreadable=sum(not line.other_version for line in bad),
        without_code=sum(not entry.code for entry in entries),
    )


def merge(sources: Sequence[Path], output: Path) -> Merged:
    """Write all records of some files into one, each once, in the order of their times; whole or not at all.

    Lines of another version stay as they are, beside what they stood beside. Lines that cannot be read are left out.
    output may be one of the sources; otherwise it must not exist. Raises UsageError.
    """
    if output.suffix != files.SUFFIX:
        raise UsageError(f"cannot merge into {output}: the name of a log ends in {files.SUFFIX}")
    if output.exists() and not any(_same(output, source) for source in sources):
        raise UsageError(f"{output} exists; name it among the logs to merge as well, or give another name with -o")
    lines: dict[bytes, tuple[datetime, IndexEntry | Unreadable]] = {}
    total = unreadable = newer = 0
    with files.locked(output):
        for source in sources:
            time = _NEVER
            for found in _lines(files.read(source, wait=not _same(source, output))):
                if isinstance(found, Unreadable) and not found.other_version:
                    unreadable += 1
                    continue
                total += 1
                if isinstance(found, IndexEntry):
                    time = moment(found.time) if found.time else time
                if found.line not in lines:
                    newer += isinstance(found, Unreadable)
                    lines[found.line] = time, found
        ordered = [line for _, line in sorted(lines.values(), key=lambda pair: pair[0])]
        files.rewrite(output, b"".join(encoded(ordered)))
    return Merged(output, len(ordered), total - len(ordered), newer, unreadable, tuple(sources))


def prune(path: Path, rule: Rule, *, dry_run: bool = False) -> Pruned:
    """Drop from one file what the rule says, in one step, while no other process writes.

    UsageError, for whatever the system refuses, leaves the file as it was. Lines of another version always stay. With
    dry_run nothing is written, and no lock is needed.
    """
    with nullcontext() if dry_run else files.locked(path):
        before = files.read(path, wait=dry_run)
        lines = _lines(before)
        reasons = list(_reasons(lines, rule))
        kept = [line for line, reason in zip(lines, reasons, strict=True) if not reason]
        after = b"".join(encoded(kept))
        dropped = Counter(reason for reason in reasons if reason)
        if dropped and not dry_run:
            files.rewrite(path, after)
    return Pruned(path, len(kept), dict(dropped), len(before), len(after) if dropped else len(before))


def _same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)


def _reasons(lines: Sequence[IndexEntry | Unreadable], rule: Rule) -> Iterator[str]:
    """The reason why each line goes; "" where it stays."""
    entries = [line for line in lines if isinstance(line, IndexEntry)]
    last = {identity(entry): id(entry) for entry in entries}
    counting = [entry for entry in entries if last[identity(entry)] == id(entry)]
    best = None if rule.keep is None else _best(counting, rule.keep)
    for line in lines:
        if isinstance(line, Unreadable):
            yield "unreadable" if rule.unreadable and not line.other_version else ""
        elif rule.before is not None and _NEVER < moment(line.time) < rule.before:
            yield "old"
        elif rule.failed and not line.ok:
            yield "failed"
        elif (rule.superseded or best is not None) and last[identity(line)] != id(line):
            yield "superseded"
        else:
            yield "not among the best" if best is not None and id(line) not in best else ""


def _best(entries: Iterable[IndexEntry], count: int) -> set[int]:
    """The ids of the fastest entries of each task, target and device."""
    groups: dict[tuple[str, ...], list[tuple[float, int]]] = {}
    for entry in entries:
        if entry.ok and entry.median_ms is not None:
            groups.setdefault(identity(entry)[:4], []).append((entry.median_ms, id(entry)))
    return {number for group in groups.values() for _, number in sorted(group)[:count]}


def _lines(data: bytes) -> list[IndexEntry | Unreadable]:
    """Every line but those of the weights, which are written anew with the records."""
    return [line for line in scan(data) if not isinstance(line, WeightLine)]


@lru_cache(maxsize=4096)
def moment(time: str) -> datetime:
    """The moment of a record's time; long ago if it has none or an unusual one."""
    try:
        found = datetime.fromisoformat(time.replace("Z", "+00:00"))
    except ValueError:
        return _NEVER
    return found if found.tzinfo is not None else found.replace(tzinfo=timezone.utc)


def parse_age(text: str, now: datetime | None = None) -> datetime:
    """The moment that "30d", "12h", "4w", "90m" ago was, or the start of a day "2026-01-31" in UTC.

    Raises ValueError for anything else.

    >>> parse_age("2d", datetime(2026, 1, 3, tzinfo=timezone.utc)).isoformat()
    '2026-01-01T00:00:00+00:00'
    """
    found = re.fullmatch(r"([0-9]+)([mhdw])", text)
    if found is None:
        day = date.fromisoformat(text)
        return datetime(day.year, day.month, day.day, tzinfo=timezone.utc)
    try:
        return (now or datetime.now(timezone.utc)) - timedelta(**{_UNITS[found[2]]: int(found[1])})
    except OverflowError as error:
        raise ValueError(f"{text} is before all times") from error
