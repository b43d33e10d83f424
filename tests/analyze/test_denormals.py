"""Weights that are nearly zero, and no zeros: counted, named, and taken for zeros on request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import tesa
from tesa.analyze.inspection import inspect_model
from tesa.attributes.denormals import flushed, subnormals
from tesa.cli import main
from tesa.layers.network import to_network
from tests.frontend.onnx_models import floats, model, node, port


def _decayed(*shape: int, seed: int = 0) -> tuple[Any, Any]:
    """(a weight of which nine tenths are 1e-41, where they are ordinary numbers)."""
    weight = floats(*shape, seed=seed)
    keep = np.random.default_rng(seed).random(shape) < 0.1
    return np.where(keep, weight, weight * np.float32(1e-41)).astype(np.float32), keep


def _model() -> Any:
    nodes = [node("MatMul", ["x", "w0"], "h", name="first"), node("MatMul", ["h", "w1"], "y", name="second")]
    return model(nodes, [port("x", [4, 64])], ["y"], {"w0": _decayed(64, 64)[0], "w1": floats(64, 8)})


def test_ordinary_numbers_stay() -> None:
    weight, keep = _decayed(32, 32)
    count = int(((weight != 0) & ~keep).sum())
    assert subnormals(weight) == count > 800
    np.testing.assert_array_equal(flushed(weight), np.where(keep, weight, 0))
    whole = floats(3, 3)
    assert flushed(whole) is whole
    assert subnormals(np.array([1, 2])) == subnormals(np.zeros(3, np.float16)) == 0


def test_inspect_counts_and_names_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = inspect_model(_model())
    assert found.layer("first").subnormal > 3600
    assert found.layer("second").subnormal == 0
    assert found.layer("first").sparsity < 0.05
    assert "subnormal" in found.layer("first").note
    onnx.save(_model(), tmp_path / "model.onnx")
    assert main(["inspect", str(tmp_path / "model.onnx")]) == 0
    said = capsys.readouterr().out
    assert "weights are subnormal" in said
    assert ": first; --flush-denormals" in " ".join(said.split())
    assert main(["inspect", str(tmp_path / "model.onnx"), "--flush-denormals", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)["layers"][0]
    assert (row["subnormal"], round(row["sparsity"], 1)) == (0, 0.9)


def test_compiling_takes_them_for_zeros_on_request() -> None:
    kept, cut = (to_network(_model(), flush_denormals=flag) for flag in (False, True))
    assert kept.layers[0].statistics.sparsity < 0.05
    assert any(note.startswith("first: ") and "--flush-denormals" in note for note in kept.prepared.notes)
    assert cut.layers[0].statistics.sparsity == pytest.approx(0.9, abs=0.02)
    assert not any("subnormal" in note for note in cut.prepared.notes)


def test_a_kernel_says_so() -> None:
    weight, keep = _decayed(32, 32)
    x = floats(32, 16, seed=1)
    with pytest.warns(UserWarning, match="weights are subnormal"):
        kernel = tesa.kernel(weight, n=16, family="dense", measure=False)
    assert int(np.count_nonzero(kernel.weight)) == int((keep & (weight != 0)).sum())
    np.testing.assert_allclose(kernel(x), weight @ x, rtol=1e-5, atol=1e-5)
