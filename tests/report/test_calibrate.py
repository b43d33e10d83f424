"""The report of a calibration: where the table is, how far it is off, what failed."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from tesa.costs import CostTable
from tesa.costs.quality import FamilyQuality, Quality
from tesa.report.calibrate import calibration_data, calibration_view
from tesa.tune.calibrate import Calibration

TABLE = CostTable("znver5", "some CPU", "x86:znver5", 2, seconds=90.0)
FAMILIES = (FamilyQuality("dense", 40, 10, 0.051, 0.12, 0.2, 0.3), FamilyQuality("sliced", 9, 8, 0.2, 1.1, 2.3, 0.5))
MADE = Calibration(TABLE, Path("t.json"), Quality(FAMILIES, 10, 0.8, 0.052, 0.7), 49, ())


def shown(made: Calibration) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=200)
    for part in calibration_view(made):
        console.print(part)
    return stream.getvalue()


def test_errors_of_each_family_however_large() -> None:
    out = shown(MADE)
    assert out.startswith("t.json: some CPU (znver5), 2 threads, 0 kernels of 0 layers")
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line.split()}
    assert rows["dense"] == "dense 40 10 5.1 % 12.0 % 20.0 % 30.0 %".split()
    assert rows["sliced"] == "sliced 9 8 20.0 % 110 % 230 % 50.0 %".split()
    assert "80 % within 10 % of the best measured kernel (70 % by bare estimates); 5.2 % slower on average" in out


def test_what_failed_is_told() -> None:
    out = shown(replace(MADE, failed=tuple(f"layer {i}: wrong" for i in range(9))))
    assert "9 kernels failed and do not count" in out
    assert out.count(": wrong") == 5
    assert calibration_data(replace(MADE, failed=("a",)))["failed"] == ["a"]


def test_without_enough_layers_it_says_what_to_do() -> None:
    out = shown(replace(MADE, quality=Quality((), 0, None, None, None)))
    assert "run tesa calibrate again, it goes on from here" in out
    assert calibration_data(MADE)["quality"]["near"] == 0.8
