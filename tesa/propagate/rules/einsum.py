"""Einstein sums and outer products: sums of products over axes that the operator's subscripts name."""

from tesa.attributes.attribute import Bools, TeSA
from tesa.errors import UnsupportedError
from tesa.propagate.labels import Product, parse_einsum
from tesa.propagate.registry import Operator, rule
from tesa.propagate.rules.products import factors, product_backward, product_forward

MANY = tuple(range(64))  # operands of an einsum


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
