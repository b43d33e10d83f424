"""Tables say what is in the data, and nothing is cut or taken for markup."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console, RenderableType

from tesa.base.hostinfo import read_cpu
from tesa.choose.plan import Candidate, LayerPlan, Part, Plan
from tesa.doctor.checks import FAILED, INFO, MISSING, OK, Check, Diagnosis
from tesa.report.arrays import arrays_table, summaries
from tesa.report.bench import bench_view
from tesa.report.doctor import diagnosis_view
from tesa.report.plain import plain
from tesa.report.plan import explanation, plan_table
from tesa.report.times import layer_times
from tesa.report.verify import verify_view
from tesa.runtime import BenchResult, Comparison, LayerTime, Times, VerifyResult


def text(parts: Iterable[RenderableType], width: int = 300) -> str:
    console = Console(file=StringIO(), width=width)
    for part in parts:
        console.print(part)
    assert isinstance(console.file, StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def part(*candidates: Candidate, chosen: int = 0) -> Part:
    taken = candidates[chosen]
    return Part("block 4x1", 32, 410, "abc", taken.family, taken.config, candidates, "fastest of 3 measured")


INDEXED = Candidate("indexed", {"rows": 4, "tile": 64}, predicted_ms=0.4, measured_ms=0.5)
DENSE = Candidate("dense", {"rows": 8}, predicted_ms=1.0, measured_ms=1.5, dense=True)
DENSE_SLOW = Candidate("dense", {"rows": 2}, predicted_ms=0.9, measured_ms=2.0, dense=True)
TOO_BIG = Candidate("unrolled", {"rows": 16}, predicted_ms=0.3, note="90000 non-zeros are over the budget")

LAYER = LayerPlan(
    "features[0].pointwise", "conv2d", "sparse", (64, 32, 196), 0.8, "bias, relu",
    (part(INDEXED, DENSE_SLOW, DENSE, TOO_BIG),), ("zero: 80 % (user, weight)",), "a note",
)  # fmt: skip
SOFTMAX = LayerPlan("softmax", "nn.softmax", "operator", (1, 10))
PLAN = Plan("x86:cascadelake", 2, (LAYER, SOFTMAX))


def test_times_compare_measured_with_measured() -> None:
    times = layer_times(LAYER)
    assert (times.chosen_ms, times.dense_ms, times.measured, times.speedup) == (0.5, 1.5, True, 3.0)


def test_estimates_are_used_where_nothing_was_measured() -> None:
    fast, slow = (
        Candidate("indexed", predicted_ms=1.0),
        Candidate("dense", predicted_ms=4.0, measured_ms=0.1, dense=True),
    )
    times = layer_times(LayerPlan("a", "linear", "sparse", (1, 1, 1), parts=(part(fast, slow),)))
    assert (times.chosen_ms, times.dense_ms, times.measured) == (1.0, 4.0, False)


def test_times_of_parts_add_up() -> None:
    layer = LayerPlan("a", "linear", "sparse", (1, 1, 1), parts=(part(INDEXED, DENSE), part(INDEXED, DENSE)))
    assert (layer_times(layer).chosen_ms, layer_times(layer).dense_ms) == (1.0, 3.0)


def test_nothing_is_known_of_a_layer_without_parts() -> None:
    times = layer_times(SOFTMAX)
    assert (times.chosen_ms, times.dense_ms, times.speedup) == (None, None, None)


def test_the_plan_names_each_layer_and_its_gain() -> None:
    lines = text([plan_table(PLAN)]).splitlines()
    row = next(line for line in lines if "pointwise" in line).split()
    assert "Plan for x86:cascadelake, 2 threads" in lines[0]
    assert row[0] == "features[0].pointwise"  # rich would take [0] for markup
    assert [word for word in ("64x32x196", "indexed", "0.500", "1.50", "3.00x", "note") if word not in row] == []
    assert any(line.split()[:2] == ["softmax", "nn.softmax"] for line in lines)


def test_long_names_are_folded_on_a_narrow_terminal() -> None:
    folded = text([plan_table(PLAN)], width=60)
    assert "…" not in folded
    assert set("features[0].pointwise") <= set(folded)


def test_the_explanation_orders_candidates_by_time() -> None:
    lines = text(explanation(LAYER, PLAN)).splitlines()
    rows = [line for line in lines if "rows=" in line]
    found = [word for row in rows for word in row.split() if word.startswith("rows=")]
    assert found == ["rows=4", "rows=8", "rows=2", "rows=16"]
    assert [row.lstrip().startswith("*") for row in rows] == [True, False, False, False]
    assert "3.00x" in rows[1]
    assert "over the budget" in rows[3]
    whole = "\n".join(lines)
    for piece in (
        "zero: 80 % (user, weight)",
        "fastest of 3 measured",
        "block 4x1, 32 bits, 410 non-zeros",
        "bias, relu",
    ):
        assert piece in whole


def test_bench_says_how_much_faster() -> None:
    ours, theirs = Times("tesa", 2.0, 1.9, 0.1, 2.2, 100), Times("onnxruntime", 5.0, 4.8, 0.2, 5.5, 100)
    layers = (LayerTime("conv1", "k0", 1.5, 0.75), LayerTime("fc", "k1", 0.5, 0.25))
    shown = text(bench_view(BenchResult(ours, (theirs,), layers, 1)))
    assert "2.50x" in next(line for line in shown.splitlines() if line.startswith("onnxruntime"))
    assert "75 %" in next(line for line in shown.splitlines() if line.startswith("conv1"))
    alone = text(bench_view(BenchResult(ours, (), (), 1)))
    assert "faster" not in alone
    assert "noisy" not in alone
    layers = (LayerTime("fast", "f", 0.01, 0.1), LayerTime("slow", "g", 0.0900, 0.9))
    profiled = text(bench_view(BenchResult(ours, (), layers, 1)))
    assert profiled.index("slow") < profiled.index("fast")
    assert "0.0900" in profiled
    loud = text(bench_view(BenchResult(replace(ours, iqr_ms=ours.median_ms / 4), (theirs,), (), 1)))
    assert f"noisy: the spread of {ours.name} is 25 % of its median" in loud


def test_verify_shows_what_differs() -> None:
    good, bad = Comparison("logits", 1e-6, 1e-7, True), Comparison("[conv]", 0.5, 0.1, False)
    shown = text(verify_view(VerifyResult((good,), (bad,)))).splitlines()
    assert next(line for line in shown if line.startswith("logits")).split() == ["logits", "1.0e-06", "1.0e-07", "ok"]
    assert next(line for line in shown if line.startswith("[conv]")).split()[-1] == "FAILED"


def test_the_doctor_shows_every_check() -> None:
    checks = tuple(Check("g", f"name-{status}", status, "found it", "do it") for status in (OK, FAILED, MISSING, INFO))
    shown = text(diagnosis_view(Diagnosis(checks, read_cpu())))
    for status, word in {OK: "ok", FAILED: "FAILED", MISSING: "missing"}.items():
        assert word in next(line for line in shown.splitlines() if f"name-{status}" in line)


def test_arrays_with_nan_and_without_elements() -> None:
    found = summaries({"a": np.array([[1.0, np.nan]]), "b": np.zeros((0, 3), np.int32), "c": np.array([True, False])})
    assert (found[0].mean, found[0].nans, found[1].mean, found[2].mean) == (1.0, 1, None, 0.5)
    assert "1x2" in text([arrays_table(found)])


@dataclass(frozen=True)
class _Thing:
    path: Path
    values: tuple[np.float32, ...]


def test_plain_data_is_json() -> None:
    data = plain({"thing": _Thing(Path("a/b"), (np.float32(1), np.float32(np.inf))), 3: {2, 1}, "n": np.int64(4)})
    assert json.loads(json.dumps(data, allow_nan=False)) == {
        "thing": {"path": "a/b", "values": [1.0, None]}, "3": [1, 2], "n": 4,
    }  # fmt: skip
    with pytest.raises(TypeError, match="object is no plain data"):
        plain({"x": object()})
