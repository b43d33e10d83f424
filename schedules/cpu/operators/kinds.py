"""Questions about a legalised operator that need no schedule of it."""

from typing import Any

from tvm import ir, tirx

from tesa.schedules.cpu.operators.schedule import Operator
from tesa.schedules.cpu.operators.stages import steps
from tesa.schedules.cpu.operators.tree import same


def is_product(func: Any) -> bool:
    """True for a function that adds up products of two arrays: a product of matrices, or a convolution."""
    stages = Operator(func).stages
    return stages is not None and any(stage.reduce and _multiplies(stage.store.value) for stage in stages)


def spatial_steps(func: Any) -> int | None:
    """The arithmetic nodes of an element, of all stages together; None for a function that reduces, or is not plain."""
    stages = Operator(func).stages
    if stages is None or any(stage.reduce for stage in stages) or sum(stage.is_output for stage in stages) != 1:
        return None
    return sum(steps(stage.store.value) for stage in stages)


def _multiplies(value: Any) -> bool:
    if not isinstance(value, tirx.Add):
        return False
    terms = [side for side in (value.a, value.b) if isinstance(side, tirx.Mul)]
    return any(_reads(term.a) and _reads(term.b) and not same(term.a, term.b) for term in terms)


def _reads(expr: Any) -> bool:
    inner = expr.value if isinstance(expr, tirx.Cast) else expr
    return isinstance(inner, ir.TensorLoad)
