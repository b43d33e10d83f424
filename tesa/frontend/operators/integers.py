"""MatMulInteger and ConvInteger as products in float32, which are exact and have the kernels of every other layer.

A product of two 8-bit numbers and any sum of them up to 2^24 is exact in float32, in whatever order it is added up. So
a weight, with its zero point taken away, is one float32 weight; where a sum could pass 2^24 it is the sum of several
that share its elements out, whose products are added up as int32. They have the zeros of the codes, and a weight of a
pruned network hardly ever needs a second part.
"""

import math
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
from tvm import relax

from tesa.attributes.attribute import Values
from tesa.frontend.expressions import as_float32, as_int32, at, constant, constant_value, minus, static_shape
from tesa.frontend.operators.conv import convolve
from tesa.frontend.operators.quantize import dynamic_codes
from tesa.frontend.registry import imports

EXACT = 1 << 24
"""float32 has every integer up to this."""

WIDTH = 255
"""The difference between the largest and the smallest code of 8 bits."""

MOST_PARTS = 4
"""A weight of more parts is multiplied in int32, by the plain loops of any operator."""

Product = Callable[[Any, Any, str], Any]
"""Multiplies two expressions; the third argument is the type of the result."""

View = tuple[int, ...]
"""The shape in which a zero point lies along its operand."""


@imports("MatMulInteger")
def matmul_integer(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """(a - a_zero) @ (b - b_zero), one zero point for all or one for each row of a and each column of b."""
    zeros = [at(inputs, 2), at(inputs, 3)]
    if any(zero is not None and len(static_shape(zero)) > 1 for zero in zeros):
        return None
    views: list[View] = [(-1, 1) if _several(zeros[0]) else (), (-1,) if _several(zeros[1]) else ()]

    def product(a: Any, b: Any, dtype: str) -> Any:
        return relax.op.matmul(a, b, out_dtype=dtype)

    ranks = [len(static_shape(x)) for x in inputs[:2]]
    summed = (ranks[0] - 1,), (max(ranks[1] - 2, 0),)
    return _exact(bb, inputs[:2], zeros, views, summed, product)


@imports("ConvInteger")
def conv_integer(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """(x - x_zero) convolved with (w - w_zero): the padding stands for x_zero, as it should."""
    rank = len(static_shape(inputs[1]))
    zeros = [at(inputs, 2), at(inputs, 3)]
    views: list[View] = [(), (-1, *[1] * (rank - 1)) if _several(zeros[1]) else ()]

    def product(x: Any, weight: Any, dtype: str) -> Any:
        return convolve(x, weight, attrs, out_dtype=dtype)

    return _exact(bb, inputs[:2], zeros, views, ((), tuple(range(1, rank))), product)


def _several(zero: Any) -> bool:
    return zero is not None and math.prod(static_shape(zero)) > 1


def _exact(bb: Any, operands: Any, zeros: list[Any], views: list[View], summed: Any, product: Product) -> Any:
    """The int32 product of two operands less their zero points. summed: the axes of each that the sum runs over."""
    weights = [constant_value(x) is not None and (z is None or constant_value(z) is not None)
               for x, z in zip(operands, zeros, strict=True)]  # fmt: skip
    count = math.prod(static_shape(operands[1])[axis] for axis in summed[1])
    triples = list(zip(operands, zeros, views, strict=True))
    real = [_centred(bb, *triple) for triple in triples]
    at_weight = 1 if weights[1] else 0
    parts = list(islice(_parts(constant_value(real[at_weight]), summed[at_weight]), MOST_PARTS + 1))
    if len(parts) > MOST_PARTS or (not any(weights) and count * WIDTH**2 > EXACT):
        whole = [_less(bb, as_int32(bb, x), zero, view) for x, zero, view in triples]
        return product(whole[0], whole[1], "int32")
    total = None
    for part in parts:
        factors = [part if i == at_weight and part is not None else x for i, x in enumerate(real)]
        sums = bb.normalize(relax.op.astype(bb.normalize(product(factors[0], factors[1], "float32")), "int32"))
        total = sums if total is None else bb.normalize(relax.op.add(total, sums))
    return total


def _less(bb: Any, x: Any, zero: Any, view: tuple[int, ...]) -> Any:
    return x if zero is None else minus(bb, x, as_int32(bb, zero), view)


def _centred(bb: Any, x: Any, zero: Any, view: tuple[int, ...]) -> Any:
    """x - zero as float32."""
    steps = dynamic_codes(bb, x, zero)
    if steps is not None:
        return steps
    values, level = constant_value(x), None if zero is None else constant_value(zero)
    if values is not None and (zero is None or level is not None):
        less = values.astype(np.int32) - (0 if level is None else level.astype(np.int32).reshape(view))
        return constant(less.astype(np.float32))
    if not view and static_shape(x) and (zero is None or (level is not None and level.size == 1)):
        number = np.zeros((), str(x.ty.dtype)) if level is None else level.reshape(())
        # codes whose step is 1: a product of them has the integer kernels of any layer between codes
        steps = relax.op.dequantize(x, constant(np.float32(1.0)), constant(number), axis=0, out_dtype="float32")
        return bb.normalize(steps)
    x = as_float32(bb, x)
    if zero is None or (level is not None and not level.any()):
        return x
    return minus(bb, x, as_float32(bb, zero), view)


def _parts(weight: Values | None, axes: tuple[int, ...]) -> Iterator[Any]:
    """Weights that add up to `weight`, each with sums of at most 2^24 whatever codes less their zero point it meets.

    They share its elements out in runs along `axes`, which a sum runs over. No weight: the operands as they are.
    The codes lie between two numbers on either side of 0 that are WIDTH apart. So no sum, nor a part of it, is larger
    than WIDTH times the positive weights, or the negative ones.
    """
    if weight is None or not weight.any():
        yield None
        return
    others = [axis for axis in range(weight.ndim) if axis not in axes]
    order = [*others, *axes]
    rows = np.transpose(weight, order).reshape(math.prod(weight.shape[axis] for axis in others), -1)
    sums = WIDTH * np.cumsum([np.maximum(rows, 0), np.maximum(-rows, 0)], axis=2, dtype=np.float64)
    start = 0
    while start < rows.shape[1]:
        before = sums[:, :, start - 1 : start] if start else 0.0
        fits = (sums - before <= EXACT).all(axis=(0, 1))
        end = rows.shape[1] if fits.all() else max(int(np.argmin(fits)), start + 1)
        part = np.zeros_like(rows)
        part[:, start:end] = rows[:, start:end]
        if part.any():
            turned = part.reshape([weight.shape[axis] for axis in order])
            yield constant(np.transpose(turned, np.argsort(order)))
        start = end
