"""Softmax's exponentials: exp(x - m) with m the maximum over x never has a positive argument, so a shorter exp will do.

mark_nonpositive() finds them and writes exp(min(x - m, 0)), which changes nothing; vector_math turns that form into
exp_nonpositive(), which needs no second scaling step against overflow.
"""

from typing import Any

from tvm import ir, tirx

from tesa.schedules.cpu.math import EXP, f32, horner
from tesa.schedules.cpu.operators.schedule import Operator
from tesa.schedules.cpu.operators.stages import Stage
from tesa.schedules.cpu.operators.tree import collect, rewrite, same

_LOWEST = -87.33654
"""-126 ln 2: below it the result is smaller than the smallest normal number, and becomes 0."""


def mark_nonpositive(operator: Operator) -> Operator:
    """The operator with every exp(x - max over x) as exp(min(x - max over x, 0))."""
    maxima = [stage for stage in operator.stages or [] if stage.reduce and isinstance(stage.store.value, tirx.Max)]

    def change(call: Any) -> Any:
        if getattr(call.op, "name", "") != "tirx.exp" or str(call.ty.dtype) != "float32":
            return call
        argument = call.args[0]
        if not isinstance(argument, tirx.Sub) or not any(_is_below(argument, stage) for stage in maxima):
            return call
        return tirx.exp(tirx.Min(argument, tirx.FloatImm("float32", 0.0)))

    func = operator.func
    return Operator(rewrite(func, ir.Call, change)) if maxima and collect(func.body, ir.Call) else operator


def nonpositive(argument: Any) -> Any | None:
    """The x of min(x, 0); None for any other expression."""
    if isinstance(argument, tirx.Min) and isinstance(argument.b, tirx.FloatImm) and argument.b.value == 0:
        return argument.a
    return None


def exp_nonpositive(x: Any) -> Any:
    """e to the power x for x <= 0 (float32); relative error below 2e-7, 0 where the result would not be normal.

    Cephes' expf as in schedules.cpu.math, the power of two added to the exponent bits of the polynomial.
    """

    def body(x: Any) -> Any:
        low = f32(_LOWEST)
        return tirx.Select(x < low, f32(0.0), _let(tirx.Select(x < low, low, x), split))

    def split(t: Any) -> Any:
        return _let(tirx.floor(t * f32(1.44269504088896341) + f32(0.5)), lambda i: scaled(t, i))

    def scaled(t: Any, i: Any) -> Any:
        # ln 2 in two parts: i times the first one is exact
        rest = t - i * f32(0.693359375) - i * f32(-2.12194440e-4)
        bits = tirx.reinterpret("int32", _let(rest, polynomial))
        exponent = tirx.shift_left(tirx.Cast("int32", i), tirx.IntImm("int32", 23))
        return tirx.reinterpret("float32", bits + exponent)

    def polynomial(r: Any) -> Any:
        return horner(EXP, r) * (r * r) + r + f32(1.0)

    return _let(x, body)


def _is_below(difference: Any, maximum: Stage) -> bool:
    """True where difference is x[..] - m[..] and maximum computes m[..] as the maximum over whole axes of x[..]."""
    x, m = difference.a, difference.b
    if not all(isinstance(load, ir.TensorLoad) for load in (x, m)) or not m.source.same_as(maximum.buffer):
        return False
    terms = [
        side
        for side in (maximum.store.value.a, maximum.store.value.b)
        if isinstance(side, ir.TensorLoad) and side.source.same_as(x.source)
    ]
    if len(terms) != 1 or len(maximum.store.indices) != len(m.indices):
        return False
    for reduced, used, size in zip(terms[0].indices, x.indices, x.source.shape, strict=True):
        whole = any(reduced.same_as(var) and extent == int(size) for var, extent in maximum.reduce)
        rows = [at for var, at in zip(maximum.store.indices, m.indices, strict=True) if reduced.same_as(var)]
        if not whole and not any(same(at, used) for at in rows):
            return False
    return True


def _let(value: Any, body: Any) -> Any:
    name = tirx.Var("s", value.ty.dtype)
    return tirx.Let(name, value, body(name))
