"""Spells panels as straight-line functions of TVM, for any CPU: what every other writer is held against.

Before (steps of the program, for a tile):            After:
    x0 = X[40]                                            x0 = X[start + 40 : start + 40 + lanes]
    w = 2.0                                               a0_1 = llvm.fma(2.0 in all lanes, x0, a0), or w * x0 + a0
    a0 += w * x0                                          ...
    Y[0] = a0                                             Y[at : at + lanes] = a0_1
Every sum that changes is a new name, so that LLVM keeps it in a register. The functions are small, and few to an object
file: LLVM takes half a millisecond for each multiply-add of a function of a thousand, and more in a larger one.
"""

from collections.abc import Sequence
from typing import Any

from tvm import ir, tirx

from tesa.schedules import steps
from tesa.schedules.cpu.straight import Block, activate_vector, i32
from tesa.schedules.cpu.writers.registry import check_reach, writer
from tesa.schedules.program import Program
from tesa.schedules.types import Core, Tir

_POINTER = ir.PointerType(ir.PrimType("float32"))


@writer("", function_fmas=1000, object_fmas=4000, effort=50)
def write(programs: Sequence[Program], core: Core) -> Tir:
    """One object file of a function for each program, called as __tvm_ffi_NAME(pointers, first tile, end).

    Raises ValueError where X or Y is too large for its indices.
    """
    check_reach(programs[0].frame)
    return Tir(tuple((one.name, _Function(one, core).write()) for one in programs), "straight")


class _Function:
    """Writes one program."""

    def __init__(self, one: Program, core: Core) -> None:
        self.one, self.frame, self.core = one, one.frame, core
        *arrays, first, end = self.frame.parameters
        self.pointers = {name: tirx.Var(name, _POINTER) for name in arrays}
        self.first, self.end = tirx.Var(first, "int32"), tirx.Var(end, "int32")
        self.buffers = {
            name: tirx.decl_buffer((self.frame.reach + 1,), "float32", name=name.upper(), data_alignment=4)
            for name in arrays
        }
        self.block = Block(self.frame.lanes)
        self.sums: dict[int, Any] = {}
        self.vectors: dict[int, Any] = {}
        self.w: Any = None
        self.start: dict[str, Any] = {}

    def write(self) -> Any:
        """The function, over all its tiles."""
        tile = tirx.Var("tile", "int32")
        self._enter(tile)
        for step in (*self.one.sums, *self.one.results):
            self._step(step)
        outer = Block(self.frame.lanes)
        outer.statements += [tirx.DeclBuffer(self.buffers[name], data=self.pointers[name]) for name in self.pointers]
        outer.loop(tile, self.first, self.end - self.first, self.block)
        parameters = [*self.pointers.values(), self.first, self.end]
        attributes = {"global_symbol": self.one.name, "tirx.noalias": True}
        return tirx.PrimFunc(parameters, outer.statement()).with_attr(attributes)

    def _enter(self, tile: Any) -> None:
        """The start of the tile in each array."""
        x, y = self.frame.tiles.start(tile)
        number = tile - self.first
        starts = {"x": number * self.frame.packed if self.frame.packed else x, "y": y}
        if self.frame.sources:
            starts["source"] = x
        if self.frame.scratch:
            starts["scratch"] = number * self.frame.scratch
        self.start = {name: self.block.bind(f"{name}_start", value, "int32") for name, value in starts.items()}

    def _set(self, number: int, value: Any) -> None:
        self.sums[number] = self.block.bind(f"a{number}", value)

    def _step(self, step: steps.SumStep | steps.ResultStep) -> None:
        block, buffers, start, lanes = self.block, self.buffers, self.start, self.frame.tiles.lanes
        match step:
            case steps.Weight(value):
                self.w = block.splat(value)
            case steps.MultiplyAdd(a, v):
                x, total = self.vectors[v], self.sums[a]
                self._set(a, block.fma(self.w, x, total) if self.core.fma else self.w * x + total)
            case steps.LoadX(v, at):
                value = block.load_part(buffers["x"], start["x"] + at, 0, self.frame.x_lanes)
                self.vectors[v] = block.bind(f"x{v}", value)
            case steps.LoadSource(v, at):
                value = block.load_part(buffers["source"], start["source"] + at, 0, self.frame.source_lanes)
                self.vectors[v] = block.bind(f"x{v}", value)
            case steps.Pack(v, at):
                block.store(buffers["x"], self.vectors[v], start["x"] + at)
            case steps.Multiply(a, v):
                self._set(a, self.w * self.vectors[v])
            case steps.Zero(a):
                self.sums[a] = block.zero
            case steps.LoadSum(a, at):
                self._set(a, block.load(buffers["scratch"], start["scratch"] + at))
            case steps.StoreSum(a, at):
                block.store(buffers["scratch"], self.sums[a], start["scratch"] + at)
            case steps.Bias(row):
                self.w = block.bind("w", block.splat(tirx.BufferLoad(buffers["bias"], [i32(row)])))
            case steps.AddBias(a):
                self._set(a, self.sums[a] + self.w)
            case steps.AddResidual(a, at):
                self._set(a, self.sums[a] + block.load_part(buffers["residual"], start["y"] + at, 0, lanes))
            case steps.Activate(a, name):
                self._set(a, activate_vector(block, name, self.sums[a]))
            case steps.Store(a, at):
                block.store_part(buffers["y"], self.sums[a], start["y"] + at, lanes)
