"""A device that is not there: times follow a known law, with noise, so that a test knows the right answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tesa.costs import CostTable
from tesa.costs.fingerprint import fingerprint
from tesa.costs.grid import grid_layer
from tesa.costs.sample import Measured
from tesa.measure.failure import Failure, FailureKind
from tesa.measure.timing import Timing
from tesa.schedules.types import Config, Problem
from tesa.targets.target import Target, parse_target
from tesa.tune.calibrate import learnt
from tesa.tune.calibration import Work, finished, plan

TARGET = "x86:haswell"


def law(problem: Problem, name: str, config: Config, estimate_ms: float) -> float:
    """Milliseconds on this device: estimates are off by what this test made up."""
    off = {"dense": 0.3, "block": -0.2, "indexed": 0.5, "unrolled": 0.1, "vector": -0.3}.get(name, 0.2)
    off += 0.15 * math.log2(max(problem.n, 1)) * (0.3 if name == "indexed" else 0.1)
    off += 0.12 * config.get("vectors", 0) - 0.04 * config.get("rows", 0) + 0.5 * config.get("pack", 0)
    off -= 0.05 * math.log2(problem.m)
    return estimate_ms * math.exp(off)


class FakeDevice:
    """Measures by the law. noise: deviation of the logarithm; broken: every such kernel fails, 0 for none."""

    def __init__(self, noise: float = 0.03, broken: int = 0) -> None:
        self.noise, self.broken, self.works = noise, broken, list[Work]()

    def run(self, works: Sequence[Work]) -> list[Measured]:
        """Each work with its times."""
        self.works += works
        return [self._one(work) for work in works]

    def _one(self, work: Work) -> Measured:
        rng = np.random.default_rng(work.index)
        results: list[Timing | Failure] = []
        for number, ((name, config), expected) in enumerate(zip(work.options, work.estimates, strict=True)):
            ms = law(work.layer.problem, name, config, expected) * math.exp(self.noise * rng.standard_normal())
            good = self.broken == 0 or (number + 1) % self.broken
            results.append(Timing(ms, ms, 0.01 * ms, 5) if good else Failure(FailureKind.WRONG, "made to be wrong"))
        return finished(work, results)


def table(layers: int, target: str = TARGET, noise: float = 0.03, seed: int = 0) -> CostTable:
    """A table of the first layers of the grid, measured on the fake device."""
    code: Target = parse_target(target)
    works = [plan(index, grid_layer(index, seed), code) for index in range(layers)]
    measured = tuple(FakeDevice(noise).run(works))
    made = CostTable("haswell", "no CPU at all", target, 1, seed, measured, updated="2026-01-02T03:04:05+00:00")
    names = sorted({sample.family for layer in measured for sample in layer.samples})
    return learnt(replace(made, fingerprints={name: fingerprint(name, made.core) for name in names}))
