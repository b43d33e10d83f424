"""Fast CPU code for every operator without a sparse weight: one pass, an ordered list of rules, a fallback at the end.

ScheduleOperators(isa, threads) takes a module after LegalizeOps, FuseOps and FuseTIR and gives every PrimFunc in it
vector loops; each function then says in its attribute "tesa.schedule" which rule did it.
"""

from __future__ import annotations

from typing import Any

import tvm
from tvm import tirx

from tesa.schedules.cpu.operators import elementwise, row_reduction, column_reduction, fallback  # noqa: F401,I001
from tesa.schedules.cpu.operators.lowering import lower
from tesa.schedules.cpu.operators.marks import SCHEDULE
from tesa.schedules.cpu.operators.rules import rules
from tesa.schedules.cpu.operators.vector_math import VectorizableMath
from tesa.schedules.types import Isa

__all__ = ["ScheduleOperators", "VectorizableMath", "describe", "operator_rules", "schedule_function"]

UNSCHEDULED = "none"


def ScheduleOperators(isa: Isa, threads: int = 1) -> Any:
    """The module pass. threads: how many run a large operator; 1 leaves out every parallel loop."""

    @tvm.transform.module_pass(opt_level=0, name="ScheduleOperators")
    def run(module: Any, context: Any) -> Any:
        changed = {
            name: schedule_function(func, isa, threads)
            for name, func in module.functions_items()
            if isinstance(func, tirx.PrimFunc) and SCHEDULE not in (func.attrs or {})
        }
        module = tvm.IRModule(dict(module.functions_items()), attrs=module.attrs, global_infos=module.global_infos)
        module.update(tvm.IRModule(changed))
        return module

    return run


def schedule_function(func: Any, isa: Isa, threads: int = 1) -> Any:
    """One PrimFunc, scheduled by the first rule that applies.

    A function that has no S-blocks is somebody's finished kernel and comes back as it is. One that no rule can read
    (dynamic shapes, several statements in a block) comes back with its loops unchanged and is described as "none".
    """
    if not func.attrs or not func.attrs.get("s_tir", False):
        return func
    for rule in rules():
        marked = rule.apply(func, isa)
        if marked is None:
            continue
        done = lower(marked, isa.lanes, threads)
        symbol = func.attrs.get("global_symbol", None)
        done = done.without_attr("global_symbol") if symbol is None else done.with_attr("global_symbol", symbol)
        return done.with_attr(SCHEDULE, rule.name)
    return func.with_attr(SCHEDULE, UNSCHEDULED)


def describe(func: Any) -> str:
    """The name of the rule that scheduled a PrimFunc; "" if the pass has not seen it, "none" if no rule applied."""
    return str((func.attrs or {}).get(SCHEDULE, ""))


def operator_rules() -> tuple[tuple[str, str], ...]:
    """(name, summary) of every rule, in the order in which they are asked."""
    return tuple((rule.name, rule.summary) for rule in rules())
