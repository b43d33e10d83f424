"""What no other rule understands: each block as it stands, its innermost spatial loop as a vector."""

from __future__ import annotations

from typing import Any

from tesa.schedules.cpu.operators import marks
from tesa.schedules.cpu.operators.stages import annotate_nest, has_conditions, new_schedule, read_stages
from tesa.schedules.types import Isa


def fallback(func: Any, isa: Isa) -> Any:
    """Block by block: reductions with vector accumulators or over a vector of outputs, all else vectorized."""
    schedule = new_schedule(func)
    stages = read_stages(schedule)
    if stages is None:
        return None
    for stage in stages:
        if not stage.reduce:
            annotate_nest(schedule, stage.block, isa.lanes, has_conditions(stage))
            continue
        loops = schedule.get_loops(stage.block)
        spatial = loops[: len(stage.spatial)]
        for loop in spatial:
            schedule.annotate(loop, marks.SPATIAL, 1)
        schedule.decompose_reduction(stage.block, loops[len(stage.spatial)])
        for loop in schedule.get_loops(stage.block)[len(stage.spatial) :]:
            schedule.annotate(loop, marks.LANES, isa.lanes)
    return schedule.mod["main"]
