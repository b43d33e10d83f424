"""Element-wise chains, broadcasts, copies, concatenation, gather: everything in which each output is made on its own.

before:  for i, j: t[i, j] = x[i, j] + b[j]        after:  for i: for j in vector 16: y[i, j] = max(x[i, j] + b[j], 0)
         for i, j: y[i, j] = max(t[i, j], 0)
One loop nest for each output, in the order of the output's memory. Rows melt into one long loop where no operand is
broadcast along them. A value that is expensive and used twice lives in a register, not in memory.
"""

from typing import Any

from tvm.s_tir.schedule import ScheduleError

from tesa.schedules.cpu.operators.schedule import Operator
from tesa.schedules.cpu.operators.stages import Stage, annotate_nest, has_conditions, inline_cheap, vector_lanes
from tesa.schedules.types import Core


def elementwise(operator: Operator, core: Core) -> Any:
    """One vector loop over the output for a whole chain of element-wise, broadcast, copy or gather steps."""
    stages = operator.stages
    if stages is None or any(stage.reduce for stage in stages):
        return None
    schedule: Any = operator.schedule()
    stages = inline_cheap(schedule, stages)
    outputs = [stage for stage in stages if stage.is_output]
    nests = stages
    if len(outputs) == 1 and stages[-1].is_output and schedule.get_loops(stages[-1].block):
        schedule, nests = _into_one_nest(schedule, stages)
    for stage in nests:
        annotate_nest(schedule, stage.block, vector_lanes(stage, core), has_conditions(stage))
    return schedule.mod["main"]


def _into_one_nest(schedule: Any, stages: list[Stage]) -> tuple[Any, list[Stage]]:
    """Compute each stage inside of the last one's loops, and say which stages still have loops of their own.

    Those are the ones of which a single element of the output takes several: concat(a, a), a sum of a's halves.
    """
    last, apart = stages[-1], [stages[-1]]
    loops = schedule.get_loops(last.block)
    for stage in reversed(stages[:-1]):
        trial = schedule.copy()
        try:
            trial.compute_at(stage.block, loops[-1])
        except ScheduleError:
            apart.append(stage)
            continue
        if len(trial.get_loops(stage.block)) > len(loops):
            apart.append(stage)
        else:
            schedule = trial
    return schedule, apart
