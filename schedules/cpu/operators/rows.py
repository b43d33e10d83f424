"""Finds the axes of a reduction's result that are rows, all else happening inside one, and moves the stages there."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tvm.s_tir.schedule import ScheduleError

from tesa.schedules.cpu.operators import marks
from tesa.schedules.cpu.operators.schedule import Operator
from tesa.schedules.cpu.operators.softmax import mark_nonpositive
from tesa.schedules.cpu.operators.stages import Stage, inline_cheap, read_stages
from tesa.schedules.cpu.operators.tree import loads


@dataclass(frozen=True)
class Rows:
    """A reduction with one output. last is the stage that writes it, rows are positions in last.spatial.

    contiguous: position in last.spatial of the axis that runs along the memory of what is reduced; None where that
    axis is itself reduced.
    """

    schedule: Any
    stages: list[Stage]
    last: Stage
    rows: tuple[int, ...]
    contiguous: int | None


def find_rows(operator: Operator) -> Rows | None:
    """Read a function that reduces; None where it has no reduction, more than one output, or no common rows."""
    operator = mark_nonpositive(operator)
    stages = operator.stages
    if stages is None or sum(stage.is_output for stage in stages) != 1 or not stages[-1].is_output:
        return None
    if not any(stage.reduce for stage in stages):
        return None
    schedule = operator.schedule()
    if stages[-1].reduce:
        schedule.cache_write(stages[-1].block, 0, "global")
        stages = read_stages(schedule)
        if stages is None:
            return None
    stages = inline_cheap(schedule, stages)
    last = stages[-1]
    axes = _axes(stages)
    if axes is None:
        return None
    rows = set(range(len(last.spatial)))
    for stage in stages:
        if stage.reduce:
            rows &= {axis for axis in axes[stage.name].values() if axis is not None}
    found = [_contiguous(stage, axes[stage.name]) for stage in stages if stage.reduce]
    if "?" in found or len(set(found)) != 1:
        return None
    contiguous = None if found[0] in (None, "?") else int(found[0])
    return Rows(schedule, stages, last, tuple(sorted(rows)), contiguous if contiguous in rows else None)


def _axes(stages: list[Stage]) -> dict[str, dict[int, int | None]] | None:
    """The axis of the last stage that each spatial iter of each stage is; None where readers disagree."""
    last = stages[-1]
    axes: dict[str, dict[int, int | None]] = {last.name: {i: i for i in range(len(last.spatial))}}
    for stage in reversed(stages[:-1]):
        positions = _store_positions(stage)
        if positions is None:
            return None
        merged: dict[int, int | None] | None = None
        for reader in stages:
            if reader.name == stage.name or reader.name not in axes:
                continue
            for load in loads(reader.store.value):
                if not load.source.same_as(stage.buffer):
                    continue
                seen = {i: _axis_of(load.indices[at], reader, axes[reader.name]) for i, at in positions.items()}
                merged = seen if merged is None else {i: a if seen[i] == a else None for i, a in merged.items()}
        if merged is None:
            return None
        axes[stage.name] = merged
    return axes


def _store_positions(stage: Stage) -> dict[int, int] | None:
    """The position of each spatial iter in the stage's own store; None where that is not one iter for each index."""
    positions: dict[int, int] = {}
    for i, (var, extent) in enumerate(stage.spatial):
        at = [k for k, found in enumerate(stage.store.indices) if found.same_as(var)]
        if len(at) == 1:
            positions[i] = at[0]
        elif extent != 1:
            return None
    return positions


def _axis_of(expr: Any, reader: Stage, axes: Mapping[int, int | None]) -> int | None:
    for i, (var, _) in enumerate(reader.spatial):
        if expr.same_as(var):
            return axes.get(i)
    return None


def _contiguous(stage: Stage, axes: Mapping[int, int | None]) -> int | str | None:
    """The axis of the last stage along which the largest operand is contiguous; None: a reduced one; "?": neither."""
    best: tuple[int, int | str | None] = (0, None)
    for load in loads(stage.store.value):
        if load.source.same_as(stage.buffer):
            continue
        moves = stage.load_strides(load)
        if moves is None:
            return "?"
        size = 1
        along: int | str | None = "?"
        for i, ((_, extent), stride) in enumerate(zip(stage.iters, moves, strict=True)):
            if stride == 0 or extent == 1:
                continue
            size *= extent
            if stride == 1:
                along = None if i >= len(stage.spatial) else axes.get(i, None)
                if i < len(stage.spatial) and along is None:
                    along = "?"
        if size > best[0]:
            best = (size, along)
    return best[1]


def move_into_rows(found: Rows, innermost: int) -> bool:
    """Reorder the last stage's loops to rows first, `innermost` last among them, and compute all else inside.

    False where TVM refuses a step.
    """
    schedule = found.schedule
    loops = schedule.get_loops(found.last.block)
    rows = [axis for axis in found.rows if axis != innermost] + ([innermost] if innermost in found.rows else [])
    rest = [axis for axis in range(len(loops)) if axis not in rows]
    try:
        if len(loops) > 1:
            schedule.reorder(*[loops[axis] for axis in rows + rest])
        for stage in reversed(found.stages[:-1]) if rows else ():
            schedule.compute_at(stage.block, loops[rows[-1]], preserve_unit_loops=True)
    except ScheduleError:
        return False
    for axis in rows:
        schedule.annotate(loops[axis], marks.SPATIAL, 1)
    return True


def split_off_start(schedule: Any, stage: Stage) -> list[Any]:
    """Give a reduction its own statement for the starting value; the loops of the reduction proper, outermost first.

    Loops of reduced axes go innermost.
    """
    loops = schedule.get_loops(stage.block)
    first = len(loops) - len(stage.reduce)
    schedule.decompose_reduction(stage.block, loops[first])
    return list(schedule.get_loops(stage.block)[first:])
