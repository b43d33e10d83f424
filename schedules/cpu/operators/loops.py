"""Turns a flat loop nest with marks (see marks.py) into vector loops with a main part and a tail.

before:  for i in 100 {vector: 16}: y[i] = f(x[i])
after:   for io in 6: y[16 io : 16 io + 16] = f(x[...]); y[96 : 100] = f(x[...])
No condition guards the tail: it is a statement of its own with a shorter vector. Loops around a marked loop melt into
it first where every access goes on evenly from one row to the next.
"""

from typing import Any

from tvm import ir, tirx

from tesa.schedules.cpu.operators import marks
from tesa.schedules.cpu.operators.cost import nanoseconds
from tesa.schedules.cpu.operators.lanes import find_updates, reduce_in_lanes
from tesa.schedules.cpu.operators.peel import segments
from tesa.schedules.cpu.operators.tree import collect, const_int, index, linear, mentions, rewrite, sequence, substitute

PARALLEL_FROM_NS = 20_000.0


class LoopRewriter:
    """One walk over a lowered body. lanes: float32 elements of a vector register. threads: 1 means no parallel loop."""

    def __init__(self, lanes: int, threads: int) -> None:
        self.lanes = lanes
        self.threads = threads
        self._inside_parallel = threads == 1

    def visit(self, stmt: Any) -> Any:
        if isinstance(stmt, tirx.For):
            return self._loop(stmt)
        if isinstance(stmt, tirx.SeqStmt):
            return tirx.SeqStmt([self.visit(part) for part in stmt.seq])
        if isinstance(stmt, tirx.IfThenElse):
            other = None if stmt.else_case is None else self.visit(stmt.else_case)
            return tirx.IfThenElse(stmt.condition, self.visit(stmt.then_case), other)
        if isinstance(stmt, tirx.AttrStmt):
            return tirx.AttrStmt(stmt.node, stmt.attr_key, stmt.value, self.visit(stmt.body))
        return stmt

    def _loop(self, loop: Any) -> Any:
        loop = melt(loop)
        extent = const_int(loop.extent)
        if extent == 1 and loop.kind == tirx.ForKind.SERIAL:
            return self.visit(substitute(loop.body, [(loop.loop_var, loop.min)]))
        if extent is None or const_int(loop.min) != 0 or loop.kind != tirx.ForKind.SERIAL:
            return self._serial(loop, self.visit(loop.body))
        if marks.UNROLL in loop.annotations:
            return tirx.SeqStmt([self.visit(body) for body in _bodies(loop)])
        if marks.LANES in loop.annotations:
            return self._reduction(loop)
        if marks.VECTOR in loop.annotations:
            return self._vector(loop, extent, int(loop.annotations[marks.VECTOR]))
        if marks.PEEL in loop.annotations:
            return self._peel(loop, extent)
        parallel = self._start_parallel(loop, extent)
        body = self.visit(loop.body)
        self._inside_parallel = self._inside_parallel and not parallel
        return self._serial(loop, body, parallel)

    def _start_parallel(self, loop: Any, count: int) -> bool:
        """Decide once, at the outermost loop that may run in parallel."""
        if self._inside_parallel or count < 2 or marks.SPATIAL not in loop.annotations:
            return False
        self._inside_parallel = nanoseconds(loop) > PARALLEL_FROM_NS
        return self._inside_parallel

    def _serial(self, loop: Any, body: Any, parallel: bool = False) -> Any:
        kind = tirx.ForKind.PARALLEL if parallel else loop.kind
        kept = {key: value for key, value in loop.annotations.items() if not key.startswith("tesa.")}
        return tirx.For(loop.loop_var, loop.min, loop.extent, kind, body, annotations=kept)

    def _reduction(self, loop: Any) -> Any:
        nest = [loop]
        while isinstance(nest[-1].body, tirx.For) and marks.LANES in nest[-1].body.annotations:
            nest.append(melt(nest[-1].body))
        updates = find_updates(nest[-1].body, [one.loop_var for one in nest])
        if updates is None:
            return self._serial(loop, self.visit(loop.body))
        lanes = int(loop.annotations[marks.LANES])
        return sequence([reduce_in_lanes(nest, update, lanes) for update in updates])

    def _peel(self, loop: Any, extent: int) -> Any:
        pieces = []
        unrolled = unroll(loop.body)
        for low, high in segments(unrolled, loop.loop_var, extent):
            var = tirx.Var(loop.loop_var.name, loop.loop_var.ty.dtype)
            part = substitute(unrolled, [(loop.loop_var, index(low) if high - low == 1 else var + index(low))])
            if high - low == 1:
                pieces.append(self.visit(part))
                continue
            piece = tirx.For(var, index(0), index(high - low), loop.kind, part, annotations=loop.annotations)
            parallel = self._start_parallel(piece, high - low)
            body = self.visit(part)
            self._inside_parallel = self._inside_parallel and not parallel
            pieces.append(self._serial(piece, body, parallel))
        return sequence(pieces)

    def _vector(self, loop: Any, extent: int, lanes: int) -> Any:
        parallel = self._start_parallel(loop, extent // lanes)
        body = unroll(loop.body)
        pieces: list[Any] = []
        for low, high in segments(body, loop.loop_var, extent):
            at = low
            for width in (lanes, self.lanes, 1):
                width = width if width > 1 else max(1, high - at)
                count = (high - at) // width
                if count:
                    pieces.append(_vector_chunks(loop.loop_var, body, at, width, count, parallel))
                    at += count * width
        self._inside_parallel = self._inside_parallel and not parallel
        return sequence(pieces)


def _bodies(loop: Any) -> list[Any]:
    return [substitute(loop.body, [(loop.loop_var, index(i))]) for i in range(const_int(loop.extent) or 0)]


def unroll(stmt: Any) -> Any:
    """stmt with every loop that is marked for it written out."""
    if isinstance(stmt, tirx.For):
        if marks.UNROLL in stmt.annotations:
            return sequence([unroll(body) for body in _bodies(stmt)])
        body = unroll(stmt.body)
        return tirx.For(stmt.loop_var, stmt.min, stmt.extent, stmt.kind, body, annotations=stmt.annotations)
    if isinstance(stmt, tirx.SeqStmt):
        return tirx.SeqStmt([unroll(part) for part in stmt.seq])
    return stmt


def melt(loop: Any) -> Any:
    """A perfect nest of two loops, the inner one marked, as one loop where all accesses allow it.

    for a in A: for b in B: f(x[a * B + b])  ->  for ab in A * B: f(x[ab])
    """
    inner = loop.body
    if not isinstance(inner, tirx.For):
        return loop
    inner = melt(inner)
    wanted = marks.VECTOR if marks.VECTOR in inner.annotations else marks.LANES
    extents = const_int(loop.extent), const_int(inner.extent)
    loop = tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, inner, annotations=loop.annotations)
    if wanted not in inner.annotations or loop.kind != tirx.ForKind.SERIAL or None in extents:
        return loop
    if (wanted == marks.LANES) != (marks.LANES in loop.annotations) or marks.PEEL in loop.annotations:
        return loop
    outer_extent, inner_extent = int(loop.extent), int(inner.extent)
    if outer_extent > 1 and not _even(inner.body, loop.loop_var, inner.loop_var, inner_extent):
        return loop
    body = substitute(inner.body, [(loop.loop_var, index(0))])
    total = index(outer_extent * inner_extent)
    both = {**dict(loop.annotations), **dict(inner.annotations)}
    return tirx.For(inner.loop_var, index(0), total, tirx.ForKind.SERIAL, body, annotations=both)


def _even(body: Any, outer: Any, inner: Any, extent: int) -> bool:
    """True where outer and inner occur only as outer * extent + inner (times anything) in flat indices."""
    nodes = collect(body, (ir.TensorLoad, tirx.BufferStore))
    indices = [i for node in nodes for i in node.indices]
    for at in indices:
        if not (mentions(at, outer) or mentions(at, inner)):
            continue
        factors = linear(at, [outer, inner])
        if factors is None or factors[0] != factors[1] * extent or collect(at, ir.TensorLoad):
            return False
    inside = sum(_count(at, outer) + _count(at, inner) for at in indices)
    return inside == _count(body, outer) + _count(body, inner)


def _count(root: Any, var: Any) -> int:
    return sum(found.same_as(var) for found in collect(root, ir.Var))


def _vector_chunks(var: Any, body: Any, start: int, width: int, count: int, parallel: bool) -> Any:
    step = tirx.Var(var.name + "_o", var.ty.dtype)
    lane = tirx.Var(var.name + "_v", var.ty.dtype)
    base = index(start) + step * index(width) if count > 1 else index(start)
    if width == 1:
        stmt = substitute(body, [(var, base)])
    else:
        allocated, widened = _widen(body, lane, width)
        widened = substitute(widened, [(var, base + lane)])
        stmt = tirx.For(lane, index(0), index(width), tirx.ForKind.VECTORIZED, widened)
        stmt = sequence([*allocated, stmt])
    if count == 1:
        return stmt
    kind = tirx.ForKind.PARALLEL if parallel else tirx.ForKind.SERIAL
    return tirx.For(step, index(0), index(count), kind, stmt)


def _widen(body: Any, lane: Any, width: int) -> tuple[list[Any], Any]:
    """Give each lane its own copy of the buffers that are allocated inside: b[i] -> b[i * width + lane]."""
    allocated: list[Any] = []
    for node in collect(body, tirx.AllocBuffer):
        old = node.buffer
        size = const_int(old.shape[0])
        new = tirx.decl_buffer([index((size or 1) * width)], str(old.dtype), name=old.name, scope=old.scope())
        allocated.append(tirx.AllocBuffer(new))

        def load(found: Any, old: Any = old, new: Any = new) -> Any:
            if not found.source.same_as(old):
                return found
            return tirx.BufferLoad(new, [found.indices[0] * index(width) + lane])

        def store(found: Any, old: Any = old, new: Any = new) -> Any:
            if not found.buffer.same_as(old):
                return found
            return tirx.BufferStore(new, found.value, [found.indices[0] * index(width) + lane])

        body = rewrite(rewrite(body, ir.TensorLoad, load), tirx.BufferStore, store)
    return allocated, rewrite(body, tirx.AllocBuffer, lambda node: tirx.Evaluate(index(0)))
