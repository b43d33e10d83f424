"""Activations that are quantized by their own range when the model runs, as DynamicQuantizeLinear does it.

Two passes over a tensor: its least and largest element, of which scale and code of 0 follow, then its codes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from tvm import relax, te, tirx

from tesa.layers.emitter import Emitter
from tesa.layers.expressions import op_name, shape_of
from tesa.layers.layout import Value
from tesa.schedules.cpu.operators.extremes import EXTREMES, steps_of, zero_of
from tesa.schedules.cpu.operators.marks import EXACT
from tesa.schedules.cpu.operators.ranged_codes import RANGED, byte, coded

_OPAQUE = 8  # TVM's operator kind that fusion leaves alone


@dataclass(frozen=True)
class Quantizer:
    """An activation that is quantized by its own range: its variable x, and those of its scale, the code of 0, and of
    its codes less that."""

    x: Any
    scale: Any
    level: Any
    steps: Any


def operands(bound: Mapping[Any, Any], expr: Any, op: str) -> list[Any]:
    """The operands of the call of `op` that an expression is, none if it is something else."""
    call = bound.get(expr, expr)
    return list(call.args) if op_name(call) == f"relax.{op}" else []


def quantizer_of(bound: Mapping[Any, Any], steps: Any) -> Quantizer | None:
    """The quantizer whose codes less the code of 0 a variable is, see the import of DynamicQuantizeLinear."""
    chosen = operands(bound, steps, "where")
    bounded = operands(bound, chosen[2], "minimum") if len(chosen) == 3 else []
    left = operands(bound, bounded[1], "subtract") if bounded else []
    clipped = operands(bound, bounded[0], "clip") if left else []
    rounded = operands(bound, clipped[0], "round") if clipped else []
    divided = operands(bound, rounded[0], "divide") if rounded else []
    divisor = operands(bound, divided[1], "where") if divided else []
    if len(divisor) != 3 or not divisor[0].same_as(chosen[0]):
        return None
    return Quantizer(divided[0], divisor[2], left[1], steps)


def emit_scale(emitter: Emitter, quantizer: Quantizer) -> None:
    """Emit the scale of an activation and its code of 0, which other operators may read, too."""
    value = emitter.value(quantizer.x)
    flat = emitter.builder.emit(relax.op.reshape(value.expr, (prod(value.shape),)))
    named = {"primfunc_name_hint": "range", "primfunc_attrs": {"op_pattern": _OPAQUE, EXTREMES: 1}}
    made = emitter.builder.emit_te(_scale, flat, **named)
    for i, var in enumerate((quantizer.scale, quantizer.level)):
        emitter.values[var] = Value(emitter.builder.emit(relax.TupleGetItem(made, i)), (), "float32", ())


def _scale(x: Any) -> list[Any]:
    """The scale of codes of 0 ... 255 for the range of x, in which 0 always is, and the code of 0."""
    down, up = (te.reduce_axis((0, x.shape[0]), name=name) for name in ("i", "j"))
    low = te.compute((1,), lambda _: te.min(x[down], axis=down), name="low")
    high = te.compute((1,), lambda _: te.max(x[up], axis=up), name="high")
    zero = tirx.const(0.0, "float32")
    step = te.compute((), lambda: steps_of(tirx.min(low[0], zero), tirx.max(high[0], zero)), name="scale")
    return [step, te.compute((), lambda: zero_of(tirx.min(low[0], zero), step()), name="level")]


def codes_of(emitter: Emitter, quantizer: Quantizer) -> Value:
    """The codes of a quantizer in the layout of its activation; they are made once."""
    if quantizer.steps not in emitter.quantized:
        emitter.quantized[quantizer.steps] = _codes(emitter, quantizer)
    return emitter.quantized[quantizer.steps]


def _codes(emitter: Emitter, quantizer: Quantizer) -> Value:
    value = emitter.value(quantizer.x)
    parameters = [emitter.value(var).expr for var in (quantizer.scale, quantizer.level)]
    # a product with 1 / scale would round to another code at times
    named = {"primfunc_name_hint": "quantize", "primfunc_attrs": {"op_pattern": _OPAQUE, EXACT: 1, RANGED: 1}}
    made = emitter.builder.emit_te(coded, value.expr, *parameters, **named)
    return Value(made, value.shape, "uint8", value.perm)


def surrounded(emitter: Emitter, quantizer: Quantizer, codes: Any, pads: tuple[tuple[int, int], ...]) -> Any:
    """Codes with that of 0 around them. pads: by stored axis, how many go before and behind."""
    sizes = shape_of(codes)

    def compute(data: Any, level: Any) -> Any:
        def element(*at: Any) -> Any:
            inner = [place - before for place, (before, _) in zip(at, pads, strict=True)]
            tests = [test for place, n, pad in zip(inner, sizes, pads, strict=True) if any(pad)
                     for test in (place >= 0, place < n)]  # fmt: skip
            return tirx.if_then_else(tirx.all(*tests), data[tuple(inner)], byte(level[()]))

        return te.compute([n + sum(pad) for n, pad in zip(sizes, pads, strict=True)], element, name="pad")

    named = {"primfunc_name_hint": "pad", "primfunc_attrs": {"op_pattern": _OPAQUE}}
    return emitter.builder.emit_te(compute, codes, emitter.value(quantizer.level).expr, **named)
