"""Attention as ONNX has it since opset 23: masks, caches of past keys and values, windows, scores as an output."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tesa.frontend.expand import Writer, expands
from tesa.frontend.expansions.parts import concat, number, unsqueeze
from tesa.frontend.expansions.scores import Attended, Rules, attend, both, heads, joined, repeated

KNOWN_ATTRIBUTES = {
    "scale", "is_causal", "q_num_heads", "kv_num_heads", "softcap", "softmax_precision", "qk_matmul_output_mode",
    "left_window_size", "right_window_size",
}  # fmt: skip


@expands("Attention")
def attention(writer: Writer, node: Any) -> Sequence[str]:
    """(q, k, v[, mask][, past keys][, past values][, lengths]), 3-D with the numbers of heads as attributes, or 4-D.

    Outputs: the result, the keys and values so far, and the scores at the stage that is asked for.
    """
    options = writer.options
    other = sorted(set(options) - KNOWN_ATTRIBUTES)
    if other:
        raise writer.unsupported(f"its attribute {', '.join(other)} is not known. Export it in another opset")
    flat = len(writer.shape(node.input[0])) == 3
    tensors, shapes = _operands(writer, node, options, flat)
    past = 0
    if writer.has(4):
        past = writer.shape(node.input[4])[2]
        for i in (1, 2):
            tensors[i] = concat(writer, [node.input[3 + i], tensors[i]], 2)
            shapes[i] = (*shapes[i][:2], past + shapes[i][2], shapes[i][3])
    present = tensors[1:]
    times = shapes[0][1] // shapes[1][1]
    q, k, v = tensors[0], *(repeated(writer, x, s, times) for x, s in zip(tensors[1:], shapes[1:], strict=True))
    done = attend(writer, (q, k, v), _rules(writer, node, shapes, past), node.input[0])
    batch, count, length, _ = shapes[0]
    result = joined(writer, done.result, batch, length, count * shapes[2][3]) if flat else done.result
    return [result, *present, _stage(done, int(options.get("qk_matmul_output_mode", 0)))]


def _operands(
    writer: Writer, node: Any, options: dict[str, Any], flat: bool
) -> tuple[list[str], list[tuple[int, ...]]]:
    """q, k and v as (B, N, S, H), and these shapes."""
    tensors, shapes = list(node.input[:3]), [writer.shape(x) for x in node.input[:3]]
    if not flat:
        return tensors, shapes
    counts = [int(options[name]) for name in ("q_num_heads", "kv_num_heads", "kv_num_heads")]
    made = [heads(writer, x, s, n) for x, s, n in zip(tensors, shapes, counts, strict=True)]
    return made, [(s[0], n, s[1], s[2] // n) for s, n in zip(shapes, counts, strict=True)]


def _stage(done: Attended, mode: int) -> str:
    return (done.products, done.capped, done.masked, done.shares)[mode]


def _rules(writer: Writer, node: Any, shapes: Sequence[Sequence[int]], past: int) -> Rules:
    options, keys = writer.options, shapes[1][2]
    counts: Any = None
    masks: tuple[str, ...] = ()
    mask = _whole_mask(writer, node, keys)
    if mask and writer.dtype(node.input[3]).kind == "b":
        counts = mask
    elif mask:
        masks = (mask,)
    counts = both(writer, counts, _order(writer, node, shapes[0][2], keys, past))
    known = writer.value(mask) if mask else None
    seen = None if known is None else known if counts == mask else np.isfinite(known)
    masked = bool(mask) and (seen is None or not bool(seen.any(axis=-1).all()))
    empty = masked or writer.has(6)
    scale = float(options.get("scale", 0.0)) or 1 / math.sqrt(shapes[0][3])
    return Rules(scale, masks, counts, float(options.get("softcap", 0.0)), empty=empty)


def _whole_mask(writer: Writer, node: Any, keys: int) -> str:
    """The mask, made as long as there are keys: those that it lacks do not count."""
    if not writer.has(3):
        return ""
    mask, shape = node.input[3], writer.shape(node.input[3])
    missing = keys - shape[-1]
    if missing <= 0 or shape[-1] == 1:
        return str(mask)
    writer.reserve(*shape[:-1], missing)
    fill = np.full((*shape[:-1], missing), 0 if writer.dtype(mask).kind == "b" else -np.inf)
    return concat(writer, [mask, number(writer, fill, mask)], -1)


def _order(writer: Writer, node: Any, queries: int, keys: int, past: int) -> Any:
    """The keys that a query may see by place: an array or tensor that broadcasts to (B, N, S, T), None for all."""
    options = writer.options
    sides = [int(options.get(f"{side}_window_size", -1)) for side in ("left", "right")]
    causal = bool(options.get("is_causal", 0))
    writer.reserve(queries, keys)
    places = np.arange(keys)
    if not writer.has(6):
        distance = places[None] - (past + np.arange(queries))[:, None]
        allowed = np.ones_like(distance, bool)
        for on, test in _bounds(sides, causal, distance):
            allowed &= test if on else True
        return None if allowed.all() else allowed[None, None]
    lengths = unsqueeze(writer, writer.add("Cast", node.input[6], to=7), 1, 2, 3)
    counts = writer.add("Less", writer.constant(places[None, None, None]), lengths)
    steps = (places[None] - np.arange(queries)[:, None] + queries)[None, None]  # distance, but for the length
    distance = writer.add("Sub", writer.constant(steps), lengths)
    limits = [("Less", 1 if causal else None), ("Less", sides[1] + 1 if sides[1] >= 0 else None),
              ("Greater", -sides[0] - 1 if sides[0] >= 0 else None)]  # fmt: skip
    for op, limit in limits:
        if limit is not None:
            counts = writer.add("And", counts, writer.add(op, distance, writer.constant(limit, np.int64)))
    return counts


def _bounds(sides: Sequence[int], causal: bool, distance: Any) -> list[tuple[bool, Any]]:
    return [(causal, distance <= 0), (sides[0] >= 0, distance >= -sides[0]), (sides[1] >= 0, distance <= sides[1])]
