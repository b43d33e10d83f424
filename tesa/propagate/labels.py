"""Labels of axes: equal ones correspond. They are given once, for propagation and for compaction."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from tesa.attributes.attribute import Shape

Labels = tuple[str, ...]
"""A name for each axis of a tensor; axes of one name, of several tensors, correspond."""


@dataclass(frozen=True)
class Product:
    """out[...] = sum over the names that `out` lacks of the product of one element of each operand.

    operands: for each the names of its axes. sizes: the length of each name; an operand's axis may also have length 1.
    """

    operands: tuple[Labels, ...]
    out: Labels
    sizes: Mapping[str, int]


def matmul_axes(a: tuple[int, ...], b: tuple[int, ...]) -> Product:
    """The names of the axes of a matrix product: a vector has no row, or no column; batch axes are broadcast.

    >>> matmul_axes((5, 2, 3), (3, 4)).out
    ('b0', 'm', 'n')
    """
    left = _batch(a) + (("m", "k") if len(a) > 1 else ("k",))
    right = _batch(b) + (("k", "n") if len(b) > 1 else ("k",))
    sizes = _sizes((left, right), (a, b))
    out = max(_batch(a), _batch(b), key=len) + tuple(n for n in ("m", "n") if n in sizes)
    return Product((left, right), out, sizes)


def _batch(shape: tuple[int, ...]) -> Labels:
    """Batch axes are counted from the right, the innermost is b0."""
    return tuple(f"b{i}" for i in reversed(range(len(shape) - 2)))


def parse_einsum(subscripts: str, shapes: tuple[Shape, ...]) -> Product:
    """The names of the axes of an Einstein sum, with repeated names, "..." and an implicit output as in NumPy.

    ValueError where the subscripts do not fit the shapes.

    >>> parse_einsum("...ij,jk", ((7, 2, 3), (3, 4))).out
    ('...0', 'i', 'k')
    >>> parse_einsum("ii->", ((3, 3),)).out
    ()
    """
    left, arrow, right = subscripts.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(shapes):
        raise ValueError(f"einsum {subscripts!r} names {len(terms)} operands, not {len(shapes)}")
    operands = tuple(_named(term, len(shape)) for term, shape in zip(terms, shapes, strict=True))
    sizes = _sizes(operands, shapes)
    dots = tuple(sorted((n for n in sizes if n.startswith(".")), key=lambda n: -int(n[3:])))
    counted = Counter(name for names in operands for name in names)
    implicit = dots + tuple(sorted(n for n, times in counted.items() if times == 1 and not n.startswith(".")))
    before, marker, after = right.partition("...")
    return Product(operands, (*before, *(dots if marker else ()), *after) if arrow else implicit, sizes)


def _sizes(operands: tuple[Labels, ...], shapes: tuple[Shape, ...]) -> dict[str, int]:
    """The length of each name; an axis of length 1 is broadcast."""
    sizes: dict[str, int] = {}
    for names, shape in zip(operands, shapes, strict=True):
        for name, length in zip(names, shape, strict=True):
            sizes[name] = length if sizes.get(name, 1) == 1 else sizes[name]
    return sizes


def _named(term: str, rank: int) -> Labels:
    """The names of one operand; the axes of "..." are counted from the right: ...1, ...0."""
    before, dots, after = term.partition("...")
    count = rank - len(before) - len(after)
    if count < 0 or (count and not dots):
        raise ValueError(f"the subscripts {term!r} of an einsum do not fit a tensor of {rank} axes")
    return (*before, *(f"...{i}" for i in reversed(range(count))), *after)
