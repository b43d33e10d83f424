"""Writes layer.onnx: one sparse layer, y = relu(x W), of which one_layer.c calls the kernel.

python layer.py layer.onnx
"""

import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def main() -> None:
    """A weight of which one element in five is not zero."""
    rng = np.random.default_rng(0)
    weight = (rng.standard_normal((32, 16)) * (rng.random((32, 16)) < 0.2)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])],
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [8, 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), sys.argv[1])


if __name__ == "__main__":
    main()
