"""Pooling and plain convolutions: the window written out, padding resolved by cutting loops, a vector along the width.

before:  pad; for c, h, w, kh, kw: m[c, h, w] = max(m[c, h, w], padded[c, 2 h + kh, 2 w + kw])
after:   for c: for h in first row, the middle, last row: for w likewise, in vectors: max of the 9 (or 6, or 4) elements
No padded copy is made and no condition is left inside. One accumulator is in a register for each vector. The channels
of a convolution stay a loop around its window; convolutions with known weights have better kernels elsewhere.
"""

from typing import Any

from tvm.s_tir.schedule import ScheduleError

from tesa.schedules.cpu.operators import marks
from tesa.schedules.cpu.operators.regions import agree
from tesa.schedules.cpu.operators.schedule import Operator
from tesa.schedules.cpu.operators.stages import Stage, annotate_nest, inline_cheap, read_stages
from tesa.schedules.cpu.operators.tree import loads, mentions
from tesa.schedules.types import Core

_LARGEST = 64


def window(operator: Operator, core: Core) -> Any:
    """Pooling and other sliding windows, padding included: the window written out, a vector along the width."""
    stages = operator.stages
    if stages is None or sum(bool(stage.reduce) for stage in stages) != 1:
        return None
    pool = next(stage for stage in stages if stage.reduce)
    if not _slides(pool) or sum(stage.is_output for stage in stages) != 1 or not stages[-1].is_output:
        return None
    schedule = operator.schedule()
    try:
        if stages[-1].reduce:
            schedule.cache_write(stages[-1].block, 0, "global")
        stages = inline_cheap(schedule, read_stages(schedule) or [], everything=True)
        if len(stages) != 2 or not stages[0].reduce:
            return None
        pool, last = stages
        if not agree([load.indices for load in loads(last.store.value) if load.source.same_as(pool.buffer)]):
            return None
        schedule.compute_at(pool.block, schedule.get_loops(last.block)[-1], preserve_unit_loops=True)
        first = len(schedule.get_loops(pool.block)) - len(pool.reduce)
        schedule.decompose_reduction(pool.block, schedule.get_loops(pool.block)[first])
    except ScheduleError:
        return None
    annotate_nest(schedule, last.block, core.lanes * 2, conditions=True)
    size = 1
    for loop, (_, extent) in reversed(list(zip(schedule.get_loops(pool.block)[first:], pool.reduce, strict=True))):
        size *= extent
        if size > _LARGEST:
            break
        schedule.annotate(loop, marks.UNROLL, 1)
    return schedule.mod["main"]


def _slides(stage: Stage) -> bool:
    """True where an operand's index is the sum of a spatial and a reduced variable, and the innermost axis is short."""
    moving = [var for var, extent in stage.spatial if extent > 1]
    inner = [var for var, extent in stage.reduce if extent > 1]
    mixed = any(
        any(mentions(at, var) for var in moving) and any(mentions(at, var) for var in inner)
        for load in loads(stage.store.value)
        for at in load.indices
    )
    return mixed and stage.reduce[-1][1] <= _LARGEST
