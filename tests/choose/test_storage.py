"""Weights in 16 bits: by leave, or where they are such numbers; chosen by time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tesa.attributes.rounding import rounded
from tesa.build.product import Product
from tesa.choose.chosen import ChosenKernel
from tesa.choose.plan import Candidate, Part
from tesa.choose.storage import StorageContest
from tesa.compiler import compile_model
from tesa.errors import UsageError
from tesa.layers.layer import Layer
from tesa.runtime import load, verify
from tesa.schedules.types import Problem
from tests.frontend.onnx_models import floats, model, node, port


def _layer(weight: Any, n: int = 1) -> Layer:
    m, k = weight.shape
    return Layer("fc", Problem("linear", m, k, n, (k, n), (m, n)), weight)


def _storages(weight: Any, storage: str = "float32", n: int = 1) -> list[str]:
    return [layer.problem.storage for layer in StorageContest([_layer(weight, n)], storage).layers]


def test_who_competes() -> None:
    weight = floats(16, 16)
    large = floats(512, 512)
    half = large.astype(np.float16).astype(np.float32)
    assert _storages(weight) == ["float32"]
    assert _storages(weight, "float16") == ["float32", "float16"]
    assert _storages(weight, "float16", n=17) == ["float32"], "many columns"
    assert _storages(weight * np.float32(1e6), "float16") == ["float32"], "too large a number"
    assert _storages(weight * np.float32(1e6), "bfloat16") == ["float32", "bfloat16"]
    assert _storages(large) == ["float32"]
    assert _storages(half) == ["float32", "float16"], "nothing is rounded"
    assert _storages(rounded(large * np.float32(1e6), "bfloat16")) == ["float32", "bfloat16"]
    with pytest.raises(UsageError, match="unknown storage 'half'"):
        StorageContest([], "half")


def _chosen(ms: float, name: str) -> ChosenKernel:
    row = Candidate(name, {}, 1.0, ms)
    return ChosenKernel("fc", (Part("dense", 32, 1, "", name, {}, (row,), "measured"),), Product("s", ()))


@pytest.mark.parametrize(("ms", "family"), [(0.5, "narrow"), (0.99, "wide"), (2.0, "wide")])
def test_the_faster_one_is_taken(ms: float, family: str) -> None:
    contest = StorageContest([_layer(floats(8, 8)), _layer(floats(8, 8), n=100)], "float16")
    found = contest.best([_chosen(1.0, "wide"), _chosen(1.0, "other"), _chosen(ms, "narrow")])
    assert [kernel.part.family for kernel in found] == [family, "other"]
    assert ("kept in float16" in found[0].part.reason) == (family == "narrow")


@pytest.mark.parametrize("storage", ["float16", "bfloat16"])
def test_a_compiled_model_computes_with_rounded_weights(
    tmp_path: Path, storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tesa.choose.storage.MARGIN", 1e9)  # whatever the times are
    weights = {"w": floats(64, 48), "v": floats(48, 8, seed=1), "b": floats(48, seed=2)}
    nodes = [
        node("MatMul", ["x", "w"], "h", name="fc"),
        node("Add", ["h", "b"], "a"),
        node("Relu", ["a"], "r"),
        node("MatMul", ["r", "v"], "y", name="out"),
    ]
    onnx.save(model(nodes, [port("x", [2, 64])], ["y"], weights), tmp_path / "model.onnx")
    path = tmp_path / "model.so"
    families = ["vector"]
    compiled = compile_model(tmp_path / "model.onnx", output=path, measure=False, storage=storage, families=families)
    parts = [layer.parts[0] for layer in compiled.plan.layers if layer.kind == "sparse"]
    assert [(part.bits, part.storage) for part in parts] == [(16, storage)] * 2
    x = floats(2, 64, seed=3)
    near = {name: rounded(array, storage).astype(np.float64) for name, array in weights.items()}
    expected = np.maximum(x @ near["w"] + weights["b"], 0) @ near["v"]
    found = load(path)
    np.testing.assert_allclose(found({"x": x})["y"], expected, rtol=1e-4, atol=1e-4)
    result = verify(found, tmp_path / "model.onnx", per_layer=True)
    assert result.ok, result
    assert storage in result.outputs[0].tolerance
