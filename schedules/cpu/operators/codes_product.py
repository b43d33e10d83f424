"""Products of two activations in codes: attention's scores and values, bytes times bytes, with what is fused behind.

out[.., q, p] = f(sum over k of (a[.., q, k] - za) * (b[.., k, p] - zb)), p the axis along which the output lies.

before:  for q, p, k: t[q, p] += (a[q, k] - za) * (b[k, p] - zb);  for q, p: y[q, p] = f(t[q, p])
after:   panel[k / 4, p, 4] = b - 128                       (in the order of a dot product, once for each batch)
         begin[p] = -za * sum over k of (b[k, p] - zb);  rest[q] = (128 - zb) * sum over k of a[q, k]
         for p in tiles of V vectors, q in tiles of R rows:
           acc[R][V] = begin[p]
           for 4 k: load V vectors of the panel; for each row: broadcast 4 bytes of a; V dot products
           y = f(acc + rest[q])
which is the same sum: (a - za) * (b - zb) = a * (b - 128) + (128 - zb) * a - za * (b - zb), see Jacob et al.,
Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference, 2018, section 2.3.
R * V accumulators, V vectors of the panel and a broadcast are in registers.
"""

from typing import Any

from tvm import ir, tirx

from tesa.schedules.cpu.operators.activation_products import Product, read_product, splat, write
from tesa.schedules.cpu.operators.emit import Access, Views, loop, put, tiles
from tesa.schedules.cpu.operators.schedule import Operator
from tesa.schedules.cpu.operators.stages import Stage, inline_cheap
from tesa.schedules.cpu.operators.tiling import register_tile
from tesa.schedules.cpu.operators.transpose import turn
from tesa.schedules.cpu.operators.tree import index, run, sequence, shuffle
from tesa.schedules.types import Core, Dot

_GROUP = 4
_PIECE = 16
_SIGN = -0x7F7F7F80
"""Of 4 bytes the top bits: a byte with it flipped is, as int8, the byte less 128."""


def multiplies_codes(core: Core) -> Dot | None:
    """The dot product of bytes that this rule is written with; None where a core has none."""
    dot = core.dot
    wide = dot is not None and dot.group == _GROUP and dot.adds and not dot.signed
    return dot if wide and dot is not None and dot.intrinsic(core.lanes) and dot.intrinsic(4) else None


def codes_product(operator: Operator, core: Core) -> Any:
    """Products of two activations in codes (attention) by dot products of bytes, with what follows fused."""
    stages, dot = operator.stages, multiplies_codes(core)
    if stages is None or dot is None or sum(bool(stage.reduce) for stage in stages) != 1:
        return None
    schedule = operator.schedule()
    stages = inline_cheap(schedule, stages, everything=True)
    views = Views()
    found = read_product(stages, views, _loads)
    factors = _factors(stages[0]) if stages else None
    if found is None or factors is None or found.scalar.strides[-1] != 1:
        return None
    zeros = [zero for load, zero in factors for side in (views.access(found.product, load),) if side is not None]
    first_moves = views.access(found.product, factors[0][0])
    if len(zeros) != 2 or first_moves is None:
        return None
    za, zb = zeros if first_moves.strides[found.p] == 0 else zeros[::-1]
    return operator.func.with_body(views.declare(_Writer(found, core, dot, views, za, zb).nest()))


def _loads(stage: Stage) -> list[Any] | None:
    found = _factors(stage)
    return None if found is None else [load for load, _ in found]


def _factors(stage: Stage) -> list[tuple[Any, int]] | None:
    """(load, zero point) of both factors of an int32 sum over a single axis of products of bytes less a number."""
    value = stage.store.value
    if len(stage.reduce) != 1 or not isinstance(value, tirx.Add) or str(stage.buffer.dtype) != "int32":
        return None
    for own, term in ((value.a, value.b), (value.b, value.a)):
        if isinstance(own, ir.TensorLoad) and own.source.same_as(stage.buffer) and isinstance(term, tirx.Mul):
            both = [_byte(term.a), _byte(term.b)]
            if both[0] is not None and both[1] is not None:
                return [both[0], both[1]]
    return None


def _byte(expr: Any) -> tuple[Any, int] | None:
    """(load of a byte, number) of a load, or of a load less a number."""
    zero = 0
    if isinstance(expr, tirx.Sub) and isinstance(expr.b, tirx.IntImm):
        expr, zero = expr.a, int(expr.b.value)
    inner = expr.value if isinstance(expr, tirx.Cast) else None
    plain = isinstance(inner, ir.TensorLoad) and str(inner.source.dtype) == "uint8"
    return (inner, zero) if plain and 0 <= zero <= 255 else None


class _Writer:
    """Writes the loops of one product."""

    def __init__(self, found: Product, core: Core, dot: Dot, views: Views, za: int, zb: int) -> None:
        self.found, self.core, self.dot, self.za, self.zb = found, core, dot, za, zb
        self.out, self.lanes = views.of(found.last.buffer), core.lanes
        self.width, self.rows = found.extent(found.p), found.extent(found.q)
        self.height, self.vectors = register_tile(core, self.rows, self.width)
        self.padded = -(-self.width // core.lanes) * core.lanes
        self.groups, self.left = divmod(found.k, _GROUP)
        self.all_groups = self.groups + bool(self.left)
        self.panel = tirx.decl_buffer([index(self.all_groups * self.padded * _GROUP)], "int8", name="panel")
        self.begin = tirx.decl_buffer([index(self.padded)], "int32", name="begin")
        self.rest = tirx.decl_buffer([index(self.rows)], "int32", name="rest")

    def nest(self) -> Any:
        return self.found.nest(self._matrix)

    def _matrix(self, places: list[Any]) -> Any:
        found = self.found
        widths = [self.lanes * self.vectors] + ([self.lanes] if self.vectors > 1 else [])

        def columns(start: Any, width: int) -> Any:
            def rows(first: Any, height: int) -> Any:
                return self._tile(put(put(places, found.p, start), found.q, first), width, height)

            return tiles("q", self.rows, [self.height], rows)

        parts = [tirx.AllocBuffer(self.panel), self._pack(places)]
        if self.za:
            parts += [tirx.AllocBuffer(self.begin), self._columns()]
        if self.zb != 128:
            parts += [tirx.AllocBuffer(self.rest), self._rows(places)]
        return sequence([*parts, tiles("p", self.width, widths, columns)])

    # The panel

    def _pack(self, places: list[Any]) -> Any:
        """panel[g, p, i] = b[4 g + i, p] - 128, and 0 where there is no such k."""
        vector, p = self.found.vector, self.found.p
        parts = [self._clear()] if self.left or self.padded > self.width else []
        if vector.strides[p] == 1 and vector.strides[-1] != 1:
            body = tiles("pp", self.width, [_PIECE], lambda at, size: self._interleave(put(places, p, at), at, size))
        else:
            body = tiles("pp", self.width, [self.lanes], lambda at, size: self._turn(put(places, p, at), at, size))
        return sequence([*parts, body])

    def _clear(self) -> Any:
        """The last group, and the columns behind the last one, are 0."""
        size = self.padded * _GROUP
        zero = tirx.IntImm("int8", 0)

        def at(place: Any) -> Any:
            return tirx.BufferStore(self.panel, zero, [place])

        parts = [loop("z", size, lambda z: at(z + index((self.all_groups - 1) * size)))] if self.left else []
        if self.padded > self.width:
            rest = (self.padded - self.width) * _GROUP
            parts.append(
                loop("g", self.all_groups, lambda g: loop("z", rest, lambda z: at(
                    g * index(size) + index(self.width * _GROUP) + z)))
            )  # fmt: skip
        return sequence(parts)

    def _single(self, places: list[Any], g: Any, at: Any, size: int, members: int) -> Any:
        """Some columns of a group, byte by byte."""
        p, vector = self.found.p, self.found.vector

        def one(c: Any, i: int) -> Any:
            here = put(put(places, p, places[p] + c), len(places) - 1, g * index(_GROUP) + index(i))
            value = tirx.reinterpret("int8", vector.vector(here, 1)) ^ tirx.IntImm("int8", -128)
            place = (g * index(self.padded) + at + c) * index(_GROUP) + index(i)
            return tirx.BufferStore(self.panel, value, [place])

        return loop("c", size, lambda c: sequence([one(c, i) for i in range(members)]))

    def _interleave(self, places: list[Any], at: Any, size: int) -> Any:
        """Columns that are neighbours: the bytes of 4 rows are interleaved, 16 columns at a time."""

        def group(g: Any) -> Any:
            if size != _PIECE:
                return self._single(places, g, at, size, _GROUP)
            statements: list[Any] = []

            def bind(value: Any) -> Any:
                name = tirx.Var("v", f"int8x{_PIECE}")
                statements.append(tirx.Bind(name, value))
                return name

            rows = []
            for i in range(_GROUP):
                here = put(places, len(places) - 1, g * index(_GROUP) + index(i))
                value = tirx.reinterpret(f"int8x{_PIECE}", self.found.vector.vector(here, _PIECE))
                rows.append(bind(value ^ tirx.Broadcast(tirx.IntImm("int8", -128), _PIECE)))
            pairs = [[bind(half) for half in _halves(rows[i], rows[i + 1], 1)] for i in (0, 2)]
            for part, (upper, lower) in enumerate(zip(*pairs, strict=True)):
                for half, value in enumerate(_halves(upper, lower, 2)):
                    place = (g * index(self.padded) + at) * index(_GROUP) + index((2 * part + half) * _PIECE)
                    statements.append(tirx.BufferStore(self.panel, value, [run(place, _PIECE)]))
            return sequence(statements)

        parts = [loop("g", self.groups, group)] if self.groups else []
        if self.left:
            parts.append(self._single(places, index(self.groups), at, size, self.left))
        return sequence(parts)

    def _turn(self, places: list[Any], at: Any, size: int) -> Any:
        """Columns whose k are neighbours: squares of groups are turned, as numbers of 32 bits."""
        lanes, p, vector = self.lanes, self.found.p, self.found.vector
        square = lanes * _GROUP
        dense = vector.strides[-1] == 1

        def block(g: Any) -> Any:
            here = put(places, len(places) - 1, g * index(_GROUP))
            step, start = vector.strides[p], vector.at(here)
            rows = [
                tirx.reinterpret(
                    f"int32x{lanes}", tirx.BufferLoad(vector.view, [run(start + index(r * step), square)])
                ) ^ tirx.Broadcast(tirx.IntImm("int32", _SIGN), lanes)
                for r in range(lanes)
            ]  # fmt: skip

            def store(c: int, row: Any) -> Any:
                place = ((g + index(c)) * index(self.padded) + at) * index(_GROUP)
                return tirx.BufferStore(self.panel, tirx.reinterpret(f"int8x{square}", row), [run(place, square)])

            return turn(rows, store)

        whole = self.groups // lanes if size == lanes and dense else 0
        parts = [loop("gg", whole, lambda i: block(i * index(lanes)))] if whole else []
        rest = self.groups - whole * lanes
        if rest:
            first = whole * lanes
            parts.append(loop("g", rest, lambda g: self._single(places, g + index(first), at, size, _GROUP)))
        if self.left:
            parts.append(self._single(places, index(self.groups), at, size, self.left))
        return sequence(parts)

    # What zero points add

    def _columns(self) -> Any:
        """begin[p] = -za * (sum over k of (b - 128) + k * (128 - zb))."""
        lanes, size = self.lanes, self.lanes * _GROUP
        ones = tirx.Broadcast(tirx.IntImm("int8", 1), size)
        total = tirx.decl_buffer([index(lanes)], "int32", name="total", scope="local")

        def column(v: Any) -> Any:
            def add(g: Any) -> Any:
                place = (g * index(self.padded) + v * index(lanes)) * index(_GROUP)
                bytes_ = tirx.BufferLoad(self.panel, [run(place, size)])
                return write(total, self._dot(_read(total, lanes), ones, bytes_, lanes))

            more = splat(tirx.IntImm("int32", self.found.k * (128 - self.zb)), lanes)
            value = (_read(total, lanes) + more) * splat(tirx.IntImm("int32", -self.za), lanes)
            return sequence([
                tirx.AllocBuffer(total),
                write(total, splat(tirx.IntImm("int32", 0), lanes)),
                loop("g", self.all_groups, add),
                tirx.BufferStore(self.begin, value, [run(v * index(lanes), lanes)]),
            ])  # fmt: skip

        return loop("v", self.padded // lanes, column)

    def _rows(self, places: list[Any]) -> Any:
        """rest[q] = (128 - zb) * sum over k of a[q, k]."""
        scalar, q, lanes = self.found.scalar, self.found.q, 4
        size = lanes * _GROUP
        whole, left = divmod(self.found.k, size)
        total = tirx.decl_buffer([index(lanes)], "int32", name="total", scope="local")
        ones = tirx.Broadcast(tirx.IntImm("int8", 1), size)

        def row(r: Any) -> Any:
            here = put(places, q, r)

            def add(i: Any) -> Any:
                bytes_ = scalar.vector(put(here, len(here) - 1, i * index(size)), size)
                value = self._dot(_read(total, lanes), tirx.reinterpret(f"int8x{size}", bytes_), ones, lanes)
                return write(total, value)

            value = tirx.call_llvm_pure_intrin("int32", "llvm.vector.reduce.add", _read(total, lanes))
            for i in range(whole * size, whole * size + left):
                value = value + tirx.Cast("int32", scalar.vector(put(here, len(here) - 1, index(i)), 1))
            value = value * tirx.IntImm("int32", 128 - self.zb)
            steps = [loop("i", whole, add)] if whole else []
            return sequence([
                tirx.AllocBuffer(total),
                write(total, splat(tirx.IntImm("int32", 0), lanes)),
                *steps,
                tirx.BufferStore(self.rest, value, [r]),
            ])  # fmt: skip

        return loop("r", self.rows, row)

    # The product

    def _tile(self, places: list[Any], width: int, height: int) -> Any:
        found, count = self.found, -(-width // self.lanes)
        sums = [
            [tirx.decl_buffer([index(self.lanes)], "int32", name=f"acc{r}", scope="local") for _ in range(count)]
            for r in range(height)
        ]
        every = [(r, v) for r in range(height) for v in range(count)]
        allocate = [tirx.AllocBuffer(sums[r][v]) for r, v in every]
        clear = [write(sums[r][v], self._first(places, v)) for r, v in every]
        multiply = [loop("g", self.groups, lambda g: self._step(places, g, sums, _GROUP))] if self.groups else []
        if self.left:
            multiply.append(self._step(places, index(self.groups), sums, self.left))
        finish = [
            self._finish(found.row(places, r), v, min(self.lanes, width - v * self.lanes), sums[r][v]) for r, v in every
        ]  # fmt: skip
        return sequence([*allocate, *clear, *multiply, *finish])

    def _first(self, places: list[Any], v: int) -> Any:
        if not self.za:
            return splat(tirx.IntImm("int32", 0), self.lanes)
        return tirx.BufferLoad(self.begin, [run(places[self.found.p] + index(v * self.lanes), self.lanes)])

    def _step(self, places: list[Any], g: Any, sums: list[list[Any]], members: int) -> Any:
        found, size, statements, operands = self.found, self.lanes * _GROUP, [], []
        for v in range(len(sums[0])):
            place = (g * index(self.padded) + places[found.p] + index(v * self.lanes)) * index(_GROUP)
            name = tirx.Var(f"b{v}", f"int8x{size}")
            statements.append(tirx.Bind(name, tirx.BufferLoad(self.panel, [run(place, size)])))
            operands.append(name)
        for r, row in enumerate(sums):
            name = tirx.Var(f"a{r}", "int32")
            statements.append(
                tirx.Bind(name, self._four(put(found.row(places, r), len(places) - 1, index(0)), g, members))
            )
            element = tirx.reinterpret(f"int8x{size}", tirx.Broadcast(name, self.lanes))
            for v, operand in enumerate(operands):
                statements.append(write(row[v], self._dot(_read(row[v], self.lanes), element, operand, self.lanes)))
        return sequence(statements)

    def _four(self, places: list[Any], g: Any, members: int) -> Any:
        """The bytes of a group of a row in 32 bits; nothing behind them is read."""
        scalar: Access = self.found.scalar
        here = put(places, len(places) - 1, g * index(_GROUP))
        if members == _GROUP:
            return tirx.reinterpret("int32", scalar.vector(here, _GROUP))
        value: Any = None
        for i in range(members):
            byte = scalar.vector(put(here, len(here) - 1, g * index(_GROUP) + index(i)), 1)
            byte = tirx.shift_left(tirx.Cast("int32", byte), tirx.IntImm("int32", 8 * i))
            value = byte if value is None else value | byte
        return value

    def _finish(self, row: list[Any], v: int, lanes: int, accumulator: Any) -> Any:
        def read(lane: Any) -> Any:
            own = tirx.BufferLoad(accumulator, [lane])
            if self.zb != 128:
                own = own + tirx.BufferLoad(self.rest, [index(0) if self.found.q is None else row[self.found.q]])
            return own

        return self.found.finish(row, v * self.lanes, lanes, read)

    def _dot(self, acc: Any, x: Any, w: Any, lanes: int) -> Any:
        """acc + the dot products of groups of uint8 x and int8 w."""
        return tirx.call_llvm_pure_intrin(f"int32x{lanes}", self.dot.intrinsic(lanes), acc, x, w)


def _halves(a: Any, b: Any, size: int) -> list[Any]:
    """The elements of `size` bytes of two vectors in turn, as two vectors."""
    half = _PIECE // 2 // size
    found = []
    for first in (0, half):
        picks = [s + e * size + i for e in range(first, first + half) for s in (0, _PIECE) for i in range(size)]
        found.append(shuffle([a, b], picks))
    return found


def _read(buffer: Any, lanes: int) -> Any:
    return tirx.BufferLoad(buffer, [run(index(0), lanes)])
