"""Rewrites operators on quantized tensors as dequantize, the plain operator, quantize: one form for all models.

ONNX and ONNX Runtime have an operator of its own for the quantized form of each important one (QLinearConv, QGemm,
...). What they compute is what the operator between DequantizeLinear and QuantizeLinear computes, up to the rounding
of a float sum, and in that form every later step of the compiler knows it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from tesa.errors import UnsupportedError
from tesa.frontend.graph import Graph, attributes, domain_of
from tesa.frontend.registry import MICROSOFT


@dataclass
class _Rewrite:
    """The nodes that replace one node, named after it."""

    graph: Graph
    node: Any
    nodes: list[Any] = field(default_factory=list)

    def at(self, index: int) -> str:
        """The name of an input, "" if the node has none there."""
        return self.node.input[index] if index < len(self.node.input) else ""

    def add(self, op: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        """Add a node, called after its operator, and return the name of its output."""
        name = output or f"{self.node.output[0]}#{op.lower()}{len(self.nodes)}"
        own = f"{self.node.name or self.node.output[0]}.{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], own, **attributes))
        return name

    def core(self, op: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        """Add the operator itself, which keeps the name of the node."""
        name = self.add(op, inputs, output, **attributes)
        self.nodes[-1].name = self.node.name
        return name

    def constant(self, array: Any) -> str:
        """Add a constant and return its name."""
        name = f"{self.node.output[0]}#constant{len(self.graph.constants)}"
        self.graph.constants[name] = np.asarray(array)
        return name

    def real(self, index: int, axis: int | None = None) -> str:
        """Dequantize three inputs x, scale, zero point from `index` on. axis: that a vector of scales lies along."""
        return self.dequantize(self.at(index), self.at(index + 1), self.at(index + 2), axis)

    def dequantize(self, x: str, scale: str, zero: str = "", axis: int | None = None) -> str:
        """Add a DequantizeLinear; along `axis` where the scale is not one number."""
        options: dict[str, Any] = {} if axis is None or self._single(scale) else {"axis": axis}
        return self.add("DequantizeLinear", [x, scale, *([zero] if zero else [])], **options)

    def quantize(self, x: str, scale: str, zero: str) -> None:
        """Add a QuantizeLinear, the last node."""
        self.add("QuantizeLinear", [x, scale, *([zero] if zero else [])], self.node.output[0])

    def _single(self, name: str) -> bool:
        array = self.graph.constants.get(name)
        if array is None:
            return True
        if array.ndim > 1 and array.size > 1:
            raise UnsupportedError(
                f"{self.graph.source}: node {self.node.name or self.node.output[0]!r} ({self.node.op_type}): the scale "
                f"{name!r} has shape {list(array.shape)}, expected one number or one for each place of one axis. "
                "Export the model in QDQ form"
            )
        if array.size == 1 and array.ndim:
            self.graph.constants[name] = array.reshape(())
        return array.size == 1


def _conv(r: _Rewrite) -> None:
    """QLinearConv(x, xs, xz, w, ws, wz, ys, yz[, bias]); the bias is int32 of scale xs * ws."""
    x, w = r.real(0), r.real(3, axis=0)
    inputs = [x, w]
    if r.at(8):
        inputs.append(_bias(r, 8, r.at(1), r.at(4)))
    r.quantize(r.core("Conv", inputs, **attributes(r.node)), r.at(6), r.at(7))


def _bias(r: _Rewrite, index: int, *scales: str) -> str:
    """An int32 bias as real numbers: its scale is the product of the operands' scales."""
    return r.add("Mul", [r.add("Cast", [r.at(index)], to=TensorProto.FLOAT), r.add("Mul", scales)])


def _matmul(r: _Rewrite) -> None:
    """QLinearMatMul(a, as, az, b, bs, bz, ys, yz)."""
    r.quantize(r.core("MatMul", [r.real(0, axis=-2), r.real(3, axis=-1)]), r.at(6), r.at(7))


def _gemm(r: _Rewrite) -> None:
    """QGemm(a, as, az, b, bs, bz[, c][, ys, yz]); c is int32 of scale alpha as bs; without ys the output is real."""
    options = attributes(r.node)
    alpha, turned = float(options.pop("alpha", 1.0)), int(options.get("transB", 0))
    inputs = [r.real(0), r.real(3, axis=0 if turned else 1)]
    if r.at(6):
        bias = _bias(r, 6, r.at(1), r.at(4))
        inputs.append(bias if alpha == 1.0 else r.add("Mul", [bias, r.constant(np.float32(alpha))]))
    if r.at(7):
        r.quantize(r.core("Gemm", inputs, alpha=alpha, **options), r.at(7), r.at(8))
    else:
        r.core("Gemm", inputs, r.node.output[0], alpha=alpha, **options)


def _binary(op: str) -> Callable[[_Rewrite], None]:
    """QLinearAdd and QLinearMul (a, as, az, b, bs, bz, ys, yz)."""
    return lambda r: r.quantize(r.core(op, [r.real(0), r.real(3)]), r.at(6), r.at(7))


def _unary(op: str) -> Callable[[_Rewrite], None]:
    """One input: (x, xs, xz, ys, yz)."""

    def rewrite(r: _Rewrite) -> None:
        own = {k: v for k, v in attributes(r.node).items() if k not in ("opset", "channels_last")}
        if attributes(r.node).get("channels_last", 0):
            raise UnsupportedError(
                f"{r.graph.source}: node {r.node.name or r.node.output[0]!r} ({r.node.op_type}) has its channels last; "
                "export it with channels in axis 1, or the model in QDQ form"
            )
        r.quantize(r.core(op, [r.real(0)], **own), r.at(3), r.at(4))

    return rewrite


def _concat(r: _Rewrite) -> None:
    """QLinearConcat(ys, yz, x0, s0, z0, x1, ...)."""
    parts = [r.real(i) for i in range(2, len(r.node.input), 3)]
    r.quantize(r.core("Concat", parts, **attributes(r.node)), r.at(0), r.at(1))


def _integer_to_float(r: _Rewrite) -> None:
    """MatMulIntegerToFloat(a, b, as, bs[, az][, bz][, bias])."""
    a = r.dequantize(r.at(0), r.at(2), r.at(4), axis=-2)
    b = r.dequantize(r.at(1), r.at(3), r.at(5), axis=-1)
    _with_bias(r, [a, b], r.at(6))


def _dynamic_matmul(r: _Rewrite) -> None:
    """DynamicQuantizeMatMul(A, b, bs[, bz][, bias]): A is quantized to uint8 by its own range."""
    names = [f"{r.node.output[0]}#a{part}" for part in ("", "scale", "zero")]
    r.nodes.append(helper.make_node("DynamicQuantizeLinear", [r.at(0)], names, f"{r.node.name or names[0]}.quantize"))
    a = r.add("DequantizeLinear", names)
    _with_bias(r, [a, r.dequantize(r.at(1), r.at(2), r.at(3), axis=-1)], r.at(4))


def _with_bias(r: _Rewrite, factors: Sequence[str], bias: str) -> None:
    product = r.core("MatMul", factors, "" if bias else r.node.output[0])
    if bias:
        r.add("Add", [product, bias], r.node.output[0])


REWRITES: dict[tuple[str, str], Callable[[_Rewrite], None]] = {
    ("", "QLinearConv"): _conv,
    ("", "QLinearMatMul"): _matmul,
    (MICROSOFT, "QGemm"): _gemm,
    **{(MICROSOFT, f"QLinear{op}"): _binary(op) for op in ("Add", "Mul")},
    **{(MICROSOFT, f"QLinear{op}"): _unary(op)
       for op in ("Sigmoid", "LeakyRelu", "Softmax", "GlobalAveragePool", "AveragePool")},
    (MICROSOFT, "QLinearConcat"): _concat,
    (MICROSOFT, "MatMulIntegerToFloat"): _integer_to_float,
    (MICROSOFT, "DynamicQuantizeMatMul"): _dynamic_matmul,
}  # fmt: skip


def to_qdq(graph: Graph) -> None:
    """Replace each quantized operator of the graph. UnsupportedError where one has a form that QDQ has not."""
    nodes: list[Any] = []
    for node in graph.nodes:
        rewrite = REWRITES.get((domain_of(node), node.op_type))
        if rewrite is None:
            nodes.append(node)
            continue
        work = _Rewrite(graph, node)
        rewrite(work)
        nodes += work.nodes
    graph.nodes = nodes
