"""A reduction over a contiguous axis, turned into vector accumulators.

before:  for r in N: acc = acc + x[r]
after:   v[0:W] = 0; for r in N // W: v[0:W] += x[r * W : r * W + W]; v[0 : N % W] += the rest
         v[0 : W/2] += v[W/2 : W]; ... ; acc = acc + v[0]
W is a power of two of several registers, so that the latency of one addition is hidden behind the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import ir, tirx

from tesa.schedules.cpu.operators.tree import const_int, index, mentions, same, substitute

_OPERATIONS = (tirx.Add, tirx.Max, tirx.Min, tirx.Mul)


@dataclass(frozen=True)
class Update:
    """acc[at] = operation(acc[at], value)."""

    buffer: Any
    at: tuple[Any, ...]
    operation: Any
    value: Any

    def join(self, a: Any, b: Any) -> Any:
        return self.operation(a, b)

    def identity(self) -> Any:
        dtype = self.value.ty.dtype
        if self.operation is tirx.Max:
            return tirx.min_value(dtype)
        if self.operation is tirx.Min:
            return tirx.max_value(dtype)
        return tirx.const(1 if self.operation is tirx.Mul else 0, dtype)


def find_update(stmt: Any, variables: list[Any]) -> Update | None:
    """The update that a reduction's body is; None for anything else."""
    if not isinstance(stmt, tirx.BufferStore) or type(stmt.value) not in _OPERATIONS:
        return None
    for own, other in ((stmt.value.a, stmt.value.b), (stmt.value.b, stmt.value.a)):
        if not isinstance(own, ir.TensorLoad) or not own.source.same_as(stmt.buffer):
            continue
        alike = all(same(a, b) for a, b in zip(own.indices, stmt.indices, strict=True))
        moved = any(mentions(i, var) for i in stmt.indices for var in variables)
        if alike and not moved and not mentions(other, stmt.buffer):
            return Update(stmt.buffer, tuple(stmt.indices), type(stmt.value), other)
    return None


def reduce_in_lanes(nest: list[Any], update: Update, most: int) -> Any:
    """The statement that does a nest of reduction loops (outermost first) with at most `most` lanes."""
    inner = nest[-1]
    extent = const_int(inner.extent) or 1
    width = 1
    while width * 2 <= min(most, extent):
        width *= 2
    partial = tirx.decl_buffer([index(width)], str(update.value.ty.dtype), name="partial", scope="local")
    steps = [_chunk(inner, update, partial, width, extent // width, 0)]
    if extent % width:
        steps.append(_chunk(inner, update, partial, extent % width, 1, extent - extent % width))
    body = _sequence(steps)
    for loop in reversed(nest[:-1]):
        body = tirx.For(loop.loop_var, loop.min, loop.extent, tirx.ForKind.SERIAL, body)
    clear = _lanes(width, lambda lane: tirx.BufferStore(partial, update.identity(), [lane]))
    parts = [tirx.AllocBuffer(partial), clear, body]
    while width > 1:
        width //= 2
        parts.append(_lanes(width, lambda lane, half=width: _join(update, partial, lane, lane + index(half))))
    own = tirx.BufferLoad(update.buffer, list(update.at))
    total = update.join(own, tirx.BufferLoad(partial, [index(0)]))
    parts.append(tirx.BufferStore(update.buffer, total, list(update.at)))
    return _sequence(parts)


def _chunk(loop: Any, update: Update, partial: Any, width: int, count: int, start: int) -> Any:
    step = tirx.Var(loop.loop_var.name + "_o", loop.loop_var.ty.dtype)

    def body(lane: Any) -> Any:
        at = index(start) + step * index(width) + lane if count > 1 else index(start) + lane
        value = substitute(update.value, [(loop.loop_var, at)])
        own = tirx.BufferLoad(partial, [lane])
        return tirx.BufferStore(partial, update.join(own, value), [lane])

    stmt = _lanes(width, body)
    return tirx.For(step, index(0), index(count), tirx.ForKind.SERIAL, stmt) if count > 1 else stmt


def _join(update: Update, partial: Any, lane: Any, other: Any) -> Any:
    value = update.join(tirx.BufferLoad(partial, [lane]), tirx.BufferLoad(partial, [other]))
    return tirx.BufferStore(partial, value, [lane])


def _lanes(width: int, body: Any) -> Any:
    if width == 1:
        return body(index(0))
    lane = tirx.Var("lane", "int64")
    return tirx.For(lane, index(0), index(width), tirx.ForKind.VECTORIZED, body(lane))


def _sequence(parts: list[Any]) -> Any:
    return parts[0] if len(parts) == 1 else tirx.SeqStmt(parts)
