"""A case as an ONNX model of one operator, for the peers that read ONNX."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper

from benchmarks.kernels.cases import Array, Case, step

OPSET = 18


FORMS = ("matmul", "rows", "conv")
"""Ways to write a product W X for a peer: as it stands; with rows of X as vectors, X^T W^T, which is how an exporter
writes a linear layer and what int8 kernels are made for; as a 1x1 convolution over n pixels."""


def model_of(case: Case, w: Array, form: str = "matmul") -> Any:
    """X -> Y with W inside. int8: uint8 X times int8 W; Y is int32 from "matmul" and "rows", float32 from "conv".

    Of an int8 case "conv" and "dequantized rows" write the integers as numbers with a scale of 1, for peers that find
    the int8 product by themselves. "codes" is a layer of uint8 codes (n, k) and (n, m), as quantizers write it.
    """
    x_shape, y_shape = shapes(case, form)
    if form == "codes":
        return _from_codes_to_codes(case, w)
    integer = case.dtype == "int8"
    nodes, constants, sums = (_integer if integer else _real)(case, w, form)
    x = helper.make_tensor_value_info("X", TensorProto.UINT8 if integer else TensorProto.FLOAT, x_shape)
    y = helper.make_tensor_value_info("Y", sums, y_shape)
    graph = helper.make_graph(nodes, "case", [x], [y], [numpy_helper.from_array(a, n) for n, a in constants.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    checker.check_model(model)
    return model


def shapes(case: Case, form: str) -> tuple[list[int], list[int]]:
    """The shapes of X and Y as the model has them."""
    if case.codes:
        return [case.n, case.k], [case.n, case.m]
    if case.op != "linear":
        return list(case.image), [1, case.m, *[round(case.n**0.5)] * 2]
    if "rows" in form:
        return [case.n, case.k], [case.n, case.m]
    if form == "conv":
        return [1, case.k, case.n, 1], [1, case.m, case.n, 1]
    return [case.k, case.n], [case.m, case.n]


def arranged(case: Case, x: Array, form: str) -> Array:
    """X for the model: the same numbers in the model's layout."""
    if case.op == "linear" and "rows" in form and not case.codes:
        return np.ascontiguousarray(x.T)
    return x.reshape(shapes(case, form)[0])


def restored(case: Case, y: Array, form: str) -> Array:
    """Y of the model as (m, n)."""
    return y.T if case.op == "linear" and "rows" in form else y


def _real(case: Case, w: Array, form: str) -> tuple[list[Any], dict[str, Array], int]:
    if case.op != "linear":
        groups = case.m if case.op == "depthwise" else 1
        pads, strides = [case.kernel // 2] * 4, [case.stride] * 2
        node = helper.make_node("Conv", ["X", "W"], ["Y"], pads=pads, strides=strides, group=groups)
        return [node], {"W": w}, TensorProto.FLOAT
    if form == "conv":
        return [helper.make_node("Conv", ["X", "W"], ["Y"])], {"W": w[:, :, None, None]}, TensorProto.FLOAT
    if form == "rows":
        return [helper.make_node("MatMul", ["X", "W"], ["Y"])], {"W": np.ascontiguousarray(w.T)}, TensorProto.FLOAT
    return [helper.make_node("MatMul", ["W", "X"], ["Y"])], {"W": w}, TensorProto.FLOAT


def _integer(case: Case, w: Array, form: str) -> tuple[list[Any], dict[str, Array], int]:
    if form == "matmul":
        return [helper.make_node("MatMulInteger", ["W", "X"], ["Y"])], {"W": w}, TensorProto.INT32
    turned = w[:, :, None, None] if form == "conv" else np.ascontiguousarray(w.T)
    if form == "rows":
        return [helper.make_node("MatMulInteger", ["X", "W"], ["Y"])], {"W": turned}, TensorProto.INT32
    one = np.ones((), np.float32)
    # OpenVINO takes a product for an int8 one only behind a quantization that it sees
    nodes = [
        helper.make_node("Cast", ["X"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("QuantizeLinear", ["real", "one", "zx"], ["codes"]),
        helper.make_node("DequantizeLinear", ["codes", "one", "zx"], ["x"]),
        helper.make_node("DequantizeLinear", ["W", "one", "zw"], ["w"]),
        helper.make_node("Conv" if form == "conv" else "MatMul", ["x", "w"], ["Y"]),
    ]
    constants = {"W": turned, "one": one, "zx": np.zeros((), np.uint8), "zw": np.zeros((), np.int8)}
    return nodes, constants, TensorProto.FLOAT


def _from_codes_to_codes(case: Case, w: Array) -> Any:
    nodes = [
        helper.make_node("DequantizeLinear", ["X", "one", "zx"], ["x"]),
        helper.make_node("DequantizeLinear", ["W", "one", "zw"], ["w"]),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
        helper.make_node("QuantizeLinear", ["y", "step", "zy"], ["Y"]),
    ]
    constants = {
        "W": np.ascontiguousarray(w.T), "one": np.ones((), np.float32), "zx": np.zeros((), np.uint8),
        "zw": np.zeros((), np.int8), "step": np.float32(step(case)), "zy": np.uint8(128),
    }  # fmt: skip
    x, y = (
        helper.make_tensor_value_info(n, TensorProto.UINT8, s) for n, s in zip("XY", shapes(case, "codes"), strict=True)
    )
    tensors = [numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()]
    graph = helper.make_graph(nodes, "case", [x], [y], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    checker.check_model(model)
    return model
