"""Poolings get their padding in pixels, also where ONNX infers another size for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tesa.frontend import import_onnx

from .onnx_models import floats, model, node, port
from .test_import import compare

CEIL: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [3, 3], "pads": [0, 1, 0, 1], "ceil_mode": 1}


@pytest.mark.parametrize("include", [0, 1])
def test_sizes_that_are_rounded_up_one_after_the_other(include: int) -> None:
    """ONNX infers one pixel more for both, before opset 22."""
    nodes = [
        node("MaxPool", ["x"], "a", **CEIL),
        node("AveragePool", ["a"], "b", kernel_shape=[2, 2], strides=[2, 2], pads=[1, 1, 0, 0], ceil_mode=1,
             count_include_pad=include),
        node("Relu", ["b"], "y"),
    ]  # fmt: skip
    given = model(nodes, [port("x", [1, 2, 7, 8])], ["y"], opset=13)
    imported = compare(given, {"x": floats(1, 2, 7, 8)})
    assert imported.graph is not None
    assert all(a.name not in ("ceil_mode", "auto_pad") for n in imported.graph.nodes for a in n.attribute)


def test_a_resize_whose_size_onnx_infers_otherwise() -> None:
    """10 times the float32 1.4 is 14 for every runtime and 13 for ONNX's inference."""
    nodes = [
        node("Resize", ["x", "", "scales"], "a", mode="nearest"),
        node("Resize", ["a", "", "scales"], "y", mode="linear"),
    ]
    constants = {"scales": np.array([1, 1, 1, 1.4], np.float32)}
    given = model(nodes, [port("x", [1, 1, 2, 10])], ["y"], constants, opset=13)
    assert compare(given, {"x": floats(1, 1, 2, 10)}).outputs[0].shape == (1, 1, 2, 19)


def test_a_resize_of_opset_10_whose_scales_are_computed() -> None:
    nodes = [
        node("Shape", ["x"], "s"),
        node("Cast", ["s"], "f", to=1),
        node("Div", ["wanted", "f"], "scales"),
        node("Resize", ["x", "scales"], "y", mode="nearest"),
    ]
    given = model(nodes, [port("x", [1, 1, 4, 4])], ["y"], {"wanted": np.array([1, 1, 8, 2], np.float32)}, opset=10)
    compare(given, {"x": floats(1, 1, 4, 4)})


def test_a_model_without_poolings_is_left_alone() -> None:
    given = model([node("Relu", ["x"], "y")], [port("x", [2, 3])], ["y"])
    assert import_onnx(given).outputs[0].shape == (2, 3)
