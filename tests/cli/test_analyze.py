"""`tesa analyze` as typed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from tesa import cli
from tesa.cli import analyze, main
from tesa.models import digits_path
from tests.costs import device

Capture = pytest.CaptureFixture[str]
MODEL = str(digits_path())


@pytest.fixture(autouse=True)
def _verb(monkeypatch: pytest.MonkeyPatch) -> None:
    if analyze.VERB not in cli.VERBS:
        monkeypatch.setattr(cli, "VERBS", (*cli.VERBS, analyze.VERB))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> str:
    from tesa.costs import store

    path: Path = tmp_path_factory.mktemp("costs") / "haswell.json"
    store.write(path, device.table(24))
    return str(path)


@pytest.fixture(scope="module")
def told(table: str) -> Callable[..., Any]:
    """What the model is said to cost by that table, as JSON; each question is asked once."""

    @cache
    def ask(*words: str) -> Any:
        with redirect_stdout(StringIO()) as out:
            assert main(["analyze", MODEL, "--target", "x86:haswell", "--table", table, "--json", *words]) == 0
        return json.loads(out.getvalue())

    return ask


def test_a_table_of_the_layers(table: str, capsys: Capture) -> None:
    assert main(["analyze", MODEL, "--target", "x86:haswell", "--table", table, "--impose", "0.9:block=4x4"]) == 0
    out = capsys.readouterr().out
    (row,) = [line for line in out.splitlines() if line.startswith("block5.pointwise")]
    assert "256x256x64" in row
    assert "block 4x4" in row
    assert "90 %" in row
    assert "all 20 weight layers: dense" in out
    assert "by the cost table of no CPU at all (haswell), 1 thread" in out
    assert "~" not in row
    (line,) = [line for line in out.splitlines() if line.startswith("all 20 weight layers")]
    assert re.search(r"gain [0-9.]+x \([0-9.]+x - [0-9.]+x\)", line)
    assert "decompositions of a weight into several kernels, which may be faster still, are not tried" in out


@pytest.mark.slow
def test_json_is_one_document_with_the_ranges(told: Callable[..., Any]) -> None:
    data = told("--impose", "stem=0.5")
    rows = {row["layer"]: row for row in data["layers"]}
    assert rows["stem"]["imposed"] == "0.5:unstructured"
    dense = rows["block5.pointwise"]["dense"]
    assert dense["low_ms"] < dense["ms"] < dense["high_ms"]
    assert rows["block5.pointwise"]["break_even"]["pattern"] == "unstructured"
    assert data["dense_ms"][0] > data["sparse_ms"][0] > 0


@pytest.mark.slow
def test_where_no_table_fits_it_says_so(capsys: Capture) -> None:
    assert main(["analyze", MODEL, "--target", "x86:skx", "--threads", "7"]) == 0
    out = capsys.readouterr().out
    assert "no cost table fits x86:skx with 7 threads: these are bare estimates" in out
    assert "tesa calibrate --threads 7" in out
    assert "~" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--impose", "0.9:blocks=4"], "unknown pattern 'blocks=4'; expected 0.9, 0.9:unstructured"),
        (["--impose", "1.5"], "is no share of zeros from 0 to below 1"),
        (["--impose", "nobody=0.9"], "no layer of that name has a weight"),
        (["--impose", "0.9", "--impose", "0.8"], "two patterns are imposed on all layers"),
        (["--table", "nowhere.json"], "cannot read the cost table nowhere.json"),
        (["--target", "x87"], "unknown target 'x87'"),
        (["--threads", "0"], "is not a whole number above 0"),
    ],
)
def test_wrong_use_is_one_message(words: list[str], said: str, capsys: Capture) -> None:
    assert main(["analyze", MODEL, *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err.splitlines()[-1]


def test_a_model_that_is_not_there(capsys: Capture) -> None:
    assert main(["analyze", "nowhere.onnx"]) == 2
    assert "nowhere.onnx" in capsys.readouterr().err


def test_gain_and_what_is_saved_have_ranges(told: Callable[..., Any]) -> None:
    data = told("--impose", "0.9:block=4x4")
    moved = 0
    for row in data["layers"]:
        low, high = row["saved_range_ms"]
        assert low <= row["saved_ms"] <= high
        least, most = row["gain_range"]
        assert least <= row["gain"] <= most
        moved += least < row["gain"] < most
    assert moved > 0


@pytest.mark.slow
def test_layers_that_a_pattern_has_no_meaning_for_are_named(told: Callable[..., Any]) -> None:
    data = told("--impose", "0.9:block=4x4")
    left = [row["layer"] for row in data["layers"] if row["op"] == "depthwise"]
    assert left
    (note,) = [note for note in data["notes"] if "has no meaning" in note]
    assert note.startswith(f"0.9:block=4x4 has no meaning for {left[0]}, ")
    assert all(name in note for name in left)
    assert note.endswith('and "pays from" is of the pattern unstructured')
    assert not any("has no meaning" in note for note in told("--impose", "0.9")["notes"])
