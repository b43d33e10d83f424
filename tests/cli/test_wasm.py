"""The verbs on a model for WebAssembly, as a user types them: everything is measured, compared and run in Node.js."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from tesa.cli import main
from tests.node import require_node
from tests.runtime.models import mlp
from tests.support import logged

Capture = pytest.CaptureFixture[str]


def run(capsys: Capture, *words: str | Path) -> str:
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    assert code == 0, err
    return out


@pytest.fixture
def model(tmp_path: Path) -> Path:
    require_node()
    onnx.save(mlp(), tmp_path / "mlp.onnx")
    return tmp_path / "mlp.onnx"


def test_tune_compile_verify_bench_and_explain(model: Path, capsys: Capture) -> None:
    folder = model.parent
    run(capsys, "tune", model, "--target", "wasm32:relaxed", "--trials", "3", "--log", folder / "log", "--quiet")
    records = logged(*(folder / "log").glob("node-*.jsonl"))
    assert records
    library = folder / "mlp.wasm"
    run(capsys, "compile", model, "-o", library, "--target", "wasm32:relaxed", "--log", folder / "log", "--quiet")
    assert library.read_bytes()[:4] == b"\0asm"
    assert "ok" in run(capsys, "verify", library, "--ref", model)
    timed = json.loads(run(capsys, "bench", library, "--repeat", "3", "--json"))
    assert timed["device"].startswith("node-")
    assert timed["model"]["min_ms"] > 0
    assert "wasm32:relaxed" in run(capsys, "explain", library)


def test_a_library_of_another_kind_is_refused(model: Path, capsys: Capture) -> None:
    code = main(["compile", str(model), "-o", str(model.with_suffix(".so")), "--target", "wasm32", "--no-measure"])
    assert code != 0
    assert ".wasm" in capsys.readouterr().err


def test_targets_are_listed(capsys: Capture) -> None:
    assert "wasm32:relaxed" in run(capsys, "list", "targets")
