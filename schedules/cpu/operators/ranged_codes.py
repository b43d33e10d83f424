"""Codes of a tensor on a grid that is found at run time: quotients that are rounded as a division rounds them.

before:  codes[i] = clip(nearest(x[i] / scale) + level, 0, 255)
after:   r = 1 / scale;  for i in steps of 4 vectors:
             q = x[i] * r;  q += (x[i] - q * scale) * r;  q += (x[i] - q * scale) * r
             codes[i] = narrowed to bytes with saturation: nearest(q) + level
A product with r alone would round to another code at times: where a number lies between two codes, the last bit of the
quotient decides. What a quotient lacks, x - q scale, is exact in one fused instruction, and the second correction makes
of it the rounded quotient (Markstein, Computation of elementary functions on the IBM RISC System/6000 processor, 1990,
theorem 8.6), as long as nothing leaves the range of normal numbers; a scale beyond that divides. A vector takes five
instructions that are pipelined instead of one that is not.
"""

from math import prod
from typing import Any

from tvm import te, tirx

from tesa.schedules.cpu.operators.emit import Views, loop
from tesa.schedules.cpu.operators.extremes import LAST
from tesa.schedules.cpu.operators.schedule import Operator
from tesa.schedules.cpu.operators.tree import index, run, sequence, shuffle
from tesa.schedules.types import Core

RANGED = "tesa.ranged_codes"
"""Attribute of a function (x, scale, level, codes) that is this."""

_VECTORS = 4
_SAFE = 2.0**60
"""Scales from 1 / this to this: neither a number on the grid nor what its quotient lacks leaves the normal numbers."""


def coded(x: Any, scale: Any, level: Any) -> Any:
    """The tensor of codes, uint8, as one expression. scale, level: float32 of shape ()."""
    zero, last = (tirx.const(number, "float32") for number in (0.0, LAST))

    def element(*at: Any) -> Any:
        steps = tirx.nearbyint(x[at] / scale[()]) + level[()]
        return byte(tirx.max(tirx.min(steps, last), zero))

    return te.compute(x.shape, element, name="codes")


def byte(number: Any) -> Any:
    """A whole number from 0 to 255, of float32, as uint8."""
    return tirx.Cast("uint8", tirx.Cast("int32", number))


def ranged_codes(operator: Operator, core: Core) -> Any:
    """Codes of a tensor on a grid that is found at run time, without a division for each."""
    if operator.func.attrs.get(RANGED) is None or not core.fma:
        return None
    x, scale, level, codes = operator.func.params
    count = prod(map(int, x.shape))
    views = Views()
    writer = _Writer(core, *(views.of(buffer) for buffer in (x, scale, level, codes)))
    return operator.func.with_body(views.declare(writer.write(count)))


class _Writer:
    """Writes the statements. source, target: x and the codes; scale, level: of one element."""

    def __init__(self, core: Core, source: Any, scale: Any, level: Any, target: Any) -> None:
        self._core, self._source, self._target = core, source, target
        self._scale, self._inverse, self._negative = (
            tirx.Var(name, "float32") for name in ("step", "inverse", "negative")
        )
        self._level = tirx.Var("zero", "int32")
        first = [index(0)]
        self._begin = [
            tirx.Bind(self._scale, tirx.BufferLoad(scale, first)),
            tirx.Bind(self._inverse, _number(1.0) / self._scale),
            tirx.Bind(self._negative, _number(-1.0) * self._scale),
            tirx.Bind(self._level, tirx.Cast("int32", tirx.BufferLoad(level, first))),
        ]

    def write(self, count: int) -> Any:
        """The whole function."""
        safe = tirx.all(self._scale >= _number(1 / _SAFE), self._scale <= _number(_SAFE))
        ways = [self._ways(count, quotient) for quotient in (self._corrected, self._divided)]
        return tirx.SeqStmt([*self._begin, tirx.IfThenElse(safe, *ways)])

    def _ways(self, count: int, quotient: Any) -> Any:
        """All elements; the last tile ends with them, and may take some of the one before again."""
        lanes, vectors = self._core.lanes, _VECTORS
        while lanes * vectors > count:
            lanes, vectors = (lanes, vectors // 2) if vectors > 1 else (lanes // 2, 1)
        size = lanes * vectors
        parts = [
            loop("i", count // size, lambda i: self._tile(i * index(size), lanes, vectors, quotient), spatial=True)
        ]
        if count % size:
            parts.append(self._tile(index(count - size), lanes, vectors, quotient))
        return sequence(parts)

    def _tile(self, at: Any, lanes: int, vectors: int, quotient: Any) -> Any:
        """Neighbouring vectors from an element on."""
        made: list[Any] = []
        wide = [self._codes(made, at + index(v * lanes), lanes, quotient) for v in range(vectors)]
        names = self._core.narrow(lanes)
        if names is None or vectors < _VECTORS:
            for v, code in enumerate(wide):
                bounded = tirx.Max(tirx.Min(code, _all(tirx.IntImm("int32", 255), lanes)), _zeros(lanes))
                made.append(self._store(tirx.Cast(_kind("uint8", lanes), bounded), at + index(v * lanes), lanes))
            return tirx.SeqStmt(made)
        half, whole = f"int16x{2 * lanes}", f"int8x{4 * lanes}"
        pairs = [tirx.call_llvm_pure_intrin(half, names[0], *wide[i : i + 2]) for i in (0, 2)]
        packed = tirx.reinterpret(f"int32x{lanes}", tirx.call_llvm_pure_intrin(whole, names[1], *pairs))
        # within each 128 bits stand four codes of each vector
        each = lanes // 4
        ordered = shuffle([packed], [4 * i + v for v in range(4) for i in range(each)]) if each > 1 else packed
        made.append(self._store(tirx.reinterpret(f"uint8x{4 * lanes}", ordered), at, 4 * lanes))
        return tirx.SeqStmt(made)

    def _codes(self, made: list[Any], at: Any, lanes: int, quotient: Any) -> Any:
        """A vector of codes as int32, which may lie beyond a byte. made: gets the statements that compute it."""

        def name(value: Any) -> Any:
            var = tirx.Var("q", value.ty.dtype)
            made.append(tirx.Bind(var, value))
            return var

        found = name(quotient(name, name(tirx.BufferLoad(self._source, [run(at, lanes)])), lanes))
        kind = _kind("int32", lanes)
        if self._core.nearest and lanes > 1:
            nearest = tirx.call_llvm_pure_intrin(kind, self._core.nearest, found)
        else:
            nearest = tirx.Cast(kind, tirx.nearbyint(found))
        return name(nearest + _all(self._level, lanes))

    def _corrected(self, name: Any, x: Any, lanes: int) -> Any:
        inverse, negative = (_all(value, lanes) for value in (self._inverse, self._negative))
        found, kind = name(x * inverse), _kind("float32", lanes)
        for _ in range(2):
            lacks = name(tirx.call_llvm_pure_intrin(kind, "llvm.fma", found, negative, x))
            found = name(tirx.call_llvm_pure_intrin(kind, "llvm.fma", lacks, inverse, found))
        return found

    def _divided(self, _name: Any, x: Any, lanes: int) -> Any:
        return x / _all(self._scale, lanes)

    def _store(self, value: Any, at: Any, lanes: int) -> Any:
        return tirx.BufferStore(self._target, value, [run(at, lanes)])


def _kind(name: str, lanes: int) -> str:
    return name if lanes == 1 else f"{name}x{lanes}"


def _all(value: Any, lanes: int) -> Any:
    return value if lanes == 1 else tirx.Broadcast(value, lanes)


def _zeros(lanes: int) -> Any:
    return _all(tirx.IntImm("int32", 0), lanes)


def _number(value: float) -> Any:
    return tirx.FloatImm("float32", value)
