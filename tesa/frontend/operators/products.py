"""Matrix products as relax.matmul: alpha, beta and the transpose of a constant weight go into the constants."""

from typing import Any

from tvm import relax

from tesa.frontend.expressions import at, constant, constant_value
from tesa.frontend.registry import imports


@imports("Gemm")
def gemm(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """alpha * A B + beta * C with constant B and C: alpha, beta and the transpose go into the constants."""
    weight, bias = constant_value(inputs[1]), at(inputs, 2)
    if weight is None or attrs.get("transA", 0):
        return None
    weight = weight.T if attrs.get("transB", 0) else weight
    alpha, beta = attrs.get("alpha", 1.0), attrs.get("beta", 1.0)
    product = relax.op.matmul(inputs[0], constant((weight * weight.dtype.type(alpha)) if alpha != 1.0 else weight))
    if bias is None or beta == 0.0:
        return product
    values = constant_value(bias)
    if values is None:
        return None if beta != 1.0 else relax.op.add(product, bias)
    return relax.op.add(product, constant(values * values.dtype.type(beta) if beta != 1.0 else values))


@imports("Einsum")
def einsum(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """relax.einsum, or relax.matmul where the equation says x @ w."""
    equation = attrs["equation"].decode().replace(" ", "")
    left, _, right = equation.partition("->")
    terms = left.split(",")
    if len(terms) == 2 and "." not in equation and len(terms[1]) == 2 and len(terms[0]) > 1:
        x, (inner, outer) = terms[0], terms[1]
        if x[-1] == inner and outer not in x and len(set(x)) == len(x) and right == x[:-1] + outer:
            return relax.op.matmul(inputs[0], inputs[1])
    return relax.op.einsum(list(inputs), equation)
