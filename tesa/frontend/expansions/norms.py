"""Norms, and the embedding of tokens that ends in one."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tesa.frontend.expand import Writer, expands
from tesa.frontend.expansions.activations import times_sigmoid
from tesa.frontend.expansions.parts import cast, integers, number, reduce, reshape, transpose, unsqueeze


@expands("LpNormalization")
def lp_normalization(writer: Writer, node: Any) -> Sequence[str]:
    """x divided by its norm along an axis; a vector of zeros stays one."""
    x, options = node.input[0], writer.options
    op = "ReduceL1" if options.get("p", 2) == 1 else "ReduceL2"
    norm = reduce(writer, op, x, [int(options.get("axis", -1))])
    none = writer.add("Equal", norm, number(writer, 0, x))
    return [writer.add("Div", x, writer.add("Where", none, number(writer, 1, x), norm))]


@expands("com.microsoft::SkipLayerNormalization")
def skip_layer_norm(writer: Writer, node: Any) -> Sequence[str]:
    """Layer norm of x + skip (+ bias): (x, skip, gamma[, beta][, bias]). Outputs: norm, mean, 1 / deviation, sum."""
    total = _sum(writer, node.input[0], node.input[1], writer.input(4))
    beta = writer.input(3) or writer.constant(np.zeros(writer.shape(node.input[2]), writer.dtype(node.input[2])))
    return _layer_norm(writer, total, node.input[2], beta, writer.options.get("epsilon", 1e-12))


def _layer_norm(writer: Writer, total: str, gamma: str, beta: str, epsilon: float) -> list[str]:
    several = writer.reads(1) or writer.reads(2)
    names = writer.add(
        "LayerNormalization", total, gamma, beta, outputs=3 if several else 1, axis=-1, epsilon=float(epsilon)
    )
    return [*names, total] if several else [names, "", "", total]


@expands("com.microsoft::SkipSimplifiedLayerNormalization")
def skip_rms_norm(writer: Writer, node: Any) -> Sequence[str]:
    """RMS norm of x + skip (+ bias): (x, skip, gamma[, bias]). Outputs as in skip_layer_norm, without a mean."""
    total = _sum(writer, node.input[0], node.input[1], writer.input(3))
    epsilon = float(writer.options.get("epsilon", 1e-12))
    norm = writer.add("SimplifiedLayerNormalization", total, node.input[2], axis=-1, epsilon=epsilon)
    return [norm, "", _inverse(writer, total, node.input[0], epsilon) if writer.reads(2) else "", total]


def _inverse(writer: Writer, x: str, like: str, epsilon: float) -> str:
    square = reduce(writer, "ReduceMean", writer.add("Mul", x, x), [-1])
    return str(writer.add("Reciprocal", writer.add("Sqrt", writer.add("Add", square, number(writer, epsilon, like)))))


def _sum(writer: Writer, x: str, skip: str, bias: str) -> str:
    total = writer.add("Add", x, skip)
    return str(writer.add("Add", total, bias) if bias else total)


@expands("com.microsoft::GatedRMSNorm")
def gated_rms_norm(writer: Writer, node: Any) -> Sequence[str]:
    """RMS norm of each group of as many elements as gamma has, times an activation of the gate."""
    x, gamma, gate = node.input[:3]
    shape, options = writer.shape(x), writer.options
    size = writer.shape(gamma)[0]
    groups = reshape(writer, x, [*shape[:-1], shape[-1] // size, size])
    epsilon = float(options.get("epsilon", 1e-6))
    norm = writer.add("SimplifiedLayerNormalization", groups, gamma, axis=-1, epsilon=epsilon)
    plain = options.get("activation", b"silu") == b"sigmoid"
    opened = writer.add("Sigmoid", gate) if plain else times_sigmoid(writer, gate)
    return [writer.add("Mul", reshape(writer, norm, shape), opened)]


@expands("com.microsoft::GroupNorm")
def group_norm(writer: Writer, node: Any) -> Sequence[str]:
    """Norm over groups of channels, which are last if nothing else is said, and x * sigmoid(x) if it is asked for."""
    return [_group_norm(writer, node.input[0], node, writer.options)]


@expands("com.microsoft::SkipGroupNorm")
def skip_group_norm(writer: Writer, node: Any) -> Sequence[str]:
    """GroupNorm of x + skip (+ bias): (x, gamma, beta, skip[, bias]). Outputs: the norm, the sum."""
    x, skip = node.input[0], node.input[3]
    rank, size = len(writer.shape(x)), len(writer.shape(skip))
    first = not writer.options.get("channels_last", 1)
    if size < rank:
        batch, channels = writer.shape(skip)
        inner = [1] * (rank - 2)
        skip = reshape(writer, skip, [batch, channels, *inner] if first else [batch, *inner, channels])
    bias = writer.input(4)
    if bias and first:
        bias = unsqueeze(writer, bias, *range(1, rank - 1))
    total = _sum(writer, x, skip, bias)
    return [_group_norm(writer, total, node, writer.options), total]


def _group_norm(writer: Writer, x: str, node: Any, options: dict[str, Any]) -> str:
    shape = writer.shape(node.input[0])
    rank, last = len(shape), bool(options.get("channels_last", 1))
    if last:
        x = transpose(writer, x, [0, rank - 1, *range(1, rank - 1)])
        shape = (shape[0], shape[-1], *shape[1:-1])
    groups = int(options["groups"])
    flat = reshape(writer, x, [shape[0], groups, -1])
    dtype = writer.dtype(node.input[0])
    writer.reserve(max(groups, 0))
    ones, zeros = (writer.constant(np.full(groups, value, dtype)) for value in (1, 0))
    norm = writer.add("InstanceNormalization", flat, ones, zeros, epsilon=float(options.get("epsilon", 1e-5)))
    y = reshape(writer, norm, shape)
    gamma, beta = (unsqueeze(writer, name, *range(1, rank - 1)) for name in node.input[1:3])
    y = writer.add("Add", writer.add("Mul", y, gamma), beta)
    y = times_sigmoid(writer, y) if options.get("activation", 0) else y
    return transpose(writer, y, [0, *range(2, rank), 1]) if last else str(y)


@expands("com.microsoft::EmbedLayerNormalization")
def embed_layer_norm(writer: Writer, node: Any) -> Sequence[str]:
    """The layer norm of the sum of the embeddings of words, positions and segments.

    (ids, segments, words, positions, segment table, gamma, beta[, mask][, position ids]). Outputs: the norm, how many
    tokens of each row count, the sum.
    """
    tables = [node.input[2], node.input[3], writer.input(4)]
    options = writer.options
    return embedded(writer, node.input[:2], tables, node.input[5:7], writer.input(7), writer.input(8), options)


def embedded(
    writer: Writer, ids: Sequence[str], tables: Sequence[str], norm: Sequence[str], mask: str, positions: str,
    options: dict[str, Any],
) -> list[str]:  # fmt: skip
    """embed_layer_norm by its parts: ids of words and segments, the three tables, gamma and beta."""
    batch, length = writer.shape(ids[0])
    total = writer.add("Gather", tables[0], ids[0])
    place = positions or integers(writer, np.arange(length))
    total = writer.add("Add", total, writer.add("Gather", tables[1], place))
    if ids[1] and tables[2]:
        total = writer.add("Add", total, writer.add("Gather", tables[2], ids[1]))
    result = writer.add("LayerNormalization", total, *norm, axis=-1, epsilon=float(options.get("epsilon", 1e-12)))
    if not writer.reads(1):
        return [result, "", total]
    if not mask:
        return [result, writer.constant(np.zeros(batch, np.int32)), total]
    counts = cast(writer, writer.add("Equal", mask, number(writer, 1, mask)), np.int32)
    return [result, reduce(writer, "ReduceSum", counts, [1], 0), total]


@expands("com.microsoft::QEmbedLayerNormalization")
def quantized_embed_layer_norm(writer: Writer, node: Any) -> Sequence[str]:
    """embed_layer_norm with quantized tables, gamma and beta: their scales and zero points follow the mask."""
    real = []
    for index, place in enumerate((2, 3, 4, 5, 6)):
        name = writer.input(place)
        parts = [name, writer.input(8 + index), writer.input(13 + index)]
        real.append(writer.add("DequantizeLinear", *filter(None, parts)) if name else "")
    return embedded(writer, node.input[:2], real[:3], real[3:], writer.input(7), "", writer.options)
