"""Element-wise chains, broadcasts, copies, concatenation, gather: everything in which each output is made on its own.

before:  for i, j: t[i, j] = x[i, j] + b[j]        after:  for i: for j in vector 16: y[i, j] = max(x[i, j] + b[j], 0)
         for i, j: y[i, j] = max(t[i, j], 0)
One loop nest for each output, in the order of the output's memory. Rows melt into one long loop where no operand is
broadcast along them. A value that is expensive and used twice lives in a register, not in memory.
"""

from __future__ import annotations

from typing import Any

from tvm.s_tir.schedule import ScheduleError

from tesa.schedules.cpu.operators.stages import (
    annotate_nest,
    has_conditions,
    inline_cheap,
    new_schedule,
    read_stages,
    steps,
)
from tesa.schedules.types import Isa

_HEAVY = 10


def elementwise(func: Any, isa: Isa) -> Any:
    """One vector loop over the output for a whole chain of element-wise, broadcast, copy or gather steps."""
    schedule = new_schedule(func)
    stages = read_stages(schedule)
    if stages is None or any(stage.reduce for stage in stages):
        return None
    stages = inline_cheap(schedule, stages)
    outputs = [stage for stage in stages if stage.is_output]
    if len(outputs) == 1 and stages[-1].is_output:
        innermost = schedule.get_loops(outputs[0].block)[-1]
        for stage in reversed(stages[:-1]):
            try:
                schedule.compute_at(stage.block, innermost)
            except ScheduleError:
                schedule.compute_inline(stage.block)
    for stage in outputs if len(outputs) == 1 else stages:
        heavy = steps(stage.store.value) >= _HEAVY
        annotate_nest(schedule, stage.block, isa.lanes * (2 if heavy else 4), has_conditions(stage))
    return schedule.mod["main"]
