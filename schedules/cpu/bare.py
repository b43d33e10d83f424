"""Bare functions: int32 NAME(pointer, pointer, ...) instead of TVM's packed call, for code that runs without TVM.

A bare function checks nothing: its caller knows shapes and types when the code is generated. It needs no symbol of
TVM's runtime but, where it allocates, the slots __TVMBackendAllocWorkspace and __TVMBackendFreeWorkspace, and, where it
has parallel loops, __TVMBackendParallelLaunch.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import Call, PointerType, PrimType
from tvm.tirx import AttrStmt, Bind, DeclBuffer, IntImm, PrimFunc, SeqStmt, Var
from tvm.tirx.compilation_pipeline import get_tir_pipeline, register_tir_pipeline

from tesa.schedules.cpu.straight import PIPELINE as STRAIGHT
from tesa.schedules.types import Code

PIPELINES = {"default": "tesa_bare", "straight": "tesa_bare_straight"}
"""Name of a pipeline in Code -> the pipeline of TVM that compiles bare functions the same way."""

_PACKED = "__tvm_ffi_"  # in front of the name of a function that TVM's convention calls
_ARRAY = "tirx.tvm_stack_make_array"  # by which a call of TVM's convention passes a buffer
_C_CALL = 1  # of calling_conv: MakePackedAPI leaves such a function as it is


def bare_code(code: Code, symbol: str) -> Code:
    """A kernel without panels as bare functions: main, of the name symbol, and the pieces that it calls.

    Raises ValueError for a kernel with panels.
    """
    if code.panels:
        raise ValueError(f"{symbol}: a kernel with panels cannot be made a bare function")
    pieces = tuple((name, bare_code(piece, name)) for name, piece in code.pieces)
    return replace(code, main=bare(code.main, symbol), pipeline=f"bare_{code.pipeline}", pieces=pieces)


def bare(function: PrimFunc, name: str, calls: bool = True) -> PrimFunc:
    """The function of buffers as a bare function of that name: one pointer for each buffer, in their order.

    It answers 0, and calls other kernels as bare functions; calls=False leaves these calls for lifting.lift. To be
    compiled with one of PIPELINES.
    """
    if calls:
        function = tvm_ffi.structural_map(function, (Call, _called_bare))
    pointers, views = [], []
    for buffer in function.params:
        pointer = Var(f"{buffer.name}_pointer", PointerType(PrimType(str(buffer.dtype))))
        pointers.append(pointer)
        views += [*_compact(buffer), DeclBuffer(buffer, data=pointer)]
    body = SeqStmt([*views, function.body, tirx.Return(IntImm("int32", 0))])
    made = PrimFunc(pointers, body, ret_type=PrimType("int32"))
    kept = {key: value for key, value in dict(function.attrs or {}).items() if key == "tirx.noalias"}
    return made.with_attr({**kept, "calling_conv": _C_CALL, "global_symbol": name})


def _compact(buffer: Any) -> list[Any]:
    """Values for what a buffer leaves open to its caller: it begins at its pointer, and has no gaps."""
    made, step = [], 1
    for extent, stride in reversed(list(zip(buffer.shape, buffer.strides or [], strict=False))):
        made += [Bind(stride, IntImm(str(stride.ty.dtype), step))] if isinstance(stride, Var) else []
        step *= int(extent)
    offset = buffer.elem_offset
    return made + ([Bind(offset, IntImm(str(offset.ty.dtype), 0))] if isinstance(offset, Var) else [])


def _called_bare(call: Any) -> Any:
    """A call of a kernel by TVM's convention, as the call of a bare function; any other call as it is.

    A panel is called by TVM's convention always, for it is written so: it gets bare pointers and numbers.
    """
    if not call.op.same_as(tvm.ir.Op.get("tirx.tvm_call_cpacked")):
        return call
    callee, *arrays = call.args
    if not all(isinstance(array, Call) and array.op.same_as(tvm.ir.Op.get(_ARRAY)) for array in arrays):
        return call
    pointers = [array.args[0] for array in arrays]
    return tirx.call_extern("int32", callee.value.removeprefix(_PACKED), *pointers)


def _on_device(function: PrimFunc, _mod: Any, _context: Any) -> PrimFunc:
    """Say which device a bare function works on, which MakePackedAPI does for the others.

    It is no entry either: that would be a symbol with TVM's convention.
    """
    if not function.attrs or int(function.attrs.get("calling_conv", 0)) != _C_CALL:
        return function
    function = function.without_attr("tirx.is_entry_func")
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
