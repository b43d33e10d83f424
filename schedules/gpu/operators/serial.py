"""The last rule: one thread does everything, in the order in which it is written."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import s_tir, tirx

from tesa.schedules.gpus import Gpu


def serial(func: Any, _gpu: Gpu, _target: Any) -> Any:
    """One thread does it all: for loops that depend on each other in a way that no other rule knows."""
    body = func.body
    block = tirx.IterVar(tvm.ir.Range(0, 1), tirx.Var("block", "int32"), tirx.IterVar.ThreadIndex, "blockIdx.x")
    thread = tirx.IterVar(tvm.ir.Range(0, 1), tirx.Var("thread", "int32"), tirx.IterVar.ThreadIndex, "threadIdx.x")
    one = tirx.IntImm("int32", 1)
    if isinstance(body, s_tir.SBlockRealize):
        root = body.block
        inner = _threaded(root.body, block, thread, one)
        made = s_tir.SBlock(
            root.iter_vars, root.reads, root.writes, root.name_hint, inner, root.init, root.alloc_buffers,
            root.match_buffers, root.annotations,
        )  # fmt: skip
        return func.with_body(s_tir.SBlockRealize(body.iter_values, body.predicate, made))
    return func.with_body(_threaded(body, block, thread, one))


def _threaded(body: Any, block: Any, thread: Any, one: Any) -> Any:
    return tirx.AttrStmt(block, "thread_extent", one, tirx.AttrStmt(thread, "thread_extent", one, body))
