"""GroupQueryAttention of ONNX Runtime: heads of queries in groups that share keys, rotated, with a cache."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tesa.frontend.expand import Writer, expands
from tesa.frontend.expansions.microsoft_attention import Places
from tesa.frontend.expansions.parts import cast, concat, integers, number, reshape, split, transpose, unsqueeze
from tesa.frontend.expansions.rotary import turned
from tesa.frontend.expansions.scores import Rules, attend, joined, repeated

REFUSED = {
    "kv_cache_bit_width": 0, "sliding_window_cache": 0, "k_quant_type": b"NONE", "v_quant_type": b"NONE",
}  # fmt: skip
"""Attributes that must have the value that changes nothing."""


@expands("com.microsoft::GroupQueryAttention")
def group_query_attention(writer: Writer, node: Any) -> Sequence[str]:
    """(q, k, v, past keys, past values, lengths - 1, longest, cos, sin, positions, scores' bias, sinks).

    Outputs: the result, the keys and values so far, the scores that are asked for. The longest length must be known.
    """
    options = writer.options
    _check(writer, node)
    parts, shapes = _operands(writer, node, options)
    total = _total(writer, node)
    batch, queries = shapes[0][:2]
    first = queries == total
    room = writer.shape(node.input[3])[2] if writer.has(3) else 0
    places = batch, queries, max(room, total), 0
    starts = "" if first else _starts(writer, node, batch, queries)
    if options.get("do_rotary", 0):
        parts[:2] = [_rotated(writer, node, x, s, starts) for x, s in zip(parts[:2], shapes[:2], strict=True)]
    q, k, v = (transpose(writer, x, [0, 2, 1, 3]) for x in parts)
    present = [_present(writer, writer.input(3 + i), x, shapes[1 + i], places, starts) for i, x in enumerate((k, v))]
    times = shapes[0][2] // shapes[1][2]
    whole = [repeated(writer, x, (batch, s[2], places[2], s[3]), times)
             for x, s in zip(present, shapes[1:], strict=True)]  # fmt: skip
    done = attend(writer, (q, *whole), _rules(writer, node, shapes[0], places, starts), node.input[0])
    result = joined(writer, done.result, batch, queries, shapes[0][2] * shapes[2][3])
    return [result, *present, done.masked if options.get("qk_output", 0) == 1 else done.shares]


def _check(writer: Writer, node: Any) -> None:
    options = writer.options
    other = [name for name, value in REFUSED.items() if options.get(name, value) != value]
    other += [what for i, what in ((12, "k_scale"), (13, "v_scale"), (14, "q_norm_weight"), (15, "k_norm_weight"),
                                   (16, "query_seqlens")) if writer.has(i)]  # fmt: skip
    if other:
        raise writer.unsupported(f"with {', '.join(other)} it cannot be imported. Export it without")


def _operands(writer: Writer, node: Any, options: dict[str, Any]) -> tuple[list[str], list[tuple[int, ...]]]:
    """q, k and v as (B, S, N, H), and these shapes."""
    counts = [int(options["num_heads"]), *[int(options["kv_num_heads"])] * 2]
    names, widths = list(node.input[:3]), [0, 0, 0]
    batch, queries, width = writer.shape(node.input[0])
    if writer.has(1):
        widths = [writer.shape(x)[2] for x in names]
        lengths = [writer.shape(x)[1] for x in names]
    else:
        size = width // sum(counts)
        widths, lengths = [n * size for n in counts], [queries] * 3
        names = split(writer, node.input[0], widths, 2)
    shapes: list[tuple[int, ...]] = [(batch, s, n, w // n) for s, n, w in zip(lengths, counts, widths, strict=True)]
    return [reshape(writer, x, s) for x, s in zip(names, shapes, strict=True)], shapes


def _total(writer: Writer, node: Any) -> int:
    known = writer.value(node.input[6])
    if known is None:
        raise writer.unsupported(
            "its total_sequence_length is known only when the model runs; tesa compiles for fixed sizes. Make it a "
            "constant, or give the attention mask that it is made of a fixed size"
        )
    return int(known.reshape(()))


def _starts(writer: Writer, node: Any, batch: int, queries: int) -> str:
    """The place (B,) of the first new key of each row."""
    ends = reshape(writer, cast(writer, node.input[5], np.int64), [batch])
    return str(writer.add("Sub", ends, integers(writer, queries - 1)))


def _rotated(writer: Writer, node: Any, x: str, shape: Sequence[int], starts: str) -> str:
    length = shape[1]
    if writer.has(9):
        places = node.input[9]
    else:
        places = integers(writer, np.arange(length)[None])
        places = writer.add("Add", unsqueeze(writer, starts, 1), places) if starts else places
    cos, sin = (writer.add("Gather", name, places) for name in node.input[7:9])
    half, options = writer.shape(node.input[7])[-1], writer.options
    return turned(writer, x, shape, cos, sin, half=half, interleaved=bool(options.get("rotary_interleaved", 0)))


def _present(writer: Writer, past: str, new: str, shape: Sequence[int], places: Places, starts: str) -> str:
    """The keys or values so far (B, N, T, H): the new ones (B, S, N, H) from the place `starts` on over the past."""
    batch, length, count, size = shape
    room = places[2]
    if not starts:  # the first ones
        writer.reserve(batch, count, room, size, copies=1)
        rest = np.zeros((batch, count, room - length, size))
        return concat(writer, [new, number(writer, rest, new)], 2) if room > length else new
    columns = integers(writer, np.arange(room)[None])
    place = writer.add("Sub", columns, unsqueeze(writer, starts, 1))  # (B, T): of each column among the new
    inside = writer.add("Max", writer.add("Min", place, integers(writer, length - 1)), integers(writer, 0))
    index = writer.add("Expand", unsqueeze(writer, inside, 1, 3), integers(writer, [batch, count, room, size]))
    moved = writer.add("GatherElements", new, index, axis=2)
    old = past
    have = writer.shape(past)[2]
    if have < room:
        writer.reserve(batch, count, room, size, copies=1)
        old = concat(writer, [past, number(writer, np.zeros((batch, count, room - have, size)), past)], 2)
    is_new = writer.add("Equal", place, inside)
    return str(writer.add("Where", unsqueeze(writer, is_new, 1, 3), moved, old))


def _rules(writer: Writer, node: Any, shape: Sequence[int], places: Places, starts: str) -> Rules:
    options = writer.options
    _, queries, keys, _ = places
    window = int(options.get("local_window_size", -1))
    writer.reserve(queries, keys)
    distance = (np.arange(keys)[None] - np.arange(queries)[:, None])[None, None]
    counts: Any = None
    causal = bool(options.get("causal", 1))
    if not starts:
        allowed = (distance <= 0) if causal else np.broadcast_to(np.arange(keys) < queries, distance.shape)
        counts = allowed & (distance > -window) if window > 0 else allowed
    else:
        away = writer.add("Sub", integers(writer, distance), unsqueeze(writer, starts, 1, 2, 3))
        counts = writer.add("Less", away, integers(writer, 1 if causal else queries))
        if window > 0:
            counts = writer.add("And", counts, writer.add("Greater", away, integers(writer, -window)))
    sink = writer.input(11)
    if options.get("smooth_softmax", 0) == 1 and not sink:
        writer.reserve(shape[2])
        sink = number(writer, np.zeros(shape[2]), node.input[0])
    scale = float(options.get("scale", 0.0)) or 1 / math.sqrt(shape[3])
    masks = [node.input[10]] if writer.has(10) else []
    return Rules(scale, masks, counts, float(options.get("softcap", 0.0)), sink)
