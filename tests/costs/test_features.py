"""The numbers that say where a kernel stands: one for each name, finite, and right where they can be counted."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tesa.costs.facts import Facts
from tesa.costs.features import numbers as numbers_of
from tesa.costs.grid import grid_layer
from tesa.schedules.types import Config, Core, Problem, Window

CORE = Core("avx512", 16, 32)
CONFIGS: tuple[Config, ...] = (
    {"rows": 4, "vectors": 4, "pack": 1},
    {"rows": 2, "vectors": 4, "kblock": 64, "pack": 0},
    {"panel": 2, "list": 1},
    {"window": 2, "share": 4},
    {"rows": 8, "every": 0},
    {},
)


def numbers(problem: Problem, facts: Facts, config: Config, estimate_ms: float = 0.1) -> dict[str, float]:
    return numbers_of(problem, facts, CORE, config, estimate_ms, sorted(config))


@pytest.mark.parametrize("config", CONFIGS)
def test_a_finite_number_for_each_name(config: Config) -> None:
    for index in range(16):
        problem = grid_layer(index).problem
        for weight in (np.zeros((problem.m, problem.k), np.float32), np.eye(problem.m, problem.k, dtype=np.float32)):
            assert all(math.isfinite(value) for value in numbers(problem, Facts.of(weight), config).values())


def test_ragged_ends() -> None:
    problem = Problem("linear", 10, 8, 24, (1, 8, 24), (1, 10, 24))
    found = numbers(problem, Facts.full(8), {"rows": 4, "vectors": 2})
    assert found["ragged n"] == pytest.approx(math.log2(32 / 24))
    assert found["ragged rows"] == pytest.approx(math.log2(12 / 10))
    assert numbers(problem, Facts.full(8), {"share": 2, "window": 2})["rows in lanes"] == pytest.approx(math.log2(1.6))


def test_rows_of_a_depthwise_kernel_are_those_of_the_image() -> None:
    window = Window(14, 14, (3, 3), (1, 1), (1, 1, 1, 1))
    problem = Problem("depthwise", 5, 9, 196, (1, 5, 14, 14), (1, 5, 14, 14), window=window)
    weight = np.zeros((5, 9), np.float32)
    weight[:, :3] = 1
    facts = Facts.of(weight)
    assert numbers(problem, facts, {"rows": 4, "every": 0})["ragged rows"] == pytest.approx(math.log2(16 / 14))
    assert numbers(problem, facts, {"rows": 4, "every": 0})["taps"] == pytest.approx(math.log2(3))
    assert numbers(problem, facts, {"rows": 4, "every": 1})["taps"] == pytest.approx(math.log2(9))


def test_the_inner_loop_of_a_panel_is_its_live_columns() -> None:
    problem = Problem("linear", 64, 64, 64, (1, 64, 64), (1, 64, 64))
    weight = np.zeros((64, 64), np.float32)
    weight[::4, :16] = 1  # every panel of four rows has sixteen live columns, a row four of them on average
    facts = Facts.of(weight)
    assert numbers(problem, facts, {"rows": 4, "vectors": 1})["inner length"] == pytest.approx(4)
    assert numbers(problem, facts, {"rows": 1, "vectors": 1})["inner length"] == pytest.approx(2)
    by_row = numbers(problem, facts, {"rows": 4, "vectors": 1, "kblock": 0})
    assert by_row["inner length"] == pytest.approx(2)
