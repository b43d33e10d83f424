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
from tesa.errors import UnsupportedError, UsageError
from tesa.layers.layer import Layer
from tesa.runtime import load, verify
from tesa.schedules.types import Problem
from tests.frontend.onnx_models import floats, model, node, port
from tests.support import require_system


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


def test_sums_of_float16_compete_where_they_are_allowed() -> None:
    few, many, large = _layer(floats(16, 16)), _layer(floats(16, 16), 100), _layer(floats(8, 8) * np.float32(1e6), 100)
    contest = StorageContest([few, many, large], "float16", "float16")
    forms = [(layer.problem.n, layer.problem.storage, layer.problem.arithmetic) for layer in contest.layers[3:]]
    assert forms == [(1, "float16", "float32"), (1, "float16", "float16"), (100, "float16", "float16")]
    assert contest.contests == ((0, 3, 4), (1, 5), (2,))
    found = contest.best([_chosen(1.0, "a"), _chosen(1.0, "b"), _chosen(1.0, "c"),
                          _chosen(0.5, "kept"), _chosen(0.4, "summed"), _chosen(0.99, "slow")])  # fmt: skip
    assert [kernel.part.family for kernel in found] == ["summed", "b", "c"]
    assert "summed in float16" in found[0].part.reason


@pytest.mark.slow
def test_a_model_whose_sums_are_of_float16(tmp_path: Path) -> None:
    require_system("qemu-aarch64", "qemu-user")
    require_system("aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu")
    weights = {"w": floats(32, 48, 1, 1), "v": floats(24, 32, 1, 1, seed=1)}
    nodes = [node("Conv", ["x", "w"], "h"), node("Relu", ["h"], "r"), node("Conv", ["r", "v"], "y")]
    onnx.save(model(nodes, [port("x", [1, 48, 14, 14])], ["y"], weights), tmp_path / "model.onnx")
    compiled = compile_model(
        tmp_path / "model.onnx", output=tmp_path / "net.o", target="aarch64:cortex-a76", measure=False,
        arithmetic="float16",
    )  # fmt: skip
    parts = [layer.parts[0] for layer in compiled.plan.layers if layer.kind == "sparse"]
    assert [(part.storage, part.arithmetic) for part in parts] == [("float16", "float16")] * 2
    found = load(tmp_path / "net.o", emulated=True)
    result = verify(found, tmp_path / "model.onnx")
    assert result.ok, result
    assert result.outputs[0].max_abs > 1e-5
    assert "float16 sums" in result.outputs[0].tolerance


@pytest.mark.parametrize(
    ("arithmetic", "storage", "target", "error", "words"),
    [
        ("half", "float32", "aarch64:cortex-a76", UsageError, "unknown arithmetic 'half'; expected one of float32, fl"),
        ("float16", "bfloat16", "aarch64:cortex-a76", UsageError, "takes weights of float16, not of bfloat16"),
        ("float16", "float32", "aarch64:cortex-a53", UnsupportedError, "the CPU does not compute in float16"),
        ("bfloat16", "float32", "aarch64:cortex-a76", UnsupportedError, "does not multiply bfloat16"),
        ("bfloat16", "float32", "cuda:sm_75", UnsupportedError, "does not multiply bfloat16.*such as cuda:sm_80"),
        ("tfloat32", "float32", "rocm:gfx90a", UnsupportedError, "does not multiply tfloat32"),
        ("tfloat32", "float16", "cuda:sm_80", UsageError, "takes weights of float32, not of float16"),
    ],
)
def test_who_cannot_add_up_in_float16(
    tmp_path: Path, arithmetic: str, storage: str, target: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        compile_model("none.onnx", output=tmp_path / "net.o", target=target, arithmetic=arithmetic, storage=storage)
