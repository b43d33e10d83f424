"""A legalised operator as a list of stages, each one S-block in its own loops."""

from dataclasses import dataclass
from math import prod
from typing import Any

import tvm
from tvm import ir, tirx
from tvm.s_tir.schedule import ScheduleError

from tesa.schedules.cpu.operators import marks
from tesa.schedules.cpu.operators.tree import collect, const_int, flat_index, loads, strides, substitute
from tesa.schedules.types import Core

_COMPARISONS = (tirx.LT, tirx.LE, tirx.GT, tirx.GE)
_INLINE_STEPS = 12
_HEAVY = 10
_SPATIAL, _REDUCE = 0, 2
_block_realize = tvm.get_global_func("s_tir.schedule.GetSBlockRealize")


@dataclass(frozen=True)
class Stage:
    """One S-block. spatial and reduce are its (variable, extent); store is buffer[indices] = value."""

    name: str
    block: Any
    spatial: tuple[tuple[Any, int], ...]
    reduce: tuple[tuple[Any, int], ...]
    store: Any
    is_output: bool

    @property
    def iters(self) -> tuple[tuple[Any, int], ...]:
        return self.spatial + self.reduce

    @property
    def size(self) -> int:
        return prod(extent for _, extent in self.iters)

    @property
    def buffer(self) -> Any:
        return self.store.buffer

    def stores_in_order(self) -> bool:
        """True where the stage stores at its spatial iters, one for each index (an index of extent 1 may be 0)."""
        indices = self.store.indices
        return len(indices) == len(self.spatial) and all(
            at.same_as(var) or extent == 1 for at, (var, extent) in zip(indices, self.spatial, strict=True)
        )

    def load_strides(self, load: Any) -> list[int] | None:
        """Elements that a load moves by for each of iters; None where that is not constant."""
        offset = flat_index(load.source, load.indices)
        return None if offset is None else strides(offset, self.iters)


def read_stages(schedule: Any) -> list[Stage] | None:
    """The stages in running order; None for a function that is not a plain chain of single-store blocks."""
    blocks = schedule.get_child_blocks(schedule.get_sblock("root"))
    outputs = [schedule.get(block) for block in schedule.get_output_blocks("root")]
    found = [read_stage(schedule, block, outputs) for block in blocks]
    return None if None in found or not found else [stage for stage in found if stage is not None]


def read_stage(schedule: Any, block: Any, outputs: list[Any]) -> Stage | None:
    """One block; None where it does more than one store, or its loops are not its iterators one by one."""
    node = schedule.get(block)
    loops = [schedule.get(loop) for loop in schedule.get_loops(block)]
    if not isinstance(node.body, tirx.BufferStore):
        return None
    values = _block_realize(schedule, block).iter_values
    looped, single = [], []
    for i, value in zip(node.iter_vars, values, strict=True):
        extent, kind = const_int(i.dom.extent), int(i.iter_type)
        if extent is None or kind not in (_SPATIAL, _REDUCE):
            return None
        if extent == 1 and const_int(value) == 0:
            single.append((i.var, value))
        else:
            looped.append((i.var, extent, kind, value))
    if len(loops) != len(looped) or any(
        not value.same_as(loop.loop_var) or const_int(loop.extent) != extent
        for loop, (_, extent, _, value) in zip(loops, looped, strict=True)
    ):
        return None
    spatial = tuple((var, extent) for var, extent, kind, _ in looped if kind == _SPATIAL)
    reduce = tuple((var, extent) for var, extent, kind, _ in looped if kind == _REDUCE)
    is_output = any(node.same_as(output) for output in outputs)
    return Stage(str(node.name_hint), block, spatial, reduce, substitute(node.body, single), is_output)


def is_reduction_nest(schedule: Any, block: Any) -> int | None:
    """The position of a block's first reduction loop, if it has any, they are innermost, and all sizes are known."""
    kinds = [int(i.iter_type) for i in schedule.get(block).iter_vars]
    loops = schedule.get_loops(block)
    known = all(const_int(schedule.get(loop).extent) is not None for loop in loops)
    first = kinds.index(_REDUCE) if _REDUCE in kinds else len(kinds)
    inner = set(kinds[first:])
    return first if known and len(loops) == len(kinds) and inner == {_REDUCE} else None


def steps(expr: Any) -> int:
    """The number of arithmetic nodes of an expression; a transcendental call counts for ten."""
    plain = (tirx.Add, tirx.Sub, tirx.Mul, tirx.Div, tirx.Max, tirx.Min, tirx.Select, tirx.Cast, tirx.FloorDiv)
    return len(collect(expr, plain)) + 10 * len(collect(expr, ir.Call))


def vector_lanes(stage: Stage, core: Core) -> int:
    """Elements that a vector loop takes at once: several registers, fewer where each element is much work."""
    return core.lanes * (2 if steps(stage.store.value) >= _HEAVY else 4)


def has_conditions(stage: Stage) -> bool:
    """True where a comparison decides what a stage computes: padding, concatenation, selection."""
    return bool(collect(stage.store.value, _COMPARISONS))


def inline_cheap(schedule: Any, stages: list[Stage], everything: bool = False) -> list[Stage]:
    """Inline every spatial stage that costs little to repeat, and read the stages anew.

    A stage that is read once is always inlined where it is as large as its reader; with everything, so is any other.
    """
    while True:
        for stage in stages:
            if stage.is_output or stage.reduce or not _worth(stages, stage, everything):
                continue
            try:
                schedule.compute_inline(stage.block)
            except ScheduleError:
                continue
            again = read_stages(schedule)
            if again is None:
                return stages
            stages = again
            break
        else:
            return stages


def _worth(stages: list[Stage], stage: Stage, everything: bool) -> bool:
    if everything:
        return True
    readers = [s for s in stages if any(load.source.same_as(stage.buffer) for load in loads(s.store.value))]
    repeated = any(reader.size > stage.size for reader in readers)
    cost = steps(stage.store.value)
    if repeated:
        return cost <= 1 and not collect(stage.store.value, tirx.Div)
    uses = sum(load.source.same_as(stage.buffer) for s in stages for load in loads(s.store.value))
    return uses == 1 or cost <= _INLINE_STEPS // 4


def annotate_nest(schedule: Any, block: Any, lanes: int, conditions: bool) -> None:
    """Mark a spatial block's loops: the innermost one as vector, the others as free to run in parallel."""
    loops = schedule.get_loops(block)
    for loop in loops:
        schedule.annotate(loop, marks.SPATIAL, 1)
    wide = [loop for loop in loops if const_int(schedule.get(loop).extent) != 1]
    if not wide:
        return
    schedule.annotate(wide[-1], marks.VECTOR, lanes)
    for loop in wide[:-1]:
        if conditions:
            schedule.annotate(loop, marks.PEEL, 1)
