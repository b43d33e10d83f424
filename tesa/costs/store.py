"""Cost tables as files: one JSON file for each device, with a table for each target and number of threads."""

import hashlib
import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tesa.base.files import cache_dir, write_text
from tesa.base.told import Untruthful, line, parsed, shown
from tesa.base.typed import typed
from tesa.costs.family import shape_from_json, shape_to_json
from tesa.costs.fingerprint import code_digest
from tesa.costs.refresh import refreshed
from tesa.costs.sample import Measured
from tesa.costs.table import CostTable
from tesa.errors import TesaError, UsageError
from tesa.records.locations import shipped, user
from tesa.targets.target import Target, host_cpu, parse_target

VERSION = 1
"""Version of the format. A file of another one is left alone."""

_AGAIN = "give another file with -o, or move this one away"


def folders() -> tuple[Path, ...]:
    """The folders in which tables are looked for: the user's, then the one that ships with tesa."""
    return user() / "costs", shipped() / "costs"


def default_path() -> Path:
    """The file of this machine's table where the user names none."""
    return folders()[0] / f"{host_cpu()}.json"


def load(
    target: str | Target | None = None, threads: int = 1, path: str | Path | None = None, folder: Path | None = None
) -> CostTable | None:
    """The table for a target and a number of threads: of the user, or of those that ship with tesa; None without one.

    Of several the one of the target's own CPU comes first, then this machine's. folder: one of the user's with tables,
    which go before those of folders(). path: a file that is to be used instead. Raises UsageError if it cannot be read,
    is no cost table, or has none for this target and number of threads.
    """
    target = parse_target(target)
    if path is not None:
        tables = read(Path(path))
        fits = [table for table in tables if _fits(table, target, threads)]
        if not fits:
            there = "; ".join(f"{table.target} with {_threads(table.threads)}" for table in tables) or "none"
            raise UsageError(
                f"{path} has no cost table for {target.name} with {_threads(threads)}; there is: {there}; "
                f"make it with: tesa calibrate --target {target.name} --threads {threads} -o {path}"
            )
        return _current(fits[0])
    for searched in [folders()] if folder is None else [(folder,), folders()]:
        found = [table for table in _known(searched) if _fits(table, target, threads)]
        found.sort(key=lambda table: (table.device != target.cpu, table.device != host_cpu()))  # stable: user's first
        for table in found:
            try:
                return _current(table)
            except Exception as error:  # of numbers that no measurement has: nobody named this table
                why = f"{type(error).__name__}: {error}"
                warnings.warn(
                    f"left out the cost table of {table.device} for {table.target} ({line(why)})", stacklevel=2
                )
    return None


def read(path: Path) -> tuple[CostTable, ...]:
    """The tables of a file. Raises UsageError if it cannot be read or is no file of cost tables of this version."""
    try:
        data = parsed(path.read_bytes(), _LARGEST)
    except OSError as error:
        raise UsageError(f"cannot read the cost table {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise UsageError(f"{path} is no cost table: not JSON ({error}); {_AGAIN}") from error
    if not isinstance(data, dict) or "tables" not in data:
        raise UsageError(f"{path} is no cost table of tesa; {_AGAIN}")
    if data.get("v") != VERSION:
        raise UsageError(
            f"{path} is a cost table of version {shown(data.get('v'))}, this tesa reads {VERSION}; {_AGAIN}"
        )
    try:
        return tuple(_table(data, item) for item in data["tables"])
    except (KeyError, TypeError, ValueError, AttributeError, TesaError) as error:
        raise UsageError(f"{path} is a damaged cost table: {type(error).__name__}: {error}; {_AGAIN}") from error


def write(path: Path, table: CostTable) -> None:
    """Put a table into the file, in the place of the one of the same target and threads; whole or not at all.

    The folder is made if it is missing. Raises UsageError if the file cannot be written or holds something else.
    """
    others = [t for t in read(path) if not same(t, table)] if path.exists() else []
    if any(other.device != table.device for other in others):
        raise UsageError(f"{path} holds tables of {others[0].device}, and this machine is {table.device}; {_AGAIN}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}; give another file with -o") from error
    tables = sorted([*others, table], key=lambda t: (t.target, t.threads))
    write_text(path, _text({"v": VERSION, "device": table.device, "cpu": table.cpu}, tables))


def kept(target: str | None, threads: int, path: str | Path | None) -> str:
    """The remains of a calibration that was stopped, in words."""
    file, name = default_path() if path is None else Path(path), parse_target(target).name
    tables = read(file) if file.exists() else ()
    mine = next((table for table in tables if (table.target, table.threads) == (name, threads)), None)
    if mine is None:
        return "nothing was measured yet"
    return f"{mine.samples} kernels of {len(mine.layers)} layers are kept in {file}"


def same(one: CostTable, other: CostTable) -> bool:
    """True where both are of the same device, code and number of threads."""
    return (one.device, one.target, one.threads) == (other.device, other.target, other.threads)


def _current(table: CostTable) -> CostTable:
    """The table with the estimates of these kernels. Where that took seconds, the result is kept in the cache."""
    if table.code == code_digest():
        return table
    head = {"v": VERSION, "device": table.device, "cpu": table.cpu}
    digest = hashlib.sha256(f"{code_digest()} {_text(head, [table])}".encode()).hexdigest()
    kept = cache_dir() / "costs" / f"{digest[:32]}.json"
    with suppress(UsageError):  # not there yet, or damaged: it is made again
        for known in read(kept):
            return known
    made = refreshed(table)
    # a cache that cannot be written costs seconds the next time, and nothing else
    with suppress(UsageError, OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_text(kept, _text(head, [made]))
        for old in sorted(kept.parent.glob("*.json"), key=lambda path: path.stat().st_mtime)[:-_KEPT]:
            old.unlink(missing_ok=True)
    return made


def _fits(table: CostTable, target: Target, threads: int) -> bool:
    mine = parse_target(table.target)
    return table.threads == threads and mine.cpu == target.cpu and mine.core == target.core


def _known(folders: Iterable[Path]) -> Iterable[CostTable]:
    """The tables of all folders. Nobody named these files: what cannot be read is a warning."""
    for place in folders:
        for path in sorted(place.glob("*.json")) if place.is_dir() else ():
            try:
                yield from read(path)
            except UsageError as error:
                warnings.warn(str(error), stacklevel=2)


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"


_FIELDS = ("target", "threads", "seed", "started", "updated", "seconds", "versions", "fingerprints", "code")
_KEPT = 8  # tables in the cache
_LARGEST = 1 << 28  # bytes of a file


def _text(head: Mapping[str, Any], tables: Sequence[CostTable]) -> str:
    """JSON with a line for each layer, so that two tables can be compared by eye."""
    parts = []
    for table in tables:
        facts = {name: getattr(table, name) for name in _FIELDS}
        if table.changed:
            facts["changed"] = table.changed
        facts["seconds"] = round(table.seconds, 1)
        facts["shapes"] = {name: shape_to_json(shape) for name, shape in sorted(table.shapes.items())}
        layers = ",\n".join(json.dumps(layer.to_json(), allow_nan=False) for layer in table.layers)
        parts.append(json.dumps(facts, allow_nan=False)[:-1] + ', "layers": [\n' + layers + "\n]}")
    return json.dumps(dict(head))[:-1] + ', "tables": [\n' + ",\n".join(parts) + "\n]}\n"


def _table(head: Mapping[str, Any], data: Mapping[str, Any]) -> CostTable:
    given = {name: data[name] for name in _FIELDS if name != "code"}
    facts = typed(_Facts, {**given, **{name: data[name] for name in ("code", "changed") if name in data}})
    for moment in (facts.started, facts.updated):
        if moment and datetime.fromisoformat(moment).tzinfo is None:
            raise Untruthful(f"a time without its zone: {shown(moment)}")
    parse_target(facts.target)
    return CostTable(
        device=typed(str, head["device"], "device"),
        cpu=typed(str, head["cpu"], "cpu"),
        shapes={name: shape_from_json(shape) for name, shape in data["shapes"].items()},
        layers=tuple(Measured.from_json(layer) for layer in data["layers"]),
        **vars(facts),
    )


@dataclass(frozen=True)
class _Facts:
    """The kinds of what stands in a table beside its layers."""

    target: str
    threads: int
    seed: int
    started: str
    updated: str
    seconds: float
    versions: Mapping[str, str]
    fingerprints: Mapping[str, str]
    code: str = ""
    changed: tuple[str, ...] = ()
