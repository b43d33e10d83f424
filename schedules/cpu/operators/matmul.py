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

from collections.abc import Sequence
from typing import Any

from tvm import ir, tirx

from tesa.schedules.cpu.operators.activation_products import Product, read_product, splat, write
from tesa.schedules.cpu.operators.emit import Views, loop, put, tiles
from tesa.schedules.cpu.operators.schedule import Operator
from tesa.schedules.cpu.operators.stages import Stage, inline_cheap
from tesa.schedules.cpu.operators.tiling import register_tile
from tesa.schedules.cpu.operators.transpose import turn
from tesa.schedules.cpu.operators.tree import index, run, sequence
from tesa.schedules.types import Core


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
        return self.found.nest(self._matrix)

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
        found = self.found
        widths = [self.lanes] * (width // self.lanes) + ([width % self.lanes] if width % self.lanes else [])
        accumulators = [
            [tirx.decl_buffer([index(lanes)], "float32", name=f"acc{r}", scope="local") for lanes in widths]
            for r in range(height)
        ]
        every = [(r, v) for r in range(height) for v in range(len(widths))]
        allocate = [tirx.AllocBuffer(accumulators[r][v]) for r, v in every]
        zero = tirx.FloatImm("float32", 0.0)
        clear = [write(accumulators[r][v], splat(zero, widths[v])) for r, v in every]
        multiply = loop("k", found.k, lambda at: self._step(places, at, widths, accumulators))
        finish = [self._finish(found.row(places, r), v, widths[v], accumulators[r][v]) for r, v in every]
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
            moved = found.row(here, r)
            name = tirx.Var(f"a{r}", "float32")
            statements.append(tirx.Bind(name, found.scalar.vector(moved, 1)))
            for v, lanes in enumerate(widths):
                value = tirx.BufferLoad(row[v], [run(index(0), lanes)]) + splat(name, lanes) * operands[v]
                statements.append(write(row[v], value))
        return sequence(statements)

    def _operand(self, places: list[Any], at: Any, lanes: int) -> Any:
        found = self.found
        if not self.packed:
            return found.vector.vector(places, lanes)
        start = at * index(found.extent(found.p)) + places[found.p]
        return tirx.BufferLoad(self.panel, [run(start, lanes)])

    def _finish(self, row: list[Any], v: int, lanes: int, accumulator: Any) -> Any:
        return self.found.finish(row, v * self.lanes, lanes, lambda lane: tirx.BufferLoad(accumulator, [lane]))
