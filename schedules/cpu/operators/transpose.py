"""Transposes, alone or at the start of an element-wise chain: square tiles turned around in registers.

before:  for i, j: y[i, j] = f(x[j, i])
after:   for i, j in tiles of 16 x 16: load 16 rows of x; 4 rounds of 16 shuffles; store 16 rows of y
Each round exchanges blocks of 8, 4, 2, 1 lanes between pairs of rows (J. O. Eklundh, A fast computer method for matrix
transposing, 1972). 16 registers hold the tile, 8 more the shuffles' patterns. At the edges a tile is moved back so
that it ends with the matrix: a few elements are written twice, none is handled alone.
"""

from collections.abc import Callable
from math import prod
from typing import Any

from tvm import tirx

from tesa.schedules.cpu.operators.emit import Access, Views, loop, nest, put, vector_loop
from tesa.schedules.cpu.operators.schedule import Operator
from tesa.schedules.cpu.operators.stages import Stage
from tesa.schedules.cpu.operators.tree import index, loads, rewrite, run, same, sequence, shuffle, substitute
from tesa.schedules.types import Core

_LEAST = 4


def transpose(operator: Operator, core: Core) -> Any:
    """Layout changes, with an element-wise chain behind them: square tiles turned around in registers."""
    stage = operator.whole
    if stage is None:
        return None
    views = Views()
    turned = _turned_load(stage, views)
    if turned is None:
        return None
    load, access, along, across = turned
    extents = [extent for _, extent in stage.spatial]
    side = core.lanes
    while side > min(extents[along], extents[across]):
        side //= 2
    if side < _LEAST:
        return None
    rest = [i for i in range(len(extents)) if i not in (along, across)]

    body = nest("a", stage, rest, lambda at: _tiles(stage, views, (load, access), at, (along, across), side))
    return operator.func.with_body(views.declare(body))


def _turned_load(stage: Stage, views: Views) -> tuple[Any, Access, int, int] | None:
    """(load, its access, contiguous axis of the output, that of the load), for the one load that runs across."""
    wide = [i for i, (_, extent) in enumerate(stage.spatial) if extent > 1]
    if len(wide) < 2 or not stage.stores_in_order():
        return None
    along = wide[-1]
    found: list[tuple[Any, Access, int, int]] = []
    for load in loads(stage.store.value):
        access = views.access(stage, load)
        if access is None:
            return None
        if access.strides[along] <= 1 or any(same(load, known) for known, *_ in found):
            continue
        ones = [i for i in wide if access.strides[i] == 1]
        if len(ones) != 1:
            return None
        found.append((load, access, along, ones[0]))
    return found[0] if len(found) == 1 else None


def _tiles(
    stage: Stage, views: Views, source: tuple[Any, Access], places: list[Any], axes: tuple[int, int], side: int
) -> Any:
    load, access = source
    along, across = axes
    lengths = stage.spatial[along][1], stage.spatial[across][1]
    extents = [extent for _, extent in stage.spatial]
    out = Access(views.of(stage.buffer), index(0), tuple(prod(extents[i + 1 :]) for i in range(len(extents))))
    plain = same(stage.store.value, load)
    tile = tirx.decl_buffer([index(side * side)], str(load.source.dtype), name="tile", scope="local")

    def one(start_along: Any, start_across: Any) -> Any:
        here = put(put(places, along, start_along), across, start_across)
        step = access.strides[along]
        begin = access.at(here)
        rows = [tirx.BufferLoad(access.view, [run(begin + index(r * step), side)]) for r in range(side)]
        if plain:
            start, move = out.at(here), out.strides[across]
            return turn(rows, lambda c, row: tirx.BufferStore(out.view, row, [run(start + index(c * move), side)]))
        turned = turn(rows, lambda c, row: tirx.BufferStore(tile, row, [run(index(c * side), side)]))
        rest = loop("c", side, lambda c: vector_loop(side, lambda lane: element(here, c, lane)))
        return tirx.SeqStmt([tirx.AllocBuffer(tile), turned, rest])

    def element(here: list[Any], c: Any, lane: Any) -> Any:
        moved = put(put(here, along, here[along] + lane), across, here[across] + c)
        own = tirx.BufferLoad(tile, [c * index(side) + lane])
        value = rewrite(stage.store.value, type(load), lambda node: own if same(node, load) else node)
        pairs = [(var, at) for (var, _), at in zip(stage.spatial, moved, strict=True)]
        at = [substitute(i, pairs) for i in stage.store.indices]
        return tirx.BufferStore(stage.buffer, substitute(value, pairs), at)

    def columns(start: Any) -> Any:
        return _clamped("p", lengths[0], side, lambda at: one(at, start))

    return _clamped("q", lengths[1], side, columns, spatial=True)


def _clamped(name: str, extent: int, side: int, body: Callable[[Any], Any], spatial: bool = False) -> Any:
    """Tiles of one size; the last one ends with the axis and may lie over the one before it."""

    def tile(step: Any) -> Any:
        start = step * index(side)
        return body(tirx.min(start, index(extent - side)) if extent % side else start)

    return loop(name, -(-extent // side), tile, spatial)


def turn(rows: list[Any], store: Callable[[int, Any], Any]) -> Any:
    """Statements that transpose len(rows) vectors of as many lanes and store(c, column c)."""
    side = len(rows)
    statements: list[Any] = []

    def bind(value: Any) -> Any:
        name = tirx.Var(f"r{len(statements)}", value.ty.dtype)
        statements.append(tirx.Bind(name, value))
        return name

    rows = [bind(row) for row in rows]
    distance = side // 2
    while distance:
        after = list(rows)
        for i in range(side):
            if i & distance:
                continue
            a, b = rows[i], rows[i + distance]
            low = [n if not n & distance else side + n - distance for n in range(side)]
            high = [n + distance if not n & distance else side + n for n in range(side)]
            after[i], after[i + distance] = bind(shuffle([a, b], low)), bind(shuffle([a, b], high))
        rows = after
        distance //= 2
    return sequence([*statements, *(store(c, row) for c, row in enumerate(rows))])
