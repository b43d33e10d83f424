"""Rows laid into each other: the end of a pixel shuffle, and of a transposed convolution with a stride.

before:  for x in 2 V: y[x] = a[x % 2, x // 2]
after:   for v in V in steps of 16: p = a[0, v : v + 16]; q = a[1, v : v + 16]
                                    y[2 v : 2 v + 16], y[2 v + 16 : 2 v + 32] = p[0] q[0] p[1] q[1] ...
Whole vectors are loaded and stored, two to eight rows at a time; the last step ends with the row and may lie over the
one before it.
"""

from dataclasses import dataclass
from math import prod
from typing import Any

from tvm import ir, tirx

from tesa.schedules.cpu.operators.emit import Views, loop, nest
from tesa.schedules.cpu.operators.schedule import Operator
from tesa.schedules.cpu.operators.stages import Stage
from tesa.schedules.cpu.operators.tree import (
    collect,
    const_int,
    flat_index,
    index,
    linear,
    run,
    sequence,
    shuffle,
    simplify,
    substitute,
)
from tesa.schedules.types import Core

_MOST = 8


@dataclass(frozen=True)
class _Rows:
    """`ways` rows, `step` elements from one to the next, of which element u of row w goes to u * ways + w.

    base: where the first one starts, in the stage's iters but for the last `merged`, which an output row is made of;
    length: of that row.
    """

    ways: int
    step: int
    base: Any
    merged: int
    length: int


def interleave(operator: Operator, core: Core) -> Any:
    """Pixel shuffles: a few rows are laid into each other, by whole vectors."""
    stage = operator.whole
    if stage is None or not stage.stores_in_order():
        return None
    rows = _neighbours(stage) or _phases(stage)
    if rows is None or rows.length < 2 * rows.ways:
        return None
    views = Views()
    source, target = views.of(stage.store.value.source), views.of(stage.buffer)
    extents = [extent for _, extent in stage.spatial]

    def row(places: list[Any]) -> Any:
        at = zip(stage.spatial, places, strict=True)
        read = simplify(substitute(rows.base, [(var, place) for (var, _), place in at]))
        offsets = [place * index(prod(extents[i + 1 :])) for i, place in enumerate(places)]
        write = simplify(sum(offsets[1:], offsets[0]))
        return _row(rows, source, read, target, write, core.lanes)

    body = nest("a", stage, range(len(extents) - rows.merged), row)
    return operator.func.with_body(views.declare(body))


def _neighbours(stage: Stage) -> _Rows | None:
    """y[..., v, u] = a[... + u * step + v]: the rows are the last axis of the output."""
    load = stage.store.value
    if len(stage.spatial) < 2 or not isinstance(load, ir.TensorLoad):
        return None
    moves, (_, count), (_, ways) = stage.load_strides(load), *stage.spatial[-2:]
    if moves is None or moves[-2] != 1 or moves[-1] <= 1 or not 2 <= ways <= _MOST:
        return None
    zero = [(var, tirx.const(0, var.ty.dtype)) for var, _ in stage.spatial[-2:]]
    base = substitute(flat_index(load.source, load.indices), zero)
    return _Rows(ways, moves[-1], base, 2, count * ways)


def _phases(stage: Stage) -> _Rows | None:
    """y[..., x] = a[... + (x % ways) * step + x // ways]."""
    load = stage.store.value
    if not stage.spatial or not isinstance(load, ir.TensorLoad):
        return None
    offset, (x, extent) = flat_index(load.source, load.indices), stage.spatial[-1]
    divisors = {const_int(node.b) for node in collect(offset, tirx.FloorMod) if node.a.same_as(x)}
    ways = divisors.pop() if len(divisors) == 1 else None
    if offset is None or ways is None or not 2 <= ways <= _MOST:
        return None
    v, u = (tirx.Var(name, x.ty.dtype) for name in "vu")
    wide = substitute(offset, [(x, v * tirx.const(ways, x.ty.dtype) + u)])
    wide = simplify(wide, [*stage.spatial[:-1], (v, -(-extent // ways)), (u, ways)])
    moves = linear(wide, [v, u])
    if moves is None or moves[0] != 1 or moves[1] <= 1:
        return None
    zero = tirx.const(0, x.ty.dtype)
    return _Rows(ways, moves[1], substitute(wide, [(v, zero), (u, zero)]), 1, extent)


def _row(rows: _Rows, source: Any, read: Any, target: Any, write: Any, lanes: int) -> Any:
    """One row of the output: whole vectors, then what is left of a group of `ways` elements."""
    ways, count = rows.ways, rows.length // rows.ways
    while lanes > count:
        lanes //= 2

    def vectors(step: Any) -> Any:
        start = step * index(lanes)
        start = tirx.min(start, index(count - lanes)) if count % lanes else start
        values = [tirx.BufferLoad(source, [run(read + index(way * rows.step) + start, lanes)]) for way in range(ways)]
        names = [tirx.Var(f"r{way}", value.ty.dtype) for way, value in enumerate(values)]
        binds = [tirx.Bind(name, value) for name, value in zip(names, values, strict=True)]
        stores = []
        for part in range(ways):
            picks = [(place % ways) * lanes + place // ways for place in range(part * lanes, (part + 1) * lanes)]
            value = shuffle(names, picks) if lanes > 1 else names[part]
            at = write + start * index(ways) + index(part * lanes)
            stores.append(tirx.BufferStore(target, value, [run(at, lanes)]))
        return sequence([*binds, *stores])

    rest = [
        tirx.BufferStore(
            target,
            tirx.BufferLoad(source, [read + index(way * rows.step + count)]),
            [write + index(count * ways + way)],
        )
        for way in range(rows.length % ways)
    ]
    return sequence([loop("q", -(-count // lanes), vectors), *rest])
