"""Einstein sums and outer products: sums of products over axes that the operator's subscripts name."""

from tesa.attributes.attribute import Bools, TeSA
from tesa.errors import UnsupportedError
from tesa.propagate.labels import Product, parse_einsum
from tesa.propagate.registry import Operator, rule
from tesa.propagate.rules.products import factors, product_backward, product_forward

MANY = tuple(range(64))  # operands of an einsum


def _product(op: Operator) -> Product:
    try:
        return parse_einsum("m,n->mn" if op.op == "relax.outer" else str(op.attrs["subscripts"]), op.inputs)
    except ValueError as error:
        raise UnsupportedError(f"{op.layer}: {op.op} of {op.inputs}: {error}") from error


def _backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    return product_backward(_product(op), factors(inputs, op.constants), outputs[0].live)


@rule("relax.einsum", backward=_backward, weights=MANY)
def einsum(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """Known where every product of the sum is: a factor is 0, or all are constants."""
    return (product_forward(_product(op), op.outputs[0], op.dtypes[0], factors(inputs, op.constants)),)


@rule("relax.outer", backward=_backward, weights=(0, 1))
def outer(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """All products of an element of one vector and one of the other."""
    return einsum(op, inputs)
