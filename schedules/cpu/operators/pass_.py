"""The pass over a module, and what it says about each function."""

from collections.abc import Callable
from typing import Any

from tvm import tirx
from tvm.s_tir.schedule import ScheduleError

from tesa.schedules.cpu.operators.codes_product import codes_product
from tesa.schedules.cpu.operators.column_reduction import column_reduction
from tesa.schedules.cpu.operators.elementwise import elementwise
from tesa.schedules.cpu.operators.extremes import extremes
from tesa.schedules.cpu.operators.fallback import fallback
from tesa.schedules.cpu.operators.interleave import interleave
from tesa.schedules.cpu.operators.lowering import lower
from tesa.schedules.cpu.operators.marks import SCHEDULE
from tesa.schedules.cpu.operators.matmul import matmul
from tesa.schedules.cpu.operators.picks import picks
from tesa.schedules.cpu.operators.ranged_codes import ranged_codes
from tesa.schedules.cpu.operators.regions import declare_accesses
from tesa.schedules.cpu.operators.row_reduction import row_reduction
from tesa.schedules.cpu.operators.schedule import Operator
from tesa.schedules.cpu.operators.transpose import transpose
from tesa.schedules.cpu.operators.tree import function_pass, rewrite
from tesa.schedules.cpu.operators.window import window
from tesa.schedules.types import Core

RULES: tuple[Callable[[Operator, Core], Any], ...] = (
    picks, extremes, ranged_codes, codes_product, matmul, window, interleave, transpose, elementwise, row_reduction,
    column_reduction, fallback,
)  # fmt: skip
"""Each answers a function with its loops marked (see marks.py), or None where it does not apply.

In the order in which they are asked. The special cases come first, the one that takes anything last.
"""

UNSCHEDULED = "none"


def ScheduleOperators(core: Core, threads: int = 1) -> Any:
    """The module pass. threads: how many run a large operator; 1 leaves out every parallel loop.

    Every PrimFunc with S-blocks, that is every legalised operator, is scheduled; a kernel without them stays as it is.
    """

    def change(func: Any) -> Any:
        return func if describe(func) else _without_scopes(schedule_function(func, core, threads))

    return function_pass("ScheduleOperators", change)


def _without_scopes(func: Any) -> Any:
    """The function without topi's marks around a scatter, which code generation knows nothing of, and warns."""

    def change(stmt: Any) -> Any:
        return stmt.body if stmt.attr_key == "pragma_scope" else stmt

    return rewrite(func, tirx.AttrStmt, change)


def schedule_function(func: Any, core: Core, threads: int = 1) -> Any:
    """One PrimFunc, scheduled by the first rule that applies.

    A function without S-blocks is somebody's finished kernel and comes back as it is. One that no rule can read
    (dynamic shapes, several statements in a block) comes back with its loops unchanged and is described as "none".
    """
    if not func.attrs or not func.attrs.get("s_tir", False):
        return func
    operator = Operator(declare_accesses(func))
    for rule in RULES:
        try:
            marked = rule(operator, core)
        except ScheduleError:
            # TVM found a dependence that the rule's own checks do not look for
            continue
        if marked is None:
            continue
        done = lower(marked, core.lanes, threads)
        symbol = func.attrs.get("global_symbol", None)
        done = done.without_attr("global_symbol") if symbol is None else done.with_attr("global_symbol", symbol)
        return done.with_attr(SCHEDULE, rule.__name__)
    return func.with_attr(SCHEDULE, UNSCHEDULED)


def describe(func: Any) -> str:
    """The name of the rule that scheduled a PrimFunc; "" if the pass has not seen it, "none" if no rule applied."""
    return str((func.attrs or {}).get(SCHEDULE, ""))


def operator_rules() -> tuple[tuple[str, str], ...]:
    """(name, summary) of every rule, in the order in which they are asked.

    >>> operator_rules()[-1][0]
    'fallback'
    """
    return tuple((rule.__name__, (rule.__doc__ or "").strip().splitlines()[0]) for rule in RULES)
