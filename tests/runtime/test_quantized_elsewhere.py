"""Quantized networks, as onnxruntime's quantizer writes them, on machines other than this one."""

from __future__ import annotations

import logging
from pathlib import Path

import onnx
import pytest
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

from tesa.compiler import compile_model
from tesa.runtime import load, verify
from tests.frontend.onnx_models import floats, model, node, port
from tests.frontend.test_quantizers import Images
from tests.node import require_node
from tests.support import require_system

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Convolutions of 3x3 and 1x1 and a linear layer, with codes of 8 bits between them."""
    folder = tmp_path_factory.mktemp("quantized")
    given = {"a": floats(16, 3, 3, 3), "b": floats(32, 16, 1, 1, seed=1), "c": floats(10, 32, seed=2)}
    given["b"][:, ::3] = 0
    nodes = [
        node("Conv", ["x", "a"], "p", pads=[1] * 4), node("Relu", ["p"], "q"), node("Conv", ["q", "b"], "r"),
        node("Relu", ["r"], "s"), node("GlobalAveragePool", ["s"], "t"), node("Flatten", ["t"], "u"),
        node("Gemm", ["u", "c"], "y", transB=1),
    ]  # fmt: skip
    proto = model(nodes, [port("x", [1, 3, 6, 6])], ["y"], given, opset=17)
    proto.ir_version = 10
    onnx.save(onnx.shape_inference.infer_shapes(proto), folder / "float.onnx")
    logging.disable(logging.WARNING)  # its advice to prepare the model first
    quantize_static(
        folder / "float.onnx", folder / "codes.onnx", Images(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    logging.disable(logging.NOTSET)
    return folder / "codes.onnx"


@pytest.mark.parametrize("cpu", ["cortex-a53", "cortex-a76", "neoverse-n2"])
def test_on_64_bit_arm(source: Path, cpu: str, tmp_path: Path) -> None:
    require_system("qemu-aarch64", "qemu-user")
    require_system("aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu")
    compile_model(source, output=tmp_path / "codes.o", target=f"aarch64:{cpu}", measure=False, format="o")
    with load(tmp_path / "codes.o", emulated=True) as emulated:
        result = verify(emulated, source)
        assert result.ok, result


@pytest.mark.parametrize("target", ["wasm32", "wasm32:relaxed"])
def test_in_node(source: Path, target: str, tmp_path: Path) -> None:
    require_node()
    compile_model(source, output=tmp_path / "codes.wasm", target=target, measure=False)
    result = verify(load(tmp_path / "codes.wasm"), source)
    assert result.ok, result
