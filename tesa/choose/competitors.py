"""What competes for one layer: the promising candidates, what a log knows of this weight, and of the nearest one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tesa.choose.decide import Nearest, milliseconds
from tesa.choose.plan import Candidate
from tesa.choose.predict import expected
from tesa.choose.shortlist import left_out, shortlist
from tesa.decompose.candidates import Option, candidates, dense_keys
from tesa.records.emitted import emitted_by_families
from tesa.records.log import Log, Task
from tesa.records.lookup import lookup
from tesa.schedules.registry import find
from tesa.schedules.types import FloatArray, Problem, config_key
from tesa.targets.target import Target, host_cpu

if TYPE_CHECKING:
    from tesa.costs.table import CostTable

_NEAREST = 3
"""Options of the nearest weight that are tried, should the first not work for this one."""


@dataclass(frozen=True)
class Offer:
    """predicted: expected milliseconds by config_key; dense: the keys of the layer's dense self; nearest: the best of a
    weight like this one, the fastest first; left_out: what does not compete, for the plan."""

    options: tuple[Option, ...]
    predicted: dict[str, float]
    dense: frozenset[str]
    nearest: tuple[Nearest, ...] = ()
    left_out: tuple[Candidate, ...] = ()


def offer(
    problem: Problem,
    weight: FloatArray,
    task: Task,
    target: Target,
    log: Log,
    forms: Sequence[str] | None,
    options: Sequence[Option] | None,
    instructions: int,
    table: CostTable | None,
) -> Offer:
    """The arguments are those of tesa.tune.choose.choose; task is the layer's. Errors as candidates."""
    from tesa.decompose import unchanging, use_prices

    with unchanging(weight, task.pattern.digest), use_prices(table):
        if options is not None:
            predicted = expected(options, problem, weight, target, table)
            return Offer(tuple(options), predicted, dense_keys(options, weight))
        found = candidates(problem, weight, target, forms)
        allowed = {name for name, _ in found} if forms is None else set(forms)
        emitted = emitted_by_families(problem, weight, target, task.pattern.digest)
        every = log.records(task, target.name, machines(target), emitted)
        known = [(record.family, dict(record.config)) for record in every if record.ok]
        near = [] if known else _nearest(log, task, target, allowed)
        there = {config_key(*option) for option in found}
        for option in [*known, *(item.option for item in near)]:
            if config_key(*option) not in there and _applies(option, problem, weight, target, allowed):
                there.add(config_key(*option))
                found.append(option)
        near = [item for item in near if config_key(*item.option) in there][:_NEAREST]
        predicted = expected(found, problem, weight, target, table)
        short = shortlist(found, predicted, problem, weight, instructions, asked=forms is not None)
        wanted = {config_key(*option) for option in short} | {config_key(r.family, r.config) for r in every}
        wanted |= {config_key(*item.option) for item in near}
        kept = [option for option in found if config_key(*option) in wanted]
        rows = [
            Candidate(
                *option, predicted[config_key(*option)], None, note, config_key(*option) in dense_keys([option], weight)
            )
            for option, note in left_out(found, kept, problem, weight, instructions)
        ]
        return Offer(tuple(kept), predicted, dense_keys(kept, weight), tuple(near), tuple(rows))


def machines(target: Target) -> tuple[str, ...]:
    """The CPUs whose records count for a target: the one that it names, as devices of it measured; then this one.

    >>> from tesa.targets.target import parse_target
    >>> machines(parse_target("x86:haswell"))[0]
    'haswell'
    """
    return tuple(dict.fromkeys((target.cpu, host_cpu())))


def _nearest(log: Log, task: Task, target: Target, allowed: Collection[str]) -> list[Nearest]:
    """What the log knows of the nearest weight; or of this very one, with other code than that of today."""
    found = lookup(log, task, None, target.name, cpus=machines(target))
    what = f"a pattern with {found.note}" if found.how == "nearest" else "kernels from before the code changed"
    return [
        Nearest(
            (record.family, dict(record.config)),
            f"nearest: {record.family} {milliseconds(record.median_ms or 0.0)}, of {what}",
        )
        for record in found.records
        if record.family in allowed
    ]


def _applies(option: Option, problem: Problem, weight: FloatArray, target: Target, allowed: Collection[str]) -> bool:
    """Whether a family can have a configuration that it does not offer for this weight by itself."""
    name, config = option
    if name not in allowed:
        return False
    try:
        return find(name).estimate(problem, weight, target.core, config) > 0
    except Exception:  # of another version of the family, or of a decomposition that this weight has not
        return False
