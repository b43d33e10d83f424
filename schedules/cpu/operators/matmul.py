"""Products of two activations: attention's scores and values, any order of the axes, with what is fused behind them.

out[.., q, p] = f(sum over k of a[.., q, k] * b[.., k, p]), p the axis along which the output lies in memory.

before:  for q, p, k: t[q, p] += a[q, k] * b[k, p];  for q, p: y[q, p] = f(t[q, p])
after:   for p in tiles of V vectors, q in tiles of R rows:
           acc[R][V] = 0
           for k: load V vectors of b; for each row: broadcast a[q, k]; V fused multiply-adds
           y = f(acc)
R * V accumulators, V vectors of b and two broadcasts are in registers: 8 * 2 + 2 + 2 of 32 with AVX-512. Where b lies
with k innermost it is transposed into a buffer first, once for each batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import ir, tirx

from tesa.schedules.cpu.operators.emit import Access, Views, loop, nest, put, tiles, vector_loop
from tesa.schedules.cpu.operators.schedule import Operator
from tesa.schedules.cpu.operators.stages import Stage, inline_cheap
from tesa.schedules.cpu.operators.tiling import register_tile
from tesa.schedules.cpu.operators.transpose import turn
from tesa.schedules.cpu.operators.tree import index, loads, rewrite, run, same, sequence, substitute
from tesa.schedules.types import Core


@dataclass(frozen=True)
class Product:
    """The product that a function computes. Axes are positions in the stage's iters; k is the last one.

    scalar does not move along p, vector does. accumulator is the load in last's value that stands for the sum; to_last
    says which iter of last each spatial iter of the product is (None: of extent 1).
    """

    product: Stage
    last: Stage
    scalar: Access
    vector: Access
    accumulator: Any
    to_last: tuple[int | None, ...]
    q: int | None
    p: int

    def extent(self, axis: int | None) -> int:
        return 1 if axis is None else self.product.iters[axis][1]

    @property
    def k(self) -> int:
        return self.product.iters[-1][1]


def matmul(operator: Operator, core: Core) -> Any:
    """Products of two activations (attention) in register tiles, with scaling, masks and activations fused."""
    stages = operator.stages
    if stages is None or sum(bool(stage.reduce) for stage in stages) != 1:
        return None
    schedule = operator.schedule()
    stages = inline_cheap(schedule, stages, everything=True)
    views = Views()
    found = read_product(stages, views, _factors)
    if found is None:
        return None
    return operator.func.with_body(views.declare(_Writer(found, core, views).nest()))


def read_product(stages: list[Stage], views: Views, read: Callable[[Stage], Sequence[Any] | None]) -> Product | None:
    """The product and what follows it. read: gives the two loads that a stage multiplies and adds up, if it does."""
    if len(stages) > 2 or not stages[0].reduce or not stages[-1].is_output:
        return None
    product, last = stages[0], stages[-1]
    factors = read(product)
    mapped = _to_last(product, last)
    if factors is None or mapped is None:
        return None
    accumulator, to_last = mapped
    wide = [i for i, (_, extent) in enumerate(last.spatial) if extent > 1]
    along = [i for i, axis in enumerate(to_last) if axis is not None and wide and axis == wide[-1]]
    sides = [views.access(product, load) for load in factors]
    if len(along) != 1 or sides[0] is None or sides[1] is None:
        return None
    p, k = along[0], len(product.iters) - 1
    moving = [side for side in sides if side is not None and side.strides[p]]
    still = [side for side in sides if side is not None and not side.strides[p]]
    if len(moving) != 1 or 1 not in (moving[0].strides[p], moving[0].strides[k]):
        return None
    rows = [i for i in range(k) if i != p and still[0].strides[i] and not moving[0].strides[i]]
    q = max(rows, key=lambda i: product.iters[i][1], default=None)
    return Product(product, last, still[0], moving[0], accumulator, to_last, q, p)


def _factors(stage: Stage) -> Sequence[Any] | None:
    """The two loads of buffer[..] = buffer[..] + one * other, all of them float32, over a single reduced axis."""
    value = stage.store.value
    if len(stage.reduce) != 1 or not isinstance(value, tirx.Add) or str(stage.buffer.dtype) != "float32":
        return None
    for own, term in ((value.a, value.b), (value.b, value.a)):
        if isinstance(own, ir.TensorLoad) and own.source.same_as(stage.buffer) and isinstance(term, tirx.Mul):
            both = [term.a, term.b]
            if all(isinstance(side, ir.TensorLoad) and str(side.source.dtype) == "float32" for side in both):
                return both
    return None


def _to_last(product: Stage, last: Stage) -> tuple[Any, tuple[int | None, ...]] | None:
    """(accumulator load, iter of last for each spatial iter of product); None where the epilogue moves things about."""
    if not product.stores_in_order():
        return None
    if last is product:
        own = [load for load in loads(product.store.value) if load.source.same_as(product.buffer)]
        return own[0], tuple(range(len(product.spatial)))
    own = [load for load in loads(last.store.value) if load.source.same_as(product.buffer)]
    if not own or any(not same(load, own[0]) for load in own[1:]):
        return None
    places: list[int | None] = []
    for at, (_, extent) in zip(own[0].indices, product.spatial, strict=True):
        match = [i for i, (var, _) in enumerate(last.spatial) if at.same_as(var)]
        if extent > 1 and (len(match) != 1 or last.spatial[match[0]][1] != extent):
            return None
        places.append(match[0] if match and extent > 1 else None)
    taken = [place for place in places if place is not None]
    covered = all(i in taken for i, (_, extent) in enumerate(last.spatial) if extent > 1)
    return (own[0], tuple(places)) if last.stores_in_order() and covered and len(set(taken)) == len(taken) else None


class _Writer:
    """Writes the loops of one product."""

    def __init__(self, found: Product, core: Core, views: Views) -> None:
        self.found, self.core = found, core
        self.out = views.of(found.last.buffer)
        self.lanes = core.lanes
        self.height, self.vectors = register_tile(core, found.extent(found.q), found.extent(found.p))
        self.packed = found.vector.strides[found.p] != 1 and found.extent(found.p) > 1
        if self.packed:
            size = found.k * found.extent(found.p)
            self.panel = tirx.decl_buffer([index(size)], "float32", name="panel")

    def nest(self) -> Any:
        found = self.found
        batch = [i for i in range(len(found.product.spatial)) if i not in (found.q, found.p)]
        return nest("b", found.product, batch, self._matrix)

    def _matrix(self, places: list[Any]) -> Any:
        found = self.found
        widths = [self.lanes * self.vectors] + ([self.lanes] if self.vectors > 1 else [])

        def columns(start: Any, width: int) -> Any:
            def rows(first: Any, height: int) -> Any:
                return self._tile(put(put(places, found.p, start), found.q, first), width, height)

            return tiles("q", found.extent(found.q), [self.height], rows, spatial=not self.packed)

        body = tiles("p", found.extent(found.p), widths, columns, spatial=not self.packed)
        if not self.packed:
            return body
        return tirx.SeqStmt([tirx.AllocBuffer(self.panel), self._pack(places), body])

    def _pack(self, places: list[Any]) -> Any:
        """panel[k, p] = vector operand[p, k], in square tiles and single elements at the edges."""
        found, width = self.found, self.found.extent(self.found.p)
        k = len(places) - 1
        side = self.lanes
        while side > min(width, found.k) and side > 1:
            side //= 2

        def tile(at_p: Any, at_k: Any, tall: int, wide: int) -> Any:
            here = put(put(places, found.p, at_p), k, at_k)
            step, start = found.vector.strides[found.p], found.vector.at(here)
            if tall != side or wide != side or side < 4:

                def single(r: Any, c: Any) -> Any:
                    value = tirx.BufferLoad(found.vector.view, [start + r * index(step) + c])
                    return tirx.BufferStore(self.panel, value, [(at_k + c) * index(width) + at_p + r])

                return loop("r", tall, lambda r: loop("c", wide, lambda c: single(r, c)))
            rows = [tirx.BufferLoad(found.vector.view, [run(start + index(r * step), side)]) for r in range(side)]

            def store(c: int, row: Any) -> Any:
                return tirx.BufferStore(self.panel, row, [run((at_k + index(c)) * index(width) + at_p, side)])

            return turn(rows, store)

        def tall_tile(at_p: Any, tall: int) -> Any:
            return tiles("kk", found.k, [side], lambda at_k, wide: tile(at_p, at_k, tall, wide))

        return tiles("pp", width, [side], tall_tile)

    def _tile(self, places: list[Any], width: int, height: int) -> Any:
        widths = [self.lanes] * (width // self.lanes) + ([width % self.lanes] if width % self.lanes else [])
        accumulators = [
            [tirx.decl_buffer([index(lanes)], "float32", name=f"acc{r}", scope="local") for lanes in widths]
            for r in range(height)
        ]
        every = [(r, v) for r in range(height) for v in range(len(widths))]
        allocate = [tirx.AllocBuffer(accumulators[r][v]) for r, v in every]
        zero = tirx.FloatImm("float32", 0.0)
        clear = [_write(accumulators[r][v], _splat(zero, widths[v])) for r, v in every]
        multiply = loop("k", self.found.k, lambda at: self._step(places, at, widths, accumulators))
        finish = [self._finish(places, r, v, widths[v], accumulators[r][v]) for r, v in every]
        return sequence([*allocate, *clear, multiply, *finish])

    def _step(self, places: list[Any], at: Any, widths: list[int], accumulators: list[list[Any]]) -> Any:
        found, statements, operands = self.found, [], []
        here = put(places, len(places) - 1, at)
        for v, lanes in enumerate(widths):
            shifted = put(here, found.p, here[found.p] + index(v * self.lanes))
            name = tirx.Var(f"b{v}", f"float32x{lanes}" if lanes > 1 else "float32")
            statements.append(tirx.Bind(name, self._operand(shifted, at, lanes)))
            operands.append(name)
        for r, row in enumerate(accumulators):
            moved = self._row(here, r)
            name = tirx.Var(f"a{r}", "float32")
            statements.append(tirx.Bind(name, found.scalar.vector(moved, 1)))
            for v, lanes in enumerate(widths):
                value = tirx.BufferLoad(row[v], [run(index(0), lanes)]) + _splat(name, lanes) * operands[v]
                statements.append(_write(row[v], value))
        return sequence(statements)

    def _operand(self, places: list[Any], at: Any, lanes: int) -> Any:
        found = self.found
        if not self.packed:
            return found.vector.vector(places, lanes)
        start = at * index(found.extent(found.p)) + places[found.p]
        return tirx.BufferLoad(self.panel, [run(start, lanes)])

    def _finish(self, places: list[Any], r: int, v: int, lanes: int, accumulator: Any) -> Any:
        found, last = self.found, self.found.last
        row = self._row(places, r)

        def store(lane: Any) -> Any:
            moved = put(row, found.p, row[found.p] + index(v * self.lanes) + lane)
            outer: list[Any] = [index(0)] * len(last.spatial)
            for axis, place in zip(found.to_last, moved, strict=False):
                if axis is not None:
                    outer[axis] = place
            pairs = [(var, at) for (var, _), at in zip(last.spatial, outer, strict=True)]
            own = tirx.BufferLoad(accumulator, [lane])
            value = own
            if last is not found.product:
                value = rewrite(last.store.value, ir.TensorLoad, lambda n: own if same(n, found.accumulator) else n)
            at = [substitute(i, pairs) for i in last.store.indices]
            return tirx.BufferStore(last.buffer, substitute(value, pairs), at)

        return vector_loop(lanes, store)

    def _row(self, places: list[Any], r: int) -> list[Any]:
        q = self.found.q
        return places if q is None else put(places, q, places[q] + index(r))


def _splat(value: Any, lanes: int) -> Any:
    return value if lanes == 1 else tirx.Broadcast(value, lanes)


def _write(buffer: Any, value: Any) -> Any:
    return tirx.BufferStore(buffer, value, [run(index(0), int(value.ty.dtype.lanes))])
