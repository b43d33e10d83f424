"""Calibration: it ends in time, goes on where it ended, and loses nothing on the way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tesa.base.progress import Event
from tesa.costs import store
from tesa.costs.grid import grid_layer
from tesa.costs.sample import Measured
from tesa.errors import CheckFailed, UsageError
from tesa.targets.target import parse_target, runs_here
from tesa.tune.backend import backend
from tesa.tune.calibrate import BATCH, calibrate
from tesa.tune.calibration import Work, build_and_time, plan
from tests.costs.device import FakeDevice

HERE = runs_here(parse_target("x86:haswell"))
pytestmark = pytest.mark.skipif(not HERE, reason="this machine cannot run AVX2 code")


class Clock:
    """Every batch takes 20 seconds."""

    def __init__(self, device: FakeDevice) -> None:
        self.device = device

    def __call__(self) -> float:
        return 20.0 * len(self.device.works) / BATCH


class Stopped(FakeDevice):
    """Ctrl-C comes during the third batch."""

    def run(self, works: Sequence[Work]) -> list[Measured]:
        if len(self.works) >= 2 * BATCH:
            raise KeyboardInterrupt
        return super().run(works)


@pytest.mark.slow
def test_it_ends_in_time_and_a_second_run_goes_on(tmp_path: Path) -> None:
    path, device, events = tmp_path / "table.json", FakeDevice(), list[Event]()
    made = calibrate(
        "x86:haswell", minutes=1, path=path, measure=device.run, clock=Clock(device), progress=events.append
    )
    assert [layer.index for layer in made.table.layers] == list(range(3 * BATCH))
    assert made.added == made.table.samples > 0
    assert made.table.seconds == 60
    assert events[-1].done == events[-1].total == 60
    again = FakeDevice()
    more = calibrate("x86:haswell", minutes=1, path=path, measure=again.run, clock=Clock(again))
    assert [layer.index for layer in more.table.layers] == list(range(6 * BATCH))
    assert [work.index for work in again.works] == list(range(3 * BATCH, 6 * BATCH))
    assert more.added == more.table.samples - made.table.samples
    assert more.table.started == made.table.started
    (kept,) = store.read(path)
    assert kept.samples == more.table.samples
    assert set(kept.shapes) == set(more.table.families)


@pytest.mark.slow
def test_what_is_measured_when_it_is_stopped_is_kept(tmp_path: Path) -> None:
    path, device = tmp_path / "table.json", Stopped()
    with pytest.raises(KeyboardInterrupt):
        calibrate("x86:haswell", minutes=10, path=path, measure=device.run, clock=Clock(device))
    (kept,) = store.read(path)
    assert [layer.index for layer in kept.layers] == list(range(2 * BATCH))
    assert [file.name for file in tmp_path.iterdir()] == ["table.json"]
    after = FakeDevice()
    more = calibrate("x86:haswell", minutes=0.4, path=path, measure=after.run, clock=Clock(after))
    assert [layer.index for layer in more.table.layers] == list(range(3 * BATCH))


@pytest.mark.slow
def test_kernels_that_fail_are_told_and_do_not_count(tmp_path: Path) -> None:
    device = FakeDevice(broken=3)
    made = calibrate("x86:haswell", minutes=1, path=tmp_path / "t.json", measure=device.run, clock=Clock(device))
    assert "wrong: made to be wrong" in made.failed[0]
    assert all(layer.failed for layer in made.table.layers if len(layer.samples) > 2)


def test_where_nothing_works_it_does_not_go_on_for_a_quarter_of_an_hour(tmp_path: Path) -> None:
    device = FakeDevice(broken=1)
    with pytest.raises(
        CheckFailed, match=r"no kernel can be measured on this machine; the last one: .*made to be wrong"
    ):
        calibrate("x86:haswell", minutes=10, path=tmp_path / "t.json", measure=device.run, clock=Clock(device))
    assert len(device.works) == 3 * BATCH


def test_errors_come_before_the_work(tmp_path: Path) -> None:
    device = FakeDevice()
    (tmp_path / "file").write_text("x")
    for path, said in ((tmp_path, "cannot read the cost table"), (tmp_path / "file" / "t.json", "cannot write")):
        with pytest.raises(UsageError, match=said):
            calibrate("x86:haswell", path=path, measure=device.run)
    with pytest.raises(UsageError, match="is no cost table"):
        calibrate("x86:haswell", path=tmp_path / "file", measure=device.run)
    assert not device.works


def test_code_of_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tesa.tune.calibrate.lacking", lambda target: "this machine cannot run its code")
    with pytest.raises(UsageError, match="cannot run its code, and a cost table is measured"):
        calibrate("x86:haswell", path=tmp_path / "t.json", measure=FakeDevice().run)


@pytest.mark.slow
def test_the_real_bench_measures_a_small_layer() -> None:
    target = parse_target("x86:haswell")
    index = next(i for i in range(200) if _small(i))
    work = plan(index, grid_layer(index), target)
    with backend(target, jobs=1) as place:
        (measured,) = build_and_time([work], target, place.builder, place.runner)
    assert len(measured.samples) == len(work.options)
    assert not measured.failed
    assert all(sample.ms > 0 for sample in measured.samples)


def _small(index: int) -> bool:
    problem = grid_layer(index).problem
    return problem.op == "linear" and problem.m * problem.k * problem.n < 2e5 and 1 < problem.n < 65
