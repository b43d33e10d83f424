"""Verification by what a network's numbers are: sound networks pass, faults of a few percent do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tesa.cli import main
from tesa.errors import UsageError
from tesa.runtime import Model, bench, random_feeds, verify
from tests.frontend.onnx_models import floats, model, node, port

from .models import build, mlp


def _quantize(name: str, scale: float, zero: int, out: str, table: dict[str, Any], dtype: str = "uint8") -> list[Any]:
    table |= {f"{out}_s": np.array(scale, np.float32), f"{out}_z": np.array(zero, dtype)}
    return [
        node("QuantizeLinear", [name, f"{out}_s", f"{out}_z"], f"{out}_q"),
        node("DequantizeLinear", [f"{out}_q", f"{out}_s", f"{out}_z"], out),
    ]


def _quantized(last: str) -> Any:
    """Three layers between 8-bit activations. last: "codes" or "reals" is what comes out."""
    table: dict[str, Any] = {}
    nodes = _quantize("x", 0.03, 128, "x0", table)
    for i in range(3):
        stored = np.clip(np.round(floats(64, 64, seed=i) * 40), -127, 127).astype(np.int8)
        table |= {f"w{i}": stored, f"s{i}": np.array(0.004, np.float32), f"z{i}": np.array(0, np.int8)}
        nodes += [
            node("DequantizeLinear", [f"w{i}", f"s{i}", f"z{i}"], f"d{i}"),
            node("MatMul", [f"x{i}", f"d{i}"], f"m{i}", name=f"fc{i}"),
            node("Relu", [f"m{i}"], f"r{i}"),
        ]
        nodes += _quantize(f"r{i}", 0.05, 0, f"x{i + 1}", table)
    output = "x3_q" if last == "codes" else "x3"
    proto = model(nodes, [port("x", [16, 64])], [output], table, opset=17)
    if last == "codes":
        proto.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    return proto


def _other(folder: Path, name: str, change: Any) -> Path:
    proto = onnx.load(folder / "model.onnx")
    for tensor in proto.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor).copy()), name))
    onnx.save(proto, folder / "other.onnx")
    return folder / "other.onnx"


@pytest.mark.parametrize("integer", [True, False])
@pytest.mark.parametrize("last", ["codes", "reals"])
def test_quantized_networks(tmp_path: Path, last: str, integer: bool) -> None:
    """Layers that store codes are held against the reference's codes, others against numbers of 8 bits."""
    compiled = build(tmp_path, _quantized(last), integer=integer)
    result = verify(compiled, tmp_path / "model.onnx", per_layer=True)
    assert result.ok, result
    kinds = {layer.layer: layer.precision for layer in compiled.plan.layers}
    assert integer or set(kinds.values()) == {""}
    for row in result.layers:
        assert ("quantized numbers" if kinds[row.name] else "8 bits") in row.tolerance
    assert "quantized numbers" in result.outputs[0].tolerance or last == "reals"
    wrong = _other(tmp_path, "s1", lambda scale: scale * np.float32(1.1))
    assert not verify(compiled, wrong).ok

    def cut(weight: Any) -> Any:
        weight[:, 5] = 0
        return weight

    assert not verify(compiled, _other(tmp_path, "w2", cut)).ok, "one channel"


def test_a_weight_that_is_off_by_a_percent(tmp_path: Path) -> None:
    compiled = build(tmp_path, mlp())
    assert verify(compiled, tmp_path / "model.onnx").ok
    assert not verify(compiled, _other(tmp_path, "w1", lambda w: w * np.float32(1.01))).ok


def test_a_layer_is_compared_once(tmp_path: Path) -> None:
    """A product of one row has a reshape behind it, of the same name."""
    nodes = [node("MatMul", ["x", "w"], "y", name="fc")]
    compiled = build(tmp_path, model(nodes, [port("x", [1, 64])], ["y"], {"w": floats(64, 32)}))
    assert len(compiled.plan.layers) == 2
    (row,) = verify(compiled, tmp_path / "model.onnx", per_layer=True).layers
    assert row.compared


def test_given_tolerances_go_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build(tmp_path, mlp())
    other = _other(tmp_path, "w1", lambda w: w * np.float32(1.01))
    words = ["verify", str(tmp_path / "model.so"), "--ref", str(other)]
    assert main(words) == 1
    assert "tolerance: 0.001 of each value + 0.0001 (float32" in capsys.readouterr().out
    assert main([*words, "--rtol", "0.1", "--atol", "0.1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["outputs"][0]["tolerance"] == "0.1 of each value + 0.1 (as given)"
    assert main([*words, "--atol", "0"]) == 1


def _embedding(rows: int) -> Any:
    nodes = [node("Gather", ["t", "ids"], "e"), node("MatMul", ["e", "w"], "y", name="fc")]
    return model(nodes, [port("ids", [2, 8], "int64")], ["y"], {"t": floats(rows, 16), "w": floats(16, 8)})


@pytest.mark.parametrize("rows", [1, 2, 1000])
def test_random_indices_are_in_the_table(tmp_path: Path, rows: int) -> None:
    compiled = build(tmp_path, _embedding(rows))
    assert json.loads((tmp_path / "model.json").read_text())["inputs"][0]["limits"] == [0, rows - 1]
    assert verify(compiled, tmp_path / "model.onnx").ok
    assert bench(compiled, repeat=3, peers=["onnxruntime"], onnx=tmp_path / "model.onnx").peers
    drawn = random_feeds(compiled.inputs)["ids"]
    assert drawn.min() >= 0
    assert drawn.max() < rows
    inside = np.full((2, 8), -rows, np.int64)
    np.testing.assert_array_equal(compiled({"ids": inside})["y"], compiled({"ids": inside * 0})["y"])
    for outside in (rows, -rows - 1):
        with pytest.raises(UsageError, match=rf"'ids' holds {outside}: .* from {-rows} to {rows - 1}"):
            compiled({"ids": np.full((2, 8), outside, np.int64)})


def test_inputs_without_numbers_are_drawn_again(tmp_path: Path) -> None:
    nodes = [node("ReduceMin", ["x"], "m", keepdims=0), node("Log", ["m"], "y")]
    compiled = build(tmp_path, model(nodes, [port("x", [64])], ["y"], {}))
    assert verify(compiled, tmp_path / "model.onnx").ok
    result = verify(compiled, tmp_path / "model.onnx", feeds={"x": np.full(64, -1, np.float32)})
    assert not result.ok
    assert "NaN everywhere" in result.outputs[0].note


def test_bfloat16_is_held_against_float32(tmp_path: Path) -> None:
    weight = floats(64, 32).astype(ml_dtypes.bfloat16)
    nodes = [node("MatMul", ["x", "w"], "h", name="fc"), node("Relu", ["h"], "y")]
    proto = model(nodes, [port("x", [4, 64], "bfloat16")], ["y"], {"w": weight}, opset=18)
    proto.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.BFLOAT16
    compiled: Model = build(tmp_path, proto)
    result = verify(compiled, tmp_path / "model.onnx", per_layer=True)
    assert result.ok, result
    assert "bfloat16" in result.outputs[0].tolerance
    assert not verify(compiled, _other(tmp_path, "w", lambda w: (w.astype(np.float32) * 1.05).astype(w.dtype))).ok
