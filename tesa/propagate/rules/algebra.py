"""Sums of products over named axes, of masks and of numbers, with arrays that stay short.

An operand is an array and one name for each of its axes; an axis of length 1 stands for any length along which nothing
changes. So the product of a channel mask of an activation and a weight costs a matrix times a vector, not a product of
matrices. In the boolean semiring (or, and) this is SparTA's pruning algebra (Zheng et al., OSDI 2022).
"""

from collections.abc import Collection, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from tesa.attributes.attribute import Bools, Values
from tesa.propagate.labels import Labels

Operand = tuple[Values, Labels]


def any_product(operands: Sequence[Operand], out: Labels, sizes: Mapping[str, int]) -> Bools:
    """OR over all names that are not in `out` of the AND of the operands, with axes as in `out`, short where possible.

    sizes: the full length of each name.

    >>> a, b = np.array([[True, False]]), np.array([[False], [True]])
    >>> any_product([(a, ("m", "k")), (b, ("k", "n"))], ("m", "n"), {"m": 5, "k": 2, "n": 4})
    array([[False]])
    """
    return np.asarray(_contract([(np.asarray(a, bool), names) for a, names in operands], out, sizes))


def sum_product(operands: Sequence[Operand], out: Labels, sizes: Mapping[str, int]) -> Values:
    """The sum over all names that are not in `out` of the product of the operands, in float64; short where possible.

    >>> sum_product([(np.array([[2.0]]), ("m", "k")), (np.eye(3), ("k", "n"))], ("m", "n"), {"m": 5, "k": 3, "n": 3})
    array([[2., 2., 2.]])
    """
    return _contract([(np.asarray(a, np.float64), names) for a, names in operands], out, sizes)


def on_diagonal(mask: Bools, names: Labels, shape: Sequence[int]) -> Bools:
    """A mask over the distinct names as one over an operand whose `names` repeat: False off the diagonal.

    >>> on_diagonal(np.array([True, False]), ("i", "i"), (2, 2)).tolist()
    [[True, False], [False, False]]
    """
    distinct = tuple(dict.fromkeys(names))
    if len(distinct) == len(names):
        return mask
    full = [max(shape[i] for i, other in enumerate(names) if other == name) for name in distinct]
    repeated = {name for name in distinct if names.count(name) > 1}
    wide = {name: n if name in repeated else m for name, n, m in zip(distinct, full, mask.shape, strict=True)}
    result = np.zeros([n if name in repeated else wide[name] for n, name in zip(shape, names, strict=True)], bool)
    numbers = {name: i for i, name in enumerate(distinct)}
    view = np.einsum(result, [numbers[name] for name in names], list(range(len(distinct))))
    view[...] = np.broadcast_to(mask, view.shape)
    return result


def _contract(operands: Sequence[Operand], out: Labels, sizes: Mapping[str, int]) -> Values:
    boolean = all(a.dtype == np.bool_ for a, _ in operands)
    named = {name for _, names in operands for name in names}
    short = [_squeeze(a, names) for a, names in operands]
    total, names = short[0]
    for i, (array, other) in enumerate(short[1:], 2):
        keep = {*out, *(name for _, later in short[i:] for name in later)}
        total, names = _pair(_reduce(total, names, {*keep, *other}), _reduce(array, other, {*keep, *names}), keep)
    total, names = _reduce(total, names, out)
    left = {name for _, squeezed in short for name in squeezed}
    copies = prod(sizes[name] for name in named - left - set(out))
    if boolean:
        total = np.asarray(total) & (copies > 0)
    elif copies != 1:
        total = total * copies
    order = [names.index(name) for name in out if name in names]
    total = np.transpose(total, order)
    return np.expand_dims(total, [i for i, name in enumerate(out) if name not in names])


def _squeeze(array: Values, names: Labels) -> Operand:
    """Without axes of length 1, each name once: the diagonal of an operand whose names repeat."""
    distinct = tuple(dict.fromkeys(names))
    if len(distinct) < len(names):
        longest = {name: max(n for n, other in zip(array.shape, names, strict=True) if other == name) for name in names}
        array = np.broadcast_to(array, [longest[name] for name in names])
        numbers = [distinct.index(name) for name in names]
        array = np.einsum(array, numbers, list(range(len(distinct))))
    axes = tuple(i for i, n in enumerate(array.shape) if n == 1)
    return np.squeeze(array, axes), tuple(name for i, name in enumerate(distinct) if i not in axes)


def _reduce(array: Values, names: Labels, keep: Collection[str]) -> Operand:
    axes = tuple(i for i, name in enumerate(names) if name not in keep)
    if not axes:
        return array, names
    reduced = array.any(axis=axes) if array.dtype == np.bool_ else array.sum(axis=axes)
    return np.asarray(reduced), tuple(name for name in names if name in keep)


def _pair(a: Operand, b: Operand, keep: Collection[str]) -> Operand:
    """The product of two operands, summed over the names that both have and nobody else needs."""
    (left, la), (right, lb) = a, b
    both = [name for name in la if name in lb]
    batch, summed = [n for n in both if n in keep], [n for n in both if n not in keep]
    rows, columns = [n for n in la if n not in both], [n for n in lb if n not in both]
    left = np.transpose(left, [la.index(n) for n in batch + rows + summed])
    right = np.transpose(right, [lb.index(n) for n in batch + summed + columns])
    names = (*batch, *rows, *columns)
    if not summed:
        wide: Any = left.reshape(left.shape + (1,) * len(columns))
        right = right.reshape(right.shape[: len(batch)] + (1,) * len(rows) + right.shape[len(batch) :])
        return wide & right if left.dtype == np.bool_ else wide * right, names
    front, middle = left.shape[: len(batch)], left.shape[len(batch) : len(batch) + len(rows)]
    back, length = right.shape[len(batch) + len(summed) :], prod(left.shape[len(batch) + len(rows) :])
    product = _matmul(left.reshape((*front, prod(middle), length)), right.reshape((*front, length, prod(back))))
    return product.reshape((*front, *middle, *back)), names


def _matmul(a: Values, b: Values) -> Values:
    """A product of numbers, or of masks: counted in float32, where a sum of ones never falls back to 0."""
    if a.dtype != np.bool_:
        return np.asarray(np.matmul(a, b))
    if a.shape[-2] == 1 and a.ndim == 2:
        return np.asarray(b[a[0]].any(axis=0, keepdims=True))
    if b.shape[-1] == 1 and b.ndim == 2:
        return np.asarray(a[:, b[:, 0]].any(axis=1, keepdims=True))
    return np.asarray(np.matmul(a.astype(np.float32), b.astype(np.float32)) > 0)
