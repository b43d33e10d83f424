"""Questions about a function's threads: whether it has any, whether everything in it has, and whether they fit."""

from __future__ import annotations

from math import prod
from typing import Any

import tvm
from tvm import s_tir, tirx
from tvm_ffi import structural_walk

from tesa.schedules.gpus import Gpu


def launches(func: Any) -> bool:
    """True where a function binds a loop to threads already."""
    found = False

    def attribute(node: Any) -> None:
        nonlocal found
        found = found or node.attr_key == "thread_extent"

    def loop(node: Any) -> None:
        nonlocal found
        found = found or node.kind == tirx.ForKind.THREAD_BINDING

    structural_walk(func.body, [(tirx.AttrStmt, attribute), (tirx.For, loop)])
    return found


def fits(func: Any, gpu: Gpu) -> bool:
    """True where every store of a function is done by threads, and blocks have no more threads and shared memory than
    a block may have."""
    return _bound(func.body, False) and _threads(func.body) <= gpu.block_threads and _shared(func) <= gpu.static_shared


def _bound(stmt: Any, inside: bool) -> bool:
    """True where every store stands inside of a bound loop."""
    if isinstance(stmt, tirx.For):
        inside = inside or stmt.kind == tirx.ForKind.THREAD_BINDING
    elif isinstance(stmt, tirx.AttrStmt):
        inside = inside or stmt.attr_key == "thread_extent"
    elif isinstance(stmt, tirx.BufferStore):
        return inside
    elif isinstance(stmt, tirx.Evaluate):
        return inside or isinstance(stmt.value, tirx.IntImm)
    return all(_bound(child, inside) for child in _children(stmt))


def _threads(stmt: Any) -> int:
    """Threads of the largest block: the product of the extents of its threadIdx's, each of which may be bound often."""
    if _tag(stmt) is not None:
        found: dict[str, int] = {}
        _extents(stmt, found)
        return prod(extent for tag, extent in found.items() if tag.startswith("threadIdx"))
    return max((_threads(child) for child in _children(stmt)), default=1)


def _extents(stmt: Any, found: dict[str, int]) -> None:
    bound = _tag(stmt)
    if bound is not None:
        tag, extent = bound
        found[tag] = max(found.get(tag, 1), extent)
    for child in _children(stmt):
        _extents(child, found)


def _tag(stmt: Any) -> tuple[str, int] | None:
    """The tag and the extent of a loop that is bound."""
    if isinstance(stmt, tirx.For) and stmt.kind == tirx.ForKind.THREAD_BINDING:
        return str(stmt.thread_binding.thread_tag), int(stmt.extent)
    if isinstance(stmt, tirx.AttrStmt) and stmt.attr_key == "thread_extent":
        return str(stmt.node.thread_tag), int(stmt.value)
    return None


def _shared(func: Any) -> int:
    """Bytes of all shared memory together, of which each block allocates no more than it touches."""
    total, any_shared = 0, False

    def look(block: Any) -> None:
        nonlocal any_shared
        any_shared = any_shared or any(str(one.scope()).startswith("shared") for one in block.alloc_buffers)

    structural_walk(func.body, (s_tir.SBlock, look))
    if not any_shared:
        return 0

    def note(block: Any) -> None:
        nonlocal total
        for buffer in block.alloc_buffers:
            if str(buffer.scope()).startswith("shared"):
                total += prod(int(extent) for extent in buffer.shape) * -(-_bits(buffer) // 8)

    steps = s_tir.transform
    passes = [steps.LowerInitBlock(), steps.PlanAndUpdateBufferAllocationLocation(), steps.ConvertBlocksToOpaque()]
    mod = tvm.transform.Sequential([*passes, steps.CompactBufferAllocation()])(tvm.IRModule({"main": func}))
    structural_walk(mod["main"].body, (s_tir.SBlock, note))
    return total


def _bits(buffer: Any) -> int:
    digits = "".join(c for c in str(buffer.dtype) if c.isdigit())
    return int(digits) if digits else 8


def _children(stmt: Any) -> list[Any]:
    if isinstance(stmt, tirx.SeqStmt):
        return list(stmt.seq)
    if isinstance(stmt, tirx.IfThenElse):
        return [one for one in (stmt.then_case, stmt.else_case) if one is not None]
    if isinstance(stmt, s_tir.SBlockRealize):
        return [stmt.block]
    if isinstance(stmt, s_tir.SBlock):
        return [one for one in (stmt.init, stmt.body) if one is not None]
    body = getattr(stmt, "body", None)
    return [body] if body is not None else []
