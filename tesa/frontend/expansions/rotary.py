"""Rotary embeddings (Su et al., 2021, "RoFormer"): pairs turned by an angle that grows with the position."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tesa.frontend.expand import Writer, expands
from tesa.frontend.expansions.parts import concat, cut, integers, reshape, split, transpose, unsqueeze


def turned(writer: Writer, x: str, shape: Sequence[int], cos: str, sin: str, *, half: int, interleaved: bool) -> str:
    """x of shape (B, S, N, H) with its first 2 * half elements turned. cos, sin: (B or 1, S, half)."""
    size = shape[-1]
    moving, rest = (x, "") if 2 * half == size else split(writer, x, [2 * half, size - 2 * half], -1)
    if interleaved:
        one, two = (cut(writer, moving, -1, start, 2 * half, 2) for start in (0, 1))
    else:
        one, two = split(writer, moving, [half, half], -1)
    cos, sin = (unsqueeze(writer, name, 2) for name in (cos, sin))
    real = writer.add("Sub", writer.add("Mul", cos, one), writer.add("Mul", sin, two))
    imaginary = writer.add("Add", writer.add("Mul", sin, one), writer.add("Mul", cos, two))
    if interleaved:
        pairs = concat(writer, [unsqueeze(writer, part, -1) for part in (real, imaginary)], -1)
        result = reshape(writer, pairs, [*shape[:-1], 2 * half])
    else:
        result = concat(writer, [real, imaginary], -1)
    return concat(writer, [result, rest], -1) if rest else result


@expands("RotaryEmbedding")
def rotary_embedding(writer: Writer, node: Any) -> Sequence[str]:
    """ONNX's: (x, cos, sin[, positions]); x is (B, S, N * H) or (B, N, S, H)."""
    options = writer.options
    caches = list(node.input[1:3])
    if writer.has(3):
        caches = [writer.add("Gather", name, node.input[3]) for name in caches]
    count = int(options.get("num_heads", 0))
    return [rotated(writer, node.input[0], caches, count, bool(options.get("interleaved", 0)), node.input[1])]


@expands("com.microsoft::RotaryEmbedding")
def microsoft_rotary_embedding(writer: Writer, node: Any) -> Sequence[str]:
    """ONNX Runtime's: (x, positions, cos, sin); one position is that of the first token."""
    x, positions, *caches = node.input[:4]
    options, shape = writer.options, writer.shape(x)
    batch, length = shape[0], shape[1 if len(shape) == 3 else 2]
    places = cache_places(writer, positions, batch, length)
    caches = [writer.add("Gather", name, places) for name in caches]
    rotary, width = int(options.get("rotary_embedding_dim", 0)), 2 * writer.shape(node.input[2])[-1]
    count = int(options.get("num_heads", 0)) if rotary else shape[-1] // width
    return [rotated(writer, x, caches, count, bool(options.get("interleaved", 0)), node.input[2])]


def cache_places(writer: Writer, positions: str, batch: int, length: int) -> str:
    """The positions (B or 1, S) of all tokens, from those of all or of the first one."""
    given = writer.shape(positions)
    if len(given) == 2 and given[-1] == length and given[0] in (1, batch):
        return positions
    steps = writer.constant(np.arange(length)[None], writer.dtype(positions))
    first = writer.add("Reshape", positions, integers(writer, [-1, 1]))
    return str(writer.add("Add", first, steps))


def rotated(writer: Writer, x: str, caches: Sequence[str], count: int, interleaved: bool, cache: str) -> str:
    """x (B, S, N * H) or (B, N, S, H) turned by gathered caches (B or 1, S, half). cache: one as it was given."""
    shape = writer.shape(x)
    half = writer.shape(cache)[-1]
    if len(shape) == 3:
        apart = (shape[0], shape[1], count, shape[2] // count)
        y = reshape(writer, x, apart)
        return reshape(writer, turned(writer, y, apart, *caches, half=half, interleaved=interleaved), shape)
    apart = (shape[0], shape[2], shape[1], shape[3])
    y = transpose(writer, x, [0, 2, 1, 3])
    return transpose(writer, turned(writer, y, apart, *caches, half=half, interleaved=interleaved), [0, 2, 1, 3])


@expands("com.microsoft::GemmaRotaryEmbedding")
def gemma_rotary_embedding(writer: Writer, node: Any) -> Sequence[str]:
    """q cos + q_rot sin and k cos + k_rot sin, of the embedding's sines and cosines: (emb, q, q_rot, k, k_rot)."""
    sine, cosine = (writer.add("Cast", writer.add(op, node.input[0]), to=1) for op in ("Sin", "Cos"))
    sine, cosine = (writer.add("CastLike", unsqueeze(writer, x, 1), node.input[1]) for x in (sine, cosine))
    pairs = (node.input[1:3], node.input[3:5])
    return [writer.add("Add", writer.add("Mul", a, cosine), writer.add("Mul", b, sine)) for a, b in pairs]
