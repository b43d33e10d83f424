"""On a narrow terminal columns are left out before words are broken."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console, RenderableType

from tesa.choose.plan import Candidate, LayerPlan, Part, Plan
from tesa.report.plan import duration, plan_table
from tesa.report.table import FITTED, PIPE, FittedTable
from tesa.report.verify import verify_view
from tesa.runtime import Comparison, VerifyResult


def lines(shown: RenderableType, width: int) -> list[str]:
    console = Console(file=StringIO(), width=width)
    console.print(shown)
    assert isinstance(console.file, StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def plan() -> Plan:
    chosen = Candidate("unrolled", {"rows": 4}, predicted_ms=0.005, measured_ms=0.005867)
    dense = Candidate("dense", {}, predicted_ms=0.4, measured_ms=0.3134, dense=True)
    part = Part("unstructured", 32, 1638, "abc", "unrolled", {"rows": 4}, (chosen, dense), "fastest")
    layers = [
        LayerPlan(
            f"features.{i}.pointwise", "conv2d", "sparse", (256, 256, 16), 0.9, "bias+relu6", (part,), (), "a note"
        )
        for i in range(12)
    ]
    return Plan("x86:cascadelake", 1, (*layers, LayerPlan("13.softmax", "nn.softmax", "operator", (1, 10))))


@pytest.mark.parametrize("width", [80, 100, 119])
def test_every_row_of_a_plan_is_one_line(width: int) -> None:
    shown = lines(plan_table(plan()), width)
    assert max(map(len, shown)) <= width
    rows = [line for line in shown if "pointwise" in line]
    assert [row.split()[0] for row in rows] == [f"features.{i}.pointwise" for i in range(12)]
    assert all("unrolled" in row and "0.00587" in row for row in rows)
    assert len(shown) == 3 + 13 + 1
    assert shown[-1].startswith(f"left out to fit {width} columns: note")


def test_a_wide_terminal_gets_everything() -> None:
    shown = lines(plan_table(plan()), 200)
    for word in ("a note", "conv2d", "unstructured", "90 %", "0.00587", "0.313"):
        assert word in shown[3]
    assert not any("left out" in line for line in shown)


def test_a_plan_fits_a_pipe_and_a_line_says_how_to_see_the_rest() -> None:
    shown = lines(plan_table(plan()), PIPE)
    assert max(map(len, shown)) <= FITTED
    assert all(word in shown[3] for word in ("features.0.pointwise", "unrolled", "90 %", "0.00587"))
    assert shown[-1].startswith("left out to fit 100 columns: note")
    assert shown[-1].endswith(f"COLUMNS={PIPE - 1} shows all")
    assert not any("left out" in line for line in lines(plan_table(plan()), PIPE - 1))


def test_nothing_is_left_out_where_all_fits() -> None:
    shown = lines(FittedTable(["layer", "note"], [["a", "b"]], optional=["note"]), 40)
    assert shown[-1].split() == ["a", "b"]


def test_what_cannot_be_spared_is_folded_not_cut() -> None:
    shown = lines(FittedTable(["layer", "note"], [["x" * 50, "b"]], optional=["note"]), 40)
    assert sum(line.count("x") for line in shown) == 50
    assert shown[-1] == "left out to fit 40 columns: note"


def test_durations() -> None:
    assert [duration(ms) for ms in (0.00001, 0.05, 999.6, 1000)] == ["0.0100 us", "50.0 us", "1000 ms", "1.00 s"]


def test_a_table_with_a_limit_keeps_to_it_in_a_pipe_as_well() -> None:
    rows = [["x" * 30, "y" * 90, "1"]]
    shown = lines(FittedTable(["layer", "function", "ms"], rows, optional=["function"], most=100), 400)
    assert max(map(len, shown)) <= 100
    assert "x" * 30 in shown[-2]
    assert shown[-1] == "left out to fit 100 columns: function"
    long = lines(FittedTable(["layer", "ms"], [["x" * 150, "1"]], optional=[], most=100), 400)
    assert max(map(len, long)) <= 100
    assert sum(line.count("x") for line in long) == 150


def test_numbers_beside_a_long_name_stay_in_one_piece() -> None:
    name = "StatefulPartitionedCall/model/dense/BiasAdd:0"
    found = VerifyResult((Comparison(name, 1.2e-5, 3.4e-6, True, dead=3, channels=9, tolerance="0.1"),), ())
    for width, rows in ((200, 1), (80, 2)):
        shown = [line for part in verify_view(found) for line in lines(part, width)]
        assert max(map(len, shown)) <= width
        row = " ".join(shown[-rows - 1 : -1])
        assert (
            row.split()
            == f"{name} 1.2e-05 3.4e-06 ok 3 of 9 channels are dead, not compared".replace(
                "05 ", "05 " if rows == 1 else "05, "
            ).split()
        )
