"""QuantizeLinear and DequantizeLinear of constants, in NumPy: per tensor, along an axis, or in blocks of an axis.

A scale of one element is one number, whatever its shape: exporters write one number as [], [1] or [1, 1].
"""

import re
from typing import Any

import numpy as np
from onnx import helper

from tesa.attributes.attribute import Quantization, Shape, Values
from tesa.errors import ModelError
from tesa.frontend.graph import Graph, attributes


def dequantize_constant(graph: Graph, node: Any) -> Values:
    """scale * (x - zero point) of a DequantizeLinear of constants; graph.quantization remembers where it comes from."""
    x, scale, zero = _operands(graph, node)
    whole = np.int32 if x.dtype.name == "int32" else np.float32
    real = (x.astype(whole) - zero.astype(whole)).astype(np.float32) * scale.astype(np.float32)
    stored = graph.scales.get(node.input[1], graph.constants[node.input[1]].size)
    remember(graph, node.output[0], x.dtype, scale.astype(np.float32), zero, stored)
    return np.asarray(real.astype(_real_type(graph, node)))


def remember(graph: Graph, name: str, stored: Any, scale: Values, zero: Values, count: int = 0) -> None:
    """Note the quantization of a constant that is now real numbers. stored: the type that its codes had.

    count: of scales in the file, where `scale` repeats them.
    """
    found = re.fullmatch(r"(u?)int(2|4|8|16)", np.dtype(stored).name)
    if found is not None:
        graph.quantization[name] = Quantization(int(found[2]), not found[1], scale, zero.astype(np.int32), count)


def quantize_constant(graph: Graph, node: Any) -> Values | None:
    """The codes of a QuantizeLinear of constants, ties to even and saturated; None for types that are no integers."""
    x, scale, zero = _operands(graph, node)
    dtype = stored_type(graph, node)
    bits = re.fullmatch(r"(u?)int(\d+)", dtype.name)
    if bits is None:
        return None
    low = 0 if bits[1] else -(1 << (int(bits[2]) - 1))
    codes = np.rint(x.astype(np.float32) / scale.astype(np.float32)) + zero.astype(np.float32)
    return np.asarray(np.clip(codes, low, low + (1 << int(bits[2])) - 1).astype(np.int32).astype(dtype))


def stored_type(graph: Graph, node: Any) -> Any:
    """The NumPy type of a QuantizeLinear's codes: of its zero point, else as its attribute says, else uint8."""
    if len(node.input) > 2 and node.input[2]:
        return graph.constants[node.input[2]].dtype
    code = attributes(node).get("output_dtype", 0)
    return helper.tensor_dtype_to_np_dtype(code) if code else np.dtype(np.uint8)


def _real_type(graph: Graph, node: Any) -> Any:
    code = attributes(node).get("output_dtype", 0)
    return helper.tensor_dtype_to_np_dtype(code) if code else graph.constants[node.input[1]].dtype


def _operands(graph: Graph, node: Any) -> tuple[Values, Values, Values]:
    """(x, scale, zero point), the last two so that they broadcast to x."""
    x, scale = graph.constants[node.input[0]], graph.constants[node.input[1]]
    zero = graph.constants[node.input[2]] if len(node.input) > 2 and node.input[2] else np.zeros(1, np.int32)
    options = attributes(node)
    laid = []
    for array, name in ((scale, node.input[1]), (zero, node.input[-1])):
        found = laid_out(array, x.shape, int(options.get("axis", 1)), int(options.get("block_size", 0)))
        if found is None:
            where = f"blocks of {options['block_size']} on axis" if options.get("block_size", 0) else "axis"
            raise ModelError(
                f"{graph.source}: node {node.name or node.output[0]!r} ({node.op_type}): {name!r} of shape "
                f"{list(array.shape)} does not fit x of shape {list(x.shape)} along {where} {options.get('axis', 1)}. "
                "Export the model again"
            )
        laid.append(found)
    return x, laid[0], laid[1]


def laid_out(array: Values, shape: Shape, axis: int, block: int = 0) -> Values | None:
    """A scale or zero point so that it broadcasts to a tensor of this shape; None where it does not fit.

    array: one number, one for each place of the axis, or of the rank of the tensor with one for each block of so many
    places of the axis (the last block may be cut short).

    >>> laid_out(np.array([1, 2]), (2, 3), 0).tolist(), laid_out(np.array([[1, 2]]), (1, 3), 1, block=2).tolist()
    ([[1], [2]], [[1, 1, 2]])
    """
    rank = len(shape)
    if array.size == 1:
        return array.reshape((1,) * rank)
    if not -rank <= axis < rank and rank != 1:  # 1 by default, also of a vector
        return None
    axis = axis % rank
    if block:
        whole = array.ndim == rank and all(array.shape[i] == shape[i] for i in range(rank) if i != axis)
        if not whole or array.shape[axis] * block < shape[axis]:
            return None
        block = max(min(block, shape[axis]), 1)  # a file may say that blocks are giants
        blocks = np.take(array, range(-(-shape[axis] // block)), axis)
        return np.take(np.repeat(blocks, block, axis), range(shape[axis]), axis)
    if array.ndim != 1 or len(array) != shape[axis]:
        return None
    return array.reshape([-1 if i == axis else 1 for i in range(rank)])


def integer_quantization(graph: Graph, node: Any, argument: int) -> Quantization | None:
    """The grid of a constant operand of an integer product, less its zero point; None for other operators."""
    if node.op_type not in ("ConvInteger", "MatMulInteger"):
        return None
    codes = graph.constants[node.input[argument]]
    name = node.input[argument + 2] if len(node.input) > argument + 2 else ""
    zero = graph.constants.get(name, np.zeros((), np.int32)) if name else np.zeros((), np.int32)
    axis = 0 if node.op_type == "ConvInteger" else codes.ndim - 2 + argument
    laid = laid_out(zero, codes.shape, axis)
    if (name and name not in graph.constants) or laid is None:
        return None
    return Quantization(8, codes.dtype.name.startswith("i"), np.ones(laid.shape, np.float32), laid.astype(np.int32))
