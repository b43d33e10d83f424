"""The static model's times of the benchmark's kernels: `python -m benchmarks.gpu.estimates [--target cuda:sm_90]`.

For each problem the family's best configuration, what bounds it, and how many times as fast it is as the dense product
at peak, in float32 and in float16, as nodes of a graph. Nothing here is measured, and no GPU is asked.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import tesa.schedules.gpu  # noqa: F401  (registers the families)
from benchmarks.gpu.cases import Case, cases
from tesa.schedules.gpu import clock
from tesa.schedules.gpus import Gpu
from tesa.schedules.registry import find
from tesa.schedules.types import Config
from tesa.targets.target import parse_target


@dataclass(frozen=True)
class Estimate:
    """One kernel by the model. us: with its launch; dense_us: {arithmetic: of the dense product at peak}."""

    case: Case
    family: str
    config: Config
    us: float
    dense_us: dict[str, float]

    def __str__(self) -> str:
        ratios = ", ".join(f"{us / self.us:.1f}x {kind}" for kind, us in self.dense_us.items())
        return f"{self.case.name} {self.family} {self.config}: {self.us:.1f} us; dense at peak: {ratios}"


def estimates(gpu: Gpu, group: str = "") -> Iterator[Estimate]:
    """Of every case and family that applies."""
    for case in cases(group):
        weight = case.weight()
        for name in case.families:
            family, problem = find(name, "gpu"), case.problem()
            space = family.space(problem, weight, gpu)
            if not space:
                continue
            dense = {
                kind: clock.dense_us(case.m, case.k, case.n, gpu, kind) + gpu.rates.launch_us
                for kind in ("float32", "float16")
            }
            us = 1000 * family.estimate(problem, weight, gpu, space[0])
            yield Estimate(case, name, space[0], us, dense)


def main(words: list[str] | None = None) -> int:
    """Print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="cuda:sm_90")
    parser.add_argument("--only", default="", help="one group of cases")
    given = parser.parse_args(words)
    gpu = parse_target(given.target).gpu
    assert gpu is not None
    for one in estimates(gpu, given.only):
        print(one, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
