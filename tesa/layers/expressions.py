"""Small questions about Relax expressions."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import ir, relax


def shape_of(expr: Any) -> tuple[int, ...]:
    """The static shape of a Relax tensor expression."""
    return tuple(int(extent) for extent in expr.ty.shape)


def constant_of(expr: Any) -> NDArray[Any] | None:
    """The array of a Relax constant, None for anything else."""
    return np.asarray(expr.value.numpy()) if isinstance(expr, ir.GenericConst) else None


def op_name(expr: Any) -> str:
    """The operator's name of a call, "" for anything else."""
    return str(getattr(expr.op, "name", "")) if isinstance(expr, relax.Call) else ""


def variables(expr: Any) -> list[Any]:
    """The variables that an expression reads, one for each time that it does."""
    found: list[Any] = []

    def visit(node: Any) -> None:
        if isinstance(node, relax.Var):
            found.append(node)

    relax.analysis.post_order_visit(expr, visit)
    return found
