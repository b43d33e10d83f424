"""Attention and MultiHeadAttention of ONNX Runtime, with every form of their masks, operands and caches."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tesa.frontend.expand import Writer, expands
from tesa.frontend.expansions.parts import cast, concat, cut, number, reshape, split, squeeze, transpose, unsqueeze
from tesa.frontend.expansions.scores import Rules, attend, heads, joined

Places = tuple[int, int, int, int]
"""Batch, queries, keys in all, keys of the past."""


@expands("com.microsoft::Attention")
def attention(writer: Writer, node: Any) -> Sequence[str]:
    """(x, weights, bias, mask, past, scores' bias, past length): the projections of q, k and v are one product."""
    product = writer.add("MatMul", *node.input[:2])
    product = writer.add("Add", product, node.input[2]) if writer.has(2) else product
    extra = {"mask": writer.input(3), "past": writer.input(4), "bias": writer.input(5), "length": writer.input(6)}
    return projected(writer, product, node.input[0], node.input[1], product_type=node.input[0], **extra)


@expands("com.microsoft::QAttention")
def quantized_attention(writer: Writer, node: Any) -> Sequence[str]:
    """Attention of a quantized input and weight: (x, weights, bias, scales, mask, zero points, past)."""
    x, weight, bias, x_scale, w_scale = node.input[:5]
    x_real = writer.add("DequantizeLinear", x, x_scale, *filter(None, [writer.input(6)]))
    several = int(np.prod(writer.shape(w_scale))) > 1
    axis: dict[str, Any] = {"axis": 1} if several else {}
    w_real = writer.add("DequantizeLinear", weight, w_scale, *filter(None, [writer.input(7)]), **axis)
    product = writer.add("Add", writer.add("MatMul", x_real, w_real), bias)
    extra = {"mask": writer.input(5), "past": writer.input(8), "bias": "", "length": ""}
    return projected(writer, product, x, weight, product_type=bias, **extra)


def projected(
    writer: Writer, product: str, x: str, weight: str, *, product_type: str, mask: str, past: str, bias: str,
    length: str,
) -> list[str]:  # fmt: skip
    """The result, and the keys and values so far, of an attention whose projections are one product."""
    options = writer.options
    if options.get("do_rotary", 0):
        raise writer.unsupported("rotary embeddings inside of it cannot be imported. Export it as GroupQueryAttention")
    batch, queries, _ = writer.shape(x)
    count, width = int(options["num_heads"]), writer.shape(weight)[1]
    sizes = [int(n) for n in options.get("qkv_hidden_sizes", [width // 3] * 3)]
    parts = split(writer, product, sizes, 2)
    q, k, v = (heads(writer, part, (batch, queries, n), count) for part, n in zip(parts, sizes, strict=True))
    before, longest = _past(writer, past, length)
    present = [k, v]
    if past:
        halves = [squeeze(writer, half, 0) for half in split(writer, past, [1, 1], 0)]
        kept = [cut(writer, half, 2, 0, before) for half in halves] if before else []
        present = [concat(writer, [*kept[i : i + 1], new], 2) for i, new in enumerate((k, v))]
    places = batch, queries, before + queries, before
    rules = microsoft_rules(writer, sizes[0] // count, places, mask, bias, product_type)
    done = attend(writer, (q, *present), rules, product_type)
    result = joined(writer, done.result, batch, queries, sizes[2])
    if not writer.reads(1):
        return [result]
    if longest > before + queries:
        rest = [cut(writer, half, 2, before + queries, longest) for half in halves]
        present = [concat(writer, [new, old], 2) for new, old in zip(present, rest, strict=True)]
    return [result, concat(writer, [unsqueeze(writer, part, 0) for part in present], 0)]


def _past(writer: Writer, past: str, length: str) -> tuple[int, int]:
    """(how many keys of the past count, how many there is room for, 0 where the present makes its own)."""
    if not past:
        return 0, 0
    room = writer.shape(past)[3]
    if not writer.options.get("past_present_share_buffer", 0):
        return room, 0
    known = writer.value(length) if length else None
    if known is None:
        raise writer.unsupported(
            "the length of its past is known only when the model runs; tesa compiles for fixed sizes. Export it with "
            "past and present as tensors of their own, or with a constant past_sequence_length"
        )
    return int(known.reshape(())), room


def microsoft_rules(writer: Writer, size: int, places: Places, mask: str, bias: str, like: str) -> Rules:
    """The scale, masks and bias of the scores of an attention of ONNX Runtime; size: of a head."""
    options = writer.options
    masks = [key_mask(writer, mask, places, like)] if mask else []
    _, queries, keys, before = places
    if options.get("unidirectional", 0) and queries > 1:
        writer.reserve(queries, keys)
        later = np.arange(keys)[None] > before + np.arange(queries)[:, None]
        lowest = np.finfo(writer.dtype(like)).min
        masks.append(number(writer, np.where(later, lowest, 0)[None, None], like))
    scale = float(options.get("scale", 0.0)) or 1 / math.sqrt(size)
    return Rules(scale, [*masks, *([bias] if bias else [])])


def key_mask(writer: Writer, mask: str, places: Places, like: str) -> str:
    """The numbers that a mask of integers adds to scores: 0 where a key counts, `mask_filter_value` where not.

    mask: (B, T), (B, S, T) or (B, 1, longest, longest) of 0 and 1; (B,) how many keys count; (2 B,) where they end,
    then where they begin; (3 B + 2,) how many, then what packed forms need. Result: broadcasts to (B, N, S, T).
    """
    batch, queries, keys, before = places
    shape = writer.shape(mask)
    if len(shape) == 1:
        counts = _between(writer, mask, shape[0], batch, keys)
    else:
        if len(shape) == 4:
            mask = cut(writer, cut(writer, mask, 2, before, before + queries), 3, 0, keys)
        mask = unsqueeze(writer, mask, *range(1, 5 - len(shape))) if len(shape) < 4 else mask
        counts = writer.add("Greater", cast(writer, mask, np.int64), writer.constant(0, np.int64))
    low = float(writer.options.get("mask_filter_value", -10000.0))
    return str(writer.add("Where", counts, number(writer, 0, like), number(writer, low, like)))


def _between(writer: Writer, mask: str, length: int, batch: int, keys: int) -> str:
    """True for the keys before the end and from the begin on."""
    columns = writer.constant(np.arange(keys)[None, None, None], np.int64)
    parts = [cut(writer, mask, 0, i * batch, (i + 1) * batch) for i in range(2 if length == 2 * batch else 1)]
    bounds = [reshape(writer, cast(writer, part, np.int64), [batch, 1, 1, 1]) for part in parts]
    inside = writer.add("Less", columns, bounds[0])
    if len(bounds) == 1:
        return str(inside)
    return str(writer.add("And", inside, writer.add("Not", writer.add("Less", columns, bounds[1]))))


@expands("com.microsoft::MultiHeadAttention")
def multi_head(writer: Writer, node: Any) -> Sequence[str]:
    """(q, k, v, bias, key mask, scores' bias, past keys, past values): operands apart, packed, or already in heads.

    Outputs: the result, the keys and values so far, and the scores before the softmax.
    """
    if writer.has(8) or writer.has(9):
        raise writer.unsupported(
            "a cache that it shares with its result cannot be imported. Export it with past and present as tensors of "
            "their own"
        )
    count = int(writer.options["num_heads"])
    tensors, widths = _operands(writer, node, count)
    batch, queries = writer.shape(node.input[0])[:2]
    keys = _length(writer, node)
    before = writer.shape(node.input[6])[2] if writer.has(6) else 0
    if before:
        tensors[1:] = [concat(writer, [node.input[5 + i], tensors[i]], 2) for i in (1, 2)]
    places = batch, queries, before + keys, before
    rules = microsoft_rules(writer, widths[0] // count, places, writer.input(4), writer.input(5), node.input[0])
    done = attend(writer, tensors, rules, node.input[0])
    return [joined(writer, done.result, batch, queries, widths[2]), *tensors[1:], done.masked]


def _length(writer: Writer, node: Any) -> int:
    shape = writer.shape(node.input[1] if writer.has(1) else node.input[0])
    return shape[2] if len(shape) == 4 else shape[1]


def _operands(writer: Writer, node: Any, count: int) -> tuple[list[str], list[int]]:
    """q, k and v as (B, N, S, H), their biases added, and the widths N * H of each."""
    given = [_unpacked(writer, name, count) for name in node.input[:3] if name]
    parts = [part for some in given for part in some]
    widths = [shape[-1] * (count if len(shape) == 4 else 1) for _, shape in parts]
    names = [name for name, _ in parts]
    if writer.has(3):
        biases = split(writer, node.input[3], widths, 0)
        names = [name if len(shape) == 4 else writer.add("Add", name, bias)
                 for (name, shape), bias in zip(parts, biases, strict=True)]  # fmt: skip
    made = [name if len(shape) == 4 else heads(writer, name, shape, count)
            for name, (_, shape) in zip(names, parts, strict=True)]  # fmt: skip
    return made, widths


def _unpacked(writer: Writer, x: str, count: int) -> list[tuple[str, tuple[int, ...]]]:
    """The operands in a tensor with their shapes: of (B, S, N, 2 or 3, H) there are several."""
    shape = writer.shape(x)
    if len(shape) != 5:
        return [(x, shape)]
    batch, length, _, several, size = shape
    turned = split(writer, transpose(writer, x, [3, 0, 1, 2, 4]), [1] * several, 0)
    return [(reshape(writer, part, [batch, length, count * size]), (batch, length, count * size)) for part in turned]
