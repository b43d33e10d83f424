"""Spells panels as straight-line functions of TVM, for any CPU: what every other writer is held against.

Before (steps of the program, for a tile):            After:
    x0 = X[40]                                            x0 = X[start + 40 : start + 40 + lanes]
    w = 2.0                                               a0_1 = llvm.fma(2.0 in all lanes, x0, a0), or w * x0 + a0
    a0 += w * x0                                          ...
    Y[0] = a0                                             Y[at : at + lanes] = a0_1
Every sum that changes is a new name, so that LLVM keeps it in a register. The functions are small, and few to an object
file: LLVM takes half a millisecond for each multiply-add of a function of a thousand, and more in a larger one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
        self.spell: dict[type, Callable[[Any], None]] = {
            steps.LoadX: self._load_x,
            steps.Weight: self._weight,
            steps.Multiply: self._multiply,
            steps.MultiplyAdd: self._multiply_add,
            steps.Zero: self._zero,
            steps.LoadSum: self._load_sum,
            steps.StoreSum: self._store_sum,
            steps.Bias: self._bias,
            steps.AddBias: self._add_bias,
            steps.AddResidual: self._add_residual,
            steps.Activate: self._activate,
            steps.Store: self._store,
        }

    def write(self) -> Any:
        """The function, over all its tiles."""
        tile = tirx.Var("tile", "int32")
        self._enter(tile)
        for step in (*self.one.sums, *self.one.results):
            self.spell[type(step)](step)
        outer = Block(self.frame.lanes)
        outer.statements += [tirx.DeclBuffer(self.buffers[name], data=self.pointers[name]) for name in self.pointers]
        outer.loop(tile, self.first, self.end - self.first, self.block)
        parameters = [*self.pointers.values(), self.first, self.end]
        attributes = {"global_symbol": self.one.name, "tirx.noalias": True}
        return tirx.PrimFunc(parameters, outer.statement()).with_attr(attributes)

    def _enter(self, tile: Any) -> None:
        """Where the tile starts in each array."""
        x, y = self.frame.tiles.start(tile)
        number = tile - self.first
        starts = {"x": number * self.frame.packed if self.frame.packed else x, "y": y}
        if self.frame.scratch:
            starts["scratch"] = number * self.frame.scratch
        self.start = {name: self.block.bind(f"{name}_start", value, "int32") for name, value in starts.items()}

    def _set(self, number: int, value: Any) -> None:
        self.sums[number] = self.block.bind(f"a{number}", value)

    def _load_x(self, step: steps.LoadX) -> None:
        value = self.block.load_part(self.buffers["x"], self.start["x"] + step.at, 0, self.frame.x_lanes)
        self.vectors[step.vector] = self.block.bind(f"x{step.vector}", value)

    def _weight(self, step: steps.Weight) -> None:
        self.w = self.block.splat(step.value)

    def _multiply(self, step: steps.Multiply) -> None:
        self._set(step.sum, self.w * self.vectors[step.vector])

    def _multiply_add(self, step: steps.MultiplyAdd) -> None:
        x, a = self.vectors[step.vector], self.sums[step.sum]
        self._set(step.sum, self.block.fma(self.w, x, a) if self.core.fma else self.w * x + a)

    def _zero(self, step: steps.Zero) -> None:
        self.sums[step.sum] = self.block.zero

    def _load_sum(self, step: steps.LoadSum) -> None:
        self._set(step.sum, self.block.load(self.buffers["scratch"], self.start["scratch"] + step.at))

    def _store_sum(self, step: steps.StoreSum) -> None:
        self.block.store(self.buffers["scratch"], self.sums[step.sum], self.start["scratch"] + step.at)

    def _bias(self, step: steps.Bias) -> None:
        scalar = tirx.BufferLoad(self.buffers["bias"], [i32(step.row)])
        self.w = self.block.bind("w", self.block.splat(scalar))

    def _add_bias(self, step: steps.AddBias) -> None:
        self._set(step.sum, self.sums[step.sum] + self.w)

    def _add_residual(self, step: steps.AddResidual) -> None:
        index = self.start["y"] + step.at
        value = self.block.load_part(self.buffers["residual"], index, 0, self.frame.tiles.lanes)
        self._set(step.sum, self.sums[step.sum] + value)

    def _activate(self, step: steps.Activate) -> None:
        self._set(step.sum, activate_vector(self.block, step.name, self.sums[step.sum]))

    def _store(self, step: steps.Store) -> None:
        index = self.start["y"] + step.at
        self.block.store_part(self.buffers["y"], self.sums[step.sum], index, self.frame.tiles.lanes)
