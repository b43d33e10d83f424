"""The range of every tensor: one sweep from the inputs to the outputs, one interval for each tensor.

Bits follow from ranges: integers in 0 .. 60 need 6 bits, whatever type they are stored in; relu6 before a quantization
leaves only some of its codes; a sum of 128 products of int8 needs 22 bits. A range is a fact about the model as it is.
What is not known is bounded by the type of its integers, or not at all.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from tvm import relax

from tesa.attributes.attribute import FULL_BITS, TeSA
from tesa.propagate.bits.grids import undeduced
from tesa.propagate.bits.intervals import INTERVALS, Range, type_range
from tesa.propagate.network import Network, Node

QUANTIZED = float(1 << 16)  # operands up to here come from quantized tensors
ACCUMULATORS = ("relax.matmul", "relax.nn.conv1d", "relax.nn.conv2d", "relax.nn.conv3d", "relax.sum")


@dataclass(frozen=True)
class Overflow:
    """An integer sum that may leave its type. layer, op: where. dtype: of the sum. low, high: what it may come to.

    bits: what would hold it. The worst case over all inputs of the model, so a risk and not an error.
    """

    layer: str
    op: str
    dtype: str
    low: float
    high: float
    bits: int

    def __str__(self) -> str:
        return (
            f"{self.layer}: {self.op} may reach {self.low:g} .. {self.high:g}, which needs {self.bits} bits; "
            f"its type {self.dtype} wraps around"
        )


def dtypes(net: Network) -> dict[str, str]:
    """The element type of each tensor of the network, "" where it is not known."""
    types = {name: str(array.dtype) for name, array in net.constants.items()}
    for node in net.nodes:
        types.update(zip(node.outputs, node.operator.dtypes, strict=True))
        for arg in getattr(node.call, "args", ()):
            if isinstance(arg, relax.Var) and isinstance(arg.ty, relax.TensorType) and arg.name in net.shapes:
                types.setdefault(arg.name, str(arg.ty.dtype))
    return {name: types.get(name, "") for name in net.shapes}


def ranges(net: Network, tesa: Mapping[str, TeSA]) -> tuple[dict[str, Range], tuple[Overflow, ...]]:
    """(the range of each tensor, the integer sums that may overflow)."""
    types = dtypes(net)
    found: dict[str, Range] = {}
    overflows: list[Overflow] = []
    made = {name for node in net.nodes for name in node.outputs}
    for name in net.shapes:
        if name not in made:
            found[name] = _given(net, name, tesa[name], types[name])
    for node in net.nodes:
        results = _results(node, [found[n] for n in node.inputs])
        for name, result in zip(node.outputs, results, strict=True):
            limits = type_range(types[name])
            if result[0] < limits[0] or result[1] > limits[1]:
                overflows += _overflow(node, types[name], result, [found[n] for n in node.inputs])
                result = limits
            facts = tesa[name]
            if facts.known.all() and facts.value.size and facts.value.dtype.kind in "iuf":
                result = float(facts.value.min()), float(facts.value.max())
            found[name] = result
    return found, tuple(overflows)


def _given(net: Network, name: str, facts: TeSA, dtype: str) -> Range:
    """The range of an input or constant: its numbers, the grid that the user says it is on, its type."""
    constant = net.constants.get(name)
    if constant is not None:
        if constant.size == 0 or constant.dtype.kind not in "iuf" or np.isnan(constant).any():
            return type_range(dtype)
        return float(constant.min()), float(constant.max())
    low, high = type_range(dtype)
    facts = undeduced(facts)
    q = facts.quantization
    if q is None or (facts.bits >= FULL_BITS).any():
        return low, high
    ends = [q.points(q.codes(bound, facts.bits), dtype.startswith(("int", "uint"))) for bound in (-math.inf, math.inf)]
    return max(low, float(np.min(ends))), min(high, float(np.max(ends)))


def _results(node: Node, inputs: list[Range]) -> list[Range]:
    op = node.operator
    function = INTERVALS.get(op.op)
    low, high = function(op, inputs) if function is not None and inputs else (math.nan, math.nan)
    if math.isnan(low) or math.isnan(high):
        return [type_range(dtype) for dtype in op.dtypes]
    return [(low, high)] * len(op.outputs)


def _overflow(node: Node, dtype: str, found: Range, inputs: list[Range]) -> list[Overflow]:
    op = node.operator
    if op.op not in ACCUMULATORS or any(max(abs(low), abs(high)) > QUANTIZED for low, high in inputs):
        return []
    bits = max(math.ceil(math.log2(found[1] + 1)), math.ceil(math.log2(max(-found[0], 1)))) + 1
    return [Overflow(op.layer, op.op, dtype, *found, bits)]
