"""Matrix products: Y[.., m, n] = sum over k of A[.., m, k] * B[.., k, n]; vectors and batches as in NumPy.

An operator whose attribute "rows_sum_to_one" is true has a softmax over k as its left operand. Then a column of B that
is one constant is that constant in the output, as in attention where the value projection is pruned to its bias.
"""

import numpy as np

from tesa.attributes.attribute import Bools, TeSA, Values
from tesa.propagate.labels import matmul_axes
from tesa.propagate.registry import Operator, rule
from tesa.propagate.rules.common import facts
from tesa.propagate.rules.products import Factor, factors, product_backward, product_forward


def _backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    return product_backward(matmul_axes(*op.inputs), factors(inputs, op.constants), outputs[0].live)


@rule("relax.matmul", backward=_backward, weights=(0, 1))
def matmul(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """Known where every product of the sum is: a factor is 0, or both are constants."""
    product, operands = matmul_axes(*op.inputs), factors(inputs, op.constants)
    found = product_forward(product, op.outputs[0], op.dtypes[0], operands)
    if not op.attrs.get("rows_sum_to_one") or len(op.inputs[1]) < 2:
        return (found,)
    steady, value = _steady(operands[1], len(op.outputs[0]))
    # the same digits whether the softmax is known yet or not
    return (facts(op.outputs[0], found.known | steady, np.where(steady, value, found.value)),)


def _steady(b: Factor, rank: int) -> tuple[Bools, Values]:
    """(mask, values) of the columns that are one finite constant over all k, with the axes of the output."""
    value = b.value
    first = value[..., :1, :]
    same = ~b.unsure.any(axis=-2, keepdims=True) & ~b.infinite.any(axis=-2, keepdims=True)
    same = same & (value == first).all(axis=-2, keepdims=True)
    front = (1,) * (rank - same.ndim)
    return same.reshape(front + same.shape), first.reshape(front + first.shape)
