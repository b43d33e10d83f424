"""Learns from the layers of other models in a log for the layers of this one.

A record tells the shape of a layer and the numbers of its pattern, not its weight. Where the non-zeros lie anywhere, or
everywhere, a weight of the same shape and density is as good as the real one for features and estimates: it is drawn
anew. Records of structured patterns are left alone.
"""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from tesa.attributes.patterns import find_pattern, patterns
from tesa.decompose.candidates import Option
from tesa.records.format import IndexEntry
from tesa.records.index import is_emulated
from tesa.records.log import Log
from tesa.records.task import window_of
from tesa.schedules.registry import find
from tesa.schedules.types import Config, Epilogue, FloatArray, Problem
from tesa.targets.target import Target
from tesa.tune.search.experience import LEAST, Experience, Lessons
from tesa.tune.search.features import tabulate

NEAREST = 3
"""Layers of the log that each layer learns from."""

_MOST = 200  # candidates of one of them
_MOST_WEIGHT = 1 << 26  # elements of a weight that is made again


def learn(
    log: Log, target: Target, problems: Sequence[tuple[Problem, float]], known: Collection[str], cpu: str | None = None
) -> Experience:
    """Lessons from the layers in the log that are most like the problems, each with its density.

    known: the keys of tasks that are not to be looked at, because they are learnt from directly. cpu: of the devices
    that measure, whose records alone count: how times of two CPUs compare depends on the kernel. None: of any CPU.
    """
    drawn = {kind.name for kind in patterns() if kind.sample is not None}
    found: dict[tuple[str, str], list[IndexEntry]] = {}
    for entry in log.entries():
        if entry.target == target.name and entry.ok and entry.kind in drawn and _counts(entry.cpu, cpu):
            found.setdefault((entry.shape, entry.digest), []).append(entry)
    layers = [entries for entries in found.values() if len(entries) >= LEAST and entries[0].key not in known]
    facts = {id(entries): json.loads(entries[0].shape) for entries in layers}
    chosen: dict[str, list[IndexEntry]] = {}
    for problem, density in problems:
        ranked = sorted(layers, key=lambda entries: _distance(problem, density, facts[id(entries)], entries[0]))
        for entries in ranked[:NEAREST]:
            if _distance(problem, density, facts[id(entries)], entries[0]) < math.inf:
                chosen[entries[0].key] = entries
    experience = Experience()
    for key, entries in chosen.items():
        experience.learn(key, _lessons(facts[id(entries)], entries[:_MOST], target))
    return experience


def _counts(measured: str, cpu: str | None) -> bool:
    return not is_emulated(measured) if cpu is None else measured == cpu


def _distance(problem: Problem, density: float, facts: Mapping[str, Any], entry: IndexEntry) -> float:
    """Between two layers: of the logarithms of their sizes. Infinite where they do not compute alike."""
    same = facts["op"] == problem.op and facts["dtype"] == problem.dtype and facts["threads"] == problem.threads
    if not same or problem.storage != "float32" or problem.dtype != "float32" or facts["m"] * facts["k"] > _MOST_WEIGHT:
        return math.inf
    pairs: list[tuple[float, float]] = [(problem.m, facts["m"]), (problem.k, facts["k"]), (problem.n, facts["n"])]
    pairs.append((max(density, 1e-3), max(1 - entry.sparsity, 1e-3)))
    return sum(abs(math.log(a / b)) for a, b in pairs)


def _lessons(facts: Mapping[str, Any], entries: Sequence[IndexEntry], target: Target) -> Lessons | None:
    try:
        problem = problem_of(facts)
    except (TypeError, ValueError):  # what a log says is no layer
        return None
    weight = _weight(facts, entries[0])
    options: list[Option] = []
    estimates, times = [], []
    for entry in entries:
        name, brace, config = entry.option.partition("{")
        estimate = _estimate(problem, weight, target, name, json.loads(brace + config))
        if estimate is not None:
            options.append((name, json.loads(brace + config)))
            estimates.append(estimate)
            times.append(entry.median_ms or math.nan)
    if len(options) < LEAST:
        return None
    return Lessons.of(
        tabulate(problem, weight, target.machine, options, estimates), np.array(estimates), np.array(times, np.float64)
    )


def _estimate(problem: Problem, weight: FloatArray, target: Target, name: str, config: Config) -> float | None:
    """None for a family or a configuration that there is no longer, or that does not fit the weight that was drawn."""
    try:
        return float(find(name, target.kind).estimate(problem, weight, target.machine, config))
    except (KeyError, ValueError, IndexError):
        return None


def problem_of(facts: Mapping[str, Any]) -> Problem:
    """The problem of a task that is plain data, in its usual shapes."""
    m, k, n, batch = (int(facts[name]) for name in ("m", "k", "n", "batch"))
    rows, window, depth = k, None, None
    if facts["window"] is not None:
        window, depth = window_of(facts["window"])
        rows = m if facts["op"] == "depthwise" else k // (window.kernel[0] * window.kernel[1])
    inside = (rows, n) if window is None else (rows, window.height, window.width)
    outside = (m, n) if window is None else (m, window.out_height, window.out_width)
    items = batch
    if depth is not None:
        items = batch // depth.out
        inside, outside = (rows // depth.taps, depth.size, *inside[1:]), (m, depth.out, *outside[1:])
    return Problem(
        facts["op"], m, k, n, (items, *inside), (items, *outside), batch, window, Epilogue(**facts["epilogue"]),
        threads=int(facts["threads"]), depth=depth,
    )  # fmt: skip


def _weight(facts: Mapping[str, Any], entry: IndexEntry) -> FloatArray:
    """Random, with that many zeros; the same for the same record."""
    rng = np.random.default_rng(int(entry.digest[:8], 16))
    shape = int(facts["m"]), int(facts["k"])
    draw = find_pattern(entry.kind).sample
    assert draw is not None  # learn() takes no others
    return draw(rng, shape, entry.sparsity, ())
