"""Rewrites operators on quantized tensors as dequantize, the plain operator, quantize: one form for all models.

ONNX and ONNX Runtime have an operator of its own for the quantized form of each important one (QLinearConv, QGemm,
...). What they compute is what the operator between DequantizeLinear and QuantizeLinear computes, up to the rounding
of a float sum, and in that form every later step of the compiler knows it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from tesa.frontend import channels
from tesa.frontend.graph import Graph, attributes, domain_of
from tesa.frontend.packed import PACKED
from tesa.frontend.registry import MICROSOFT
from tesa.frontend.rewriter import Rewrite
from tesa.frontend.schemas import check_written


def _conv(r: Rewrite) -> None:
    """QLinearConv(x, xs, xz, w, ws, wz, ys, yz[, bias]); the bias is int32 of scale xs * ws."""
    x, w = r.real(0), r.real(3, axis=0)
    inputs = [x, w]
    if r.at(8):
        inputs.append(_bias(r, 8, r.at(1), r.at(4)))
    own = {k: v for k, v in r.options.items() if k != "channels_last"}
    r.quantize(r.core("Conv", inputs, **own), r.at(6), r.at(7))


def _bias(r: Rewrite, index: int, *scales: str) -> str:
    """An int32 bias as real numbers: its scale is the product of the operands' scales."""
    return r.add("Mul", [r.add("Cast", [r.at(index)], to=TensorProto.FLOAT), r.add("Mul", scales)])


def _matmul(r: Rewrite) -> None:
    """QLinearMatMul(a, as, az, b, bs, bz, ys, yz)."""
    r.quantize(r.core("MatMul", [r.real(0, axis=-2), r.real(3, axis=-1)]), r.at(6), r.at(7))


def _gemm(r: Rewrite) -> None:
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


def _binary(op: str) -> Callable[[Rewrite], None]:
    """QLinearAdd and QLinearMul (a, as, az, b, bs, bz, ys, yz)."""
    return lambda r: r.quantize(r.core(op, [r.real(0), r.real(3)]), r.at(6), r.at(7))


def _unary(op: str) -> Callable[[Rewrite], None]:
    """One input: (x, xs, xz, ys, yz)."""

    def rewrite(r: Rewrite) -> None:
        own = {k: v for k, v in attributes(r.node).items() if k != "channels_last"}
        r.quantize(r.core(op, [r.real(0)], **own), r.at(3), r.at(4))

    return rewrite


def _either(inner: Callable[[Rewrite], None]) -> Callable[[Rewrite], None]:
    """The rewrite of an operator whose channels may be last."""
    return lambda r: channels.channels_last(r, inner) if r.options.get("channels_last", 0) else inner(r)


def _concat(r: Rewrite) -> None:
    """QLinearConcat(ys, yz, x0, s0, z0, x1, ...)."""
    parts = [r.real(i) for i in range(2, len(r.node.input), 3)]
    r.quantize(r.core("Concat", parts, **attributes(r.node)), r.at(0), r.at(1))


def _attention(r: Rewrite) -> None:
    """QAttention(x, w, bias, xs, ws[, mask][, xz][, wz][, past]), whose products are followed by real numbers."""
    x = r.dequantize(r.at(0), r.at(3), r.at(6))
    w = r.dequantize(r.at(1), r.at(4), r.at(7), axis=1)
    _fused(r, "Attention", [x, w, r.at(2), r.at(5), r.at(8)])


def _embed_layer_norm(r: Rewrite) -> None:
    """QEmbedLayerNormalization(ids, segments, five tensors of codes, mask, their scales, their zero points)."""
    real = [r.dequantize(r.at(2 + i), r.at(8 + i), r.at(13 + i)) if r.at(2 + i) else "" for i in range(5)]
    _fused(r, "EmbedLayerNormalization", [r.at(0), r.at(1), *real, r.at(7)])


def _fused(r: Rewrite, op: str, inputs: list[str]) -> None:
    """The operator of com.microsoft that makes the same outputs of real numbers."""
    while inputs and not inputs[-1]:
        inputs.pop()
    r.nodes.append(helper.make_node(op, inputs, list(r.node.output), r.node.name, domain=MICROSOFT, **r.options))


def _integer_to_float(r: Rewrite) -> None:
    """MatMulIntegerToFloat(a, b, as, bs[, az][, bz][, bias])."""
    a = r.dequantize(r.at(0), r.at(2), r.at(4), axis=-2)
    b = r.dequantize(r.at(1), r.at(3), r.at(5), axis=-1)
    _with_bias(r, [a, b], r.at(6))


def _dynamic_matmul(r: Rewrite) -> None:
    """DynamicQuantizeMatMul(A, b, bs[, bz][, bias]): A is quantized to uint8 by its own range."""
    names = [f"{r.node.output[0]}#a{part}" for part in ("", "scale", "zero")]
    r.nodes.append(helper.make_node("DynamicQuantizeLinear", [r.at(0)], names, f"{r.node.name or names[0]}.quantize"))
    a = r.add("DequantizeLinear", names)
    _with_bias(r, [a, r.dequantize(r.at(1), r.at(2), r.at(3), axis=-1)], r.at(4))


def _with_bias(r: Rewrite, factors: Sequence[str], bias: str) -> None:
    product = r.core("MatMul", factors, "" if bias else r.node.output[0])
    if bias:
        r.add("Add", [product, bias], r.node.output[0])


REWRITES: dict[tuple[str, str], Callable[[Rewrite], None]] = {
    ("", "QLinearConv"): _conv,
    ("", "QLinearMatMul"): _matmul,
    (MICROSOFT, "QGemm"): _gemm,
    **{(MICROSOFT, f"QLinear{op}"): _binary(op) for op in ("Add", "Mul")},
    **{(MICROSOFT, f"QLinear{op}"): _unary(op)
       for op in ("Sigmoid", "LeakyRelu")},
    **{(MICROSOFT, f"QLinear{op}"): _either(_unary(op)) for op in ("GlobalAveragePool", "AveragePool")},
    (MICROSOFT, "QLinearConv"): _either(_conv),
    (MICROSOFT, "NhwcMaxPool"): lambda r: channels.channels_last(r, channels.max_pool),
    (MICROSOFT, "QLinearSoftmax"): channels.softmax,
    (MICROSOFT, "QLinearWhere"): channels.where,
    (MICROSOFT, "QLinearReduceMean"): channels.mean,
    **{(MICROSOFT, op): channels.same(op) for op in ("QuantizeLinear", "DequantizeLinear")},
    (MICROSOFT, "QAttention"): _attention,
    (MICROSOFT, "QEmbedLayerNormalization"): _embed_layer_norm,
    (MICROSOFT, "QLinearConcat"): _concat,
    (MICROSOFT, "MatMulIntegerToFloat"): _integer_to_float,
    (MICROSOFT, "DynamicQuantizeMatMul"): _dynamic_matmul,
    **{(MICROSOFT, op): rewrite for op, rewrite in PACKED.items()},
}  # fmt: skip


def to_qdq(graph: Graph) -> None:
    """Replace each quantized operator of the graph. UnsupportedError where one has a form that QDQ has not."""
    nodes: list[Any] = []
    unpacked: set[str] = set()
    for node in graph.nodes:
        rewrite = REWRITES.get((domain_of(node), node.op_type))
        if rewrite is None:
            nodes.append(node)
            continue
        work = Rewrite(graph, node, unpacked=unpacked)
        rewrite(work)
        check_written(graph.opset, work.nodes, work.where)
        nodes += work.nodes
    graph.nodes = nodes
    channels.cancel_turns(graph)
