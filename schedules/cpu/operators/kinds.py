"""Questions about a legalised operator that need no schedule of it."""

from collections.abc import Callable
from typing import Any

from tvm import ir, tirx
from tvm.s_tir.schedule import ScheduleError

from tesa.schedules.cpu.operators.schedule import Operator
from tesa.schedules.cpu.operators.stages import steps
from tesa.schedules.cpu.operators.tree import same, substitute


def has_blocks(func: Any) -> bool:
    """False for a function that no schedule can take, as one of loops that stand as they are: a scatter."""
    try:
        _ = Operator(func).stages
    except ScheduleError:
        return False
    return True


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
    expr = expr.a if isinstance(expr, tirx.Sub) and isinstance(expr.b, tirx.IntImm) else expr
    inner = expr.value if isinstance(expr, tirx.Cast) else expr
    return isinstance(inner, ir.TensorLoad)


def product_indices(func: Any) -> tuple[Callable[[Any, Any], tuple[Any, Any]], int] | None:
    """The indices of a product of two arrays, and the length of the sum; None for one of more than a block.

    The function takes the indices of the result and the summed one, and gives those of both arrays.
    """
    stages = Operator(func).stages
    if stages is None or len(stages) != 1 or len(stages[0].reduce) != 1 or not stages[0].stores_in_order():
        return None
    stage = stages[0]
    terms = [side for side in (stage.store.value.a, stage.store.value.b) if isinstance(side, tirx.Mul)]
    if len(terms) != 1 or not all(isinstance(side, ir.TensorLoad) for side in (terms[0].a, terms[0].b)):
        return None
    sides = [terms[0].a, terms[0].b]
    if not all(side.source.same_as(param) for side, param in zip(sides, func.params, strict=False)):
        return None

    def read(axes: Any, k: Any) -> tuple[Any, Any]:
        places = list(zip(stage.store.indices, axes, strict=True))
        known = [(var, next(a for at, a in places if at.same_as(var))) for var, _ in stage.spatial
                 if any(at.same_as(var) for at, _ in places)]  # fmt: skip
        pairs = [*known, (stage.reduce[0][0], k)]
        one, other = (tuple(substitute(at, pairs) for at in side.indices) for side in sides)
        return one, other

    return read, stage.reduce[0][1]
