"""Measures layers of the grid: candidates are generated, compiled and timed as `tesa compile` does it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tesa.base.scratch import Scratch
from tesa.costs.facts import Facts
from tesa.costs.grid import GridLayer
from tesa.costs.sample import Measured, Sample
from tesa.decompose.candidates import Option, candidates, dense_keys, plain_candidates, predict
from tesa.layers.layer import Layer
from tesa.measure.failure import Failure
from tesa.measure.interfaces import Builder, Runner
from tesa.measure.timing import Timing
from tesa.schedules.registry import find
from tesa.schedules.types import Config, Core, FloatArray, Problem, config_key
from tesa.targets.target import Target
from tesa.tune.loop import Batch, build, run

BUDGET_MS = 40.0
"""Time for one kernel: a table holds many, and averages over them."""

INSTRUCTIONS = 200_000
"""Straight-line instructions that one layer's kernels may have together: some two seconds to generate and assemble."""

KEEP = 4
"""Kernels of a family that are measured of one layer: the one its estimate likes best, and others by chance."""


@dataclass(frozen=True)
class Work:
    """A layer of the grid with the options that are measured of it, what their families expect in milliseconds, and
    whether each computes with the zeros."""

    index: int
    layer: GridLayer
    weight: FloatArray
    options: tuple[Option, ...]
    estimates: tuple[float, ...]
    dense: tuple[bool, ...]


def plan(index: int, layer: GridLayer, target: Target) -> Work:
    """Choose what is measured of a layer: of each family the best by estimate and a few by chance, always the same.

    Decompositions are measured of weights that are made for them, which have scattered elements beside a pattern.
    """
    weight = layer.weight()
    found = (candidates if layer.scattered else plain_candidates)(layer.problem, weight, target)
    expected = predict(found, layer.problem, weight, target)
    rng = np.random.default_rng((layer.seed, 1))
    chosen: list[Option] = []
    for name in dict.fromkeys(name for name, _ in found):
        mine = sorted((o for o in found if o[0] == name), key=lambda o: expected[config_key(*o)])
        order = [mine[0], *(mine[1 + int(i)] for i in rng.permutation(len(mine) - 1))]
        chosen += _affordable(order, layer.problem, weight, target.core)
    keys, dense = [config_key(*option) for option in chosen], dense_keys(chosen, weight, target.kind)
    return Work(
        index, layer, weight, tuple(chosen), tuple(expected[key] for key in keys), tuple(key in dense for key in keys)
    )


def _affordable(order: Sequence[Option], problem: Problem, weight: FloatArray, core: Core) -> list[Option]:
    """The first KEEP of one family; of straight-line code as many as may be compiled, the first ones that fit."""
    size = find(order[0][0]).size
    if size is None:
        return list(order[: KEEP + 2 if problem.op == "depthwise" else KEEP])  # there is one family for depthwise
    room, kept = INSTRUCTIONS, list[Option]()
    for option in order:
        cost = size(problem, weight, core, option[1])
        if cost <= room and len(kept) < KEEP:
            room -= cost
            kept.append(option)
    return kept


def build_and_time(works: Sequence[Work], target: Target, builder: Builder, runner: Runner) -> list[Measured]:
    """Build the kernels of several layers at once, which gives all CPUs work, and time them one by one.

    A kernel that cannot be built, or is wrong, is among the failed.
    """
    batches = [Batch(Layer(str(work.index), work.layer.problem, work.weight), work.options) for work in works]
    found = []
    with Scratch() as name:
        for work, built in zip(works, build(batches, target, builder, Path(name)), strict=True):
            known = {config_key(*option): result for option, result in run(built, runner, BUDGET_MS)[0]}
            found.append(finished(work, [known[config_key(*option)] for option in work.options]))
    return found


def finished(work: Work, results: Sequence[Timing | Failure]) -> Measured:
    """A work with the result of each of its options."""
    samples, failed = [], list[tuple[str, Config, str]]()
    rows = zip(work.options, work.estimates, work.dense, results, strict=True)
    for (name, config), expected, dense, result in rows:
        if isinstance(result, Failure) and not result.kind.blames_kernel:
            continue  # of the machine: nothing is learnt of the kernel
        if isinstance(result, Failure):
            failed.append((name, dict(config), str(result)))
        else:
            samples.append(Sample(name, dict(config), expected, result.median_ms, result.iqr_ms, dense))
    layer, facts, made = work.layer, Facts.of(work.weight), tuple(samples)
    return Measured(
        work.index, layer.problem, facts, made, layer.imposed, layer.spread, layer.seed, tuple(failed), layer.scattered
    )
