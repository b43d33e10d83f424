"""A thread for each element, where dlight's own rules do not read an operator: its blocks one after the other."""

from __future__ import annotations

from typing import Any

from tvm import s_tir, tirx

from tesa.schedules.gpus import Gpu

THREADS = 256


def threads(func: Any, gpu: Gpu, _target: Any) -> Any:
    """A thread for each element of every block, whose other loops stay as they are; each block is a launch."""
    if not (func.attrs or {}).get("s_tir", False):
        return None
    schedule = s_tir.Schedule(func.with_attr("global_symbol", "main"))
    blocks = _leaves(schedule)
    if not blocks:
        return None
    for block in blocks:
        loops = schedule.get_loops(block)
        if not loops:
            loops = [schedule.add_unit_loop(block)]
        kinds = [int(one.iter_type) for one in schedule.get(block).iter_vars]
        free = [loop for loop, kind in zip(loops, kinds, strict=False) if kind == tirx.IterVar.DataPar]
        if len(kinds) != len(loops):
            free = []
        if not free:
            free = [schedule.add_unit_loop(loops[0])]
        rest = [loop for loop in loops if loop not in free]
        if len(free) > 1 or rest:
            schedule.reorder(*free, *rest)
        whole = schedule.fuse(*free)
        outer, inner = schedule.split(whole, [None, min(THREADS, gpu.block_threads)])
        schedule.bind(outer, "blockIdx.x")
        schedule.bind(inner, "threadIdx.x")
    return schedule.mod["main"]


def _leaves(schedule: Any) -> list[Any]:
    """The blocks of an operator, all of them children of its root."""
    root = schedule.get_sblock("root")
    return list(schedule.get_child_blocks(root))
