"""The pass over a module, and what it says about each function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tvm
from tvm.s_tir.schedule import ScheduleError
from tvm.target import Target

from tesa.schedules.cpu.operators.marks import SCHEDULE
from tesa.schedules.cpu.operators.tree import function_pass
from tesa.schedules.gpu.operators import dlight
from tesa.schedules.gpu.operators.bound import fits, launches
from tesa.schedules.gpu.operators.serial import serial
from tesa.schedules.gpu.operators.threads import threads
from tesa.schedules.gpus import Gpu

Rule = Callable[[Any, Gpu, Any], Any]

RULES: tuple[Rule, ...] = (
    dlight.matmul, dlight.gemv, dlight.low_batch_gemv, dlight.rms_norm, dlight.transpose, dlight.reduction,
    dlight.general_reduction, dlight.fallback, threads, serial,
)  # fmt: skip
"""Each answers a function with its loops bound to threads, or None where it does not apply.

In the order in which they are asked. What one answers counts only where all of it is bound and fits the GPU.
"""


def ScheduleOperators(gpu: Gpu, target: Any = None) -> Any:
    """The module pass, for a GPU and TVM's target of it, the current one where none is given.

    Every PrimFunc with S-blocks or loops of its own is bound to threads; a kernel that is bound stays as it is.
    """

    def change(func: Any) -> Any:
        where = target or Target.current(allow_none=False)
        return func if describe(func) else schedule_function(func, gpu, where)

    return function_pass("ScheduleOperatorsForGpus", change)


def schedule_function(func: Any, gpu: Gpu, target: Any) -> Any:
    """One PrimFunc, by the first rule that applies. One whose loops are bound already comes back as it is.

    Raises ValueError for one that no rule can bind: it calls the host, as a library's sort does.
    """
    if launches(func):
        return func
    for rule in RULES:
        try:
            with target:
                done = rule(func, gpu, target)
        except (ScheduleError, tvm.error.InternalError, ValueError, IndexError, AssertionError, TypeError):
            # a rule of dlight has met something that its own checks do not look for
            continue
        if done is None or not fits(done, gpu):
            continue
        symbol = (func.attrs or {}).get("global_symbol", None)
        done = done.without_attr("global_symbol") if symbol is None else done.with_attr("global_symbol", symbol)
        return done.with_attr(SCHEDULE, rule.__name__)
    raise ValueError(f"no rule binds {func.attrs.get('global_symbol', 'a function')} to a GPU's threads")


def describe(func: Any) -> str:
    """The name of the rule that scheduled a PrimFunc; "" if the pass has not seen it."""
    return str((func.attrs or {}).get(SCHEDULE, ""))


def operator_rules() -> tuple[tuple[str, str], ...]:
    """(name, summary) of every rule, in the order in which they are asked.

    >>> operator_rules()[-1][0]
    'serial'
    """
    return tuple((rule.__name__, (rule.__doc__ or "").strip().splitlines()[0]) for rule in RULES)
