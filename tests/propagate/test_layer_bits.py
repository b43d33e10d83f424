"""The bits of each layer before and after, on a MobileNet of mixed precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.quantized_mobilenet import quantized_mobilenet
from tesa.frontend import import_onnx
from tesa.propagate import TesaModel, propagate
from tesa.propagate.bits.layer_bits import layer_bits

from ..frontend.onnx_models import floats, node
from .interpreter import run
from .qdq_models import check_law_of_bits, solved


def small(**options: Any) -> TesaModel:
    return propagate(
        import_onnx(quantized_mobilenet(0.125, 16, bits=(8, 5, 5, 5, 7, 7, 7, 4, 7, 5), classes=5, **options))
    )


@pytest.mark.parametrize("nested", [True, False])
def test_mobilenet_on_all_its_grids_computes_the_same(nested: bool) -> None:
    found = small(nested=nested)
    image = np.random.default_rng(0).uniform(0, 8, (1, 3, 16, 16))
    expected = run(found.network, {"image": image})
    assert np.ptp(expected[found.network.outputs[0]]) > 0.01
    assert len(np.unique(expected["block3_dw"])) > 50, "the law would hold of a dead network"
    check_law_of_bits(found, {"image": image})


def test_mobilenet_needs_fewer_bits_after_propagation() -> None:
    """SparTA's figure 17: the bits of several layers fall, none rises, and the container alone says nothing."""
    layers = layer_bits(small())
    assert [row.input_before for row in layers] == [8, 5, 5, 5, 7, 7, 7, 4, 7, 5]
    assert [row.weight_before for row in layers] == [8] * 10
    assert [row.weight_after for row in layers] == [8, 5, 5, 5, 7, 7, 7, 4, 7, 5]
    assert [row.input_after for row in layers] == [8, 5, 5, 4, 5, 7, 7, 4, 4, 5]
    assert [row.output_after for row in layers] == [5, 5, 4, 5, 7, 7, 4, 4, 7, 32]
    assert all(row.output_after <= row.output_before for row in layers)
    assert sum(row.lowered for row in layers) >= 8


def test_bits_of_a_model_that_is_not_quantized() -> None:
    found = solved([node("MatMul", ["x", "w"], "y")], {"w": floats(6, 2)})
    (row,) = layer_bits(found)
    assert (row.weight_before, row.weight_after, row.input_after, row.output_after) == (32, 32, 32, 32)
    assert not row.lowered
