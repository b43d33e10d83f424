"""Fused operators of ONNX Runtime and of new opsets, as the plain operators that they stand for.

Attention is written out as products and a softmax, and not as Relax's fused operator: so every product keeps its
weight, and a mask is an addition like any other.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from tvm import relax

from tesa.errors import UnsupportedError
from tesa.frontend.converters import Converter, at, constant, content, static_shape


def _unsupported(what: str) -> UnsupportedError:
    return UnsupportedError(f"{what} is not supported; export the operator as plain matrix products and a softmax")


def _scaled_dot_product(
    bb: Any, q: Any, k: Any, v: Any, *, scale: float, mask: Any = None, causal: bool = False, cap: float = 0.0
) -> Any:
    """softmax(cap(scale * q k^T) + mask) v for tensors of shape (batch, heads, length, size).

    A boolean mask says where a score counts. A row of which no score counts gives 0.
    """
    emit, kind = bb.normalize, str(q.ty.dtype)
    q = emit(relax.op.multiply(q, relax.const(scale, kind)))
    scores = emit(relax.op.matmul(q, emit(relax.op.permute_dims(k, [0, 1, 3, 2]))))
    if cap:
        scores = emit(relax.op.divide(scores, relax.const(cap, kind)))
        scores = emit(relax.op.multiply(emit(relax.op.tanh(scores)), relax.const(cap, kind)))
    rows, columns = static_shape(scores)[2:]
    boolean = mask is not None and str(mask.ty.dtype) == "bool"
    if mask is not None and not boolean:
        scores = emit(relax.op.add(scores, mask))
    counts = mask if boolean else None
    if causal:
        counts = _both(bb, counts, np.tril(np.ones((rows, columns), bool)))
    if counts is None:
        return emit(relax.op.matmul(emit(relax.op.nn.softmax(scores, -1)), v))
    known = content(counts)
    if known is not None and known.any(axis=-1).all():
        scores = emit(relax.op.add(scores, constant(np.where(known, 0, -np.inf).astype(kind))))
        return emit(relax.op.matmul(emit(relax.op.nn.softmax(scores, -1)), v))
    lowest = relax.const(float(np.finfo(np.dtype(kind)).min) / 2, kind)
    shares = emit(relax.op.nn.softmax(emit(relax.op.where(counts, scores, lowest)), -1))
    shares = emit(relax.op.where(counts, shares, relax.const(0.0, kind)))
    return emit(relax.op.matmul(shares, v))


def _both(bb: Any, mask: Any, other: Any) -> Any:
    """The logical and of two boolean masks, the first of which may be missing."""
    if mask is None:
        return constant(other)
    known = content(mask)
    return constant(known & other) if known is not None else bb.normalize(relax.op.logical_and(mask, constant(other)))


def _heads(bb: Any, x: Any, heads: int) -> Any:
    """(batch, length, heads * size) as (batch, heads, length, size)."""
    batch, length, width = static_shape(x)
    apart = bb.normalize(relax.op.reshape(x, (batch, length, heads, width // heads)))
    return bb.normalize(relax.op.permute_dims(apart, [0, 2, 1, 3]))


def _joined(bb: Any, x: Any) -> Any:
    """The reverse of _heads."""
    batch, heads, length, size = static_shape(x)
    turned = bb.normalize(relax.op.permute_dims(x, [0, 2, 1, 3]))
    return bb.normalize(relax.op.reshape(turned, (batch, length, heads * size)))


KNOWN_ATTRIBUTES = {
    "scale", "is_causal", "q_num_heads", "kv_num_heads", "softcap", "softmax_precision", "qk_matmul_output_mode",
    "tvm_custom",
}  # fmt: skip


def _attention(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """Attention of opset 23: (Q, K, V[, mask]), 3-D with the numbers of heads as attributes, or 4-D."""
    if any(at(inputs, i) is not None for i in (4, 5, 6)) or attrs["tvm_custom"]["num_outputs"] > 1:
        raise _unsupported("Attention with a cache of past keys and values, or with further outputs,")
    other = sorted(set(attrs) - KNOWN_ATTRIBUTES)
    if other:
        raise _unsupported(f"Attention with the attribute {', '.join(other)}")
    q, k, v = inputs[:3]
    flat = len(static_shape(q)) == 3
    if flat:
        counts = (attrs["q_num_heads"], attrs["kv_num_heads"], attrs["kv_num_heads"])
        q, k, v = (_heads(bb, x, int(n)) for x, n in zip((q, k, v), counts, strict=True))
    times = static_shape(q)[1] // static_shape(k)[1]
    if times > 1:  # several query heads share a key and value head
        k, v = (bb.normalize(relax.op.repeat(x, times, 1)) for x in (k, v))
    result = _scaled_dot_product(
        bb, q, k, v, scale=float(attrs.get("scale", 1 / math.sqrt(static_shape(q)[-1]))), mask=at(inputs, 3),
        causal=bool(attrs.get("is_causal", 0)), cap=float(attrs.get("softcap", 0.0)),
    )  # fmt: skip
    return _joined(bb, result) if flat else result


def _multi_head(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """MultiHeadAttention of ONNX Runtime: (Q, K, V[, bias][, key mask][, scores' bias]), all of 3 axes."""
    given = [at(inputs, i) for i in range(8)]
    packed = given[1] is None or given[2] is None or any(len(static_shape(x)) != 3 for x in given[:3])
    if packed or given[4] is not None or given[6] is not None or given[7] is not None:
        raise _unsupported("MultiHeadAttention with packed operands, a key padding mask or past keys")
    if attrs["tvm_custom"]["num_outputs"] > 1:
        raise _unsupported("MultiHeadAttention with the present keys and values as outputs")
    tensors = list(given[:3])
    if given[3] is not None:
        ends = np.cumsum([static_shape(x)[2] for x in tensors])
        parts = bb.normalize(relax.op.split(given[3], [int(n) for n in ends[:2]], 0))
        tensors = [bb.normalize(relax.op.add(x, bb.normalize(relax.TupleGetItem(parts, i))))
                   for i, x in enumerate(tensors)]  # fmt: skip
    q, k, v = (_heads(bb, x, int(attrs["num_heads"])) for x in tensors)
    scale = float(attrs.get("scale", 0.0)) or 1 / math.sqrt(static_shape(q)[-1])
    causal = bool(attrs.get("unidirectional", 0))
    return _joined(bb, _scaled_dot_product(bb, q, k, v, scale=scale, mask=given[5], causal=causal))


def _skip_layer_norm(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """Layer norm of x + skip (+ bias): (x, skip, gamma[, beta][, bias]). Outputs: the norm, and as fourth the sum."""
    beta = at(inputs, 3) if at(inputs, 3) is not None else constant(np.zeros(static_shape(inputs[2]), np.float32))
    total = _sum(bb, inputs[0], inputs[1], at(inputs, 4))
    norm = relax.op.nn.layer_norm(total, inputs[2], beta, axes=-1, epsilon=attrs.get("epsilon", 1e-12))
    return _with_sum(bb, norm, total, attrs)


def _skip_rms_norm(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """RMS norm of x + skip (+ bias): (x, skip, gamma[, bias]). Outputs as in _skip_layer_norm."""
    total = _sum(bb, inputs[0], inputs[1], at(inputs, 3))
    return _with_sum(bb, relax.op.nn.rms_norm(total, inputs[2], -1, attrs.get("epsilon", 1e-12)), total, attrs)


def _sum(bb: Any, x: Any, skip: Any, bias: Any) -> Any:
    total = bb.normalize(relax.op.add(x, skip))
    return total if bias is None else bb.normalize(relax.op.add(total, bias))


def _with_sum(bb: Any, norm: Any, total: Any, attrs: dict[str, Any]) -> Any:
    """One output, or four of which only the norm and the sum are there at inference."""
    if attrs["tvm_custom"]["num_outputs"] == 1:
        return norm
    unused = relax.const(0.0, "float32")
    return relax.Tuple([bb.normalize(norm), unused, unused, total])


def _rms_norm(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """x / sqrt(mean(x^2) + epsilon) * gamma over the axes from `axis` on."""
    x, gamma, epsilon = inputs[0], inputs[1], attrs.get("epsilon", 1e-5)
    rank, emit = len(static_shape(x)), bb.normalize
    axes = list(range(int(attrs.get("axis", -1)) % rank, rank))
    if str(x.ty.dtype) != "float32":
        return None
    if len(axes) < rank:
        return relax.op.nn.rms_norm(x, gamma, axes, epsilon)
    mean = emit(relax.op.mean(emit(relax.op.multiply(x, x)), axes, True))
    factor = emit(relax.op.rsqrt(emit(relax.op.add(mean, relax.const(epsilon, "float32")))))
    return relax.op.multiply(emit(relax.op.multiply(x, factor)), gamma)


def _layer_norm(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """relax.nn.layer_norm over the axes from `axis` on; mean and 1 / deviation too, where they are asked for."""
    x, gamma, epsilon = inputs[0], inputs[1], attrs.get("epsilon", 1e-5)
    rank, emit = len(static_shape(x)), bb.normalize
    axes = list(range(int(attrs.get("axis", -1)) % rank, rank))
    if static_shape(gamma) != static_shape(x)[axes[0] :]:
        return None
    beta = at(inputs, 2)
    if beta is None:
        beta = constant(np.zeros(static_shape(gamma), str(gamma.ty.dtype)))
    norm = relax.op.nn.layer_norm(x, gamma, beta, axes, epsilon)
    if attrs["tvm_custom"]["num_outputs"] == 1:
        return norm
    variance = emit(relax.op.variance(x, axes, True))
    inverse = emit(relax.op.rsqrt(emit(relax.op.add(variance, relax.const(epsilon, str(x.ty.dtype))))))
    return relax.Tuple([emit(norm), emit(relax.op.mean(x, axes, True)), inverse])


def _fused_matmul(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """alpha * A B with either operand transposed."""
    if attrs.get("transBatchA", 0) or attrs.get("transBatchB", 0):
        raise _unsupported("FusedMatMul that moves batch axes")
    operands = []
    for x, name in zip(inputs[:2], ("transA", "transB"), strict=True):
        rank = len(static_shape(x))
        turned = [*range(rank - 2), rank - 1, rank - 2]
        operands.append(bb.normalize(relax.op.permute_dims(x, turned)) if attrs.get(name, 0) and rank > 1 else x)
    product = bb.normalize(relax.op.matmul(*operands))
    alpha = float(attrs.get("alpha", 1.0))
    return product if alpha == 1.0 else relax.op.multiply(product, relax.const(alpha, str(product.ty.dtype)))


def _quick_gelu(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """x * sigmoid(alpha * x)."""
    x = inputs[0]
    scaled = bb.normalize(relax.op.multiply(x, relax.const(float(attrs.get("alpha", 1.702)), str(x.ty.dtype))))
    return relax.op.multiply(x, bb.normalize(relax.op.sigmoid(scaled)))


CONTRIB: dict[str, Converter] = {
    "Attention": _attention, "com.microsoft::MultiHeadAttention": _multi_head,
    "com.microsoft::SkipLayerNormalization": _skip_layer_norm,
    "com.microsoft::SkipSimplifiedLayerNormalization": _skip_rms_norm,
    "LayerNormalization": _layer_norm, "RMSNormalization": _rms_norm, "SimplifiedLayerNormalization": _rms_norm,
    "com.microsoft::SimplifiedLayerNormalization": _rms_norm,
    "com.microsoft::FusedMatMul": _fused_matmul, "com.microsoft::QuickGelu": _quick_gelu,
}  # fmt: skip
