"""Operators that work on codes as they do on numbers: what moves elements, or picks one of them by comparing.

quantize and dequantize compute nothing where codes go on: a dequantized tensor is its codes and their grid, until an
operator needs the numbers.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from tvm import relax

from tesa.layers import turned  # noqa: F401  (registers handlers)
from tesa.layers.codes import encoded, grid_of, unsigned
from tesa.layers.emitter import Emitter
from tesa.layers.expressions import constant_of, op_name, shape_of
from tesa.layers.layout import SIGNED, Grid, Value
from tesa.layers.operators import lower_operator

_MOVES = (
    "reshape expand_dims squeeze flatten permute_dims strided_slice dynamic_strided_slice take gather_elements "
    "gather_nd broadcast_to flip tile repeat max min "
    "nn.batch_flatten nn.pixel_shuffle nn.max_pool1d nn.max_pool2d nn.max_pool3d"
).split()
"""Operators whose result is made of elements of their first argument. Pooling pads with what is never the largest."""

_JOINS = ("concat", "where", "maximum", "minimum")
"""The same of several arguments: of one grid."""


def lower_coded(emitter: Emitter, call: Any) -> Value | None:
    """Lower a call that yields one tensor on the codes of what it reads; None where it needs the numbers."""
    handler = _HANDLERS.get(op_name(call).removeprefix("relax."))
    return None if handler is None else handler(emitter, call)


def _move(emitter: Emitter, call: Any) -> Value | None:
    return _on_codes(emitter, call, call.args[:1])


def _join(emitter: Emitter, call: Any) -> Value | None:
    name = op_name(call)
    if name == "relax.concat":
        parts = list(call.args[0].fields) if isinstance(call.args[0], relax.Tuple) else []
    else:
        parts = list(call.args[1:] if name == "relax.where" else call.args)
    return _on_codes(emitter, call, parts)


def _on_codes(emitter: Emitter, call: Any, sources: Any) -> Value | None:
    """The call on the codes of its sources, if they are all codes of one grid."""
    if not sources or not all(source in emitter.values for source in sources):
        return None
    values = [emitter.values[source] for source in sources]
    grid, dtype = values[0].grid, values[0].dtype
    if grid is None or any((value.grid, value.dtype) != (grid, dtype) for value in values):
        return None
    made = with_values(emitter, call, {s: bare(v) for s, v in zip(sources, values, strict=True)})
    return replace(made, dtype=dtype, grid=grid)


def bare(value: Value) -> Value:
    """The codes of a value as a tensor of their own."""
    return replace(value, dtype="uint8", grid=None)


def with_values(emitter: Emitter, call: Any, values: Any) -> Value:
    """The call lowered with other values of some of its sources."""
    before = {source: emitter.values[source] for source in values}
    emitter.values.update(values)
    try:
        return lower_operator(emitter, call)
    finally:
        emitter.values.update(before)


def _quantize(emitter: Emitter, call: Any) -> Value | None:
    """Nothing where the numbers are of that grid already."""
    grid = grid_of(call)
    if grid is None:
        return None
    source, dtype = emitter.coded(call.args[0]), str(call.ty.dtype)
    kind = SIGNED if dtype == "int8" else None
    made = source if source.grid == grid else _clipped(emitter, call.args[0], grid)
    if made is None:
        real = emitter.real(source)
        made = replace(real, expr=encoded(emitter.builder, real, grid))
    return replace(made, dtype=dtype, grid=kind)


def _dequantize(emitter: Emitter, call: Any) -> Value | None:
    grid, source = grid_of(call), emitter.coded(call.args[0])
    if grid is None or constant_of(source.expr) is not None:
        return None
    return replace(unsigned(emitter.builder, source), dtype="float32", grid=grid, layer=emitter.builder.layer)


def _clipped(emitter: Emitter, expr: Any, grid: Grid) -> Value | None:
    """The codes of a tensor that is other numbers of the same grid clipped to any bounds.

    Rounding to a grid reverses no order, so that the clipped numbers round to the codes clipped to the rounded bounds.
    """
    call = emitter.sources.get(expr)
    bounds = _bounds(call)
    if call is None or bounds is None or call.args[0] not in emitter.values:
        return None
    source = emitter.values[call.args[0]]
    if source.grid != grid or source.dtype != "float32":
        return None
    return _clip_codes(emitter, source, *(_code(bound, grid) for bound in bounds))


def _bounds(call: Any) -> tuple[float, float] | None:
    """The bounds that a relu or a clip keeps its result in; None for anything else."""
    if op_name(call) == "relax.nn.relu":
        return 0.0, float("inf")
    if op_name(call) in ("relax.clip", "relax.nn.relu6"):
        return (0.0, 6.0) if len(call.args) == 1 else (float(call.args[1].value), float(call.args[2].value))
    return None


def _code(number: float, grid: Grid) -> int:
    """The code that a number is rounded to."""
    steps = np.rint(np.float32(number) / np.float32(grid.scale)) + grid.zero
    return int(np.clip(steps, 0, 255))


def _clip(emitter: Emitter, call: Any) -> Value | None:
    """relu, or a clip whose bounds are numbers of the grid or beyond it."""
    value, bounds = emitter.coded(call.args[0]), _bounds(call)
    if value.grid is None or bounds is None:
        return None
    ends = [_code(bound, value.grid) for bound in bounds]
    numbers = [np.float32(end - value.grid.zero) * np.float32(value.grid.scale) for end in ends]
    free = (ends[0] == 0 and bounds[0] <= numbers[0], ends[1] == 255 and bounds[1] >= numbers[1])
    for bound, number, beyond in zip(bounds, numbers, free, strict=True):
        if number != np.float32(bound) and not beyond:
            return None
    return _clip_codes(emitter, value, *ends)


def _clip_codes(emitter: Emitter, value: Value, low: int, high: int) -> Value:
    expr = value.expr
    if low > 0:
        expr = emitter.builder.emit(relax.op.maximum(expr, relax.const(np.uint8(low))))
    if high < 255:
        expr = emitter.builder.emit(relax.op.minimum(expr, relax.const(np.uint8(high))))
    return replace(value, expr=expr)


def _pad(emitter: Emitter, call: Any) -> Value | None:
    """With the code of the number that it pads with, if it has one."""
    value, mode = emitter.coded(call.args[0]), str(call.attrs.pad_mode)
    if value.grid is None:
        return None
    padding, code = [int(extent) for extent in call.attrs.pad_width], 0.0
    if mode == "constant":
        number = float(call.attrs.pad_value)
        code = _code(number, value.grid)
        if np.float32(code - value.grid.zero) * np.float32(value.grid.scale) != np.float32(number):
            return None
    pairs = [padding[2 * axis : 2 * axis + 2] for axis in value.perm]
    made = relax.op.nn.pad(value.expr, [extent for pair in pairs for extent in pair], mode, float(code))
    return replace(emitter.emit(made, shape_of(call), value.perm), dtype=value.dtype, grid=value.grid)


_HANDLERS: dict[str, Callable[[Emitter, Any], Value | None]] = {
    "quantize": _quantize,
    "dequantize": _dequantize,
    **dict.fromkeys(_MOVES, _move),
    **dict.fromkeys(_JOINS, _join),
    **dict.fromkeys(("clip", "nn.relu", "nn.relu6"), _clip),
    "nn.pad": _pad,
}
