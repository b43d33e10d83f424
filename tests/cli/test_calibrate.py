"""`tesa calibrate` as typed: a few seconds of real measuring, and a device that is not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tesa import cli
from tesa.cli import calibrate, main
from tesa.costs import grid, store
from tesa.targets.target import parse_target, runs_here
from tests.costs.device import FakeDevice

Capture = pytest.CaptureFixture[str]
pytestmark = pytest.mark.skipif(not runs_here(parse_target("x86:haswell")), reason="this machine cannot run AVX2 code")


@pytest.fixture(autouse=True)
def _verb(monkeypatch: pytest.MonkeyPatch) -> None:
    if calibrate.VERB not in cli.VERBS:
        monkeypatch.setattr(cli, "VERBS", (*cli.VERBS, calibrate.VERB))


@pytest.fixture
def _small_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers that are compiled and measured in a moment."""
    monkeypatch.setattr(grid, "_CLASSES", ("linear",))
    monkeypatch.setattr(grid, "_CHANNELS", (8, 16, 24))
    monkeypatch.setattr(grid, "_PLACES", (16, 32, 49))
    monkeypatch.setattr(grid, "MIN_MACS", 0)
    monkeypatch.setattr("tesa.tune.calibration.KEEP", 1)
    monkeypatch.setattr("tesa.tune.calibrate.BATCH", 2)


@pytest.mark.usefixtures("_small_grid")
def test_it_measures_and_goes_on(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "table.json"
    words = ["calibrate", "--target", "x86:haswell", "--minutes", "0.0001", "-o", str(path), "--jobs", "1"]
    assert main([*words, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["layers"] == 2
    assert data["kernels"] == data["added"] > 0
    assert data["failed"] == []
    assert main(words) == 0
    out = capsys.readouterr().out
    assert str(path) in out
    assert "too few layers to predict anything" in out
    (kept,) = store.read(path)
    assert [layer.index for layer in kept.layers] == [0, 1, 2, 3]
    assert {"tesa", "tvm"} <= set(kept.versions)
    assert kept.updated


@pytest.mark.slow
def test_it_says_how_well_it_predicts(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    device = FakeDevice()
    monkeypatch.setattr("tesa.tune.calibrate.build_and_time", lambda works, *_: device.run(works))
    clock = iter(range(10_000))
    monkeypatch.setattr("tesa.tune.calibrate.monotonic", lambda: float(next(clock)))
    path = tmp_path / "table.json"
    assert main(["calibrate", "--target", "x86:haswell", "--minutes", "0.6", "-o", str(path), "-q"]) == 0
    out = capsys.readouterr().out
    assert "errors of times predicted for layers that were left out" in out
    assert any(line.startswith("dense") and "%" in line for line in out.splitlines())
    assert "within 10 % of the best measured kernel" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--minutes", "0"], "is not a number of minutes above 0"),
        (["--minutes", "inf"], "is not a number of minutes above 0"),
        (["--threads", "0"], "is not a whole number above 0"),
        (["--target", "x87"], "unknown target 'x87'"),
        (["-o", "."], "cannot read the cost table ."),
    ],
)
def test_wrong_use_is_one_message(words: list[str], said: str, capsys: Capture) -> None:
    assert main(["calibrate", *words]) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_measured(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopped(FakeDevice):
        def run(self, works):  # type: ignore[no-untyped-def]
            if self.works:
                raise KeyboardInterrupt
            return super().run(works)

    stopped = Stopped()
    monkeypatch.setattr("tesa.tune.calibrate.build_and_time", lambda works, *_: stopped.run(works))
    path = tmp_path / "table.json"
    assert main(["calibrate", "--target", "x86:haswell", "-o", str(path), "-q"]) == 130
    (kept,) = store.read(path)
    said = capsys.readouterr().err
    assert f"{kept.samples} kernels of {len(kept.layers)} layers are kept in {path}" in said
