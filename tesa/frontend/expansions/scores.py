"""Scaled dot-product attention written out: products, a softmax, and additions for masks.

So every product keeps its weight, and a mask is an addition like any other. Letters: B batch, N heads, S queries,
T keys, H the size of a head.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tesa.frontend.expansions.parts import concat, cut, number, reshape, transpose, unsqueeze
from tesa.frontend.writer import Writer


@dataclass(frozen=True)
class Attended:
    """The result (B, N, S, H) of an attention, and its scores (B, N, S, T) at each stage on the way."""

    result: str
    products: str
    capped: str
    masked: str
    shares: str


@dataclass(frozen=True)
class Rules:
    """The rules by which scores come out of products.

    masks: numbers to add. counts: a boolean tensor or array that says which keys count for a query; where none does the
    result is 0. cap: cap * tanh(score / cap). sink: one more score for each head, (N,), whose share is dropped.
    empty: there may be queries for which no key counts.
    """

    scale: float
    masks: Sequence[str] = ()
    counts: Any = None
    cap: float = 0.0
    sink: str = ""
    empty: bool = False


def attend(writer: Writer, operands: Sequence[str], rules: Rules, like: str) -> Attended:
    """softmax(cap(scale * q k^T) + masks) v for q (B, N, S, H), k and v (B, N, T, H) of the element type of `like`."""
    q, k, v = operands
    q = q if rules.scale == 1.0 else writer.add("Mul", q, number(writer, rules.scale, like))
    products = writer.add("MatMul", q, transpose(writer, k, [0, 1, 3, 2]))
    capped = products
    if rules.cap:
        small = writer.add("Tanh", writer.add("Div", products, number(writer, rules.cap, like)))
        capped = writer.add("Mul", small, number(writer, rules.cap, like))
    masked = _masked(writer, capped, rules, like)
    shares = _softmax(writer, masked, rules, like)
    shares = _without_empty(writer, masked, shares, rules, like)
    return Attended(writer.add("MatMul", shares, v), products, capped, masked, shares)


def _masked(writer: Writer, scores: str, rules: Rules, like: str) -> str:
    if rules.masks:
        total = rules.masks[0]
        for mask in rules.masks[1:]:
            total = writer.add("Add", total, mask)
        scores = writer.add("Add", scores, total)
    if rules.counts is None:
        return scores
    known = _known(writer, rules.counts)
    if known is not None:
        return str(writer.add("Add", scores, number(writer, np.where(known, 0, -np.inf), like)))
    return str(writer.add("Where", rules.counts, scores, number(writer, -np.inf, like)))


def _known(writer: Writer, counts: Any) -> Any:
    return writer.value(counts) if isinstance(counts, str) else counts


def _softmax(writer: Writer, scores: str, rules: Rules, like: str) -> str:
    """The shares of the keys; a sink takes a share of its own."""
    if rules.empty:
        scores = writer.add("Max", scores, number(writer, _lowest(writer, like), like))
    if not rules.sink:
        return str(writer.add("Softmax", scores, axis=-1))
    column = writer.add("Mul", cut(writer, scores, -1, 0, 1), number(writer, 0, like))
    column = writer.add("Add", column, unsqueeze(writer, rules.sink, 0, 2, 3))
    return cut(writer, writer.add("Softmax", concat(writer, [scores, column], -1), axis=-1), -1, 0, -1)


def _without_empty(writer: Writer, masked: str, shares: str, rules: Rules, like: str) -> str:
    """No shares where no key counts."""
    if not rules.empty:
        return shares
    counts = writer.add("Greater", masked, number(writer, _lowest(writer, like), like))
    return str(writer.add("Where", counts, shares, number(writer, 0, like)))


def _lowest(writer: Writer, like: str) -> Any:
    dtype = writer.dtype(like)
    return np.finfo(dtype).min / 2 if dtype in (np.float32, np.float64) else dtype.type(-30000)


def both(writer: Writer, counts: Any, others: Any) -> Any:
    """The logical and of two masks, tensors or arrays or None for all."""
    if counts is None or others is None:
        return others if counts is None else counts
    known = [_known(writer, c) for c in (counts, others)]
    if all(k is not None for k in known):
        return known[0] & known[1]
    names = [c if isinstance(c, str) else writer.constant(c) for c in (counts, others)]
    return writer.add("And", *names)


def heads(writer: Writer, x: str, shape: Sequence[int], count: int) -> str:
    """x of shape (B, S, N * H) as (B, N, S, H)."""
    batch, length, width = shape
    return transpose(writer, reshape(writer, x, [batch, length, count, width // count]), [0, 2, 1, 3])


def joined(writer: Writer, x: str, batch: int, length: int, width: int) -> str:
    """The reverse of heads."""
    return reshape(writer, transpose(writer, x, [0, 2, 1, 3]), [batch, length, width])


def repeated(writer: Writer, x: str, shape: Sequence[int], times: int) -> str:
    """x (B, N, T, H) with each head that often: several heads of queries share it."""
    if times == 1:
        return x
    batch, count, length, size = shape
    apart = writer.add("Expand", unsqueeze(writer, x, 2), writer.constant([batch, count, times, length, size], "int64"))
    return reshape(writer, apart, [batch, count * times, length, size])
