"""Predicts the times of candidates: by a cost table of the device where there is one, else by bare estimates.

A family's estimate is made for a nominal core. A cost table knows how far it is off on a real one, and so can compare
families, which estimates alone do badly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from tesa.attributes.zeros import frozen
from tesa.costs.table import CostTable
from tesa.decompose.candidates import Option, predict
from tesa.records.log import Log
from tesa.schedules.types import FloatArray, Problem, config_key
from tesa.targets.target import Target

_Stamp = tuple[tuple[str, int, int], ...]
_TABLES: dict[tuple[str, int, _Stamp], CostTable | None] = {}
"""What was found for a target, threads and files as they were: reading a table and fitting it takes seconds."""

_KEPT = 8


def table_for(target: Target, threads: int, log: str | Path | Log | None = None) -> CostTable | None:
    """The cost table for a target and a number of threads; None where there is none.

    log: what the user gave: tables in its folder `costs` come first, then the user's own, then those that ship with
    tesa. A file that cannot be read is told in a warning.

    >>> from tesa.targets.target import parse_target
    >>> table_for(parse_target("x86:haswell"), 99) is None
    True
    """
    from tesa.costs import store

    folder = _folder(log)
    own = None if folder is None else folder / "costs"
    every = [path for place in (own, *store.folders()) if place is not None for path in _files(place)]
    if not every:
        return None
    key = (target.name, threads, tuple(_stamp(path) for path in every))
    if key not in _TABLES:
        while len(_TABLES) >= _KEPT:
            del _TABLES[next(iter(_TABLES))]
        _TABLES[key] = store.find(target, threads, folder=own)
    return _TABLES[key]


def expected(
    options: Sequence[Option], problem: Problem, weight: FloatArray, target: Target, table: CostTable | None
) -> dict[str, float]:
    """The expected milliseconds of each option, by config_key; weight is (m, k).

    Of a decomposition the table is asked about the best configuration; the others are off by the same factor.
    """
    from tesa.decompose import is_composite

    if table is None or not options:
        return predict(options, problem, weight, target)
    plain = [option for option in options if not is_composite(option[0])]
    split = [option for option in options if is_composite(option[0])]
    weight = frozen(weight)
    estimates = predict(split, problem, weight, target)
    best: dict[str, Option] = {}
    for option in sorted(split, key=lambda option: estimates[config_key(*option)]):
        best.setdefault(option[0], option)
    rows = table.rank(problem, weight, [*plain, *best.values()])
    found = {config_key(*row.option): row.prediction.ms for row in rows}
    for option in split:
        key, like = config_key(*option), config_key(*best[option[0]])
        if key not in found:
            found[key] = estimates[key] * found[like] / estimates[like]
    return found


def source_of(table: CostTable | None) -> str:
    """The source of expected times, for the reason in a plan: " by the cost table of 2026-11-21", or nothing.

    >>> source_of(None)
    ''
    """
    if table is None:
        return ""
    return f" by the cost table of {table.updated[:10]}" if table.updated else " by the cost table"


def _folder(log: str | Path | Log | None) -> Path | None:
    """Where a log lies."""
    if log is None:
        return None
    place = log.path if isinstance(log, Log) else Path(log)
    if place is None:
        return None
    return place.parent if place.suffix == ".jsonl" else place


def _files(place: Path) -> Iterator[Path]:
    yield from sorted(place.glob("*.json")) if place.is_dir() else ()


def _stamp(path: Path) -> tuple[str, int, int]:
    facts = path.stat()
    return str(path), facts.st_mtime_ns, facts.st_size
