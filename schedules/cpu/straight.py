"""Straight-line code: a pipeline of few passes for functions that are vectorized and unrolled already; their builder.

TVM's default pipeline runs passes over a function that are super-linear in its statements (common subexpressions,
simplification); code whose every statement is written out by a generator needs none of them. Such code is in single
assignment form: each intermediate vector is a Bind of its own, so accumulators stay in registers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import tirx
from tvm.tirx import (
    Bind,
    Broadcast,
    BufferLoad,
    BufferStore,
    DeclBuffer,
    Evaluate,
    FloatImm,
    For,
    ForKind,
    IntImm,
    PrimFunc,
    Ramp,
    SeqStmt,
    Shuffle,
    Var,
)
from tvm.tirx.compilation_pipeline import register_tir_pipeline

from tesa.schedules.cpu import activations
from tesa.schedules.cpu.activations import INLINE
from tesa.schedules.types import Permute, Problem

PIPELINE = "tesa_straight"
"""The name under which tvm.compile(..., tir_pipeline=PIPELINE) finds the pipeline.

Measurements are identified by it too: a pipeline that makes other code of the same functions gets another name.
"""


def _straight() -> tuple[Any, Any, Any]:
    def lower(mod: Any, _context: Any) -> Any:
        steps = [
            tirx.transform.FlattenBuffer(),
            tirx.transform.VectorizeLoop(),
            tirx.transform.VerifyMemory(),
            tirx.transform.AnnotateEntryFunc(),
            tirx.transform.SplitHostDevice(),
            tirx.transform.MakePackedAPI(),
        ]
        return tvm.transform.Sequential(steps)(mod)

    def host() -> Any:
        return tvm.transform.Sequential([tirx.transform.LowerTVMBuiltin(), tirx.transform.LowerIntrin()])

    return tvm.transform.module_pass(lower, opt_level=0), host, lambda: tvm.transform.Sequential([])


register_tir_pipeline(PIPELINE, _straight)


def i32(value: int) -> Any:
    """An int32 constant."""
    return IntImm("int32", int(value))


@dataclass(frozen=True)
class Array:
    """An array from outside: param as the caller shapes it, flat to work on. It is aligned to its elements only."""

    param: Any
    flat: Any

    @staticmethod
    def make(name: str, shape: Sequence[int], dtype: str = "float32") -> Array:
        """A parameter of that shape. The body must begin with declare() of it."""
        elements = max(1, int(np.prod(shape)))
        align = np.dtype(dtype).itemsize
        param = tirx.decl_buffer(tuple(shape), dtype, name=name, data_alignment=align)
        return Array(param, tirx.decl_buffer((elements,), dtype, name=f"{name}_flat", data_alignment=align))

    def declare(self) -> Any:
        """The statement that makes flat a view of param."""
        return DeclBuffer(self.flat, data=self.param.data)


class Block:
    """Statements in the order in which they are made, on float32 vectors of a fixed number of lanes.

    fma, maximum: see Core.

    Example:
        >>> block = Block(8)
        >>> x = tirx.decl_buffer((64,), "float32", name="x")
        >>> value = block.bind("v", block.load(x, 16))
        >>> block.store(x, value, 0)
        >>> print(block.statement().script().strip().splitlines()[-1].strip())
        x[0:8] = v
    """

    def __init__(self, lanes: int, fma: bool = True, maximum: bool = False) -> None:
        self.lanes, self.maximum = lanes, maximum
        self._fma = fma
        self.vector = f"float32x{lanes}"
        self.statements: list[Any] = []
        self._zero = self.splat(0.0)

    def child(self) -> Block:
        """An empty block of the same width: the body of a loop."""
        return Block(self.lanes, self._fma, self.maximum)

    def statement(self) -> Any:
        """All of it as one statement."""
        if not self.statements:
            return Evaluate(i32(0))
        return self.statements[0] if len(self.statements) == 1 else SeqStmt(self.statements)

    def bind(self, name: str, value: Any, dtype: str | None = None) -> Any:
        """Give the value a name: it is computed once, here."""
        var = Var(name, dtype or self.vector)
        self.statements.append(Bind(var, value))
        return var

    def splat(self, value: Any) -> Any:
        """A scalar in all lanes; a Python number becomes an immediate."""
        scalar = FloatImm("float32", float(value)) if isinstance(value, (int, float)) else value
        return Broadcast(scalar, i32(self.lanes))

    @property
    def zero(self) -> Any:
        """0.0 in all lanes."""
        return self._zero

    def load(self, buffer: Any, index: Any) -> Any:
        """lanes elements of a flat buffer."""
        return BufferLoad(buffer, [self._ramp(index)])

    def store(self, buffer: Any, value: Any, index: Any) -> None:
        """Write lanes elements to a flat buffer."""
        self.statements.append(BufferStore(buffer, value, [self._ramp(index)]))

    def load_part(self, buffer: Any, index: Any, low: int, high: int) -> Any:
        """Lanes low <= lane < high of a load, 0.0 in the others; memory behind the others is not touched."""
        if low <= 0 and high >= self.lanes:
            return self.load(buffer, index)
        if high <= max(low, 0):
            return self.zero
        pointer = tirx.address_of(BufferLoad(buffer, [_index(index)]))
        return tirx.call_llvm_intrin(self.vector, "llvm.masked.load", pointer, self._mask(low, high), self.zero)

    def load_edge(self, buffer: Any, index: Any, low: int, high: int, permute: Permute | None = None) -> Any:
        """load_part by a whole load on this side of the edge, where there is a vector of memory; permute: see moved."""
        if (low <= 0 and high >= self.lanes) or high <= max(low, 0) or (low > 0 and high < self.lanes):
            return self.load_part(buffer, index, low, high)
        off = low if low > 0 else high - self.lanes
        return self.moved(self.bind("e", self.load(buffer, index + off)), off, permute)

    def moved(self, vector: Any, off: int, permute: Permute | None = None) -> Any:
        """The lanes of a vector so many places on, or back where off is less than 0, and 0.0 in those that it leaves.

        permute: of bytes of one register, where it gives zeros for places outside of it: one instruction, which LLVM
        does not take apart again as it does a shuffle.
        """
        name = permute.intrinsic(1) if permute is not None and permute.in_bytes and permute.zeros else None
        if name is not None:
            kind = f"int8x{4 * self.lanes}"
            places = Ramp(IntImm("int8", -4 * off), IntImm("int8", 1), i32(4 * self.lanes))
            found = tirx.call_llvm_pure_intrin(kind, name, tirx.reinterpret(kind, vector), places)
            return tirx.reinterpret(self.vector, found)
        lanes = [lane - off if 0 <= lane - off < self.lanes else self.lanes for lane in range(self.lanes)]
        return self.shuffle([vector, self.zero], lanes)

    def element(self, vector: Any, lane: int) -> Any:
        """One lane of a vector in all lanes."""
        return self.splat(Shuffle([vector], [i32(lane)]))

    def store_part(self, buffer: Any, value: Any, index: Any, high: int) -> None:
        """Write the first high lanes only."""
        if high >= self.lanes:
            self.store(buffer, value, index)
            return
        pointer = tirx.address_of(BufferLoad(buffer, [_index(index)]))
        mask = self._mask(0, high)
        self.statements.append(Evaluate(tirx.call_llvm_intrin("", "llvm.masked.store", value, pointer, mask)))

    def prefetch(self, buffer: Any, index: Any) -> None:
        """Ask for the line of an element, which may lie behind the end of the buffer: nothing is read."""
        pointer = tirx.address_of(BufferLoad(buffer, [_index(index)]))
        hint = (i32(0), i32(3), i32(1))  # to read, into every level of cache, data
        self.statements.append(Evaluate(tirx.call_llvm_intrin("", "llvm.prefetch", pointer, *hint)))

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """a * b + c, rounded once where the core has an instruction for it."""
        if not self._fma:
            return a * b + c
        return tirx.call_llvm_pure_intrin(self.vector, "llvm.fma", a, b, c)

    def shuffle(self, vectors: Sequence[Any], lanes: Sequence[int]) -> Any:
        """The chosen lanes of the vectors laid end to end."""
        return Shuffle(list(vectors), [i32(lane) for lane in lanes])

    def loop(self, var: Any, start: Any, extent: Any, body: Block, parallel: bool = False) -> None:
        """for var in range(start, start + extent): body."""
        kind = ForKind.PARALLEL if parallel else ForKind.SERIAL
        self.statements.append(For(var, _index(start), _index(extent), kind, body.statement()))

    def _ramp(self, index: Any) -> Any:
        return Ramp(_index(index), i32(1), i32(self.lanes))

    def _mask(self, low: int, high: int) -> Any:
        lane = Ramp(i32(0), i32(1), i32(self.lanes))
        above = tirx.GE(lane, Broadcast(i32(max(low, 0)), i32(self.lanes)))
        below = tirx.LT(lane, Broadcast(i32(min(high, self.lanes)), i32(self.lanes)))
        return tirx.And(above, below)


@dataclass(frozen=True)
class Ends:
    """The arrays at the end of a sum: Y, and those that the epilogue adds."""

    problem: Problem
    bias: Array | None
    residual: Array | None
    y: Array

    @staticmethod
    def of(problem: Problem) -> Ends:
        """The arrays that the problem's epilogue asks for."""
        return Ends(
            problem,
            Array.make("bias", (problem.m,)) if problem.epilogue.bias else None,
            Array.make("residual", problem.y_shape) if problem.epilogue.residual else None,
            Array.make("Y", problem.y_shape),
        )

    def function(
        self,
        symbol: str,
        inputs: Sequence[Array | None],
        before: Block,
        share: Any,
        tasks: int,
        body: Block,
        late: bool,
    ) -> Any:
        """The kernel of these inputs: before, then body for each share (a variable) of tasks, in parallel.

        late: the activation is applied last, to all of Y.
        """
        outer, arrays = body.child(), [a for a in (*inputs, self.bias, self.residual, self.y) if a is not None]
        outer.statements += [array.declare() for array in arrays] + before.statements
        if tasks == 1:
            outer.statements += body.statements
        else:
            outer.loop(share, 0, tasks, body, parallel=True)
        p = self.problem
        if late and p.epilogue.activation is not None:
            activate_stored(outer, self.y.flat, i32(0), p.batch * p.m * p.n, p.epilogue.activation)
        attributes = {"global_symbol": symbol, "tirx.noalias": True}
        return PrimFunc([array.param for array in arrays], outer.statement()).with_attr(attributes)


def activate_vector(block: Block, activation: str | None, value: Any) -> Any:
    """An inline activation of a vector. Comparisons are such that a not-a-number goes through."""
    if activation not in INLINE:
        raise ValueError(f"activation {activation!r} is not a few instructions; expected one of {INLINE}")
    return activations.apply(_Vector(block), activation, value)


@dataclass(frozen=True)
class _Vector:
    """A float32 vector, in bindings of a block."""

    block: Block

    def name(self, value: Any) -> Any:
        return self.block.bind("h", value)

    def constant(self, value: float) -> Any:
        return self.block.splat(value)

    def clamp(self, value: Any, low: float, high: float | None) -> Any:
        least = self.block.zero if low == 0 else self.block.splat(low)
        if self.block.maximum:
            value = tirx.call_llvm_pure_intrin(self.block.vector, "llvm.maximum", value, least)
            most = None if high is None else self.block.splat(high)
            return value if most is None else tirx.call_llvm_pure_intrin(self.block.vector, "llvm.minimum", value, most)
        value = self.block.bind("low", value)
        value = tirx.Select(value < least, least, value)
        if high is None:
            return value
        value = self.block.bind("high", value)
        return tirx.Select(value > self.block.splat(high), self.block.splat(high), value)


def activate_stored(block: Block, buffer: Any, start: Any, count: int, activation: str | None) -> None:
    """Apply an activation to buffer[start : start + count], in whole vectors and then one by one."""
    whole, rest = divmod(count, block.lanes)
    for size, times, first in ((block.lanes, whole, 0), (1, rest, whole * block.lanes)):
        if times:
            part, lane, inner = Var("part", "int32"), Var("lane", "int32"), block.child()
            at = start + part * size + (lane + first if size > 1 else first)
            statement = BufferStore(buffer, activations.activate(activation, BufferLoad(buffer, [at])), [at])
            if size > 1:
                statement = For(lane, i32(0), i32(size), ForKind.VECTORIZED, statement)
            inner.statements.append(statement)
            block.loop(part, 0, times, inner)


def _index(index: Any) -> Any:
    return i32(index) if isinstance(index, int) else index
