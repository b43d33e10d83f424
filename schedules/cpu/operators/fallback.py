"""The rule for what no other one understands: each block as it stands, its innermost spatial loop as a vector."""

from typing import Any

from tvm.s_tir.schedule import ScheduleError

from tesa.schedules.cpu.operators import marks
from tesa.schedules.cpu.operators.schedule import Operator
from tesa.schedules.cpu.operators.stages import annotate_nest, has_conditions, is_reduction_nest, read_stage
from tesa.schedules.types import Core


def fallback(operator: Operator, core: Core) -> Any:
    """Block by block: reductions with vector accumulators, all else vectorized, a block of unknown form left alone."""
    schedule = operator.schedule()
    known = 0
    for block in schedule.get_child_blocks(schedule.get_sblock("root")):
        try:
            known += _schedule_block(schedule, block, core)
        except ScheduleError:
            continue
    return schedule.mod["main"] if known else None


def _schedule_block(schedule: Any, block: Any, core: Core) -> bool:
    stage = read_stage(schedule, block, [])
    if stage is not None and not stage.reduce:
        annotate_nest(schedule, block, core.lanes, has_conditions(stage))
        return True
    first = is_reduction_nest(schedule, block)
    if first is None:
        return False
    for loop in schedule.get_loops(block)[:first]:
        schedule.annotate(loop, marks.SPATIAL, 1)
    schedule.decompose_reduction(block, schedule.get_loops(block)[first])
    for loop in schedule.get_loops(block)[first:]:
        schedule.annotate(loop, marks.LANES, core.lanes)
    return True
