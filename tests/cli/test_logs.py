"""tesa logs, as typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tesa.cli
from tesa.cli import logs, main
from tesa.records.log import Log, Record, Task
from tesa.schedules.types import Problem

Capture = pytest.CaptureFixture[str]

PROBLEM = Problem("linear", 8, 8, 16, (1, 8, 16), (1, 8, 16))
ONE = Task.of(PROBLEM, np.eye(8, dtype=np.float32))
OTHER = Task.of(PROBLEM, np.ones((8, 8), np.float32))


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    rest = tuple(verb for verb in tesa.cli.VERBS if verb.name != "logs")
    monkeypatch.setattr(tesa.cli, "VERBS", (*rest, logs.VERB))


def record(task: Task, family: str, median: float | None, day: int = 1) -> Record:
    ok = median is not None
    return Record(
        task, "x86:haswell", {"cpu": "haswell"}, family, {"rows": 4}, median, median, ok,
        "" if ok else "wrong: off by 7", {"tesa": "0.1.0"}, f"2026-01-0{day}T10:00:00+00:00",
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    log = Log.load(tmp_path / "logs", device="haswell")
    log.append([record(ONE, "dense", 2.0), record(ONE, "indexed", 1.0, 2), record(ONE, "block", None, 3)])
    log.append([record(OTHER, "dense", 3.0, 4), record(OTHER, "dense", 4.0, 5)])
    return tmp_path / "logs"


def said(capsys: Capture, *words: object, code: int = 0) -> str:
    capsys.readouterr()
    assert main(["logs", *map(str, words)]) == code, capsys.readouterr().err
    return capsys.readouterr().out


def data(capsys: Capture, *words: object) -> Any:
    return json.loads(said(capsys, *words, "--json"))


def complaint(capsys: Capture, *words: object, code: int = 2) -> str:
    capsys.readouterr()
    assert main(["logs", *map(str, words)]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("tesa: error: ") == 1
    return err


def test_ls(capsys: Capture, folder: Path) -> None:
    (row,) = data(capsys, "ls", folder)
    assert row == {
        "path": str(folder / "haswell.jsonl"), "bytes": (folder / "haswell.jsonl").stat().st_size, "records": 5,
        "tasks": 2, "failed": 1, "failed_share": 0.2, "other_versions": 0, "unreadable": 0, "devices": ["haswell"],
        "targets": ["x86:haswell"], "first": "2026-01-01T10:00:00+00:00", "last": "2026-01-05T10:00:00+00:00",
    }  # fmt: skip
    text = said(capsys, "ls", "--log", folder)
    for word in ("haswell.jsonl", "5", "20 %", "2026-01-01 10:00", "x86:haswell"):
        assert word in text


def test_ls_without_a_place_shows_what_ships(capsys: Capture) -> None:
    assert any(row["path"].endswith("tuning_logs/znver5.jsonl") for row in data(capsys, "ls"))


def test_ls_of_an_empty_folder(capsys: Capture, tmp_path: Path) -> None:
    assert data(capsys, "ls", tmp_path) == []
    assert said(capsys, "ls", tmp_path).split() == f"no tuning logs in {tmp_path}".split()


def test_json_before_the_action_counts(capsys: Capture, folder: Path) -> None:
    capsys.readouterr()
    assert main(["logs", "--json", "ls", str(folder)]) == 0
    assert json.loads(capsys.readouterr().out)[0]["records"] == 5


def test_show(capsys: Capture, folder: Path) -> None:
    by_key = data(capsys, "show", ONE.key[:6], "--log", folder)
    assert [row["family"] for row in by_key] == ["dense", "indexed", "block"]
    assert {row["key"] for row in by_key} == {ONE.key}
    assert by_key[0]["statistics"]["nonzeros"] == 8
    assert data(capsys, "show", ONE.pattern.digest, "--log", folder) == by_key
    assert len(data(capsys, "show", "--log", folder)) == 4
    assert len(data(capsys, "show", "--all", "--log", folder)) == 5
    (only,) = data(capsys, "show", ONE.key.upper(), "--log", folder, "--family", "indexed")
    assert only["median_ms"] == 1.0
    (failed,) = data(capsys, "show", "--failed", "--log", folder)
    assert failed["error"] == "wrong: off by 7"
    assert data(capsys, "show", OTHER.key, "--failed", "--log", folder) == []
    text = said(capsys, "show", ONE.key, "--log", folder)
    for word in ("linear 8x8x16 float32", "rows=4", "wrong: off by 7", "indexed", ONE.pattern.digest):
        assert word in text


def test_show_a_layer_of_a_compiled_model(capsys: Capture, folder: Path, tmp_path: Path) -> None:
    from tesa.choose.plan import LayerPlan, Part, Plan

    part = Part("dense", 32, 64, OTHER.pattern.digest, "dense", {}, (), "")
    layer = LayerPlan(layer="fc", op="linear", kind="sparse", shape=(8, 8, 16), parts=(part,))
    plan = Plan("x86:haswell", 1, (layer,))
    (tmp_path / "model.json").write_text(json.dumps({"plan": plan.to_json()}))
    (row,) = data(capsys, "show", "fc", "--model", tmp_path / "model.so", "--log", folder)
    assert (row["key"], row["median_ms"]) == (OTHER.key, 4.0)
    assert "no layer 'fd'" in complaint(capsys, "show", "fd", "--model", tmp_path / "model.so", "--log", folder)
    assert "goes with the name of a layer" in complaint(capsys, "show", "--model", tmp_path / "model.so")


def test_best(capsys: Capture, folder: Path) -> None:
    one, other = data(capsys, "best", folder)
    assert (one["key"], one["best"]["family"], one["tried"], one["failed"]) == (ONE.key, "indexed", 3, 1)
    assert (other["key"], other["best"]["median_ms"], other["tried"]) == (OTHER.key, 4.0, 1)
    assert one["target"] == "x86:haswell"
    text = said(capsys, "best", folder, "--target", "x86:haswell")
    for word in (ONE.key, "indexed", "linear 8x8x16 float32", "1.00"):
        assert word in text


def test_best_where_all_failed(capsys: Capture, tmp_path: Path) -> None:
    Log.load(tmp_path, device="a").append([record(ONE, "block", None)])
    (row,) = data(capsys, "best", tmp_path)
    assert (row["best"], row["failed"]) == (None, 1)
    assert "all failed" in said(capsys, "best", tmp_path)


def test_merge(capsys: Capture, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    Log.load(tmp_path / "b.jsonl", device="b").append([record(ONE, "vector", 0.5)])
    done = data(capsys, "merge", folder, tmp_path / "b.jsonl", folder / "haswell.jsonl", "-o", out)
    assert (done["lines"], done["duplicates"], done["unreadable"]) == (6, 0, 0)
    assert len(Log.load(out)) == 5
    text = said(capsys, "merge", out, tmp_path / "b.jsonl", "-o", out)
    assert text.split() == f"{out}: 6 lines of 2 files; duplicates left out: 1".split()


def test_prune(capsys: Capture, folder: Path) -> None:
    path = folder / "haswell.jsonl"
    before = path.read_bytes()
    told = data(capsys, "prune", folder, "--dry-run")
    assert told["dry_run"] is True
    assert told["files"][0]["dropped"] == {"superseded": 1}
    assert path.read_bytes() == before
    assert "1 superseded" in said(capsys, "prune", folder, "--dry-run")
    assert data(capsys, "prune", folder)["files"][0]["kept"] == 4
    assert len(path.read_text().splitlines()) == 4 + 2  # with the statistics of two weights
    assert data(capsys, "prune", "--log", folder, "--failed")["files"][0]["dropped"] == {"failed": 1}
    assert data(capsys, "prune", folder, "--best", 1)["files"][0]["dropped"] == {"not among the best": 1}
    assert data(capsys, "prune", folder, "--older-than", "2026-01-03")["files"][0]["dropped"] == {"old": 1}
    assert "nothing" in said(capsys, "prune", folder)


def test_prune_without_a_place_leaves_what_ships_alone(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))  # of a user who has measured nothing
    assert data(capsys, "prune", "--failed", "--dry-run")["files"] == []


def test_mistakes(capsys: Capture, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    assert "ls|show|best|merge|prune" in complaint(capsys)
    assert "invalid choice: 'list'" in complaint(capsys, "list")
    for action in ("ls", "best", "prune"):
        assert f"there is no tuning log {tmp_path / 'none'}" in complaint(capsys, action, tmp_path / "none")
        assert "a file whose name ends in .jsonl" in complaint(capsys, action, tmp_path / "notes.txt")
    assert "'conv1' is not the beginning of a key" in complaint(capsys, "show", "conv1")
    assert "no record of ffff among 5" in complaint(capsys, "show", "ffff", "--log", folder)
    assert "no record of target x86:znver4; there are records of x86:haswell" in complaint(
        capsys, "best", folder, "--target", "x86:znver4"
    )
    assert "is no age" in complaint(capsys, "prune", folder, "--older-than", "soon")
    assert "not a whole number above 0" in complaint(capsys, "prune", folder, "--best", "0")
    assert "the following arguments are required: -o/--output" in complaint(capsys, "merge", folder)
    Path(tmp_path / "out.jsonl").write_text("")
    assert "out.jsonl exists" in complaint(capsys, "merge", folder, "-o", tmp_path / "out.jsonl")


def test_every_action_has_help(capsys: Capture) -> None:
    for action in ("ls", "show", "best", "merge", "prune"):
        text = said(capsys, action, "-h")
        assert text.startswith(f"usage: tesa logs {action}")
        assert "--json" in text
    assert "tesa logs prune night/ --best 8 --dry-run" in said(capsys, "-h")


def test_torn_lines_are_told(capsys: Capture, folder: Path) -> None:
    with open(folder / "haswell.jsonl", "a") as file:
        file.write('{"v": 1, "task')
    (row,) = data(capsys, "ls", folder)
    assert row["unreadable"] == 1
    assert "1 unreadable" in said(capsys, "ls", folder)
    assert main(["logs", "best", str(folder)]) == 0
    assert "tesa: warning: tuning log" in capsys.readouterr().err
    assert data(capsys, "prune", folder)["files"][0]["dropped"] == {"superseded": 1, "unreadable": 1}
