"""The range of a tensor in one pass, and the scale and the code of 0 that follow from it.

before:  low = min over i of x[i];  high = max over i of x[i];  scale = (high - low) / 255;  level = round(-low / scale)
after:   low[4], high[4] = 0
         for i in steps of 4 vectors, for u: v = x[i][u]; low[u] = min(low[u], v); high[u] = max(high[u], v)
         the least and the largest of their lanes, then scale and level
0 always is in the range, so that an element may be looked at twice: the last vectors end with x.
"""

from math import prod
from typing import Any

from tvm import tirx

from tesa.schedules.cpu.operators.emit import Views, loop
from tesa.schedules.cpu.operators.schedule import Operator
from tesa.schedules.cpu.operators.tree import index, run
from tesa.schedules.types import Core

EXTREMES = "tesa.extremes"
"""Attribute of a function (x, scale, level) that is this."""

_VECTORS = 4
LAST = 255.0
"""The largest code."""


def steps_of(low: Any, high: Any) -> Any:
    """The scale of codes for a range, in which 0 is."""
    span = high - low
    one, zero = tirx.const(1.0, "float32"), tirx.const(0.0, "float32")
    return tirx.Select(span == zero, one, span / tirx.const(LAST, "float32"))


def zero_of(low: Any, scale: Any) -> Any:
    """The code of 0, a whole number of float32."""
    zero, last = tirx.const(0.0, "float32"), tirx.const(LAST, "float32")
    return tirx.nearbyint(tirx.max(tirx.min((zero - low) / scale, last), zero))


def extremes(operator: Operator, core: Core) -> Any:
    """The range of a tensor and the grid of codes for it: the least and the largest element in one pass."""
    if operator.func.attrs.get(EXTREMES) is None:
        return None
    x, scale, level = operator.func.params
    count, lanes = prod(map(int, x.shape)), core.lanes
    while lanes > count:
        lanes //= 2
    views = Views()
    source, step, place = views.of(x), views.of(scale), views.of(level)
    low, high = (
        tirx.decl_buffer([index(_VECTORS * lanes)], "float32", name=name, scope="local") for name in ("low", "high")
    )

    def meet(at: Any, u: int) -> list[Any]:
        own, value = run(index(u * lanes), lanes), tirx.BufferLoad(source, [run(at, lanes)])
        return [
            tirx.BufferStore(kept, better(tirx.BufferLoad(kept, [own]), value), [own])
            for kept, better in ((low, tirx.Min), (high, tirx.Max))
        ]

    def both(number: Any) -> Any:
        begin = number * index(_VECTORS * lanes)
        return tirx.SeqStmt([part for u in range(_VECTORS) for part in meet(begin + index(u * lanes), u)])

    nothing = tirx.Broadcast(tirx.FloatImm("float32", 0.0), lanes) if lanes > 1 else tirx.FloatImm("float32", 0.0)
    start = [
        tirx.BufferStore(kept, nothing, [run(index(u * lanes), lanes)]) for kept in (low, high) for u in range(_VECTORS)
    ]
    whole = count // (_VECTORS * lanes)
    ends = [min(at, count - lanes) for at in range(whole * _VECTORS * lanes, count, lanes)]
    rest = [part for u, at in enumerate(ends) for part in meet(index(at), u)]
    first = index(0)

    def lane(at: Any) -> Any:
        return tirx.SeqStmt([
            tirx.BufferStore(kept, better(tirx.BufferLoad(kept, [first]), tirx.BufferLoad(kept, [at])), [first])
            for kept, better in ((low, tirx.Min), (high, tirx.Max))
        ])  # fmt: skip

    found = [tirx.BufferLoad(kept, [first]) for kept in (low, high)]
    body = [
        tirx.AllocBuffer(low), tirx.AllocBuffer(high), *start, *([loop("i", whole, both)] if whole else []), *rest,
        loop("lane", _VECTORS * lanes, lane), tirx.BufferStore(step, steps_of(*found), [first]),
        tirx.BufferStore(place, zero_of(found[0], tirx.BufferLoad(step, [first])), [first]),
    ]  # fmt: skip
    return operator.func.with_body(views.declare(tirx.SeqStmt(body)))
