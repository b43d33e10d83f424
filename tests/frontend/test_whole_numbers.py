"""Tensors that integer operators alone lead to from integer inputs and constants."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from tesa.frontend.whole_numbers import whole_tensors

from .onnx_models import model, node, port


def test_integers_alone() -> None:
    codes = np.ones((4, 4), np.int8)
    nodes = [
        node("MatMulInteger", ["x", "w", "zero"], "product"),
        node("Add", ["product", "bias"], "sum"),
        node("Clip", ["sum", "", "most"], "clipped"),
        node("Cast", ["clipped"], "narrow", to=TensorProto.INT8),
        node("Equal", ["narrow", "w"], "same"),
        node("Constant", [], "one", value=helper.make_tensor("", TensorProto.INT32, [1], [1])),
        node("Sub", ["clipped", "one"], "less"),
        node("Shape", ["real"], "shape"),
    ]
    constants = {"w": codes, "zero": np.uint8(3), "bias": np.ones(4, np.int32), "most": np.int32(9)}
    proto = model(nodes, [port("x", [4, 4], "uint8"), port("real", [4])], ["less", "same", "shape"], constants)
    made = {name for item in nodes for name in item.output}
    assert whole_tensors(proto) == made | {"x", *constants}


def test_reals_on_the_way() -> None:
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["real"], ["codes", "scale", "zero"]),
        node("MatMulInteger", ["codes", "w", "zero"], "product"),
        node("Cast", ["x"], "wide", to=TensorProto.FLOAT),
        node("Cast", ["wide"], "narrow", to=TensorProto.INT32),
        node("QuantizeLinear", ["wide", "step"], "again"),
        node("ConstantOfShape", ["sizes"], "zeros"),
        node("ReduceMean", ["x"], "mean"),
        node("Cast", ["zeros"], "cast", to=TensorProto.INT32),
        node("Own", ["x"], "own", domain="of.somebody"),
    ]
    constants = {"w": np.ones((4, 4), np.int8), "step": np.float32(0.5), "sizes": np.array([2], np.int64)}
    proto = model(nodes, [port("x", [4, 4], "int32"), port("real", [4, 4])], ["product"], constants)
    assert whole_tensors(proto) == {"x", "w", "sizes"}
