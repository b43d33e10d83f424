"""Softmax, layer norm, mean, sum, max over the contiguous axis: a row at a time, with vector accumulators.

before:  for i: m[i] = max over k of x[i, k];  for i, k: e[i, k] = exp(x[i, k] - m[i]);  for i: s[i] = sum of e;  ...
after:   for i: m = max of x[i, 0:64], x[i, 64:128], ...;  e = exp(x[i] - m);  s = sum of e;  y[i] = e / s
The row's intermediate values stay in the first-level cache.
"""

from typing import Any

from tesa.schedules.cpu.operators import marks
from tesa.schedules.cpu.operators.rows import find_rows, move_into_rows, split_off_start
from tesa.schedules.cpu.operators.schedule import Operator
from tesa.schedules.cpu.operators.stages import vector_lanes
from tesa.schedules.cpu.operators.tree import const_int
from tesa.schedules.types import Core


def row_reduction(operator: Operator, core: Core) -> Any:
    """Reductions over the contiguous axis (softmax, layer norm, mean, global pooling): a row at a time in vectors."""
    found = find_rows(operator)
    if found is None or found.contiguous is not None or not move_into_rows(found, -1):
        return None
    schedule = found.schedule
    for stage in found.stages:
        if stage.reduce:
            for loop in split_off_start(schedule, stage):
                schedule.annotate(loop, marks.LANES, core.lanes)
            continue
        inner = [loop for loop in schedule.get_loops(stage.block) if const_int(schedule.get(loop).extent) != 1]
        if inner:
            loop = inner[-1]
            if marks.SPATIAL not in schedule.get(loop).annotations or len(found.stages) == 1:
                schedule.annotate(loop, marks.VECTOR, vector_lanes(stage, core))
    return schedule.mod["main"]
