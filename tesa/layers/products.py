"""Matrix products with a constant weight, with or without batch axes, as layers of one matrix."""

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.layers.anchor import Anchor, Piece, shares
from tesa.layers.expressions import constant_of, shape_of
from tesa.layers.layout import features_outer, features_outermost, identity
from tesa.schedules.types import FloatArray

FEW = 16
"""Columns of a batch entry below which the entries' columns are one product: the weights are then read once for all."""


def find_product(call: Any, known: NDArray[Any] | None) -> tuple[Anchor, ...]:
    """The layer that a relax.matmul is, if one of its operands is a constant float32 weight of two axes or more.

    known takes the place of the weight. Pieces of it where it is too large for one matrix.
    """
    for argument in (1, 0):
        own = constant_of(call.args[argument])
        if own is None:
            continue
        weight = own if known is None else known
        if weight.ndim >= 2 and weight.dtype == np.float32 and shape_of(call.args[1 - argument]):
            return _product(call, call.args[1 - argument], weight, right=argument == 1)
    return ()


def _product(call: Any, source: Any, weight: FloatArray, right: bool) -> tuple[Anchor, ...]:
    """x W or W x. Batch axes that the weight lacks are the layer's batch; those that it has are blocks of one matrix.

    y[b, j] = W[j] x[b, j] is one product with a block-diagonal matrix, y[j] = W[j] x one with the W[j] below each
    other: blocks of zeros cost nothing in a sparse kernel, and neither operand moves.
    """
    shape, x_shape = shape_of(call), shape_of(source)
    matrices = weight.swapaxes(-1, -2) if right else weight  # (..., m, k)
    vector = len(x_shape) == 1
    batch = shape[: len(shape) - (1 if vector else 2)]
    w_wide, x_wide = ((1,) * (len(batch) - len(b)) + b for b in (weight.shape[:-2], x_shape[:-2]))
    first = next((i for i, extent in enumerate(w_wide) if extent > 1), len(batch))
    inner, x_inner = batch[first:], x_wide[first:]
    m, k = (int(extent) for extent in matrices.shape[-2:])
    matrices = matrices.reshape(*w_wide[first:], m, k)
    last = len(batch) if vector or not right else len(batch) + 1
    layout = features_outer if right and not vector else identity
    count, n = prod(batch[:first]), 1 if vector else x_shape[-2] if right else x_shape[-1]
    if right and not vector and not inner and count > 1 and n < FEW:
        layout, count, n = features_outermost, 1, count * n

    def anchor(start: int, stop: int) -> Anchor:
        blocks, part, result = matrices, None, shape
        if inner and stop - start < inner[0]:
            blocks, each = matrices[start:stop], prod(inner[1:]) * m
            axis = first - (len(batch) - len(x_shape[:-2]))
            read = (axis, start, stop) if x_inner[0] > 1 else None
            part = Piece(np.arange(start * each, stop * each), read, (first, start, stop))
            result = (*shape[:first], stop - start, *shape[first + 1 :])
        matrix = _blocks(blocks, (stop - start, *inner[1:]), _cut(x_inner, start, stop)) if inner else blocks
        return Anchor(
            "linear", call, source, np.ascontiguousarray(matrix), layout(len(x_shape)), layout(len(shape)),
            batch=count, n=n, shape=result, features=(*range(first, len(batch)), last), piece=part,
        )  # fmt: skip

    def size(count: int) -> int:
        return count * prod(inner[1:]) * m * prod(_cut(x_inner, 0, count)) * k

    return tuple(anchor(*share) for share in shares(inner[0] if inner else 1, size, weight.size))


def _cut(extents: tuple[int, ...], start: int, stop: int) -> tuple[int, ...]:
    """A part of the first axis, unless it is broadcast."""
    return (stop - start if extents[0] > 1 else 1, *extents[1:]) if extents else ()


def _blocks(matrices: FloatArray, inner: tuple[int, ...], x_inner: tuple[int, ...]) -> FloatArray:
    """One matrix of a block for each pair of an index into `inner` and the index into `x_inner` that it reads."""
    m, k = matrices.shape[-2:]
    full = np.zeros((prod(inner), m, prod(x_inner), k), np.float32)
    wide = np.broadcast_to(matrices, (*inner, m, k))
    for row, at in enumerate(np.ndindex(inner)):
        read = tuple(i if extent > 1 else 0 for i, extent in zip(at, x_inner, strict=True))
        full[row, :, int(np.ravel_multi_index(read, x_inner)), :] = wide[at]
    return full.reshape(prod(inner) * m, prod(x_inner) * k)
