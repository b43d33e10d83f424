"""One name for one operator in every verb: what inspect shows, all others take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tesa.cli import main
from tests.frontend.onnx_models import floats, model, node, port

Capture = pytest.CaptureFixture[str]


def made() -> Any:
    """Weights on the right and on the left, a vector of a weight, fused operators, views, and a branch nobody reads."""
    first = np.where(floats(8, 16) > 0.5, floats(8, 16), 0).astype(np.float32)
    nodes = [
        node("MatMul", ["x", "onnx::MatMul_7"], "a", name="/fc1/MatMul"),
        node("Identity", ["a"], "same", name="/same/Identity"),
        node("Add", ["same", "bias"], "b", name="/fc1/Add"),
        node("Relu", ["b"], "r", name="/act/Relu"),
        node("MatMul", ["left", "r"], "l", name="/mix/MatMul"),
        node("Reshape", ["l", "size"], "v", name="/view/Reshape"),
        node("Sigmoid", ["v"], "s", name="/gate/Sigmoid"),
        node("Exp", ["s"], "e", name="/gate/Exp"),
        node("ReduceMax", ["e", "axis"], "m", name="/pool/ReduceMax", keepdims=0),
        node("MatMul", ["m", "vector"], "y", name="/score/MatMul"),
        node("Relu", ["a"], "aside", name="/aside/Relu"),
    ]
    arrays = {
        "onnx::MatMul_7": first, "bias": floats(16), "left": floats(6, 4), "size": np.array([6, 4, 4]),
        "axis": np.array([2]), "vector": floats(4),
    }  # fmt: skip
    return model(nodes, [port("x", [4, 8])], ["y"], arrays, opset=18)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("names")
    onnx.save(made(), path / "m.onnx")
    assert main(["compile", str(path / "m.onnx"), "-o", str(path / "m.so"), "--no-measure", "-q"]) == 0
    return path


def data(capsys: Capture, *words: Any) -> Any:
    capsys.readouterr()
    assert main([*map(str, words), "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def said(capsys: Capture, *words: Any) -> str:
    capsys.readouterr()
    assert main([*map(str, words)]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def test_explain_answers_for_every_name_that_inspect_shows(folder: Path, capsys: Capture) -> None:
    shown = data(capsys, "inspect", folder / "m.onnx")
    names = [*(row["layer"] for row in shown["layers"]), *shown["dropped"]]
    assert len(names) == 10
    for name in names:
        found = data(capsys, "explain", folder / "m.so", name)
        assert name in (found["layer"], *found.get("covers", ()))
        assert name in said(capsys, "explain", folder / "m.onnx", name)


def test_every_node_of_the_file_can_be_asked_for(folder: Path, capsys: Capture) -> None:
    for item in made().graph.node:
        data(capsys, "explain", folder / "m.so", item.name)
    assert "act.Relu is computed in the kernel of fc1.MatMul" in said(capsys, "explain", folder / "m.so", "/act/Relu")
    assert "no output of the model depends on it" in said(capsys, "explain", folder / "m.so", "aside.Relu")
    assert "no kernel computes it" in said(capsys, "explain", folder / "m.so", "view.Reshape")
    assert "fc1.MatMul" in said(capsys, "explain", folder / "m.onnx", "/fc1/MatMul")


def test_the_profile_the_plan_and_verify_say_the_same_names(folder: Path, capsys: Capture) -> None:
    names = {row["layer"] for row in data(capsys, "inspect", folder / "m.onnx")["layers"]}
    plan = data(capsys, "explain", folder / "m.so")["layers"]
    assert {row["layer"] for row in plan if row["kind"] != "layout"} <= names
    assert {row["layer"].removesuffix(".layout") for row in plan if row["kind"] == "layout"} <= names
    timed = data(capsys, "bench", folder / "m.so", "--profile", "--repeat", "3")["layers"]
    assert [row["layer"] for row in timed] == [row["layer"] for row in plan]
    compared = data(capsys, "verify", folder / "m.so", "--ref", folder / "m.onnx", "--per-layer")["layers"]
    assert {row["name"] for row in compared} <= names
    assert {row["layer"] for row in data(capsys, "analyze", folder / "m.onnx")["layers"]} <= names
    assert {row["layer"] for row in data(capsys, "propagate", folder / "m.onnx", "--all")["layers"]} <= names
    covered = {name for row in plan for name in row["covers"]}
    assert {"gate.Sigmoid", "gate.Exp", "pool.ReduceMax", "fc1.Add", "act.Relu"} <= covered


def test_the_profile_is_sorted_and_fits(folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = said(capsys, "bench", folder / "m.so", "--profile", "--repeat", "3").splitlines()
    assert max(map(len, shown)) <= 100
    start = next(i for i, line in enumerate(shown) if line.startswith("layer"))
    times = [float(line.partition(" %")[0].split()[-2]) for line in shown[start + 2 :]]
    assert times == sorted(times, reverse=True)
    monkeypatch.setenv("COLUMNS", "60")
    assert max(map(len, said(capsys, "explain", folder / "m.so").splitlines())) <= 60


def test_a_weight_on_the_left_is_inspected_as_it_is_compiled(folder: Path, capsys: Capture) -> None:
    rows = {row["layer"]: row for row in data(capsys, "inspect", folder / "m.onnx")["layers"]}
    assert (rows["mix.MatMul"]["weight"], rows["mix.MatMul"]["initializer"]) == ([6, 4], "left")
    plan = {row["layer"]: row for row in data(capsys, "explain", folder / "m.so")["layers"]}
    assert plan["mix.MatMul"]["shape"] == [6, 4, 16]


def test_what_is_left_dense_is_in_the_plan_with_its_price(folder: Path, capsys: Capture) -> None:
    found = data(capsys, "explain", folder / "m.so", "score.MatMul")
    assert found["kind"] == "operator"
    assert "left dense: its weight is one vector" in found["note"]
    assert "it may take about" in found["note"]
    shown = data(capsys, "compile", folder / "m.onnx", "-o", folder / "again.so", "--no-measure")
    (line,) = [line for line in shown["skipped"] if "left dense" in line]
    assert line.startswith("score.MatMul: left dense (0% zeros stay in it): its weight is one vector")
    assert "% of the layers with weights (an estimate)" in line
    written = json.loads((folder / "again.json").read_text())["plan"]["layers"]
    assert any("left dense" in row["note"] for row in written)


def test_a_name_for_each_operator_in_a_fused_one(tmp_path: Path, capsys: Capture) -> None:
    """A large constant is an argument of the fused function; a name for the output computes nothing."""
    nodes = [
        node("MatMul", ["x", "w"], "m", name="fc"),
        node("QuantizeLinear", ["m", "s", "z"], "q", name="quantize"),
        node("DequantizeLinear", ["q", "s", "z"], "d", name="back"),
        node("Add", ["d", "bias"], "a", name="add"),
        node("Sigmoid", ["a"], "g", name="gate"),
        node("Identity", ["g"], "y", name="named"),
    ]
    arrays = {"w": floats(64, 64), "bias": floats(64), "s": np.float32(0.1), "z": np.uint8(128)}
    onnx.save(model(nodes, [port("x", [8, 64])], ["y"], arrays), tmp_path / "m.onnx")
    assert main(["compile", str(tmp_path / "m.onnx"), "-o", str(tmp_path / "m.so"), "--no-measure", "-q"]) == 0
    for name in ("quantize", "back", "add"):
        assert f"{name} is computed in the kernel of gate" in said(capsys, "explain", tmp_path / "m.so", name)
    assert "does nothing at inference" in said(capsys, "explain", tmp_path / "m.so", "named")
    assert "does nothing at inference" in said(capsys, "explain", tmp_path / "m.onnx", "named")
    assert "gate" in said(capsys, "explain", tmp_path / "m.onnx", "gate")


def test_layers_of_a_branch_that_is_taken_can_be_asked_for(tmp_path: Path, capsys: Capture) -> None:
    taken, left = (
        onnx.helper.make_graph([node("MatMul", ["x", weight], name, name=name)], name, [], [port(name, [4, 8])])
        for name, weight in (("tb", "w"), ("eb", "v"))
    )
    nodes = [
        node("If", ["true"], "y", name="if", then_branch=taken, else_branch=left),
        node("Dropout", ["y"], "z", name="drop"),
    ]
    arrays = {"w": floats(8, 8), "v": floats(8, 8), "true": np.array(True)}
    onnx.save(model(nodes, [port("x", [4, 8])], ["z"], arrays, opset=18), tmp_path / "m.onnx")
    assert [row["layer"] for row in data(capsys, "inspect", tmp_path / "m.onnx")["layers"]] == ["tb"]
    data(capsys, "compile", tmp_path / "m.onnx", "-o", tmp_path / "m.so", "--no-measure")
    for file in ("m.onnx", "m.so"):
        assert data(capsys, "explain", tmp_path / file, "tb")["layer"] == "tb"
    assert data(capsys, "explain", tmp_path / "m.so", "tb")["kind"] == "sparse"


@pytest.fixture(scope="module")
def lstm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lstm")
    nodes = [
        node("LSTM", ["x", "W", "R", "B"], "rows", name="cell", hidden_size=16, direction="bidirectional"),
        node("Relu", ["rows"], "y", name="last"),
    ]
    arrays = {"W": floats(2, 64, 8), "R": floats(2, 64, 16), "B": floats(2, 128)}
    onnx.save(model(nodes, [port("x", [10, 1, 8])], ["y"], arrays, opset=18), path / "m.onnx")
    assert main(["compile", str(path / "m.onnx"), "-o", str(path / "m.so"), "--no-measure", "-q"]) == 0
    return path


@pytest.mark.slow
def test_explain_names_all_layers_of_a_recurrent_cell(lstm: Path, capsys: Capture) -> None:
    weights = ["cell.W", "cell.R", "cell.W_reverse", "cell.R_reverse"]
    assert set(data(capsys, "explain", lstm / "m.so", "cell")["computed_by"]) >= set(weights)
    first = said(capsys, "explain", lstm / "m.so", "cell").splitlines()[0]
    assert all(f"{name}," in first for name in weights)
    assert "this is the one of cell.W" in first
    for name in weights:
        assert data(capsys, "explain", lstm / "m.so", name)["layer"] == name


def test_tables_of_a_recurrent_model_fit(lstm: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    plan = said(capsys, "explain", lstm / "m.so")
    profile = said(capsys, "bench", lstm / "m.so", "--profile", "--repeat", "3")
    for shown in (plan, profile):
        assert max(map(len, shown.splitlines())) <= 100
        assert "strided_slice, ... (" in shown
        assert "loop of 10: split" in shown
    rows = data(capsys, "explain", lstm / "m.so")["layers"]
    assert any(row["op"].startswith("fused_strided_slice_strided_slice") for row in rows)


def test_a_damaged_description_is_told_of(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "m.json").write_text("[]")
    assert main(["explain", str(tmp_path / "m.so")]) == 2
    assert "holds no plan" in capsys.readouterr().err
