"""Small networks that are explored in a second."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import numpy_helper, parser

CHAIN = """
<ir_version: 8, opset_import: ["": 17]>
g (float[1,8,16,16] x) => (float[1,10] y) {
    a = Conv<kernel_shape=[3,3],pads=[1,1,1,1]>(x, w0, b0)
    ar = Relu(a)
    b = Conv(ar, w1, b1)
    br = Relu(b)
    c = Conv(br, w2, b2)
    cr = Relu(c)
    p = GlobalAveragePool(cr)
    f = Flatten(p)
    y = Gemm<transB=1>(f, w3, b3)
}"""
SHAPES = ((64, 8, 3, 3), (64, 64, 1, 1), (64, 64, 1, 1), (10, 64))


def chain(seed: int = 0) -> Any:
    """Three convolutions and a linear layer. The weights of the second have a few that are large, those of the third
    are all alike, so that one bears pruning and the other does not."""
    rng, model = np.random.default_rng(seed), parser.parse_model(CHAIN)
    for i, shape in enumerate(SHAPES):
        weight = rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))
        if i == 1:
            weight *= np.where(rng.random(shape) < 0.15, 3.0, 0.02)
        model.graph.initializer.extend(
            [
                numpy_helper.from_array(weight.astype(np.float32), f"w{i}"),
                numpy_helper.from_array((0.1 * rng.normal(size=shape[0])).astype(np.float32), f"b{i}"),
            ]
        )
    return model


def inputs(count: int = 16, seed: int = 1) -> dict[str, Any]:
    return {"x": np.random.default_rng(seed).normal(size=(count, 8, 16, 16)).astype(np.float32)}
