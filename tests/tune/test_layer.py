"""A layer in a job: its default is what a compile would choose that finds nothing in the log."""

from __future__ import annotations

import numpy as np
import pytest

from tesa.schedules.types import Problem
from tesa.specialize.choose import LayerTask
from tesa.specialize.offer import offer
from tesa.specialize.shortlist import INSTRUCTIONS
from tesa.target import parse_target
from tesa.tune.costs.table import CostTable
from tesa.tune.layer import Layer
from tesa.tune.log import Log, Task
from tests.tune.costs import device


@pytest.fixture(scope="module")
def table() -> CostTable:
    return device.table(24)


def work() -> LayerTask:
    rng = np.random.default_rng(3)
    weight = (rng.standard_normal((128, 256)) * (rng.random((128, 256)) < 0.3)).astype(np.float32)
    return LayerTask("fc", Problem("linear", 128, 256, 196, (1, 256, 196), (1, 128, 196)), weight)


@pytest.mark.parametrize("with_table", [False, True])
def test_the_default_is_what_a_compile_measures(table: CostTable, with_table: bool) -> None:
    target, task, costs = parse_target(device.TARGET), work(), table if with_table else None
    key = Task.of(task.problem, task.weight)
    compiled = offer(task.problem, task.weight, key, target, Log(), None, None, INSTRUCTIONS, costs)
    assert list(Layer(task, target, table=costs).short) == list(compiled.options)


def test_a_table_decides_what_is_measured_first(table: CostTable) -> None:
    target, task = parse_target(device.TARGET), work()
    bare, informed = Layer(task, target), Layer(task, target, table=table)
    assert bare.expected == bare.predicted
    assert informed.expected != bare.expected
    assert informed.short != bare.short
