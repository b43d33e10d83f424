"""Lowers a scheduled function, S-blocks and marks on its loops, to flat vector code that TVM's pipeline finishes."""

from typing import Any

import tvm
from tvm import ir, s_tir, tirx
from tvm.s_tir import transform as blocks
from tvm.tirx import transform as flat

from tesa.schedules.cpu.operators.division import multiply_by_reciprocals
from tesa.schedules.cpu.operators.loops import LoopRewriter
from tesa.schedules.cpu.operators.marks import EXACT
from tesa.schedules.cpu.operators.strided import even_odd_loads
from tesa.schedules.cpu.operators.tree import rewrite
from tesa.schedules.cpu.operators.vector_math import rewrite_math

_FLATTEN = (
    blocks.LowerInitBlock,
    blocks.PlanAndUpdateBufferAllocationLocation,
    blocks.ConvertBlocksToOpaque,
    blocks.CompactBufferAllocation,
    blocks.LowerMatchBuffer,
    blocks.StmtSimplify,
    blocks.LowerOpaqueBlock,
    flat.FlattenBuffer,
    blocks.StmtSimplify,
)
_CLEAN = (blocks.ConvertSSA, blocks.StmtSimplify)


def lower(func: Any, lanes: int, threads: int) -> Any:
    """The function as loops over flat buffers, every marked loop rewritten and every vector loop expanded."""
    func = _apply(unaligned(func), _FLATTEN)
    func = func.with_body(LoopRewriter(lanes, threads).visit(func.body))
    func = _apply(func, _CLEAN)
    body = func.body if EXACT in (func.attrs or {}) else multiply_by_reciprocals(func.body)
    func = func.with_body(hoist_allocations(rewrite_math(body)))
    func = _apply(func, (blocks.ConvertSSA, flat.VectorizeLoop))
    return func.with_body(_root(even_odd_loads(func.body)))


def _root(body: Any) -> Any:
    """body in a root S-block: Relax looks for one in every function of a module that it builds."""
    return s_tir.SBlockRealize([], True, s_tir.SBlock([], [], [], "root", body))


def _apply(func: Any, passes: Any) -> Any:
    name = "main"
    module = tvm.IRModule({name: func})
    module = tvm.transform.Sequential([make() for make in passes])(module)
    return module[name]


def unaligned(func: Any) -> Any:
    """Parameters declared with the alignment of one element: a caller's array may start anywhere."""
    pairs = []
    for param in func.params:
        if not tirx.is_buffer_var(param):
            continue
        new = tirx.decl_buffer(list(param.shape), str(param.dtype), name=param.name, data_alignment=4, elem_offset=0)
        pairs.append((param, new))
    return rewrite(func, ir.Var, lambda var: next((new for old, new in pairs if var.same_as(old)), var))


def hoist_allocations(body: Any) -> Any:
    """Move every allocation to the start of the function, or of the parallel loop that it stands in.

    A stack slot that is made inside of a loop cannot become a register.
    """
    kept, allocated = _take(body)
    return tirx.SeqStmt([*allocated, kept]) if allocated else kept


def _take(stmt: Any) -> tuple[Any, list[Any]]:
    if isinstance(stmt, tirx.AllocBuffer):
        return tirx.Evaluate(tirx.IntImm("int32", 0)), [stmt]
    if isinstance(stmt, tirx.SeqStmt):
        taken = [_take(part) for part in stmt.seq]
        return tirx.SeqStmt([part for part, _ in taken]), [one for _, some in taken for one in some]
    if isinstance(stmt, tirx.For):
        body, allocated = _take(stmt.body)
        if stmt.kind == tirx.ForKind.PARALLEL and allocated:
            body, allocated = tirx.SeqStmt([*allocated, body]), []
        loop = tirx.For(stmt.loop_var, stmt.min, stmt.extent, stmt.kind, body, annotations=stmt.annotations)
        return loop, allocated
    if isinstance(stmt, tirx.AttrStmt):
        body, allocated = _take(stmt.body)
        return tirx.AttrStmt(stmt.node, stmt.attr_key, stmt.value, body), allocated
    return stmt, []
