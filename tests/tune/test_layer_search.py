"""A layer in a job: its default is what a compile would choose that finds nothing in the log."""

from __future__ import annotations

import numpy as np
import pytest

from tesa.choose.competitors import competitors
from tesa.costs.table import CostTable
from tesa.layers.layer import Layer
from tesa.records.emitted import EmittedByFamilies
from tesa.records.log import Log, Record
from tesa.records.record import STAMP
from tesa.schedules import registry
from tesa.schedules.types import Problem
from tesa.targets.target import parse_target
from tesa.tune.layer_search import LayerSearch
from tesa.tune.search.elsewhere import learn
from tests.costs import device
from tests.tune import fake


@pytest.fixture(scope="module")
def table() -> CostTable:
    return device.table(24)


def work() -> Layer:
    rng = np.random.default_rng(3)
    weight = (rng.standard_normal((128, 256)) * (rng.random((128, 256)) < 0.3)).astype(np.float32)
    return Layer("fc", Problem("linear", 128, 256, 196, (1, 256, 196), (1, 128, 196)), weight)


@pytest.mark.slow
@pytest.mark.parametrize("with_table", [False, True])
def test_the_default_is_what_a_compile_measures(table: CostTable, with_table: bool) -> None:
    target, task, costs = parse_target(device.TARGET), work(), table if with_table else None
    compiled = competitors(task, target, Log(), cpus=(), table=costs)
    assert list(LayerSearch(task, target, table=costs).short) == list(compiled.options)


def test_a_table_decides_what_is_measured_first(table: CostTable) -> None:
    target, task = parse_target(device.TARGET), work()
    bare, informed = LayerSearch(task, target), LayerSearch(task, target, table=table)
    assert bare.expected == bare.predicted
    assert informed.expected != bare.expected
    assert informed.short != bare.short


@pytest.fixture
def _families(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_FAMILIES", fake.families())


@pytest.mark.usefixtures("_families")
def test_a_job_takes_only_records_of_its_devices_and_of_the_code_of_today() -> None:
    layer, log = LayerSearch(fake.layer(), fake.TARGET), Log()
    options, work = layer.space.options, layer.work
    emitted = EmittedByFamilies(work.problem, work.weight, fake.TARGET, layer.task.pattern.digest)
    facts = [("fake", 2, True), ("other", 3, True), ("fake", 1, False), ("fake", 2, True)]
    log.append(
        [
            Record(
                layer.task, fake.TARGET.name, {"cpu": cpu}, *option, 1.0, 1.0, time=f"2026-01-0{day}",
                code=emitted(*option) if current else "old", versions={STAMP: "" if current else "of old files"},
            )
            for option, (cpu, day, current) in zip(options, facts, strict=False)
        ]
    )  # fmt: skip
    other = Record(layer.task, fake.TARGET.name, {"cpu": "other"}, *options[3], 9.0, 9.0, code=emitted(*options[3]))
    log.append([other])
    layer.recall(log, "fake")
    assert set(layer.records) == {layer.space.keys[0], layer.space.keys[3]}
    assert {record.median_ms for record in layer.records.values()} == {1.0}
    every = LayerSearch(fake.layer(), fake.TARGET)
    every.recall(log)
    assert set(every.records) == {every.space.keys[i] for i in (0, 1, 3)}


@pytest.mark.usefixtures("_families")
def test_a_job_learns_from_its_devices_only() -> None:
    layer, log = LayerSearch(fake.layer("near", 1), fake.TARGET), Log()
    log.append(
        [
            Record(layer.task, fake.TARGET.name, {"cpu": "fake"}, name, config, fake.law(name, config), 0.1)
            for name, config in layer.space.options[::7][:30]
        ]
    )
    wanted = [(fake.layer("mine", 4, m=12).problem, 0.5)]
    assert list(learn(log, fake.TARGET, wanted, set(), "fake").lessons) == [layer.task.key]
    assert learn(log, fake.TARGET, wanted, set(), "other").lessons == {}
