"""A reduction over a contiguous axis, turned into vector accumulators.

before:  for r in N: acc = acc + x[r]
after:   v0 .. v3 = 0 (vectors of W); for r in N // 4W: v0 += x[4W r : 4W r + W]; v1 += ...; v2 += ...; v3 += ...
         v0 += x[N - W : N] where not yet counted; v = (v0 + v1) + (v2 + v3); halves of v added until one is left
Four accumulators hide the latency of one addition behind the others. The end of the axis is read as a whole vector
that reaches back into what is already counted, those lanes being replaced by the operation's identity.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any

from tvm import ir, tirx

from tesa.schedules.cpu.operators.emit import vector_loop
from tesa.schedules.cpu.operators.tree import const_int, index, mentions, run, same, sequence, shuffle, substitute

_ACCUMULATORS = 4
_OPERATIONS = (tirx.Add, tirx.Max, tirx.Min, tirx.Mul)


@dataclass(frozen=True)
class Update:
    """acc[at] = operation(acc[at], value)."""

    buffer: Any
    at: tuple[Any, ...]
    operation: Any
    value: Any

    def identity(self) -> Any:
        dtype = self.value.ty.dtype
        real = str(dtype).startswith(("float", "bfloat"))  # infinity may be all that there is
        if self.operation is tirx.Max:
            return tirx.const(-inf, dtype) if real else tirx.min_value(dtype)
        if self.operation is tirx.Min:
            return tirx.const(inf, dtype) if real else tirx.max_value(dtype)
        return tirx.const(1 if self.operation is tirx.Mul else 0, dtype)


def find_updates(stmt: Any, variables: list[Any]) -> list[Update] | None:
    """The updates that a reduction's body consists of; None for anything else.

    Several updates (a sum and a sum of squares) must not read each other's accumulators.
    """
    parts = list(stmt.seq) if isinstance(stmt, tirx.SeqStmt) else [stmt]
    named = [(part.var, part.value) for part in parts if isinstance(part, tirx.Bind)]
    stores = [part for part in parts if not isinstance(part, tirx.Bind)]
    updates = [_find_update(substitute(store, named) if named else store, variables) for store in stores]
    found = [update for update in updates if update is not None]
    crossed = any(mentions(a.value, b.buffer) for a in found for b in found)
    return None if len(found) < len(updates) or crossed else found


def _find_update(stmt: Any, variables: list[Any]) -> Update | None:
    if not isinstance(stmt, tirx.BufferStore) or type(stmt.value) not in _OPERATIONS:
        return None
    for own, other in ((stmt.value.a, stmt.value.b), (stmt.value.b, stmt.value.a)):
        if not isinstance(own, ir.TensorLoad) or not own.source.same_as(stmt.buffer):
            continue
        alike = all(same(a, b) for a, b in zip(own.indices, stmt.indices, strict=True))
        moved = any(mentions(i, var) for i in stmt.indices for var in variables)
        if alike and not moved:
            return Update(stmt.buffer, tuple(stmt.indices), type(stmt.value), other)
    return None


def reduce_in_lanes(nest: list[Any], update: Update, lanes: int) -> Any:
    """The statement that does a nest of reduction loops (outermost first) in vectors of at most `lanes` elements."""
    inner = nest[-1]
    extent = const_int(inner.extent) or 1
    width = 1 << (min(lanes, extent).bit_length() - 1)
    count = extent // width
    dtype = str(update.value.ty.dtype)
    partial = [
        tirx.decl_buffer([index(width)], dtype, name="partial", scope="local") for _ in range(min(_ACCUMULATORS, count))
    ]
    body = sequence(_pieces(inner, update, partial, width, extent))
    for loop in reversed(nest[:-1]):
        body = tirx.For(loop.loop_var, loop.min, loop.extent, tirx.ForKind.SERIAL, body)
    allocate = [tirx.AllocBuffer(buffer) for buffer in partial]
    clear = [_whole(buffer, width, lambda lane: update.identity()) for buffer in partial]
    return sequence([*allocate, *clear, body, *_total(update, partial, width)])


def _pieces(loop: Any, update: Update, partial: list[Any], width: int, extent: int) -> list[Any]:
    """Rounds over all accumulators, then single vectors, then one that ends with the axis and counts only its end."""
    ways = len(partial)
    rounds, vectors = extent // (width * ways), extent // width
    step = tirx.Var(loop.loop_var.name + "_o", loop.loop_var.ty.dtype)

    def at(start: Any, lane: Any) -> Any:
        return substitute(update.value, [(loop.loop_var, start + lane)])

    def add(buffer: Any, start: Any) -> Any:
        return _whole(buffer, width, lambda lane: update.operation(tirx.BufferLoad(buffer, [lane]), at(start, lane)))

    base = step * index(width * ways) if rounds > 1 else index(0)
    body = sequence([add(buffer, base + index(i * width)) for i, buffer in enumerate(partial)])
    pieces = [tirx.For(step, index(0), index(rounds), tirx.ForKind.SERIAL, body) if rounds > 1 else body]
    pieces += [add(partial[i % ways], index(i * width)) for i in range(rounds * ways, vectors)]
    rest = extent % width
    if rest:

        def end(lane: Any) -> Any:
            value = tirx.Select(lane >= index(width - rest), at(index(extent - width), lane), update.identity())
            return update.operation(tirx.BufferLoad(partial[0], [lane]), value)

        pieces.append(_whole(partial[0], width, end))
    return pieces


def _total(update: Update, partial: list[Any], width: int) -> list[Any]:
    """Join the accumulators, then the halves of the one that is left, in registers, down to one element."""
    statements: list[Any] = []

    def bind(value: Any) -> Any:
        name = tirx.Var("t", value.ty.dtype)
        statements.append(tirx.Bind(name, value))
        return name

    at = run(index(0), width)
    values = [tirx.BufferLoad(buffer, [at]) for buffer in partial]
    while len(values) > 1:
        pairs = [values[i : i + 2] for i in range(0, len(values), 2)]
        values = [bind(update.operation(*pair)) if len(pair) > 1 else pair[0] for pair in pairs]
    value = bind(values[0])
    while width > 1:
        width //= 2
        value = bind(update.operation(shuffle([value], range(width)), shuffle([value], range(width, 2 * width))))
    own = tirx.BufferLoad(update.buffer, list(update.at))
    return [*statements, tirx.BufferStore(update.buffer, update.operation(own, value), list(update.at))]


def _whole(buffer: Any, width: int, value: Callable[[Any], Any]) -> Any:
    """buffer[0 : width] = value(lane) as one vector store."""
    return vector_loop(width, lambda lane: tirx.BufferStore(buffer, value(lane), [lane]))
