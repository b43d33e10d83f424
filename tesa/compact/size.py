"""The work of an ONNX model."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tesa.attributes.attribute import Values
from tesa.frontend.graph import attributes


def macs(nodes: Sequence[Any], shapes: Mapping[str, tuple[int, ...]], constants: Mapping[str, Values]) -> int:
    """Multiply-accumulates of all convolutions and matrix products of one run."""
    known = {**shapes, **{name: array.shape for name, array in constants.items()}}
    return sum(_macs(node, known) for node in nodes)


def _macs(node: Any, shapes: Mapping[str, tuple[int, ...]]) -> int:
    tensors = [*node.input[:2], node.output[0]]
    if any(name not in shapes for name in tensors):
        return 0
    first, second, out = (shapes[name] for name in tensors) if len(tensors) == 3 else ((), (), ())
    if node.op_type == "Conv":
        return int(np.prod(out)) * int(np.prod(second[1:]))
    if node.op_type == "ConvTranspose":
        return int(np.prod(first)) * int(np.prod(second[1:]))
    if node.op_type == "MatMul":
        return int(np.prod(out)) * first[-1]
    if node.op_type == "Gemm":
        return int(np.prod(out)) * first[0 if attributes(node).get("transA", 0) else 1]
    return 0
