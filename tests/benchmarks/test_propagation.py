"""The propagation benchmark: its numbers add up, its tables and pictures hold them, its records say where from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import propagation, zoo
from benchmarks.compaction import speed_text
from benchmarks.prune import PRUNERS
from benchmarks.tables import append, markdown


@pytest.fixture(scope="module")
def records() -> list[propagation.Record]:
    return list(propagation.gains("mlp", zoo.mlp((16, 32, 32, 4))))


def test_each_way_and_ratio_is_there(records: list[propagation.Record]) -> None:
    assert [(r["pruning"], r["ratio"]) for r in records] == [(k, r) for k in PRUNERS for r in propagation.RATIOS]
    for record in records:
        assert [layer["layer"] for layer in record["layers"]] == ["layer0", "layer1", "layer2"]
        assert all(0 <= row["before"] <= row["after"] <= row["folded"] <= 1 for row in record["layers"])


def test_coarse_pruning_multiplies(records: list[propagation.Record]) -> None:
    half = records[0]
    rows = [(row["before"], row["after"]) for row in half["layers"]]
    assert rows == [(0.5, 0.5), (0.5, 0.75), (0.0, 0.5)]  # outputs pruned; with inputs; inputs alone
    backward = next(r for r in records if (r["pruning"], r["ratio"]) == ("coarse inputs", 0.5))
    assert [(row["before"], row["after"]) for row in backward["layers"]] == [(0.0, 0.5), (0.5, 0.75), (0.5, 0.5)]


def test_tables(records: list[propagation.Record]) -> None:
    lines = propagation.layer_table("mlp", records).strip().splitlines()
    assert [cell.strip() for cell in lines[2].split("|")][2] == "coarse 50%"
    assert "50.0 > 75.0 > 75.0" in next(line for line in lines if line.startswith("| layer1"))
    total = propagation.total_table(records).splitlines()
    weights = 16 * 32 + 32 * 32 + 32 * 4
    before, after = (16 * 32 + 32 * 32) / 2 / weights, (16 * 32 / 2 + 32 * 32 * 0.75 + 32 * 4 / 2) / weights
    row = next(line for line in total if "coarse  " in line and "50%" in line)
    assert f"{100 * before:.1f}" in row
    assert f"{100 * after:.1f}" in row
    assert "2 of 3" in row


def test_picture(records: list[propagation.Record], tmp_path: Path) -> None:
    propagation.plot_gains("mlp", records, tmp_path / "new" / "mlp.svg")
    drawn = (tmp_path / "new" / "mlp.svg").read_text()
    for kind in PRUNERS:
        assert drawn.count(f"<!-- {kind}, 90% -->") == 1


def test_markdown() -> None:
    assert markdown(["a", "long"], [["1", "2"], ["333", "4"]]).splitlines() == [
        "| a   | long |",
        "| --- | ---- |",
        "| 1   | 2    |",
        "| 333 | 4    |",
    ]


def test_records_say_when_how_and_where(tmp_path: Path) -> None:
    for value in (1, 2):
        append(tmp_path / "results" / "r.jsonl", [{"part": "gains", "value": value}], "benchmarks.propagation")
    lines = [json.loads(line) for line in (tmp_path / "results" / "r.jsonl").read_text().splitlines()]
    assert [line["value"] for line in lines] == [1, 2]
    assert lines[0]["command"].startswith("python -m benchmarks.propagation")
    assert len(lines[0]["date"].split("-")) == 3
    assert lines[0]["machine"]["model"]


def test_speed_text() -> None:
    times = {"as given": {"median_ms": 3.0, "min_ms": 2.5}, "compacted": {"median_ms": 1.0, "min_ms": 0.9}}
    seconds = {"as given": 10.0, "compacted": 5.0}
    record = {"model": "m", "ratio": 0.6, "threads": 1, "ok": True, "times": times, "compile_s": seconds}
    text = speed_text(record)
    assert "m, coarse 60%, 1 thread(s): correct" in text
    assert "3.00x" in text
    assert "WRONG" in speed_text({**record, "ok": False})


@pytest.mark.slow
def test_cost_is_measured_in_a_process_of_its_own() -> None:
    record = propagation.cost("mobilenet_v1", zoo.mobilenet_v1(0.25, 32, classes=10, blocks=((64, 1), (128, 2))))
    assert record["ok"]
    assert record["coarse"]["propagate_cpu_s"] > 0
    assert record["fine"]["propagate_bytes"] >= record["fine"]["import_bytes"] > record["fine"]["file_bytes"]
    assert "mobilenet_v1" in propagation.cost_table([record])
