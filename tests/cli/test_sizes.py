"""The verbs on a model of several sizes, as a user types them."""

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


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """m.onnx, and m.so for 2 and 5 rows; in.npz has 4 rows."""
    made = tmp_path_factory.mktemp("sizes")
    nodes = [node("MatMul", ["x", "w"], "h", name="hidden"), node("Relu", ["h"], "y")]
    weight = floats(16, 8) * (np.arange(128).reshape(16, 8) % 3 == 0)
    onnx.save(model(nodes, [port("x", ["rows", 16])], ["y"], {"w": weight}), made / "m.onnx")
    line = ["compile", str(made / "m.onnx"), "-o", str(made / "m.so"), "--shape", "rows=2,5", "--pad", "rows"]
    assert main([*line, "--no-measure", "-q"]) == 0
    np.savez(made / "in.npz", x=np.ones((4, 16), np.float32))
    return made


def answer(capsys: Capture, *words: str) -> Any:
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_compile_shows_a_plan_for_each(folder: Path, capsys: Capture, tmp_path: Path) -> None:
    line = ["compile", str(folder / "m.onnx"), "-o", str(tmp_path / "m.so"), "--shape", "x=2,16", "--shape", "x=5,16"]
    assert main([*line, "--no-measure", "-q"]) == 0
    out = capsys.readouterr().out
    assert "1 thread; x=2,16" in out
    assert "1 thread; x=5,16" in out
    assert [row["inputs"][0]["shape"] for row in answer(capsys, *line, "--no-measure")["sizes"]] == [[2, 16], [5, 16]]


def test_run_takes_every_size_and_what_is_between(folder: Path, capsys: Capture, tmp_path: Path) -> None:
    assert main(["run", str(folder / "m.so"), "-i", str(folder / "in.npz"), "-o", str(tmp_path / "out.npz")]) == 0
    with np.load(tmp_path / "out.npz") as out:
        assert out["y"].shape == (4, 8)
    np.savez(tmp_path / "in.npz", x=np.ones((6, 16), np.float32))
    assert main(["run", str(folder / "m.so"), "-i", str(tmp_path / "in.npz")]) == 2
    assert "compiled for rows=2: x [2, 16]; rows=5: x [5, 16]" in capsys.readouterr().err


def test_verify_bench_explain_and_inspect(folder: Path, capsys: Capture) -> None:
    library, source = str(folder / "m.so"), str(folder / "m.onnx")
    names = [row["name"] for row in answer(capsys, "verify", library, "--ref", source)["outputs"]]
    assert names == ["y [rows=2]", "y [rows=5]", "y [rows=4 filled up to rows=5]"]
    timed = answer(capsys, "bench", library, "--repeat", "3")["sizes"]
    assert [row["size"] for row in timed] == ["rows=2", "rows=5"]
    assert main(["bench", library, "--repeat", "3"]) == 0
    assert "rows=5; 1 thread" in capsys.readouterr().out
    assert answer(capsys, "bench", library, "--repeat", "3", "-i", str(folder / "in.npz"))["threads"] == 1
    plans = answer(capsys, "explain", library)["sizes"]
    layers = [next(layer for layer in row["layers"] if layer["layer"] == "hidden") for row in plans]
    assert [layer["shape"] for layer in layers] == [[8, 16, 2], [8, 16, 5]]
    assert [row["size"] for row in answer(capsys, "explain", library, "hidden")["sizes"]] == ["rows=2", "rows=5"]
    assert main(["explain", library, "hidden"]) == 0
    assert "threads 1; rows=5" in capsys.readouterr().out
    looked = answer(capsys, "inspect", source, "--shape", "rows=2,5")["sizes"]
    assert [row["outputs"][0]["shape"] for row in looked] == [[2, 8], [5, 8]]
    assert answer(capsys, "inspect", source, "--shape", "rows=2")["outputs"][0]["shape"] == [2, 8]


@pytest.mark.slow
def test_tune_finds_kernels_for_every_size(folder: Path, capsys: Capture, tmp_path: Path) -> None:
    line = ["tune", str(folder / "m.onnx"), "--shape", "rows=2,5", "--trials", "1", "--log", str(tmp_path), "-q"]
    tuned = answer(capsys, *line)
    assert sorted(row["name"] for row in tuned["layers"]) == ["hidden at rows=2", "hidden at rows=5"]


def test_a_verb_for_one_size_says_so(folder: Path, capsys: Capture) -> None:
    assert main(["propagate", str(folder / "m.onnx"), "--shape", "rows=2,5"]) == 2
    assert "the shapes give 2 sizes (rows=2; rows=5), and one is expected here" in capsys.readouterr().err
