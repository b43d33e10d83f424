"""Einstein sums and outer products: sums of products over axes that the operator's subscripts name."""

from __future__ import annotations

from collections import Counter

from tesa.attributes.attribute import Bools, Shape, TeSA
from tesa.errors import UnsupportedError
from tesa.propagate.registry import Operator, rule
from tesa.propagate.rules.algebra import Labels
from tesa.propagate.rules.products import Product, factors, product_backward, product_forward

MANY = tuple(range(64))  # operands of an einsum


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
    sizes: dict[str, int] = {}
    for names, shape in zip(operands, shapes, strict=True):
        for name, length in zip(names, shape, strict=True):
            sizes[name] = length if sizes.get(name, 1) == 1 else sizes[name]
    dots = tuple(sorted((n for n in sizes if n.startswith(".")), key=lambda n: -int(n[3:])))
    counted = Counter(name for names in operands for name in names)
    implicit = dots + tuple(sorted(n for n, times in counted.items() if times == 1 and not n.startswith(".")))
    return Product(operands, _output(right, dots) if arrow else implicit, sizes)


def _named(term: str, rank: int) -> Labels:
    """The names of one operand; the axes of "..." are counted from the right: ...1, ...0."""
    before, dots, after = term.partition("...")
    count = rank - len(before) - len(after)
    if count < 0 or (count and not dots):
        raise ValueError(f"the subscripts {term!r} of an einsum do not fit a tensor of {rank} axes")
    return (*before, *(f"...{i}" for i in reversed(range(count))), *after)


def _output(term: str, dots: Labels) -> Labels:
    before, marker, after = term.partition("...")
    return (*before, *(dots if marker else ()), *after)


def _product(op: Operator) -> Product:
    try:
        return parse_einsum(str(op.attrs["subscripts"]), op.inputs)
    except ValueError as error:
        raise UnsupportedError(f"{op.layer}: {op.op} of {op.inputs}: {error}") from error


def _einsum_backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    return product_backward(_product(op), factors(inputs, op.constants), outputs[0].live)


@rule("relax.einsum", backward=_einsum_backward, weights=MANY)
def einsum(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """Known where every product of the sum is: a factor is 0, or all are constants."""
    return (product_forward(_product(op), op.outputs[0], op.dtypes[0], factors(inputs, op.constants)),)


OUTER = (("m",), ("n",))


def _outer(op: Operator) -> Product:
    return Product(OUTER, ("m", "n"), {"m": op.inputs[0][0], "n": op.inputs[1][0]})


def _outer_backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    return product_backward(_outer(op), factors(inputs, op.constants), outputs[0].live)


@rule("relax.outer", backward=_outer_backward, weights=(0, 1))
def outer(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """All products of an element of one vector and one of the other."""
    return (product_forward(_outer(op), op.outputs[0], op.dtypes[0], factors(inputs, op.constants)),)
