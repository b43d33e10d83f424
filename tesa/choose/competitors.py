"""Finds the options that compete for a layer: the promising ones, and those of a log for this weight or the nearest."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tesa.choose.pick import Nearest, milliseconds
from tesa.choose.plan import Candidate
from tesa.choose.predict import expected
from tesa.choose.shortlist import INSTRUCTIONS, left_out, shortlist
from tesa.costs.table import CostTable
from tesa.decompose.candidates import Option, candidates, dense_keys
from tesa.layers.layer import Layer
from tesa.records.emitted import EmittedByFamilies
from tesa.records.log import Log, Record, Task
from tesa.records.lookup import lookup
from tesa.schedules.registry import find
from tesa.schedules.types import FloatArray, Problem, config_key
from tesa.targets.target import Target

_NEAREST = 3
"""Options of the nearest weight that are tried, should the first not work for this one."""


@dataclass(frozen=True)
class Competitors:
    """The options that compete for a layer, and what is known of them.

    predicted: expected milliseconds by config_key; dense: the keys of the layer's dense self; nearest: the best of a
    weight like this one, the fastest first; left_out: what does not compete, for the plan; records: of this weight.
    """

    options: tuple[Option, ...]
    predicted: dict[str, float]
    dense: frozenset[str]
    nearest: tuple[Nearest, ...] = ()
    left_out: tuple[Candidate, ...] = ()
    records: tuple[Record, ...] = ()


def competitors(
    layer: Layer,
    target: Target,
    log: Log,
    *,
    cpus: Sequence[str],
    families: Sequence[str] | None = None,
    options: Sequence[Option] | None = None,
    instructions: int = INSTRUCTIONS,
    table: CostTable | None = None,
) -> Competitors:
    """The options that compete for a layer: the short list, what a log knows of this weight, and of the nearest one.

    cpus: whose records count. families, options, instructions, table: see tesa.tune.choose. Errors as candidates.
    """
    problem, weight = layer.problem, layer.weight
    task = Task.of(problem, weight)
    every = log.records(task, target.name, cpus, EmittedByFamilies(problem, weight, target, layer.digest))
    if options is not None:
        predicted = expected(options, problem, weight, target, table)
        return Competitors(tuple(options), predicted, dense_keys(options, weight, target.kind), records=every)
    found = candidates(problem, weight, target, families, prices=table)
    allowed = {name for name, _ in found} if families is None else set(families)
    known = [(record.family, dict(record.config)) for record in every if record.ok]
    near = [] if known else _nearest(log, task, target, cpus, allowed)
    there = {config_key(*option) for option in found}
    for option in [*known, *(item.option for item in near)]:
        if config_key(*option) not in there and _applies(option, problem, weight, target, allowed):
            there.add(config_key(*option))
            found.append(option)
    near = [item for item in near if config_key(*item.option) in there][:_NEAREST]
    predicted = expected(found, problem, weight, target, table)
    short = shortlist(found, predicted, problem, weight, target.core, instructions, asked=families is not None)
    wanted = {config_key(*option) for option in short} | {config_key(r.family, r.config) for r in every}
    wanted |= {config_key(*item.option) for item in near}
    kept = [option for option in found if config_key(*option) in wanted]
    rows = [
        Candidate(
            *option,
            predicted[config_key(*option)],
            None,
            note,
            config_key(*option) in dense_keys([option], weight, target.kind),
        )
        for option, note in left_out(found, kept, problem, weight, target.core, instructions)
    ]
    return Competitors(tuple(kept), predicted, dense_keys(kept, weight, target.kind), tuple(near), tuple(rows), every)


def _nearest(log: Log, task: Task, target: Target, cpus: Sequence[str], allowed: Collection[str]) -> list[Nearest]:
    """The options that the log has of the nearest weight; or of this very one, with other code than that of today."""
    found = lookup(log, task, None, target.name, cpus=cpus)
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
    """True where a family can have a configuration that it does not offer for this weight by itself."""
    name, config = option
    if name not in allowed:
        return False
    try:
        return find(name, target.kind).estimate(problem, weight, target.core, config) > 0
    except Exception:  # of another version of the family, or of a decomposition that this weight has not
        return False
