"""Small ONNX models for the tests of the frontend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TYPES = {
    "float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16,
    "int64": TensorProto.INT64, "int32": TensorProto.INT32, "int8": TensorProto.INT8, "uint8": TensorProto.UINT8,
    "bool": TensorProto.BOOL,
}  # fmt: skip


def node(op: str, inputs: Sequence[str], output: str, **attributes: Any) -> Any:
    """A node with one output, called like it."""
    name = attributes.pop("name", output)
    return helper.make_node(op, list(inputs), [output], name, **attributes)


def port(name: str, shape: Sequence[Any] | None, dtype: str = "float32") -> Any:
    """An input or output; a string in the shape is an open dimension."""
    return helper.make_tensor_value_info(name, TYPES[dtype], shape)


def model(
    nodes: Sequence[Any],
    inputs: Sequence[Any],
    outputs: Sequence[str],
    constants: Mapping[str, Any] | None = None,
    opset: int = 17,
) -> onnx.ModelProto:
    """A model; outputs are declared without a shape."""
    arrays = {name: np.asarray(array) for name, array in (constants or {}).items()}
    tensors = [numpy_helper.from_array(np.ascontiguousarray(a).reshape(a.shape), n) for n, a in arrays.items()]
    outs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph(list(nodes), "test", list(inputs), outs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def conv_model(weight: Any, bias: Any = None, size: int = 6, **attributes: Any) -> onnx.ModelProto:
    """One convolution `layer` with the weight `layer.weight`."""
    weight = np.asarray(weight, np.float32)
    constants = {"layer.weight": weight}
    if bias is not None:
        constants["layer.bias"] = np.asarray(bias, np.float32)
    channels = weight.shape[1] * attributes.get("group", 1)
    nodes = [node("Conv", ["x", *constants], "y", name="/layer/Conv", **attributes)]
    return model(nodes, [port("x", [1, channels, size, size])], ["y"], constants)


def floats(*shape: int, seed: int = 0) -> Any:
    """Normally distributed float32."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)
