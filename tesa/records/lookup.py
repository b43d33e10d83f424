"""Looks up the records that help with a task: its own, or those of the most similar weight of the same shape."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from tesa.attributes.statistics import LIMIT, Statistics, distance
from tesa.records.index import ShapeIndex, is_emulated, own_cpus
from tesa.records.log import Log
from tesa.records.record import Record
from tesa.records.task import Task

BEST = 8
"""The most records that an answer holds."""

_LOOKED_AT = 256  # weights of one shape that are compared in full: a look-up must stay a matter of milliseconds
_UNTOLD = math.log(1.05)  # added where a record is from before there were statistics, and only kind and sparsity speak


@dataclass(frozen=True)
class Found:
    """The answer of a look-up.

    how: "exact": this very weight was measured; "nearest": another weight of the same shape, target and threads, of
    similar statistics, was; "default": nothing that helps is known. records: the best, the fastest first; none for
    "default". note: how the nearest one differs, in words. distance: see tesa.attributes.statistics.distance.
    """

    how: Literal["exact", "nearest", "default"]
    records: tuple[Record, ...] = ()
    note: str = ""
    distance: float = 0.0

    @property
    def best(self) -> Record | None:
        """The fastest record, or None."""
        return self.records[0] if self.records else None

    def __str__(self) -> str:
        return f"{self.how}: {self.note}" if self.note else self.how


def lookup(
    log: Log,
    task: Task,
    statistics: Statistics | None,
    target: str,
    *,
    limit: int = BEST,
    cpus: Sequence[str] | None = None,
) -> Found:
    """The best that the log knows of a task on a target: of its very weight, else of the nearest, else nothing.

    Records count whatever code was measured, also those from before records named it: see tesa.records.validity.

    statistics: of the task's weight, by default those that the task carries. Nearest is only what has the same
    operator, m, k, n, batch, window, dtype, epilogue and threads, and a distance() of at most LIMIT: the
    configurations fit then, and times are comparable. Records of before there were statistics take part by their kind,
    which must be the same, and their sparsity. Times of a nearest record are of the other weight: a guess.
    Among hundreds of weights of one shape those of the same kind and of the nearest sparsity are compared.

    cpus: of the machine that is asked for, by default this one's; records of another CPU count only where there are
    none of theirs. The records of an answer are of one CPU.

    >>> import numpy as np
    >>> from tesa.schedules.types import Problem
    >>> problem, rng = Problem("linear", 64, 64, 4, (1, 64, 4), (1, 64, 4)), np.random.default_rng(0)
    >>> one, other = (Task.of(problem, (rng.random((64, 64)) < 0.5).astype(np.float32)) for _ in range(2))
    >>> log = Log()
    >>> log.append([Record(one, "x86:haswell", {"cpu": "haswell"}, "dense", {"rows": 4}, 0.5, 0.4)])
    >>> lookup(log, one, None, "x86:haswell").how, lookup(log, other, None, "x86:haswell").how
    ('exact', 'nearest')
    >>> str(lookup(log, one, None, "x86:znver4"))
    'default'
    """
    index = log.index_of(task, target)
    exact = log.fastest(task.pattern.digest, index, limit, cpus)
    if exact:
        return Found("exact", exact)
    wanted = statistics or task.pattern.statistics
    kind, sparsity = (task.pattern.kind, task.pattern.sparsity) if wanted is None else (wanted.kind, wanted.sparsity)
    several = len(set[str]().union(*index.timed.values())) > 1
    for which in (own_cpus(cpus), None) if several else (None,):
        nearest, least = "", math.inf
        for weight in islice(_timed(index, task.pattern.digest, kind, sparsity, which), _LOOKED_AT):
            away = _distance(index, weight, kind, sparsity, wanted)
            if away < least:
                nearest, least = weight, away
            if away == 0:
                break
        if least <= LIMIT:
            break
    records = log.fastest(nearest, index, limit, cpus) if least <= LIMIT else ()
    if not records:
        return Found("default")
    pattern = records[0].task.pattern
    return Found("nearest", records, _differs(kind, sparsity, pattern.kind, pattern.sparsity), least)


def _timed(index: ShapeIndex, own: str, kind: str, sparsity: float, cpus: Sequence[str] | None) -> Iterator[str]:
    """Digests of other weights of about that density that have a time, of one of these CPUs; None: of any."""
    for weight in index.near(kind, sparsity, LIMIT):
        known = index.timed.get(weight, set())
        if weight != own and any(cpu in cpus if cpus is not None else not is_emulated(cpu) for cpu in known):
            yield weight


def _distance(index: ShapeIndex, weight: str, kind: str, sparsity: float, wanted: Statistics | None) -> float:
    entry = next((item for item in index.of(weight) if item.statistics is not None), None)
    if wanted is not None and entry is not None and entry.statistics is not None:
        return distance(wanted, entry.statistics)
    entry = entry or next(iter(index.of(weight)))
    if entry.kind != kind:
        return math.inf
    one, other = 1 - sparsity, 1 - entry.sparsity
    if one <= 0 or other <= 0:
        return 0.0 if one == other else math.inf
    return abs(math.log(one / other)) + _UNTOLD


def _differs(kind: str, sparsity: float, other_kind: str, other: float) -> str:
    """In words, with as many digits as tell the two apart."""
    digits = next((d for d in (2, 3, 4, 5) if round(sparsity, d) != round(other, d)), 2)
    one, another = f"{sparsity:.{digits}f}", f"{other:.{digits}f}"
    both = (("sparsity " + another, one == another, one), (other_kind, kind == other_kind, kind))
    return ", ".join(f"{what} {'in both' if same else f'instead of {own}'}" for what, same, own in both)
