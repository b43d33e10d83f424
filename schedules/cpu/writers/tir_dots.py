"""Spells panels of int8 as straight-line functions of TVM: what every other writer is held against.

Before (steps of the program, for a tile):       After:
    x0 = X[16]                                       x0 = X[start + 16 : start + 16 + lanes]
    w = (1, 0, 0, -2)                                a0_1 = dot(a0, x0 as bytes, 0xfe000001 in all lanes as bytes)
    a0 += dot(w, x0)                                 ...
    Y[0] = bytes(a0, a1, a2, a3)                     Y[at : at + lanes] = a0 | a1 << 8 | a2 << 16 | a3 << 24
"""

from collections.abc import Sequence
from typing import Any

from tvm import ir, tirx

from tesa.schedules import dots
from tesa.schedules.cpu.straight import Block, i32
from tesa.schedules.cpu.writers.registry import MAX_BYTES, dot_writer, usual_registers
from tesa.schedules.dots import GROUP, DotProgram
from tesa.schedules.types import Core, Tir

_FLOATS = ("scale", "bias")
_LEAST = {"uint8": 0, "int8": -128}


@dot_writer("", function_dots=1000, object_dots=4000, effort=50, registers=usual_registers)
def write(programs: Sequence[DotProgram], core: Core) -> Tir:
    """One object file of a function for each program, called as __tvm_ffi_NAME(pointers, number of tiles)."""
    return Tir(tuple((one.name, _Function(one, core).write()) for one in programs), "straight")


class _Function:
    """Writes one program."""

    def __init__(self, one: DotProgram, core: Core) -> None:
        self.one, self.frame, self.core = one, one.frame, core
        *arrays, count = self.frame.parameters
        types = {name: "float32" if name in _FLOATS else "int32" for name in arrays}
        self.pointers = {name: tirx.Var(name, ir.PointerType(ir.PrimType(dtype))) for name, dtype in types.items()}
        self.count = tirx.Var(count, "int32")
        self.buffers = {
            name: tirx.decl_buffer((MAX_BYTES // 4,), dtype, name=name.upper(), data_alignment=4)
            for name, dtype in types.items()
        }
        self.block = Block(self.frame.lanes, core.fma)
        self.integers = f"int32x{self.frame.lanes}"
        self.sums: dict[int, Any] = {}
        self.vectors: dict[int, Any] = {}
        self.w: Any = None
        self.s: Any = None
        self.b: Any = None
        self.start: dict[str, Any] = {}

    def write(self) -> Any:
        """The function, over all its tiles."""
        tile, frame = tirx.Var("tile", "int32"), self.frame
        for name, size in (("x", frame.packed), ("y", frame.out), ("scratch", frame.scratch)):
            if size:
                self.start[name] = self.block.bind(f"{name}_start", tile * size, "int32")
        for step in (*self.one.sums, *self.one.results):
            self._step(step)
        outer = Block(frame.lanes)
        outer.statements += [tirx.DeclBuffer(self.buffers[name], data=self.pointers[name]) for name in self.pointers]
        outer.loop(tile, 0, self.count, self.block)
        attributes = {"global_symbol": self.one.name, "tirx.noalias": True}
        return tirx.PrimFunc([*self.pointers.values(), self.count], outer.statement()).with_attr(attributes)

    def _splat(self, value: Any) -> Any:
        return self.block.splat(value)

    def _set(self, number: int, value: Any, dtype: str) -> None:
        self.sums[number] = self.block.bind(f"a{number}", value, dtype)

    def _step(self, step: dots.DotStep | dots.ResultStep) -> None:
        block, start, lanes = self.block, self.start, self.frame.lanes
        match step:
            case dots.Begin(a, value):
                self.sums[a] = block.splat(i32(value))
            case dots.LoadSum(a, at):
                self._set(a, block.load(self.buffers["scratch"], start["scratch"] + at), self.integers)
            case dots.LoadX(v, at):
                x = block.load(self.buffers["x"], start["x"] + at)
                self.vectors[v] = block.bind(f"x{v}", x, self.integers)
            case dots.Weights():
                self.w = block.splat(i32(step.bits))
            case dots.Dot(a, v):
                self._set(a, self._dot(self.sums[a], self.vectors[v]), self.integers)
            case dots.Scale(row):
                self.s = block.bind("s", self._splat(tirx.BufferLoad(self.buffers["scale"], [i32(row)])))
                self.b = block.bind("b", self._splat(tirx.BufferLoad(self.buffers["bias"], [i32(row)])))
            case dots.Real(a, _):
                real = tirx.Cast(f"float32x{lanes}", self.sums[a])
                self._set(a, block.fma(real, self.s, self.b), block.vector)
            case dots.Within(a, low, high):
                self._within(a, low, high)
            case dots.Nearest(a):
                self._set(a, tirx.Cast(self.integers, tirx.nearbyint(self.sums[a])), self.integers)
            case dots.StoreSum(a, at):
                block.store(self.buffers["scratch"], self.sums[a], start["scratch"] + at)
            case dots.StoreCodes(sums, at):
                block.store(self.buffers["y"], self._codes(sums), start["y"] + at)

    def _dot(self, total: Any, x: Any) -> Any:
        assert self.core.dot is not None  # else there is no kernel
        lanes = self.frame.lanes
        parts = (tirx.reinterpret(f"int8x{GROUP * lanes}", value) for value in (x, self.w))
        return tirx.call_llvm_pure_intrin(self.integers, self.core.dot.intrinsic(lanes), total, *parts)

    def _within(self, a: int, low: float | None, high: float) -> None:
        """Also not below the least code, where a conversion to int32 might not reach."""
        assert self.frame.codes is not None  # else nothing is limited
        least = float(_LEAST[self.frame.codes.dtype]) if low is None else low
        value, (least, high) = self.sums[a], (self._splat(bound) for bound in (least, high))
        value = self.block.bind("above", tirx.Select(value > least, value, least))
        self._set(a, tirx.Select(value < high, value, high), self.block.vector)

    def _codes(self, sums: Sequence[int]) -> Any:
        total = None
        for j, a in enumerate(sums):
            code = self.sums[a] & self.block.splat(i32(255))
            code = code if j == 0 else code << self.block.splat(i32(8 * j))
            total = code if total is None else total | code
        if not self.frame.together:
            return total
        size, lanes = GROUP * self.frame.lanes, self.frame.lanes
        order = [i32(GROUP * (i % lanes) + i // lanes) for i in range(size)]
        codes = self.block.bind("codes", tirx.reinterpret(f"int8x{size}", total), f"int8x{size}")
        return tirx.reinterpret(self.integers, tirx.Shuffle([codes], order))
