"""The reads and writes of S-blocks, taken from their statements: schedule primitives believe what a block declares.

FuseTIR joins blocks and keeps one region for each buffer. Of concat(a, a), fused, only one half is declared as read:
compute_at would make that half and leave the rest of a as the memory was.
"""

from collections.abc import Sequence
from typing import Any

from tvm import ir, s_tir, tirx

from tesa.schedules.cpu.operators.tree import collect, loads, rewrite, same


def declare_accesses(func: Any) -> Any:
    """func with the regions of every innermost S-block written anew; no block reads or writes more than it says.

    Where all accesses of a buffer agree on an index, that index is the region; where they differ, or where it depends
    on data or on a loop inside the block, the region is the whole axis.
    """

    def change(block: Any) -> Any:
        if collect(block.body, s_tir.SBlock) or len(block.match_buffers):
            return block
        statements = [block.body] if block.init is None else [block.body, block.init]
        stores = [(n.buffer, n.indices) for s in statements for n in collect(s, tirx.BufferStore)]
        read = [(n.source, n.indices) for s in statements for n in loads(s)]
        if block.init is not None:
            # a reduction's own earlier value counts as written, not as read
            read = [(buffer, at) for buffer, at in read if not any(buffer.same_as(own) for own, _ in stores)]
        iters = [i.var for i in block.iter_vars]
        return s_tir.SBlock(
            block.iter_vars,
            _regions(read, iters),
            _regions(stores, iters),
            block.name_hint,
            block.body,
            block.init,
            block.alloc_buffers,
            block.match_buffers,
            block.annotations,
        )

    return rewrite(func, s_tir.SBlock, change)


def agree(accesses: Sequence[Sequence[Any]]) -> bool:
    """True where all these lists of indices are one and the same."""
    return all(same(a, b) for other in accesses[1:] for a, b in zip(accesses[0], other, strict=True))


def _regions(accesses: Sequence[tuple[Any, Sequence[Any]]], iters: Sequence[Any]) -> list[Any]:
    grouped: list[tuple[Any, list[Sequence[Any]]]] = []
    for buffer, at in accesses:
        group = next((found for known, found in grouped if known.same_as(buffer)), None)
        if group is None:
            grouped.append((buffer, [at]))
        else:
            group.append(at)
    return [tirx.BufferRegion(buffer, _ranges(buffer, found, iters)) for buffer, found in grouped]


def _ranges(buffer: Any, accesses: Sequence[Sequence[Any]], iters: Sequence[Any]) -> list[Any]:
    ranges = []
    for axis, extent in enumerate(buffer.shape):
        first = accesses[0][axis]
        point = _fixed(first, iters) and all(same(first, at[axis]) for at in accesses[1:])
        start = first if point else tirx.const(0, extent.ty.dtype)
        ranges.append(ir.Range.from_min_extent(start, tirx.const(1, start.ty.dtype) if point else extent))
    return ranges


def _fixed(expr: Any, iters: Sequence[Any]) -> bool:
    """True where only the block's own iterators decide an index."""
    known = all(any(var.same_as(i) for i in iters) for var in collect(expr, ir.Var))
    return known and not loads(expr)
