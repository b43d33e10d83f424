"""Matrix products as relax.matmul: alpha, beta and the transpose of a constant weight go into the constants."""

import math
from typing import Any

from tvm import relax

from tesa.frontend.expressions import as_int32, at, constant, constant_value, minus, static_shape
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


@imports("MatMulInteger")
def matmul_integer(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """(a - a_zero) @ (b - b_zero) in int32. A constant and its zero point are one constant: the weight of a layer."""
    zeros = [at(inputs, 2), at(inputs, 3)]
    if any(zero is not None and len(static_shape(zero)) > 1 for zero in zeros):
        return None
    a, b = (as_int32(bb, x) for x in inputs[:2])
    if zeros[0] is not None:  # one for each row of a
        view: tuple[int, ...] = (-1, 1) if math.prod(static_shape(zeros[0])) > 1 else ()
        a = minus(bb, a, as_int32(bb, zeros[0]), view)
    if zeros[1] is not None:  # one for each column of b
        view = (-1,) if math.prod(static_shape(zeros[1])) > 1 else ()
        b = minus(bb, b, as_int32(bb, zeros[1]), view)
    return relax.op.matmul(a, b, out_dtype="int32")


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
