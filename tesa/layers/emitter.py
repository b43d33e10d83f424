"""Builds the lowered function: keeps each variable's Value and moves values between layouts."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import tvm
from tvm import relax, topi

from tesa.layers.codes import decoded
from tesa.layers.expressions import constant_of, shape_of
from tesa.layers.layout import Grid, Perm, Value, identity, same_order, steps

_OPAQUE = 8  # TVM's operator kind that fusion leaves alone


class Emitter:
    """Emits operators on physical arrays. values: what each variable of the source function became.

    sources: what each of these is bound to there. quantized: codes on a grid that is found at run time, by the variable
    of their steps. functions: what each function of the source module became that may be called.
    """

    def __init__(self, builder: Any, functions: Mapping[Any, Any] | None = None) -> None:
        self.builder = builder
        self.functions = functions or {}
        self.values: dict[Any, Value] = {}
        self.sources: dict[Any, Any] = {}
        self.quantized: dict[Any, Value] = {}
        self._moved: dict[tuple[int, Perm, Perm], tuple[Value, Value]] = {}
        self._decoded: dict[tuple[int, Grid], tuple[Value, Value]] = {}
        self._passing: dict[tuple[int, Grid], tuple[Value, Value]] = {}

    def callee(self, operator: Any) -> Any:
        """The operator, or the lowered function that a function of the source module became."""
        return self.functions.get(operator, operator) if isinstance(operator, tvm.ir.GlobalVar) else operator

    def value(self, expr: Any) -> Value:
        """The lowered value of a source expression, its elements themselves."""
        return self.real(self.coded(expr))

    def coded(self, expr: Any) -> Value:
        """The lowered value of a source expression, a variable seen before or a constant; it may be in codes."""
        if expr in self.values:
            return self.values[expr]
        shape = shape_of(expr)
        return Value(expr, shape, str(expr.ty.dtype), identity(len(shape)))

    def emit(self, call: Any, shape: tuple[int, ...], perm: Perm, dtype: str | None = None) -> Value:
        """Emit a call whose result holds a tensor of this logical shape in this layout."""
        var = self.builder.emit(call)
        return Value(var, shape, dtype or str(var.ty.dtype), perm)

    def next_operator(self) -> None:
        """Say that what follows is another operator, which computes anew what it needs out of codes."""
        self._passing.clear()

    def real(self, value: Value, keep: bool = False) -> Value:
        """The tensor out of its codes. keep: for all readers, each of which else computes it for itself.

        One that computes it element by element takes a byte of each from memory so, and not four.
        """
        if value.grid is None:
            return value
        key = (id(value.expr), value.grid)
        found = self._decoded.get(key) or self._passing.get(key)
        if found is not None:
            return replace(found[1], shape=value.shape, perm=value.perm)
        reader = self.builder.layer
        self.builder.layer = value.layer or reader
        made = Value(decoded(self.builder, value), value.shape, value.dtype, value.perm)
        self.builder.layer = reader
        (self._decoded if keep else self._passing)[key] = (value, made)
        return made

    def to(self, value: Value, perm: Perm) -> Value:
        """The same tensor in another layout: free where only axes of one differ, else an explicit transpose.

        Codes stay codes.
        """
        if value.perm == perm:
            return value
        if value.grid is not None:
            codes = self.to(replace(value, dtype="uint8", grid=None), perm)
            return replace(codes, dtype=value.dtype, grid=value.grid)
        array = constant_of(value.expr)
        if array is not None:
            moved = np.ascontiguousarray(array.transpose(steps(value.perm, perm)))
            return Value(relax.const(moved, value.dtype), value.shape, value.dtype, perm)
        # A transposed tensor has the same expression and another layout. The source is kept: ids are used again.
        key = (id(value.expr), value.perm, perm)
        if key not in self._moved:
            self._moved[key] = (value, self._move(value, perm))
        return self._moved[key][1]

    def _move(self, value: Value, perm: Perm) -> Value:
        if same_order(value.shape, value.perm, perm):
            wanted = tuple(value.shape[axis] for axis in perm)
            return self.emit(relax.op.reshape(value.expr, wanted), value.shape, perm)
        named: dict[str, Any] = {"primfunc_name_hint": "layout", "primfunc_attrs": {"op_pattern": _OPAQUE}}
        moved = self.builder.emit_te(topi.transpose, value.expr, list(steps(value.perm, perm)), **named)
        return Value(moved, value.shape, value.dtype, perm)

    def plain(self, value: Value) -> Any:
        """The expression of a tensor, its elements themselves, in row-major layout."""
        return self.real(self.to(value, identity(len(value.shape)))).expr

    def part(self, value: Value, axis: int, start: int, stop: int) -> Value:
        """A range of a tensor along a logical axis, in the same layout; codes stay codes."""
        shape = tuple(stop - start if a == axis else extent for a, extent in enumerate(value.shape))
        cut = relax.op.strided_slice(value.expr, [value.perm.index(axis)], [start], [stop])
        return replace(self.emit(cut, shape, value.perm), dtype=value.dtype, grid=value.grid)

    def joined(self, values: list[Value], axis: int) -> Value:
        """Tensors of one layout, all themselves or all codes of one grid, one behind the other along a logical axis."""
        shape = list(values[0].shape)
        shape[axis] = sum(value.shape[axis] for value in values)
        perm = values[0].perm
        made = self.emit(relax.op.concat([value.expr for value in values], perm.index(axis)), tuple(shape), perm)
        return replace(made, dtype=values[0].dtype, grid=values[0].grid)
