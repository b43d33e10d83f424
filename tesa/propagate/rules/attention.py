"""Fused attention: softmax(scale * Q K^T + bias) V, in the layout (batch, positions, heads, features).

Its rule is that of its parts: the product of queries and keys, the bias, the causal mask, the softmax, the product with
the values. On top of that each row of the softmax sums to 1: a feature of the values that is one constant at all
positions, like that of a pruned value projection with a bias, is that constant in the output, whatever the logits are.
"""

from dataclasses import dataclass, replace

import numpy as np

from tesa.attributes.attribute import Bools, Shape, TeSA, Values, reduce_to, unknown
from tesa.propagate.labels import Product
from tesa.propagate.registry import Operator, rule
from tesa.propagate.rules.annihilate import BINARY
from tesa.propagate.rules.common import facts
from tesa.propagate.rules.elementwise import binary_backward, binary_forward
from tesa.propagate.rules.products import Factor, product_backward, product_forward
from tesa.propagate.rules.softmax import softmax_backward, softmax_forward

QUERY, KEY, SCORE = ("b", "s", "h", "d"), ("b", "t", "h", "d"), ("b", "h", "s", "t")
VALUE, RESULT = ("b", "t", "h", "e"), ("b", "s", "h", "e")


@dataclass(frozen=True, eq=False)
class AttentionFacts:
    """Facts inside of an attention. scores: scaled, of each head, query and key. logits: with bias and mask. weights:
    their softmax. lost: queries without a softmax, whose keys are all taken out, (b, s, h, 1). steady, value: where the
    output is a constant because the values are, and that constant.
    """

    scores: TeSA
    logits: TeSA
    weights: TeSA
    lost: Bools
    steady: Bools
    value: Values


def _names(op: Operator) -> dict[str, int]:
    query, value = op.inputs[0], op.inputs[2]
    return {"b": query[0], "s": query[1], "h": query[2], "d": query[3], "t": value[1], "e": value[3]}


def _scores_shape(op: Operator) -> Shape:
    return tuple(_names(op)[name] for name in SCORE)


def _first(op: Operator) -> Product:
    return Product((QUERY, KEY), SCORE, _names(op))


def _second(op: Operator) -> Product:
    return Product((SCORE, VALUE), RESULT, _names(op))


def _allowed(op: Operator) -> Bools:
    """The causal mask, True where a query looks at a key: (1, 1, queries, keys)."""
    causal, (_, _, queries, keys) = op.attrs.get("causal_mask"), _scores_shape(op)
    if causal is None:
        return np.ones((1, 1, 1, 1), bool)
    shift = 0 if causal == "TopLeft" else abs(queries - keys)
    return np.asarray(np.tri(queries, keys, shift, dtype=bool)[None, None])


def _parts(op: Operator, inputs: tuple[TeSA, ...]) -> AttentionFacts:
    dtype, shape = op.dtypes[0], _scores_shape(op)
    product = product_forward(_first(op), shape, dtype, [Factor(t) for t in inputs[:2]])
    scale = op.attrs.get("scale")
    factor = float(scale) if scale is not None else 1 / np.sqrt(op.inputs[0][3])
    scores = facts(shape, product.known, product.value * factor)
    biased = scores if len(inputs) < 4 else binary_forward(BINARY["add"], dtype, shape, (scores, inputs[3]))
    allowed = _allowed(op)
    logits = facts(shape, biased.known | ~allowed, np.where(allowed, biased.value, -np.inf))
    weights = softmax_forward(logits, 3, dtype)
    if op.attrs.get("window_size") is not None:  # which keys the window leaves out is not modelled: any may be
        logits, weights = unknown(shape), unknown(shape)
    lost = (logits.known & (logits.value == -np.inf)).all(axis=3, keepdims=True)
    lost = lost | (logits.known & (logits.value == np.inf)).any(axis=3, keepdims=True)
    lost = np.transpose(lost, (0, 2, 1, 3))
    steady, value = _steady(inputs[2])
    return AttentionFacts(scores, logits, weights, lost, steady & ~lost, value)


def _steady(v: TeSA) -> tuple[Bools, Values]:
    """A mask of the features that are the same constant at all positions: (b, 1, h, e)."""
    first = v.value[:, :1]
    same = v.known.all(axis=1, keepdims=True) & (v.value == first).all(axis=1, keepdims=True)
    return same & np.isfinite(first), first


def _backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    parts, live = _parts(op, inputs), outputs[0].live
    operands = [Factor(parts.weights), Factor(inputs[2])]
    need_value = product_backward(_second(op), operands, live)[1]
    need_weights = product_backward(_second(op), operands, live & ~parts.steady)[0]
    lost = np.transpose((live & parts.lost).any(axis=3, keepdims=True), (0, 2, 1, 3))
    need_weights = need_weights | lost  # not a number, whatever it is multiplied by
    need = softmax_backward(parts.logits, 3, op.dtypes[0], need_weights) & _allowed(op)
    need_bias: tuple[Bools, ...] = ()
    if len(inputs) > 3:
        shapes, constants = (parts.scores.shape, op.inputs[3]), (None, op.constants[3])
        add = replace(op, inputs=shapes, outputs=shapes[:1], constants=constants)
        need, bias = binary_backward(BINARY["add"], add, (parts.scores, inputs[3]), need)
        need_bias = (bias,)
    return (*product_backward(_first(op), [Factor(t) for t in inputs[:2]], need), need_value, *need_bias)


@rule("relax.nn.attention", "relax.nn.attention_bias", backward=_backward)
def attention(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """Known where the values of a feature are one constant for all keys; a dead head needs no queries and no keys."""
    parts, shape = _parts(op, inputs), op.outputs[0]
    found = product_forward(_second(op), shape, op.dtypes[0], [Factor(parts.weights), Factor(inputs[2])])
    return (facts(shape, (found.known & ~parts.lost) | parts.steady, np.where(parts.steady, parts.value, found.value)),)


def _var_len_backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    """All positions may belong together, so that what any of them needs is needed of all."""
    query, key, value = (_anywhere(t) for t in inputs[:3])
    live = np.asarray(outputs[0].live.any(axis=(0, 1), keepdims=True))
    head = np.asarray((live & (~value.zero)).any(axis=3, keepdims=True))
    needs = (head & (inputs[0].known | ~key.zero), head & (inputs[1].known | ~query.zero), live)
    others = [np.full((1,) * len(shape), bool(live.any())) for shape in op.inputs[3:]]
    return (*(reduce_to(need, shape) for need, shape in zip(needs, op.inputs[:3], strict=True)), *others)


def _anywhere(t: TeSA) -> TeSA:
    """Known where it is known at all positions, and the same: (1, 1, heads, features)."""
    first = t.value[:1, :1]
    same = t.known.all(axis=(0, 1), keepdims=True) & (t.value == first).all(axis=(0, 1), keepdims=True)
    return replace(unknown((1, 1, *t.shape[2:])), known=same, value=first)


@rule("relax.nn.attention_var_len", backward=_var_len_backward)
def attention_var_len(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """0 where the values of a feature are 0 at all positions; a dead head needs no queries and no keys."""
    value = _anywhere(inputs[2])
    return (facts(op.outputs[0], value.zero, np.zeros((1,) * 4)),)
