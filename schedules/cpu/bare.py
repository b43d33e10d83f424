"""Bare functions: int32 NAME(pointer, pointer, ...) instead of TVM's packed call, for code that runs without TVM.

A bare function checks nothing: its caller knows shapes and types when the code is generated. It needs no symbol of
TVM's runtime but, where it allocates, the slots __TVMBackendAllocWorkspace and __TVMBackendFreeWorkspace, and, where it
has parallel loops, __TVMBackendParallelLaunch.
"""

from __future__ import annotations

from typing import Any

import tvm
from tvm import tirx
from tvm.ir import PointerType, PrimType
from tvm.tirx import AttrStmt, DeclBuffer, IntImm, PrimFunc, SeqStmt, Var
from tvm.tirx.compilation_pipeline import get_tir_pipeline, register_tir_pipeline

from tesa.schedules.cpu.straight import PIPELINE as STRAIGHT

PIPELINES = {"default": "tesa_bare", "straight": "tesa_bare_straight"}
"""Name of a pipeline in Code -> the pipeline of TVM that compiles bare functions the same way."""

_C_CALL = 1  # of calling_conv: MakePackedAPI leaves such a function as it is


def bare(function: PrimFunc, name: str) -> PrimFunc:
    """The function of buffers as a bare function of that name: one pointer for each buffer, in their order.

    It answers 0. To be compiled with one of PIPELINES.
    """
    pointers, views = [], []
    for buffer in function.params:
        pointer = Var(f"{buffer.name}_pointer", PointerType(PrimType(str(buffer.dtype))))
        pointers.append(pointer)
        views.append(DeclBuffer(buffer, data=pointer))
    body = SeqStmt([*views, function.body, tirx.Return(IntImm("int32", 0))])
    made = PrimFunc(pointers, body, ret_type=PrimType("int32"))
    kept = {key: value for key, value in dict(function.attrs or {}).items() if key == "tirx.noalias"}
    return made.with_attr({**kept, "calling_conv": _C_CALL, "global_symbol": name})


def _on_device(function: PrimFunc, _mod: Any, _context: Any) -> PrimFunc:
    """Say which device a bare function works on, which MakePackedAPI does for the others."""
    if not function.attrs or int(function.attrs.get("calling_conv", 0)) != _C_CALL:
        return function
    body = function.body
    for key, value in (("device_type", 1), ("device_id", 0)):
        body = AttrStmt("default", key, IntImm("int32", value), body)
    return function.with_body(body)


def _register(name: str, base: str) -> None:
    def make() -> tuple[Any, Any, Any]:
        lower, host, device = get_tir_pipeline(base)
        say = tirx.transform.prim_func_pass(_on_device, opt_level=0, name="tesa.on_device")
        return lower, lambda: tvm.transform.Sequential([say, host()]), device

    register_tir_pipeline(name, make)


_register(PIPELINES["default"], "default")
_register(PIPELINES["straight"], STRAIGHT)
