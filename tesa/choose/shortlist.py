"""The candidates that a plain compile measures: the most promising few of every family, within a budget of code.

Tuning goes through whole spaces. A compile has a minute: it trusts the estimates to rank the configurations of one
family, but not to compare families, so each that applies is measured with its best two or three.
"""

from collections.abc import Mapping, Sequence

from tesa.choose.plan import LEFT_OUT
from tesa.decompose import is_composite
from tesa.decompose.candidates import Option, dense_keys
from tesa.schedules.gpus import Gpu
from tesa.schedules.registry import find
from tesa.schedules.types import Core, FloatArray, Problem, config_key

KEEP = 3
"""Configurations of a family: each takes a few tenths of a second to compile."""

NEAR = 1.3
"""Times the least estimate: a decomposition that is expected to take longer is not measured. Its estimate adds up those
of forms that are measured themselves and is off in the same way, so that it has no chance, and it has several kernels
to compile."""

INSTRUCTIONS = 400_000
"""Straight-line instructions that the candidates of one layer may have together: some four seconds to generate and
assemble, and the code of a candidate takes 8 bytes for each of its own."""


def shortlist(
    options: Sequence[Option],
    predicted: Mapping[str, float],
    problem: Problem,
    weight: FloatArray,
    core: Core | Gpu,
    instructions: int = INSTRUCTIONS,
    asked: bool = False,
) -> list[Option]:
    """The options to measure, in their order. predicted: estimated milliseconds by config_key.

    The layer's dense self is always among them. Decompositions are where they may win: see NEAR; asked: the user named
    the families that compete, and they all do.

    Of families of straight-line code those of the most promising that fit into `instructions`; where nothing else
    applies, or was asked for, the shortest whatever it takes.
    """
    keep: set[str] = set()
    room = instructions
    bound = NEAR * min((predicted[config_key(*option)] for option in options), default=0.0)
    for name in dict.fromkeys(name for name, _ in options):
        configs = [config for option, config in options if option == name]
        ranked = sorted(configs, key=lambda config: predicted[config_key(name, config)])
        if is_composite(name) and not asked:
            ranked = [config for config in ranked if predicted[config_key(name, config)] <= bound]
        fit: list[str] = []
        for config in ranked:
            cost = _size((name, config), problem, weight, core)
            if cost <= room and len(fit) < KEEP:
                room -= cost
                fit.append(config_key(name, config))
        keep.update(fit)
    dense = dense_keys(options, weight, core.kind)
    if dense:
        keep.add(min(sorted(dense), key=lambda key: predicted[key]))
    if not keep and options:
        sizes = {config_key(*option): _size(option, problem, weight, core) for option in options}
        keep.add(min(sizes, key=lambda key: sizes[key]))
    return [option for option in options if config_key(*option) in keep]


def left_out(
    options: Sequence[Option],
    kept: Sequence[Option],
    problem: Problem,
    weight: FloatArray,
    core: Core | Gpu,
    instructions: int,
) -> list[tuple[Option, str]]:
    """The quickest to compile of each family of straight-line code that has no place in kept, and why, in words."""
    there = {name for name, _ in kept}
    found = []
    for name in dict.fromkeys(name for name, _ in options):
        if name in there or find(name, core.kind).size is None:
            continue
        mine = [option for option in options if option[0] == name]
        size, index = min((_size(option, problem, weight, core), i) for i, option in enumerate(mine))
        found.append((mine[index], f"{LEFT_OUT} {size:,} instructions, the budget is {instructions:,} (--code-budget)"))
    return found


def _size(option: Option, problem: Problem, weight: FloatArray, core: Core | Gpu) -> int:
    name, config = option
    size = find(name, core.kind).size
    return 0 if size is None else size(problem, weight, core, config)
