"""Attention written out as matrix products and a softmax, not as Relax's fused operator.

So every product keeps its weight, and a mask is an addition like any other.
"""

import math
from typing import Any

import numpy as np
from tvm import relax

from tesa.errors import UnsupportedError
from tesa.frontend.expressions import at, constant, constant_value, static_shape
from tesa.frontend.registry import imports


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
    known = constant_value(counts)
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
    known = constant_value(mask)
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


@imports("Attention")
def attention(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
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


@imports("com.microsoft::MultiHeadAttention")
def multi_head(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
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
