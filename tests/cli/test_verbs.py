"""Every verb on a small model, from the file to the answer, as a user types it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tesa.cli import main
from tesa.report.listing import entries

Capture = pytest.CaptureFixture[str]


@dataclass(frozen=True)
class Compiled:
    """A model of two linear layers, 48 of 64 inputs pruned at 80 %, and what tesa made of it."""

    folder: Path
    hidden: np.ndarray[Any, Any]
    out: np.ndarray[Any, Any]

    @property
    def onnx(self) -> str:
        return str(self.folder / "mlp.onnx")

    @property
    def library(self) -> str:
        return str(self.folder / "mlp.so")

    def expected(self, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.maximum(x @ self.hidden, 0) @ self.out


def write_model(path: Path, hidden: np.ndarray[Any, Any], out: np.ndarray[Any, Any]) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["h"], name="hidden"),
        helper.make_node("Relu", ["h"], ["r"], name="relu"),
        helper.make_node("MatMul", ["r", "w1"], ["y"], name="out"),
    ]
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [8, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [8, 10])],
        [numpy_helper.from_array(hidden, "w0"), numpy_helper.from_array(out, "w1")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    folder = tmp_path_factory.mktemp("mlp")
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((64, 48)).astype(np.float32) * (rng.random((64, 48)) > 0.8)
    out = rng.standard_normal((48, 10)).astype(np.float32)
    model = Compiled(folder, hidden.astype(np.float32), out)
    write_model(folder / "mlp.onnx", model.hidden, model.out)
    return model


@pytest.fixture(scope="module")
def mlp(source: Compiled) -> Compiled:
    assert main(["compile", source.onnx, "-o", source.library, "--no-measure", "-q"]) == 0
    return source


def said(capsys: Capture, words: list[str], code: int = 0) -> str:
    """The standard output of a command line that ends with that code."""
    capsys.readouterr()
    assert main(words) == code, capsys.readouterr().err
    return capsys.readouterr().out


def complaint(capsys: Capture, words: list[str], code: int = 2) -> str:
    """The one line on standard error of a command line that fails with that code and prints nothing else."""
    capsys.readouterr()
    assert main(words) == code
    streams = capsys.readouterr()
    lines = [line for line in streams.err.splitlines() if line.startswith("tesa: error: ")]
    assert (streams.out, len(lines)) == ("", 1)
    return lines[0]


def test_compile_says_what_it_did(mlp: Compiled, tmp_path: Path, capsys: Capture) -> None:
    output = tmp_path / "again.so"
    shown = said(capsys, ["compile", mlp.onnx, "-o", str(output), "--no-measure"])
    assert "hidden" in shown
    assert f"wrote {output}" in shown
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.json", "again.so"]
    manifest = json.loads((tmp_path / "again.json").read_text())
    assert manifest["inputs"] == [{"name": "x", "shape": [8, 64], "dtype": "float32"}]
    data = json.loads(said(capsys, ["compile", mlp.onnx, "-o", str(output), "--no-measure", "--json"]))
    assert data["path"] == str(output)
    assert data["bytes"] == output.stat().st_size
    assert data["plan"] == manifest["plan"]


def test_run_computes_the_outputs(mlp: Compiled, tmp_path: Path, capsys: Capture) -> None:
    x = np.random.default_rng(1).standard_normal((8, 64)).astype(np.float32)
    np.savez(tmp_path / "in.npz", x=x)
    shown = said(capsys, ["run", mlp.library, "-i", str(tmp_path / "in.npz"), "-o", str(tmp_path / "out.npz")])
    assert "8x10" in shown
    with np.load(tmp_path / "out.npz") as arrays:
        assert arrays.files == ["y"]
        np.testing.assert_allclose(arrays["y"], mlp.expected(x), rtol=1e-4, atol=1e-4)
    data = json.loads(said(capsys, ["run", mlp.library, "-i", str(tmp_path / "in.npz"), "--json"]))
    assert data["outputs"][0]["shape"] == [8, 10]


@pytest.mark.parametrize(
    ("arrays", "pieces"),
    [
        ({"z": np.zeros((8, 64), np.float32)}, ["lacks 'x' and has 'z'", "inputs are 'x'"]),
        ({"x": np.zeros((8, 63), np.float32)}, ["'x'", "[8, 64]", "[8, 63]"]),
        ({"x": np.zeros((8, 64), np.float64)}, ["'x'", "float32", "float64"]),
    ],
)
def test_run_refuses_wrong_arrays(
    mlp: Compiled, tmp_path: Path, capsys: Capture, arrays: dict[str, Any], pieces: list[str]
) -> None:
    np.savez(tmp_path / "in.npz", **arrays)
    line = complaint(capsys, ["run", mlp.library, "-i", str(tmp_path / "in.npz"), "-o", str(tmp_path / "out.npz")])
    assert [piece for piece in pieces if piece not in line] == []
    assert not (tmp_path / "out.npz").exists()


def test_bench_times_it_next_to_onnxruntime(mlp: Compiled, capsys: Capture) -> None:
    words = ["bench", mlp.library, "--repeat", "3", "--vs", "onnxruntime", "--model", mlp.onnx, "--profile"]
    data = json.loads(said(capsys, [*words, "--json"]))
    assert 0 < data["model"]["min_ms"] <= data["model"]["median_ms"]
    assert [peer["name"] for peer in data["peers"]] == ["onnxruntime"]
    assert "hidden" in [layer["layer"] for layer in data["layers"]]
    assert "onnxruntime" in said(capsys, words)


def test_verify_agrees(mlp: Compiled, capsys: Capture) -> None:
    data = json.loads(said(capsys, ["verify", mlp.library, "--ref", mlp.onnx, "--per-layer", "--json"]))
    assert data["ok"] is True
    assert [output["name"] for output in data["outputs"]] == ["y"]
    assert {"hidden", "out"} <= {layer["name"] for layer in data["layers"]}


def test_verify_finds_another_model(mlp: Compiled, tmp_path: Path, capsys: Capture) -> None:
    write_model(tmp_path / "other.onnx", mlp.hidden, mlp.out * np.float32(1.5))
    words = ["verify", mlp.library, "--ref", str(tmp_path / "other.onnx")]
    assert main(words) == 1
    streams = capsys.readouterr()
    assert "FAILED" in streams.out
    assert streams.err == f"tesa: error: {mlp.library} and {tmp_path / 'other.onnx'} differ in y\n"
    assert json.loads(said(capsys, [*words, "--json"], code=1))["ok"] is False


def test_explain_shows_candidates(mlp: Compiled, capsys: Capture) -> None:
    assert "hidden" in said(capsys, ["explain", mlp.library])
    data = json.loads(said(capsys, ["explain", mlp.library, "hidden", "--json"]))
    assert data["layer"] == "hidden"
    families = {candidate["family"] for part in data["parts"] for candidate in part["candidates"]}
    assert len(families) > 1
    shown = said(capsys, ["explain", mlp.library, "hidden"])
    assert [name for name in families if name not in shown] == []
    assert "nearest: hidden" in complaint(capsys, ["explain", mlp.library, "hiden"])


def test_inspect_finds_the_zeros(source: Compiled, tmp_path: Path, capsys: Capture) -> None:
    picture = tmp_path / "masks.png"
    assert "unstructured" in said(capsys, ["inspect", source.onnx, "--plot", str(picture)])
    assert picture.read_bytes().startswith(b"\x89PNG")
    layers = {layer["layer"]: layer for layer in json.loads(said(capsys, ["inspect", source.onnx, "--json"]))["layers"]}
    assert layers["hidden"]["sparsity"] == pytest.approx(float(np.mean(source.hidden == 0)))
    assert layers["out"]["sparsity"] == 0


def test_inspect_applies_masks(source: Compiled, tmp_path: Path, capsys: Capture) -> None:
    mask = np.zeros((48, 10), bool)
    mask[:, :5] = True
    np.savez(tmp_path / "masks.npz", w1=mask)
    words = ["inspect", source.onnx, "--mask", str(tmp_path / "masks.npz")]
    layers = {layer["layer"]: layer for layer in json.loads(said(capsys, [*words, "--json"]))["layers"]}
    assert layers["out"]["sparsity"] == 0.5
    np.savez(tmp_path / "masks.npz", w2=mask)
    line = complaint(capsys, words)
    assert "w2" in line
    assert "w1" in line


@pytest.mark.parametrize("kind", ["rules", "families", "patterns", "targets"])
def test_list_shows_the_registry(kind: str, capsys: Capture) -> None:
    names = [entry.name for entry in entries(kind)]
    assert names
    assert [entry["name"] for entry in json.loads(said(capsys, ["list", kind, "--json"]))] == names
    shown = said(capsys, ["list", kind]).split()
    assert [name for name in names if name not in shown] == []


def test_doctor_finds_nothing_wrong(capsys: Capture) -> None:
    data = json.loads(said(capsys, ["doctor", "--json"]))
    assert data["ok"] is True
    assert data["cpu"]["usable"] > 0


@pytest.mark.parametrize(
    ("target", "code", "piece"),
    [
        ("x68", 2, "x86"),
        ("x86:cascadelak", 2, "cascadelake"),
        ("riscv64", 3, "riscv64"),
        ('{"kind": "llvm", "mcpu"', 2, "JSON"),
    ],
)
def test_compile_refuses_a_target(
    source: Compiled, tmp_path: Path, capsys: Capture, target: str, code: int, piece: str
) -> None:
    words = ["compile", source.onnx, "-o", str(tmp_path / "a.so"), "--target", target]
    assert piece in complaint(capsys, words, code)
    assert list(tmp_path.iterdir()) == []


def test_compile_refuses_bad_files(source: Compiled, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "text.onnx").write_text("this is not a model")
    (tmp_path / "half.onnx").write_bytes(Path(source.onnx).read_bytes()[:2000])
    for name in ("text.onnx", "half.onnx", "none.onnx"):
        assert name in complaint(capsys, ["compile", str(tmp_path / name), "-o", str(tmp_path / "a.so"), "-q"])
    line = complaint(capsys, ["compile", source.onnx, "-o", str(tmp_path / "no" / "a.so")])
    assert str(tmp_path / "no") in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["half.onnx", "text.onnx"]


@pytest.mark.parametrize("verb", ["run", "bench", "verify", "explain"])
def test_a_library_that_is_none(tmp_path: Path, capsys: Capture, verb: str) -> None:
    rest = {"run": ["-i", str(tmp_path / "in.npz")], "verify": ["--ref", "x.onnx"]}.get(verb, [])
    np.savez(tmp_path / "in.npz", x=np.zeros(1))
    (tmp_path / "model.so").write_bytes(b"nothing")
    assert "model.json" in complaint(capsys, [verb, str(tmp_path / "model.so"), *rest])
    (tmp_path / "model.json").write_text("{}")
    assert "model.json" in complaint(capsys, [verb, str(tmp_path / "model.so"), *rest])
