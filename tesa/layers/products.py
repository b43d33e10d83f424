"""Matrix products with a constant weight, with or without batch axes, as layers of one matrix."""

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.layers.anchor import LARGEST, Anchor
from tesa.layers.expressions import constant_of, shape_of
from tesa.layers.layout import features_outer, identity
from tesa.schedules.types import FloatArray


def find_product(call: Any, known: NDArray[Any] | None) -> Anchor | None:
    """The layer that a relax.matmul is, if one of its operands is a constant float32 weight of two axes or more.

    known takes the place of the weight.
    """
    for argument in (1, 0):
        own = constant_of(call.args[argument])
        if own is None:
            continue
        weight = own if known is None else known
        if weight.ndim >= 2 and weight.dtype == np.float32 and shape_of(call.args[1 - argument]):
            return _product(call, call.args[1 - argument], weight, right=argument == 1)
    return None


def _product(call: Any, source: Any, weight: FloatArray, right: bool) -> Anchor | None:
    """x W or W x. Batch axes that the weight lacks are the layer's batch; those that it has are blocks of one matrix.

    y[b, j] = W[j] x[b, j] is one product with a block-diagonal matrix, y[j] = W[j] x one with the W[j] below each
    other: blocks of zeros cost nothing in a sparse kernel, and neither operand moves.
    """
    shape, x_shape = shape_of(call), shape_of(source)
    matrices = weight.swapaxes(-1, -2) if right else weight  # (..., m, k)
    vector = len(x_shape) == 1
    x_batch = x_shape[:-2]
    batch = shape[: len(shape) - (1 if vector else 2)]
    w_wide, x_wide = ((1,) * (len(batch) - len(b)) + b for b in (weight.shape[:-2], x_batch))
    first = next((i for i, extent in enumerate(w_wide) if extent > 1), len(batch))
    inner = batch[first:]
    m, k = matrices.shape[-2:]
    blocks, sources = prod(inner), prod(x_wide[first:])
    if blocks * m * sources * k > max(LARGEST, weight.size):
        return None
    matrix = _blocks(matrices.reshape(*w_wide, m, k), first, inner, x_wide[first:])
    last = len(batch) if vector or not right else len(batch) + 1
    layout = features_outer if right and not vector else identity
    return Anchor(
        "linear", call, source, matrix, layout(len(x_shape)), layout(len(shape)), batch=prod(batch[:first]),
        n=1 if vector else x_shape[-2] if right else x_shape[-1], features=(*range(first, len(batch)), last),
    )  # fmt: skip


def _blocks(matrices: FloatArray, first: int, inner: tuple[int, ...], x_inner: tuple[int, ...]) -> FloatArray:
    """One matrix of a block for each pair of an index into `inner` and the index into `x_inner` that it reads."""
    m, k = matrices.shape[-2:]
    matrices = matrices.reshape(matrices.shape[first:])
    if prod(inner) == 1:
        return np.ascontiguousarray(matrices.reshape(m, k))
    full = np.zeros((prod(inner), m, prod(x_inner), k), np.float32)
    wide = np.broadcast_to(matrices, (*inner, m, k))
    for row, at in enumerate(np.ndindex(inner)):
        read = tuple(i if extent > 1 else 0 for i, extent in zip(at, x_inner, strict=True))
        full[row, :, int(np.ravel_multi_index(read, x_inner)), :] = wide[at]
    return full.reshape(prod(inner) * m, prod(x_inner) * k)
