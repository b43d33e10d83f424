"""Grids through operators: helpers for the forward rules and `precision=` functions of all families.

Forward, a rule gives an output bits only if its true values lie on that grid. Backward, a `precision=` function
says for each input on which grid it may be rounded so that each output, rounded to its own final grid, stays what it
is: a TeSA of the input's shape in which only bits and quantization count, or None where full precision is needed.

The argument behind `same_grid`: rounding R to a grid reverses no order, and R(R(x)) = R(x). For f that picks one of
its arguments by comparing them (relu, clip at any bounds, maximum, max pooling), R(f(R(x), R(y))) = R(f(x, y)): take
f = min and x <= y. Either R(x) <= R(y), and both sides are R(x); or they are equal.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from tesa.attributes.attribute import FULL_BITS, Bits, Shape, TeSA, Values, compact, unknown
from tesa.attributes.quantization import Quantization, bits_for, code_range, codes_between, fitted
from tesa.propagate.registry import Operator

Move = Callable[[Values], Values]
CODEBOOK_LIMIT = 1 << 20  # numbers in a codebook; a larger tensor of scales is not enumerated


def with_grid(t: TeSA, bits: Bits, quantization: Quantization | None) -> TeSA:
    """The other facts of `t` with these bits. Arrays may have fewer axes than the tensor."""
    rank = len(t.shape)
    if quantization is not None:
        scale, zero = (compact(lead(v, rank)) for v in (quantization.scale, quantization.zero_point))
        quantization = Quantization(quantization.bits, quantization.signed, scale, zero)
    return replace(t, bits=lead(np.asarray(bits), rank).astype(np.int8), quantization=quantization)


def only_bits(shape: Shape, bits: Bits, quantization: Quantization | None) -> TeSA:
    """A TeSA of which nothing but bits is known."""
    return with_grid(unknown(shape), bits, quantization)


def lead(array: Values, rank: int) -> Values:
    """The array with axes of length 1 put in front until it has `rank` axes; a single number gets `rank` of them."""
    if array.size == 1:
        return array.reshape((1,) * rank)
    return array.reshape((1,) * (rank - array.ndim) + array.shape)


def claimed(t: TeSA) -> bool:
    """True if some element has a grid."""
    return t.quantization is not None and bool((t.bits < FULL_BITS).any())


def undeduced(facts: TeSA) -> TeSA:
    """The facts without bits that were deduced: those that serve a reader say nothing of the values themselves.

    They all come again, and the same ones if it was an earlier run that deduced them.
    """
    kinds = {origin.kind for origin in facts.origins if origin.fact == "bits"}
    if kinds != {"rule"}:
        return facts
    origins = frozenset(origin for origin in facts.origins if origin.fact != "bits")
    return replace(facts, bits=unknown(facts.shape).bits, quantization=None, origins=origins)


def moved_grid(t: TeSA, shape: Shape, move: Move) -> TeSA:
    """Forward: bits and grid of a tensor whose elements `move` takes to an output of the given shape.

    move: takes any array that broadcasts to the input (same number of axes) to one that broadcasts to the output.
    """
    q, rank = t.quantization, len(t.shape)
    if q is None or not claimed(t):
        return unknown(shape)
    scale, zero, bits = (move(lead(v, rank)) for v in (q.scale, q.zero_point, t.bits))
    return only_bits(shape, bits, Quantization(q.bits, q.signed, scale, zero))


def joined_grid(parts: Sequence[TeSA], axis: int, shape: Shape) -> TeSA:
    """Forward: bits and grid of a concatenation; a scale, zero point and bits for each part where they differ."""
    if not any(claimed(t) for t in parts):
        return unknown(shape)
    signed = any(t.quantization.signed for t in parts if t.quantization is not None)
    columns: list[list[Values]] = [[], [], []]
    for t in parts:
        for column, array in zip(columns, _laid(t, signed), strict=True):
            wide = list(array.shape)
            wide[axis] = t.shape[axis]
            column.append(np.broadcast_to(array, wide))
    bits, scale, zero = (_joined(column, axis) for column in columns)
    widest = int(bits[bits < FULL_BITS].max(initial=1))
    return only_bits(shape, bits, Quantization(widest, signed, scale, zero))


def _joined(arrays: Sequence[Values], axis: int) -> Values:
    rank = arrays[0].ndim
    full = [max(a.shape[i] for a in arrays) for i in range(rank)]
    wide = [np.broadcast_to(a, [n if i != axis else a.shape[i] for i, n in enumerate(full)]) for a in arrays]
    return compact(np.concatenate(wide, axis=axis))


def _laid(t: TeSA, signed: bool) -> tuple[Values, Values, Values]:
    """(bits, scale, zero point), each with all axes; codes signed if asked for."""
    rank, q = len(t.shape), t.quantization
    if q is None:
        return np.full((1,) * rank, FULL_BITS), np.ones((1,) * rank), np.zeros((1,) * rank)
    zero = lead(q.zero_point, rank)
    if signed and not q.signed:
        zero = zero + code_range(np.minimum(t.bits, q.bits), True)[0]
    return t.bits, lead(q.scale, rank), zero


def same_grid(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[TeSA | None, ...]:
    """`precision=` of an operator that picks one of its inputs by comparing them, element by element (see above).

    For relu, clip, minimum, maximum and the values of where: each input needs the output's grid. An input that was
    broadcast needs it if it is the same for all copies.
    """
    return tuple(unbroadcast_grid(outputs[0], shape) for shape in op.inputs)


def unbroadcast_grid(out: TeSA, shape: Shape) -> TeSA | None:
    """The grid of an output for an input of `shape` that was broadcast to it; None if copies differ."""
    q = out.quantization
    if q is None or not claimed(out):
        return None
    rank, extra = len(out.shape), len(out.shape) - len(shape)
    arrays = [compact(lead(v, rank)) for v in (out.bits, q.scale, q.zero_point)]
    wide = (1,) * extra + tuple(shape)
    if any(n > 1 and m == 1 for a in arrays for n, m in zip(a.shape, wide, strict=True)):
        return None
    bits, scale, zero = (a.reshape(a.shape[extra:]) for a in arrays)
    return only_bits(shape, bits, Quantization(q.bits, q.signed, scale, zero))


def clipped_grid(t: TeSA, low: float, high: float, integer: bool = False) -> TeSA:
    """Forward: the grid of a tensor clipped to low .. high. Kept where both bounds are on it or beyond its ends."""
    q = t.quantization
    if q is None or not claimed(t):
        return unknown(t.shape)
    ends = np.stack([q.points(code, integer) for code in code_range(np.minimum(t.bits, q.bits), q.signed)])
    fits = np.ones((), bool)
    for bound, beyond in ((low, low <= ends.min(axis=0)), (high, high >= ends.max(axis=0))):
        exact = q.points(q.codes(bound, t.bits), integer) == bound
        fits = fits & (beyond | exact)
    return only_bits(t.shape, np.where(fits, t.bits, FULL_BITS), q)


def narrowed(t: TeSA, low: float, high: float) -> TeSA:
    """The same facts with fewer bits if the tensor is between low and high: all its elements spare equally many."""
    q = t.quantization
    if q is None or not claimed(t) or (t.bits <= 1).all():
        return t
    first, last = code_range(np.minimum(t.bits, q.bits), q.signed)
    ends = codes_between(low, high, q.scale, q.zero_point)
    begin, end = np.clip(ends[0], first, last), np.clip(ends[1], first, last)
    end = np.maximum(begin, end)
    spared = np.min(np.where(t.bits < FULL_BITS, t.bits - bits_for(begin, end), FULL_BITS))
    if spared < 1 or (t.bits >= FULL_BITS).any():
        return t
    return with_grid(t, *fitted(begin, end, q.scale, q.zero_point, np.maximum(t.bits - spared, 1)))


def codebook(t: TeSA, integer: bool) -> Values | None:
    """Every number that an element on its grid can be: (codes, *grid's axes) in float64; None if they are too many.

    integer: whether the tensor holds integers.
    """
    q = t.quantization
    if q is None or not (t.bits < FULL_BITS).all() or q.bits > 16:
        return None
    first, last = code_range(t.bits, q.signed)
    shape = np.broadcast_shapes(first.shape, q.scale.shape, q.zero_point.shape)
    if (1 << q.bits) * int(np.prod(shape)) > CODEBOOK_LIMIT:
        return None
    steps = np.arange(1 << q.bits).reshape(-1, *(1,) * len(shape))
    return q.points(np.minimum(first + steps, last), integer)
