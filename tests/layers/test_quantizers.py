"""What onnxruntime's quantizer writes is integer from layer to layer, in every configuration of 8 bits or fewer."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import quantize_static

from tesa.base.onnxruntime import reference_outputs
from tests.frontend.onnx_models import floats
from tests.frontend.test_quantizers import STATIC, Images, network
from tests.layers.integer import lowered, run

pytestmark = pytest.mark.slow

EIGHT = [name for name, (opset, _) in STATIC.items() if opset == 17 and "16" not in name] + ["4 bits"]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Its advice to prepare the model first."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", EIGHT)
def test_static_quantization(name: str, tmp_path: Path) -> None:
    """A weight of unsigned codes may be two layers, of which the first has the codes beyond int8."""
    opset, options = STATIC[name]
    onnx.save(network(opset), tmp_path / "float.onnx")
    quantize_static(tmp_path / "float.onnx", tmp_path / "q.onnx", Images(), **options)
    proto, feeds = onnx.load(tmp_path / "q.onnx"), {"x": floats(1, 3, 6, 6, seed=9)}
    found = lowered(proto)
    assert {layer.problem.dtype for layer in found.layers} == {"int8"}
    whole = [layer for layer in found.layers if not layer.name.endswith(".rest")]
    assert len(whole) == 5
    (output, expected), *_ = reference_outputs(proto, feeds).items()
    np.testing.assert_allclose(run(found, feeds)[output], expected, atol=0.01 * np.abs(expected).max())
