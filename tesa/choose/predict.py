"""Predicts the times of candidates: by a cost table of the device where there is one, else by bare estimates.

A family's estimate is made for a nominal core. A cost table knows how far it is off on a real one, and so can compare
families, which estimates alone do badly.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from tesa.attributes.zeros import frozen
from tesa.costs import store
from tesa.costs.table import CostTable
from tesa.decompose import is_composite
from tesa.decompose.candidates import Option, predict
from tesa.records.log import Log
from tesa.schedules.types import FloatArray, Problem, config_key
from tesa.targets.target import Target


def table_for(target: Target, threads: int, log: str | Path | Log | None = None) -> CostTable | None:
    """The cost table for a target and a number of threads; None where there is none.

    log: what the user gave: tables in its folder `costs` come first, then the user's own, then those that ship with
    tesa. A file that cannot be read is told in a warning.

    >>> from tesa.targets.target import parse_target
    >>> table_for(parse_target("x86:haswell"), 99) is None
    True
    """
    folder = _folder(log)
    own = None if folder is None else folder / "costs"
    places = [place for place in (own, *store.folders()) if place is not None and place.is_dir()]
    every = [(path, path.stat()) for place in places for path in sorted(place.glob("*.json"))]
    stamps = tuple((path, facts.st_mtime_ns, facts.st_size) for path, facts in every)
    return _table(target, threads, own, stamps) if stamps else None


@lru_cache(maxsize=8)
def _table(
    target: Target, threads: int, folder: Path | None, stamps: tuple[tuple[Path, int, int], ...]
) -> CostTable | None:
    """The table, kept as long as the files are as they were: to read one and to fit it takes seconds."""
    del stamps
    return store.load(target, threads, folder=folder)


def expected(
    options: Sequence[Option], problem: Problem, weight: FloatArray, target: Target, table: CostTable | None
) -> dict[str, float]:
    """The expected milliseconds of each option, by config_key; weight is (m, k).

    Of a decomposition the table is asked about the best configuration; the others are off by the same factor.
    """
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
    """The folder of a log."""
    if log is None:
        return None
    place = log.path if isinstance(log, Log) else Path(log)
    if place is None:
        return None
    return place.parent if place.suffix == ".jsonl" else place
