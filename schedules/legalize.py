"""TIR for Relax's operators where TVM's own way is slow, would lose a not-a-number, or order the bounds of a clip.

Of two numbers that do not compare, TVM's max(a, b) is b: max(x, 0) turns a not-a-number into 0, max(0, x) keeps it.
"""

from collections.abc import Callable
from typing import Any

from tvm import te, tirx
from tvm.ir import Op

from tesa.schedules.codes import legalize_dequantize, legalize_quantize


def legalization() -> dict[str, Callable[[Any, Any], Any]]:
    """The argument of relax.transform.LegalizeOps: a function(builder, call) -> call_tir for each operator's name."""
    return {
        "relax.nn.relu": of_one(lambda x: tirx.Max(tirx.const(0, x.dtype), x), "relu"),
        "relax.sign": of_one(sign, "sign"),
        "relax.clip": _clip,
        "relax.maximum": of_two(tirx.Max, "maximum"),
        "relax.minimum": of_two(tirx.Min, "minimum"),
        "relax.quantize": legalize_quantize(_as_usual("relax.quantize")),
        "relax.dequantize": legalize_dequantize(_as_usual("relax.dequantize")),
    }


def _as_usual(name: str) -> Callable[[Any, Any], Any]:
    """TVM's own legalization of an operator."""
    usual: Callable[[Any, Any], Any] = Op.get(name).get_attr("FLegalize")
    return usual


def of_one(function: Callable[[Any], Any], name: str) -> Callable[[Any, Any], Any]:
    """The legalization of an operator that is a function of each element."""

    def compute(x: Any) -> Any:
        return te.compute(x.shape, lambda *i: function(x[i]), name=name, tag="elemwise")

    return lambda bb, call: bb.call_te(compute, call.args[0], primfunc_name_hint=name)


def sign(x: Any) -> Any:
    """1, -1, or x itself where it is 0 or no number."""
    one, zero = tirx.const(1, x.dtype), tirx.const(0, x.dtype)
    below = x if str(x.dtype).startswith("uint") else tirx.Select(x < zero, tirx.const(-1, x.dtype), x)
    return tirx.Select(x > zero, one, below)


def _clip(bb: Any, call: Any) -> Any:
    """min(high, max(low, x)): the upper bound wins where it is the lower one."""
    low, high = (getattr(bound.value, "value", bound.value) for bound in call.args[1:])

    def limited(x: Any) -> Any:
        kind = str(x.dtype)
        return tirx.Min(tirx.const(high, kind), tirx.Max(tirx.const(low, kind), x))

    return of_one(limited, "clip")(bb, call)


def of_two(function: Callable[[Any, Any], Any], name: str) -> Callable[[Any, Any], Any]:
    """The larger or smaller of two numbers; no number if one of them is none."""

    def one(a: Any, b: Any) -> Any:
        return tirx.Select(_no_number(a), a, function(a, b)) if str(a.dtype) in _INFINITY else function(a, b)

    return lambda bb, call: bb.call_te(_broadcast(one, name), *call.args, primfunc_name_hint=name)


_INFINITY = {
    "float16": ("int16", 0x7FFF, 0x7C00), "bfloat16": ("int16", 0x7FFF, 0x7F80),
    "float32": ("int32", 0x7FFFFFFF, 0x7F800000), "float64": ("int64", (1 << 63) - 1, 0x7FF << 52),
}  # fmt: skip
"""The integer that holds a float's bits, all of them but the sign, and those of infinity."""


def _no_number(x: Any) -> Any:
    """True for a not-a-number, by its bits: TVM takes it that x == x."""
    kind, unsigned, infinity = _INFINITY[str(x.dtype)]
    bits = tirx.bitwise_and(tirx.reinterpret(kind, x), tirx.const(unsigned, kind))
    return bits > tirx.const(infinity, kind)


def _broadcast(function: Callable[[Any, Any], Any], name: str) -> Callable[[Any, Any], Any]:
    """Two tensors element by element; an axis of length 1, or one that is missing in front, is repeated."""

    def compute(a: Any, b: Any) -> Any:
        rank = max(len(a.shape), len(b.shape))
        sizes = [[1] * (rank - len(x.shape)) + [int(n) for n in x.shape] for x in (a, b)]
        shape = [max(pair) if 0 not in pair else 0 for pair in zip(*sizes, strict=True)]

        def at(x: Any, place: tuple[Any, ...]) -> Any:
            own = place[rank - len(x.shape) :]
            return x[tuple(0 if int(n) == 1 else i for n, i in zip(x.shape, own, strict=True))]

        return te.compute(shape, lambda *place: function(at(a, place), at(b, place)), name=name, tag="broadcast")

    return compute
