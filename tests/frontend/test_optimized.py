"""What onnxruntime's optimizer saves at each of its levels imports, with the numbers of the model before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnxruntime.quantization import CalibrationDataReader, quantize_dynamic, quantize_static

from . import networks
from .merged import computed, expected

LEVELS = {
    1: onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC, 2: onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    99: onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}  # fmt: skip
FUSED = {
    ("convolutions", 2): {"FusedConv"}, ("convolutions", 99): {"ReorderInput", "ReorderOutput"},
    ("separable", 99): {"Upsample"}, ("transformer", 2): {"FusedMatMul", "Gelu"},
    ("gated", 2): {"FusedGemm", "FusedMatMul", "QuickGelu"},
}  # fmt: skip
NETWORKS: dict[str, Callable[[], onnx.ModelProto]] = {
    name: getattr(networks, name) for name in ("convolutions", "separable", "transformer", "gated")
}


def optimized(model: onnx.ModelProto, level: int, path: Path) -> onnx.ModelProto:
    """The file that onnxruntime saves."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = LEVELS[level]
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(path)


def feeds(model: onnx.ModelProto) -> dict[str, Any]:
    """Random inputs: floats, or small integers."""
    rng, given = np.random.default_rng(0), {}
    for value in model.graph.input:
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        real = value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        array = rng.standard_normal(shape).astype(np.float32) if real else rng.integers(0, 2, shape)
        given[value.name] = array
    return given


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", NETWORKS)
def test_what_the_optimizer_saves(name: str, level: int, tmp_path: Path) -> None:
    model = NETWORKS[name]()
    given = feeds(model)
    saved = optimized(model, level, tmp_path / "saved.onnx")
    kinds = {node.op_type for node in saved.graph.node}
    assert FUSED.get((name, level), set()) <= kinds, sorted(kinds)
    want, found = expected(model, given), computed(saved, given)
    for key, array in want.items():
        np.testing.assert_allclose(found[key], array, rtol=1e-4, atol=1e-4)


class Samples(CalibrationDataReader):  # type: ignore[misc]
    """A few random inputs."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.left = [feeds(model) for _ in range(2)]

    def get_next(self) -> dict[str, Any] | None:
        return self.left.pop() if self.left else None


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", ["convolutions", "separable"])
def test_what_the_optimizer_makes_of_a_quantized_network(name: str, level: int, tmp_path: Path) -> None:
    model = networks.convolutions(opset=13) if name == "convolutions" else networks.separable(upsample=False)
    path = tmp_path / "quantized.onnx"
    quantize_static(model, path, Samples(model), per_channel=True, extra_options={"WeightSymmetric": True})
    quantized = onnx.load(path)
    given = feeds(model)
    saved = optimized(quantized, level, tmp_path / "saved.onnx")
    want, found = expected(quantized, given), computed(saved, given)
    for key, array in want.items():
        step = np.ptp(array) / 255
        np.testing.assert_allclose(found[key], array, atol=3 * step)
        assert np.mean(np.abs(found[key] - array)) < 0.5 * step


@pytest.mark.parametrize("level", LEVELS)
def test_what_the_optimizer_makes_of_weights_quantized_alone(level: int, tmp_path: Path) -> None:
    model = networks.transformer()
    path = tmp_path / "quantized.onnx"
    quantize_dynamic(model, path)
    quantized = onnx.load(path)
    given = feeds(model)
    saved = optimized(quantized, level, tmp_path / "saved.onnx")
    assert level == 1 or {"DynamicQuantizeMatMul"} <= {node.op_type for node in saved.graph.node}
    want, found = expected(quantized, given), computed(saved, given)
    for key, array in want.items():
        np.testing.assert_allclose(found[key], array, atol=0.02 * np.ptp(array))
