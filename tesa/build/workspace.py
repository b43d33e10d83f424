"""The part of TVM's runtime that bare functions need, as their own code for WebAssembly: memory, and serial loops.

The memory is a stack above everything else: whoever loads the module writes to the variable TOP where it may begin, at
a multiple of 64. It grows the module's memory where there is not enough, and traps where the engine gives no more.
"""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from tesa.build.ir import ir_object

TOP = "tesa_top"
"""The address of the first free byte, in the module's memory."""

_TEXT = r"""
@tesa_top = global ptr null, align 4
@__TVMBackendAllocWorkspace = hidden global ptr @tesa_allocate
@__TVMBackendFreeWorkspace = hidden global ptr @tesa_release
@__TVMBackendParallelLaunch = hidden global ptr @tesa_launch
@__TVMBackendParallelBarrier = hidden global ptr @tesa_barrier

declare i32 @llvm.wasm.memory.size.i32(i32)
declare i32 @llvm.wasm.memory.grow.i32(i32, i32)
declare void @llvm.trap() noreturn

define internal ptr @tesa_allocate(i32 %type, i32 %device, i64 %bytes, i32 %code, i32 %bits) noinline {
  %begin = load ptr, ptr @tesa_top
  %more = add i64 %bytes, 63
  %whole = and i64 %more, -64
  %address = ptrtoint ptr %begin to i64
  %end = add i64 %address, %whole
  %pages = call i32 @llvm.wasm.memory.size.i32(i32 0)
  %wide = zext i32 %pages to i64
  %size = shl i64 %wide, 16
  %lacks = icmp ugt i64 %end, %size
  br i1 %lacks, label %grow, label %enough
grow:
  %missing = sub i64 %end, %size
  %up = add i64 %missing, 65535
  %count = lshr i64 %up, 16
  %narrow = trunc i64 %count to i32
  %before = call i32 @llvm.wasm.memory.grow.i32(i32 0, i32 %narrow)
  %refused = icmp eq i32 %before, -1
  br i1 %refused, label %none, label %enough
none:
  call void @llvm.trap()
  unreachable
enough:
  %top = inttoptr i64 %end to ptr
  store ptr %top, ptr @tesa_top
  ret ptr %begin
}

define internal i32 @tesa_release(i32 %type, i32 %device, ptr %begin) noinline {
  store ptr %begin, ptr @tesa_top
  ret i32 0
}

define internal i32 @tesa_launch(ptr %task, ptr %data, i32 %count) noinline {
  %group = alloca { ptr, i32 }
  store ptr null, ptr %group
  %number = getelementptr i8, ptr %group, i32 4
  store i32 1, ptr %number
  %status = call i32 %task(i32 0, ptr %group, ptr %data)
  ret i32 %status
}

define internal i32 @tesa_barrier(i32 %task, ptr %group) noinline {
  ret i32 0
}
"""


def workspace_object(target: Mapping[str, Any]) -> bytes:
    """The object file, to be linked with bare functions; target: TVM's dictionary, of WebAssembly."""
    return _object(json.dumps(dict(target)))


@cache
def _object(target: str) -> bytes:
    return ir_object(_TEXT, json.loads(target))
