"""Networks that people use, pruned to 85 %, through compile, verify and propagate, as they would type it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import tesa
from tesa.base.onnxruntime import reference_outputs
from tesa.cli import main

from .files import FILES, File, feeds_of, prune

SPARSITY = 0.85
pytestmark = [pytest.mark.networks, pytest.mark.slow, pytest.mark.long]


@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_real_network(file: File, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = file.read()
    prune(model, SPARSITY)
    given, library, inputs = tmp_path / "given.onnx", tmp_path / "model.so", tmp_path / "inputs.npz"
    onnx.save(model, given)
    feeds = feeds_of(file, model)
    np.savez(inputs, **feeds)
    shapes = [
        word for name, sizes in file.shapes.items() for word in ("--shape", f"{name}={','.join(map(str, sizes))}")
    ]  # fmt: skip

    assert main(["compile", str(given), "-o", str(library), "--no-measure", "-q", *shapes]) == 0, capsys.readouterr()
    assert main(["verify", str(library), "--ref", str(given), "--input", str(inputs)]) == 0, capsys.readouterr()
    expected = reference_outputs(model, feeds)
    got = tesa.load(library)(feeds)
    assert {name: (a.shape, a.dtype) for name, a in got.items()} == {
        name: (a.shape, a.dtype) for name, a in expected.items()
    }

    smaller = tmp_path / "smaller.onnx"
    assert main(["propagate", str(given), "-o", str(smaller), "-q", *shapes]) == 0, capsys.readouterr()
    if smaller.exists():  # where something went
        assert smaller.stat().st_size <= given.stat().st_size
        assert main(["verify", str(library), "--ref", str(smaller), "--input", str(inputs)]) == 0, capsys.readouterr()
