"""A case as an ONNX model of one operator, for the peers that read ONNX."""

from __future__ import annotations

from typing import Any

from onnx import TensorProto, checker, helper, numpy_helper

from benchmarks.kernels.cases import Array, Case

OPSET = 18


def model_of(case: Case, w: Array) -> Any:
    """X -> Y with W inside. int8: uint8 X times int8 W, Y int32."""
    shape = [case.k, case.n] if case.op == "linear" else list(case.image)
    integer = case.dtype == "int8"
    x = helper.make_tensor_value_info("X", TensorProto.UINT8 if integer else TensorProto.FLOAT, shape)
    out = [case.m, case.n] if case.op == "linear" else [1, case.m, *[round(case.n**0.5)] * 2]
    y = helper.make_tensor_value_info("Y", TensorProto.INT32 if integer else TensorProto.FLOAT, out)
    graph = helper.make_graph([_node(case)], "case", [x], [y], [numpy_helper.from_array(w, "W")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    checker.check_model(model)
    return model


def _node(case: Case) -> Any:
    if case.op != "linear":
        groups = case.m if case.op == "depthwise" else 1
        pads, strides = [case.kernel // 2] * 4, [case.stride] * 2
        return helper.make_node("Conv", ["X", "W"], ["Y"], pads=pads, strides=strides, group=groups)
    return helper.make_node("MatMulInteger" if case.dtype == "int8" else "MatMul", ["W", "X"], ["Y"])
