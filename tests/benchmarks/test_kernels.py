"""The kernel benchmark: its cases, its row of results, and that a wrong result stops it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tesa
from benchmarks.kernels import run as module
from benchmarks.kernels.cases import Case, activations, cases, weight
from benchmarks.kernels.goals import reached
from benchmarks.kernels.report import break_even, lines, print_row, print_summary, write_plot
from benchmarks.kernels.run import Session, WrongResultError, layout_ms, run
from tesa.measure.peak import Peak

SMALL = Case("b", "linear", 32, 48, 40, 0.7)


@pytest.fixture
def session(tmp_path: Path) -> Session:
    import tempfile

    limits = Peak(100.0, 10.0, 400.0)
    return Session(1, 3, 7, limits, tempfile.TemporaryDirectory(dir=tmp_path), ())


def test_every_case_of_the_groups_is_there_once() -> None:
    every = cases()
    assert len({(c.group, c.name, c.dtype) for c in every}) == len(every)
    assert {c.group for c in every} == set("abcdefghi")
    assert {c.sparsity for c in cases("a")} == {0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99}
    assert len(cases("b")) == 9 * 4
    assert {c.dtype for c in cases("hi")} == {"int8"}
    assert {c.group for c in cases(quick=True)} == set("abcdefghi")
    assert len(cases(quick=True)) < len(every) / 4


@pytest.mark.parametrize(
    ("case", "share"),
    [
        (Case("d", "linear", 64, 96, 8, 0.5, two_four=True), 0.5),
        (Case("e", "linear", 64, 96, 8, 0.75, (16, 1)), 0.25),
        (Case("e", "linear", 64, 96, 8, 0.75, (32, 32)), 0.25),
        (Case("g", "depthwise", 64, 9, 49, 3 / 9, kernel=3, size=7, taps=3), 6 / 9),
        (Case("a", "linear", 64, 96, 8, 0.9), 0.1),
    ],
)
def test_weights_have_the_pattern_they_say(case: Case, share: float) -> None:
    w = weight(case, np.random.default_rng(0)).reshape(case.m, -1)
    assert np.count_nonzero(w) / w.size == pytest.approx(share, abs=0.13)
    if case.two_four:
        assert (np.count_nonzero(w.reshape(case.m, -1, 4), axis=2) == 2).all()
    if case.block != (1, 1):
        r, c = case.block
        tiles = (w != 0).reshape(case.m // r, r, case.k // c, c).sum(axis=(1, 3))
        assert set(np.unique(tiles)) <= {0, r * c}


def test_a_row_of_results(session: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = run(SMALL, session)
    wanted = {"group", "case", "threads", "dtype", "sparsity", "tesa_ms", "peers", "best_peer", "ratio"}
    assert wanted | {"effective_gflops", "limit_fraction", "inner_ms"} <= set(row)
    assert json.loads(json.dumps(row)) == row
    assert 0 <= row["inner_ms"] <= row["tesa_ms"]
    density = np.count_nonzero(weight(SMALL, np.random.default_rng([7, *SMALL.name.encode()]))) / (32 * 48)
    assert row["effective_gflops"] == pytest.approx(row["dense_gflops"] * density)
    if row["peers"]:
        assert row["ratio"] == pytest.approx(row["peers"][row["best_peer"]] / row["tesa_ms"])
    other = {**row, "sparsity": 0.9, "peers": {"onnxruntime": 1.0}, "best_peer": "onnxruntime", "ratio": 2.0}
    print_row(row)
    print_summary([row, other], ("openvino",))
    text = capsys.readouterr().out
    assert "32x48x40 unstructured 70%" in text
    assert "not installed: openvino" in text
    write_plot([{**other, "sparsity": 0.5}, other], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_few_columns_are_held_against_the_bandwidth(session: Session) -> None:
    row = run(replace(SMALL, n=1), session)
    assert row["bandwidth_fraction"] > 0


def test_a_wrong_result_stops_it(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    right = module._reference

    def off(case: Case, w: Any, x: Any) -> Any:
        return right(case, w, x) + 0.01 * np.abs(right(case, w, x)).max()

    monkeypatch.setattr(module, "_reference", off)
    with pytest.raises(WrongResultError, match="b 32x48x40 unstructured 70%: tesa differs from NumPy"):
        run(SMALL, session)


def test_layout_time_is_of_the_copies_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a row's work w and copies C the few rows take C + w, all rows C + m w: C comes out exactly."""
    kernel = tesa.kernel(weight(SMALL, np.random.default_rng(0)), n=40, family="block", measure=False)
    timing = module.Timing(2.0 + 0.5, 2.5, 0.0, 3)
    monkeypatch.setattr(module, "measure", lambda *_, **__: [timing])
    part = kernel.plan.parts[0]
    assert layout_ms(kernel, part, 2.0 + 32 * 0.5) == pytest.approx(2.0)


def test_one_column_needs_no_copies() -> None:
    w = weight(replace(SMALL, k=96), np.random.default_rng(0))
    for form in ("vector", "sliced"):
        kernel = tesa.kernel(w, n=1, family=form, measure=False)
        assert layout_ms(kernel, kernel.plan.parts[0], 1.0) == 0.0


def test_activations_are_what_the_operator_takes() -> None:
    rng = np.random.default_rng(0)
    assert activations(SMALL, rng).shape == (48, 40)
    assert activations(replace(SMALL, dtype="int8"), rng).dtype == np.uint8
    conv = Case("c", "conv2d", 8, 36, 49, 0.8, kernel=3, size=7)
    assert activations(conv, rng).shape == (1, 4, 7, 7)


def test_goals_are_held_against_mean_and_least() -> None:
    def row(ratio: float, sparsity: float, pattern: str = "unstructured") -> dict[str, Any]:
        return {"group": "b", "pattern": pattern, "dtype": "float32", "sparsity": sparsity, "ratio": ratio}

    rows = [row(4.0, 0.9), row(1.0, 0.9), row(2.0, 0.7), row(0.9, 0.7), row(1.0, 0.0, "dense")]
    assert reached(rows) == [
        ["b, 90 %", "2", "2.00", "1.00", "1.7 / 1", "yes"],
        ["b, 70 %", "2", "1.34", "0.90", "1.2 / 0.95", "no"],
        ["dense, float32", "1", "1.00", "1.00", "0.9 / 0.75", "yes"],
    ]


def test_a_line_begins_with_the_dense_kernel_and_breaks_even_once() -> None:
    def row(pattern: str, sparsity: float, tesa: float) -> dict[str, Any]:
        facts = {"group": "b", "case": f"8x8x8 {pattern}", "pattern": pattern, "dtype": "float32"}
        return {**facts, "sparsity": sparsity, "tesa_ms": tesa, "peers": {"openvino": 1.0, "mkl sparse": 0.1}}

    found = lines([row("unstructured", 0.5, 2.0), row("dense", 0.0, 1.0), row("unstructured", 0.9, 0.5)])
    assert found == {"b 8x8x8 unstructured": [(0.0, 1.0), (0.5, 0.5), (0.9, 2.0)]}
    assert break_even(found["b 8x8x8 unstructured"]) == pytest.approx(0.7)
    assert break_even([(0.0, 1.0), (0.5, 2.0)]) is None
    assert break_even([(0.0, 0.9), (0.5, 0.8)]) is None


def test_a_layer_from_codes_to_codes(session: Session) -> None:
    case = Case("i", "linear", 32, 64, 20, 0.75, dtype="int8", codes=True)
    row = run(case, session)
    assert row["inner_ms"] is None
    assert {"onnxruntime codes"} <= set(row["peers"]) <= {"onnxruntime codes", "openvino codes"}
    rng = np.random.default_rng(0)
    expected = module._reference(case, weight(case, rng), activations(case, rng))
    assert 25 < expected.std() < 60
    with pytest.raises(WrongResultError):
        module._check(case, "tesa", expected + np.uint8(2), expected)


def test_integers_have_to_be_exact() -> None:
    case = Case("h", "linear", 8, 8, 8, 0.0, dtype="int8")
    expected = np.full((8, 8), 1_000_000)
    module._check(case, "tesa", expected.astype(np.int32), expected)
    with pytest.raises(WrongResultError, match="tesa differs from NumPy"):
        module._check(case, "tesa", (expected + 1).astype(np.int32), expected)
    module._check(case, "a peer that sums in float32", (expected + 1).astype(np.float32), expected)
