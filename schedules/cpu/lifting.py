"""Bare functions without allocations or threads of their own: what they need of either becomes a parameter.

An allocation becomes a *place*, a pointer to that many bytes that the caller gives. A parallel loop becomes a function
of its own, the *task*, which runs one share of the loop, and a call of a *region*, a function that whoever links the
code defines: it runs all tasks, on the threads that the pointer `threads` stands for, one after the other where that is
null. So such a function is reentrant, and needs no runtime.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from tvm import ir, tirx
from tvm.ir import PointerType, PrimType, StringImm
from tvm.tirx import AllocBuffer, DeclBuffer, Evaluate, For, ForKind, IfThenElse, IntImm, PrimFunc, Return, SeqStmt, Var

PANEL = "__tvm_ffi_"
"""What the symbols begin with by which TVM's packed functions are called."""

_ON_STACK = 1024  # bytes; TVM takes what is larger from its runtime
_REGISTERS = 8192  # of scope "local": accumulators, which belong on the stack so that LLVM keeps them in registers
_STAYS = "disable_lower_builtin"  # annotation of an allocation that TVM leaves to LLVM


@dataclass(frozen=True)
class Region:
    """A parallel loop that became tasks: symbol(threads, *captured, *places) is to run task(*captured, *places, i).

    types: LLVM's, of what is captured. places: bytes that each task needs, each as a pointer to its own; the region
    gets the room of all tasks, one behind the other. tasks: how many there are.
    """

    symbol: str
    task: str
    types: tuple[str, ...]
    places: tuple[int, ...]
    tasks: int


@dataclass(frozen=True)
class Lifted:
    """A bare function: symbol(*arguments, *places, threads). places: bytes of each. threads: it takes that pointer."""

    symbol: str
    places: tuple[int, ...] = ()
    threads: bool = False
    regions: tuple[Region, ...] = ()


class PackedCall(Exception):
    """A function calls one of TVM's runtime, whose name this is."""


def lift(mod: Any, threads: int, callees: Mapping[str, Lifted] | None = None) -> tuple[Any, dict[str, Lifted]]:
    """A lowered module of bare functions without allocations and parallel loops, and what its functions are by name.

    callees: bare functions that are called by symbol; other symbols are called as they are, with TVM's packed
    arguments. Raises PackedCall for a function that calls one of TVM's runtime.
    """
    made, found = {}, {}
    for var, function in mod.functions_items():
        name = str(function.attrs["global_symbol"])
        lifter = _Lifter(name, threads, callees or {})
        made[var], found[name] = lifter.function(function)
        for task in lifter.tasks:
            made[ir.GlobalVar(str(task.attrs["global_symbol"]))] = task
    return tvm.IRModule(made, attrs=mod.attrs), found


@dataclass
class _Scope:
    """A function while it is being written: its places, and whether it calls what takes threads."""

    places: list[tuple[Any, int]] = field(default_factory=list)  # pointer, bytes
    head: list[Any] = field(default_factory=list)  # statements at its beginning
    threads: bool = False
    task: bool = False


class _Lifter:
    def __init__(self, name: str, threads: int, callees: Mapping[str, Lifted]) -> None:
        self.name, self.count, self.callees = name, threads, callees
        self.threads = Var("threads", PointerType(PrimType("uint8")))
        self.views: dict[Any, Any] = {}  # a buffer -> what it is a view of
        self.tasks: list[Any] = []
        self.regions: list[Region] = []

    def function(self, function: Any) -> tuple[Any, Lifted]:
        """The function with its places and threads behind its parameters."""
        scope = _Scope()
        body = self._statement(function.body, scope)
        uses = scope.threads
        params = [*function.params, *(pointer for pointer, _ in scope.places), *([self.threads] if uses else [])]
        made = PrimFunc(params, _sequence([*scope.head, body]), function.ret_type, function.attrs)
        made = made.without_attr("tirx.is_entry_func")  # TVM would add a function of packed arguments
        return made, Lifted(self.name, tuple(size for _, size in scope.places), uses, tuple(self.regions))

    def _statement(self, statement: Any, scope: _Scope) -> Any:
        if isinstance(statement, SeqStmt):
            return _sequence([self._statement(part, scope) for part in statement.seq])
        if isinstance(statement, AllocBuffer):
            scope.head.append(self._allocated(statement.buffer, scope))
            return Evaluate(_i32(0))
        if isinstance(statement, DeclBuffer):
            self.views[statement.buffer] = statement.data
            return statement
        if isinstance(statement, For):
            if statement.kind == ForKind.PARALLEL and self.count > 1 and not scope.task:
                return self._parallel(statement, scope)
            kind = ForKind.SERIAL if statement.kind == ForKind.PARALLEL else statement.kind
            body = self._statement(statement.body, scope)
            return For(statement.loop_var, statement.min, statement.extent, kind, body)
        if isinstance(statement, IfThenElse):
            other = None if statement.else_case is None else self._statement(statement.else_case, scope)
            return IfThenElse(statement.condition, self._statement(statement.then_case, scope), other)
        if isinstance(statement, tirx.While):
            return tirx.While(statement.condition, self._statement(statement.body, scope))
        if isinstance(statement, tirx.AttrStmt):
            body = self._statement(statement.body, scope)
            return tirx.AttrStmt(statement.node, statement.attr_key, statement.value, body)
        if isinstance(statement, Evaluate):
            return self._called(statement, scope)
        self._refuse(statement)
        return statement

    def _allocated(self, buffer: Any, scope: _Scope) -> Any:
        """The statement that gives an allocation its memory: the stack's, or that of a place."""
        size = _bytes(buffer)
        if size <= _ON_STACK or (buffer.scope() == "local" and size <= _REGISTERS):
            return AllocBuffer(buffer, annotations={_STAYS: IntImm("bool", 1)})
        pointer = Var(f"{buffer.name}_place", PointerType(PrimType(_scalar(buffer.dtype)), buffer.scope()))
        scope.places.append((pointer, size))
        self.views[buffer] = pointer
        return DeclBuffer(buffer, data=pointer)

    def _called(self, statement: Any, scope: _Scope) -> Any:
        """The statement with a packed call of a bare function made a call by pointers."""
        call = statement.value
        if not (isinstance(call, ir.Call) and _operator(call) == "tirx.tvm_call_cpacked"):
            self._refuse(statement)
            return statement
        symbol = str(call.args[0].value)
        callee = self.callees.get(symbol.removeprefix(PANEL))
        if callee is None:
            return statement
        arguments = [_pointer(argument) for argument in call.args[1:]]
        own = [
            (Var(f"{callee.symbol}_place{i}", PointerType(PrimType("uint8"))), n) for i, n in enumerate(callee.places)
        ]
        scope.places += own
        arguments += [pointer for pointer, _ in own]
        if callee.threads:
            scope.threads = scope.threads or not scope.task
            arguments.append(self._given(scope))
        return _call(callee.symbol, arguments)

    def _given(self, scope: _Scope) -> Any:
        """The threads to pass on: a task has none."""
        return tirx.reinterpret("handle", tirx.const(0, "uint64")) if scope.task else self.threads

    def _parallel(self, loop: Any, scope: _Scope) -> Any:
        """The call of a region in place of a parallel loop, which becomes a task."""
        inner = _Scope(task=True)
        number = len(self.regions)
        body = self._statement(loop.body, inner)
        share, tasks = Var("share", PrimType("int32")), self.count
        extent = loop.extent
        if isinstance(extent, IntImm):
            tasks = min(tasks, int(extent.value))
        kind = str(loop.loop_var.ty.dtype)
        at = share if kind == "int32" else tirx.Cast(kind, share)
        start = tirx.floordiv(extent * at, tirx.const(tasks, kind))
        stop = tirx.floordiv(extent * (at + tirx.const(1, kind)), tirx.const(tasks, kind))
        run = For(loop.loop_var, loop.min + start, stop - start, ForKind.SERIAL, body)
        whole = _sequence([*inner.head, run])
        captured = self._captured(whole, [share, *(pointer for pointer, _ in inner.places)])
        views, pointers, arguments = self._roots(captured)
        name, region = f"{self.name}_task{number}", f"{self.name}_region{number}"
        params = [*pointers, *(pointer for pointer, _ in inner.places), share]
        body = SeqStmt([*views, whole, Return(_i32(0))])
        self.tasks.append(_like(PrimFunc(params, body, ret_type=PrimType("int32")), name))
        sizes = tuple(size for _, size in inner.places)
        types = tuple(_llvm(pointer) for pointer in pointers)
        self.regions.append(Region(region, name, types, sizes, tasks))
        rooms = [
            (Var(f"{name}_place{i}", PointerType(PrimType("uint8"))), size * tasks) for i, size in enumerate(sizes)
        ]
        scope.places += rooms
        scope.threads = True
        return _call(region, [self.threads, *arguments, *(pointer for pointer, _ in rooms)])

    def _captured(self, statement: Any, defined: Sequence[Any]) -> list[Any]:
        """The variables that a statement uses and does not define."""
        return list(tirx.analysis.undefined_vars(statement, list(defined)))

    def _roots(self, captured: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
        """(views of the captured buffers, a parameter for each thing that is captured, the arguments for these)."""
        views, params, arguments = [], [], []
        known: list[tuple[Any, Any]] = []
        for var in captured:
            if not _is_buffer(var):
                params.append(var)
                arguments.append(var)
                continue
            root = self._root(var)
            param = next((p for r, p in known if r.same_as(root)), None)
            if param is None:
                param = Var(f"{var.name}_pointer", PointerType(PrimType(_scalar(var.dtype)), var.scope()))
                known.append((root, param))
                params.append(param)
                arguments.append(root.data if _is_buffer(root) else root)
            views.append(DeclBuffer(var, data=param))
        return views, params, arguments

    def _root(self, buffer: Any) -> Any:
        """The memory that a buffer is a view of in the end: a pointer, or a buffer of its own memory."""
        while buffer in self.views:
            data = self.views[buffer]
            if isinstance(data, Var) and not _is_buffer(data):
                return data
            if not (isinstance(data, ir.Call) and _operator(data) == "tirx.buffer_data"):
                return buffer
            buffer = data.args[0]
        return buffer

    def _refuse(self, statement: Any) -> None:
        """Raise PackedCall where a statement calls TVM's runtime by name."""

        def look(call: Any) -> None:
            if _operator(call) in ("tirx.tvm_call_packed", "tirx.tvm_call_trace_packed"):
                raise PackedCall(str(call.args[0].value) if isinstance(call.args[0], StringImm) else str(call))

        tvm_ffi.structural_walk(statement, [(ir.Call, look)])


def _call(symbol: str, arguments: Sequence[Any]) -> Any:
    return Evaluate(tirx.call_extern("int32", symbol, *arguments))


def _like(function: Any, name: str) -> Any:
    return function.with_attr({"calling_conv": 1, "global_symbol": name, "tirx.noalias": True})


def _operator(call: Any) -> str:
    return str(getattr(call.op, "name", ""))


def _pointer(argument: Any) -> Any:
    """The argument of a bare function for one of a packed call: for an array its memory."""
    if isinstance(argument, ir.Call) and _operator(argument) == "tirx.tvm_stack_make_array":
        return argument.args[0]
    return argument.data if _is_buffer(argument) else argument


def _is_buffer(value: Any) -> bool:
    return isinstance(value, Var) and isinstance(value.ty, tirx.BufferType)


def _sequence(parts: Sequence[Any]) -> Any:
    kept = [part for part in parts if not (isinstance(part, Evaluate) and isinstance(part.value, IntImm))]
    if not kept:
        return Evaluate(_i32(0))
    return kept[0] if len(kept) == 1 else SeqStmt(kept)


def _i32(value: int) -> Any:
    return IntImm("int32", value)


def _scalar(dtype: Any) -> str:
    return str(dtype).partition("x")[0]


def _bytes(buffer: Any) -> int:
    kind = tvm.DataType(str(buffer.dtype))
    return prod(int(n) for n in buffer.shape) * ((int(kind.bits) + 7) // 8) * int(kind.lanes)


def _llvm(var: Any) -> str:
    """LLVM's type of a parameter."""
    kind = getattr(var.ty, "dtype", None)
    if isinstance(var.ty, PointerType) or kind is None or str(kind) == "handle":
        return "ptr"
    name = str(kind)
    return {"float32": "float", "float64": "double", "float16": "half", "bool": "i1"}.get(
        name
    ) or f"i{np.dtype(name).itemsize * 8}"
