"""The static model of time: what it says follows the counts, and the figures that stand in its documentation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tesa.schedules.gpu import clock
from tesa.schedules.gpus import Work
from tesa.schedules.registry import find
from tesa.targets.cuda import GPUS
from tests.gpu.problems import linear

H200 = GPUS["sm_90"]
SHAPE = clock.Shape(blocks=132 * 8, threads=256)


@pytest.mark.parametrize(
    ("work", "bound"),
    [
        (Work(fmas=4e6), "fma"),
        (Work(others=4e6), "issue"),
        (Work(loads=4e6, ahead=1e6), "shared"),
        (Work(loads=2e5, ahead=1.0), "latency"),
        (Work(l2=1e9), "l2"),
        (Work(memory=1e9), "memory"),
        (Work(matrices=((H200.matrices[0], 1e7),)), "matrix"),
        (Work(code=1e6), "code"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_the_slowest_part_bounds_a_kernel(work: Work, bound: str) -> None:
    found = clock.time(replace(work, fmas=work.fmas * 1.2), H200, SHAPE)
    if bound == "fma":  # a multiply-add is an instruction, too: both are one a cycle and scheduler
        assert found.bound in ("fma", "issue")
    else:
        assert found.bound == bound
    assert found.us == pytest.approx(max(found.parts.values()) + H200.rates.launch_us)
    assert clock.time(work, H200, SHAPE, graph=True).us < clock.time(work, H200, SHAPE).us


def test_what_does_not_fit_takes_for_ever() -> None:
    assert clock.time(Work(registers=300), H200, clock.Shape(1, 1024)).us == float("inf")


def test_half_of_the_multiprocessors_take_twice_as_long() -> None:
    def arithmetic(blocks: int) -> float:
        return clock.time(Work(fmas=1e7, registers=32), H200, clock.Shape(blocks, 1024)).parts["fma"]

    assert arithmetic(66) == pytest.approx(2 * arithmetic(132))
    assert arithmetic(133) > 1.9 * arithmetic(132) / 2 * 132 / 133


def _speedup(density: float) -> float:
    """Of the best unrolled kernel of 1024 x 1024 x 1024 over dense float32 at peak, both as nodes of a graph."""
    rng = np.random.default_rng(0)
    weight = (rng.random((1024, 1024)) < density).astype(np.float32)
    family, problem = find("unrolled", "gpu"), linear(1024, 1024, 1024)
    best = family.space(problem, weight, H200)[0]
    dense = clock.dense_us(1024, 1024, 1024, H200) + H200.rates.launch_us
    return dense / (family.estimate(problem, weight, H200, best) * 1000)


def test_a_product_with_90_percent_zeros_is_three_times_as_fast_as_a_dense_one() -> None:
    assert _speedup(0.1) >= 3.0
    assert _speedup(0.05) >= _speedup(0.1) * 0.99
