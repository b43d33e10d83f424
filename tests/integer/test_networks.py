"""Networks of codes from the file to the library: integer kernels, a plan that says so, and onnxruntime's codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tesa.base.onnxruntime import reference_outputs
from tesa.compiler import compile_model
from tesa.report.plan import explanation
from tesa.runtime import load, verify
from tests.integer import compare
from tests.layers.integer import Quantized


def residual(signed: bool) -> tuple[Any, dict[str, Any]]:
    """A stem, a block with a depthwise convolution and a residual sum, pooling, and a classifier."""
    q = Quantized(signed)
    d = q.codes(q.input(1, 3, 13, 11), 0.02, 120)
    stem = q.op("Conv", d, q.weight(16, 3, 3, 3), q.bias(16), pads=[1] * 4, strides=[2, 2])
    d = one = q.codes(q.op("Relu", stem), 0.03, 0)
    d = q.codes(q.op("Conv", d, q.weight(16, 1, 3, 3, density=1), q.bias(16), pads=[1] * 4, group=16), 0.04, 128)
    d = q.op("Add", q.op("Conv", d, q.weight(16, 16, 1, 1), q.bias(16)), one)
    d = q.op("MaxPool", q.codes(d, 0.05, 100), kernel_shape=[2, 2], strides=[2, 2])
    d = q.codes(q.op("Flatten", q.op("GlobalAveragePool", d)), 0.02, 100)
    return q.proto(q.quantize(q.op("Gemm", d, q.weight(10, 16), q.bias(10), transB=1), 0.03, 110)), q.feeds()


@pytest.fixture
def integers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Integers wherever there are kernels, whatever the CPU is."""
    monkeypatch.setattr("tesa.choose.integer.IntegerContest._least", lambda *_: float("inf"))


@pytest.mark.usefixtures("integers")
@pytest.mark.parametrize("signed", [False, True])
def test_a_network_is_integer_from_end_to_end(signed: bool, tmp_path: Path) -> None:
    proto, feeds = residual(signed)
    path = tmp_path / "net.onnx"
    onnx.save(proto, path)
    compiled = compile_model(path, output=tmp_path / "net.so", measure=False)
    weights = [layer for layer in compiled.plan.layers if layer.kind == "sparse" and layer.op != "depthwise"]
    assert [layer.precision for layer in weights] == ["int8"] * 3
    assert [part.bits for layer in weights for part in layer.parts] == [8] * 3
    said = "\n".join(str(line) for line in explanation(weights[1], compiled.plan))
    assert "integers: X is uint8 codes with zero point 128, W int8 codes; Y is uint8 codes of scale 0.05" in said
    model = load(tmp_path / "net.so")
    (name,) = expected = reference_outputs(proto, feeds)
    assert np.abs(model(feeds)[name].astype(int) - expected[name].astype(int)).max() <= 1
    for row in compare.layers(model, proto, feeds):
        assert row.only_ties, row
    result = verify(model, path, per_layer=True)
    assert result.ok, result
    assert sum(not row.why for row in result.layers) >= 3


def test_integers_can_be_left_out(tmp_path: Path) -> None:
    proto, feeds = residual(True)
    compiled = compile_model(proto, output=tmp_path / "net.so", measure=False, integer=False)
    assert {layer.precision for layer in compiled.plan.layers} == {""}
    (name,) = expected = reference_outputs(proto, feeds)
    assert np.abs(load(tmp_path / "net.so")(feeds)[name].astype(int) - expected[name].astype(int)).max() <= 1
