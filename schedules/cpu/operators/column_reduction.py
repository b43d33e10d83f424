"""Softmax, layer norm, mean over an outer axis: a vector of columns at a time, the reduction running down.

before:  for j: m[j] = max over k of x[k, j];  for k, j: e[k, j] = exp(x[k, j] - m[j]);  ...
after:   for j in vector 64: m = max over k of x[k, j : j + 64];  for k: e[k] = exp(x[k, j : j + 64] - m);  ...
Accumulators are registers; columns never meet, so nothing is joined at the end.
"""

from math import prod
from typing import Any

from tesa.schedules.cpu.operators import marks
from tesa.schedules.cpu.operators.rows import Rows, find_rows, move_into_rows, split_off_start
from tesa.schedules.cpu.operators.schedule import Operator
from tesa.schedules.types import Core

_WIDEST = 4


def column_reduction(operator: Operator, core: Core) -> Any:
    """Reductions over an outer axis while another one is contiguous: a vector of columns at a time."""
    found = find_rows(operator)
    if found is None or found.contiguous is None:
        return None
    if not move_into_rows(found, found.contiguous):
        return None
    schedule = found.schedule
    for stage in found.stages:
        if stage.reduce:
            split_off_start(schedule, stage)
    loops = schedule.get_loops(found.last.block)
    schedule.annotate(loops[len(found.rows) - 1], marks.VECTOR, _width(found, core))
    return schedule.mod["main"]


def _width(found: Rows, core: Core) -> int:
    """The number of columns that keep what is stored for each of them in half of the first-level cache."""
    kept = 0
    for stage in found.stages[:-1]:
        if not stage.reduce and len(stage.spatial) > len(found.rows):
            kept += prod(extent for i, (_, extent) in enumerate(stage.spatial) if i not in found.rows)
    width = core.lanes * _WIDEST
    while width > core.lanes and kept * width * 4 > core.l1_bytes // 2:
        width //= 2
    return width
