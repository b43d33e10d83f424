"""Facts through a sum of products, which matmul, einsum and attention are over different axes.

Forward, an output element is known where every term of its sum is: one factor is 0 and no other one is infinite, or all
are constants. Backward, an element matters if some term that it is in reaches a live output and no zero cuts it off.
Who may lean on whose zero is told in engine.py: a weight on every zero; an activation on a zero or dead weight, and, if
it is not known itself, on the known zero of another activation. An infinite element leans on nobody, as inf * 0 is NaN.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tesa.attributes.attribute import Bools, Shape, TeSA, Values, compact, reduce_to, unknown
from tesa.propagate.labels import Labels, Product
from tesa.propagate.rules.algebra import Operand, any_product, on_diagonal, sum_product
from tesa.propagate.rules.annihilate import FLOATS, integer_range, is_float
from tesa.propagate.rules.common import facts

EXACT = float(2**53)  # the integers that float64 holds


@dataclass(frozen=True, eq=False)
class Factor:
    """One operand. array: the whole of it where it is a weight, else None."""

    facts: TeSA
    array: Values | None = None

    @property
    def nonzero(self) -> Bools:
        return ~self.facts.zero

    @property
    def infinite(self) -> Bools:
        """A mask of the elements known not to be finite."""
        if self.array is None:
            return self.facts.known & ~np.isfinite(self.facts.value)
        if self.array.dtype.kind in "biu" or np.isfinite(self.array).all():
            return np.zeros((1,) * self.array.ndim, bool)
        return ~np.isfinite(self.array)

    @property
    def value(self) -> Values:
        """Its value where that is at hand, else 0; 0 for what is infinite."""
        t = self.facts
        if self.array is None:
            value: Values = np.where(t.known, t.value, 0) if not t.known.all() else t.value
        else:
            value = np.where(t.known, t.value, self.array) if t.known.any() else self.array
        value = value.astype(np.float64)
        return np.where(np.isfinite(value), value, 0.0) if self.infinite.any() else value

    @property
    def unsure(self) -> Bools:
        """A mask of the elements whose value is not at hand."""
        return ~self.facts.known if self.array is None else np.zeros((1,) * self.array.ndim, bool)


def factors(inputs: tuple[TeSA, ...], constants: tuple[Values | None, ...]) -> list[Factor]:
    """The operands of a product; constants count as weights."""
    return [Factor(t, array) for t, array in zip(inputs, constants, strict=True)]


def product_forward(product: Product, shape: Shape, dtype: str, operands: list[Factor]) -> TeSA:
    """The facts about the output."""
    unsure = _unsure(product, operands)
    if unsure.all():
        return unknown(shape)
    values = [f.value for f in operands]
    if not all(v.any() for v in values):
        return facts(shape, ~unsure, np.zeros((1,) * len(shape)))
    value = sum_product(_named(product, values), product.out, product.sizes)
    return typed_facts(shape, ~unsure, value, dtype)


def _unsure(product: Product, operands: list[Factor]) -> Bools:
    """A mask of the outputs with a term that is neither cut off by a zero nor all constant."""
    nonzero = [f.nonzero for f in operands]
    unsure: Bools = np.zeros((1,) * len(product.out), bool)
    for i, factor in enumerate(operands):
        open_here = factor.unsure
        if open_here.any():
            masks = [open_here if j == i else mask for j, mask in enumerate(nonzero)]
            unsure = unsure | any_product(_named(product, masks), product.out, product.sizes)
        infinite = factor.infinite
        if infinite.any():
            ones = [np.ones((1,) * len(names), bool) for names in product.operands]
            masks = [infinite if j == i else mask for j, mask in enumerate(ones)]
            unsure = unsure | any_product(_named(product, masks), product.out, product.sizes)
    return unsure


def product_backward(product: Product, operands: list[Factor], live: Bools) -> tuple[Bools, ...]:
    """For each operand a mask of what the live elements of the output need."""
    nonzero = [f.nonzero for f in operands]
    needs: dict[int, Bools] = {}
    for i, factor in enumerate(operands):
        if factor.array is not None:
            needs[i] = _need(product, operands, i, live, dict(enumerate(nonzero)))
    kept = {i: compact(nonzero[i] & need) for i, need in needs.items()}
    for i, factor in enumerate(operands):
        if factor.array is not None:
            continue
        need = _need(product, operands, i, live, {**dict(enumerate(nonzero)), **kept})
        known = factor.facts.known
        if known.any() and len(kept) < len(operands) - 1:
            need = np.where(known, _need(product, operands, i, live, kept), need)
        needs[i] = need
    return tuple(needs[i] for i in range(len(operands)))


def _need(product: Product, operands: list[Factor], i: int, live: Bools, masks: Mapping[int, Bools]) -> Bools:
    """A mask of the elements of operand i that meet, in some term of a live output, no factor that is cut off."""
    names, shape = product.operands[i], operands[i].facts.shape
    distinct = tuple(dict.fromkeys(names))
    parts: list[Operand] = [(live, product.out)]
    parts += [(mask, product.operands[j]) for j, mask in masks.items() if j != i]
    need = any_product(parts, distinct, product.sizes)
    infinite = operands[i].infinite
    wide = _spread(need, names, shape)
    if not infinite.any():
        return wide
    bare = any_product(parts[:1], distinct, product.sizes)
    return np.where(infinite, _spread(bare, names, shape), wide)


def _spread(need: Bools, names: Labels, shape: Shape) -> Bools:
    """A mask over the distinct names as one over the operand."""
    if len(set(names)) < len(names):
        return on_diagonal(need, names, shape)
    return reduce_to(need, shape)


def _named(product: Product, arrays: list[Values]) -> list[Operand]:
    return list(zip(arrays, product.operands, strict=True))


def typed_facts(shape: Shape, known: Bools, value: Values, dtype: str) -> TeSA:
    """Facts from values in float64 or int64: what the type cannot hold counts as unknown."""
    if is_float(dtype):
        limit = float(np.finfo(dtype).max) if dtype in FLOATS else np.inf
        return facts(shape, known & (np.isinf(value) | (np.abs(value) <= limit)), value)
    if dtype == "bool":
        return facts(shape, known, value != 0)
    low, high = integer_range(dtype)
    fits = (value >= low) & (value <= high) & (np.abs(value) < EXACT)
    return facts(shape, known & fits, np.where(fits, value, 0).astype(dtype if dtype in np.sctypeDict else np.int64))
