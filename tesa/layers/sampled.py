"""Weighted sums of a few elements along an axis, at places that are known or computed, as one function.

    sum over t of take(x, place[t], axis) * share[t]

Resize is this along each axis that changes, GridSample and DeformConv along the pixels of a picture. One by one, each
take and each product would be written to memory and read again.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import relax, te, tirx

from tesa.layers.emitter import Emitter
from tesa.layers.expressions import constant_of, op_name, shape_of, variables
from tesa.layers.layout import Value
from tesa.schedules.cpu.operators.picks import PICKS, SAMPLES, note_of

_OPAQUE = 8  # TVM's operator kind that fusion leaves alone


@dataclass(frozen=True)
class Sampled:
    """Elements of x along an axis. places, shares: (outputs) of each tap, expressions; a share is None for 1.

    clip: places outside of the axis are its ends. absorbed: the variables that are computed on the way.
    """

    x: Any
    axis: int
    places: tuple[Any, ...]
    shares: tuple[Any, ...]
    clip: bool = False
    absorbed: tuple[Any, ...] = ()


def find_sampled(bindings: list[Any], outputs: set[Any]) -> dict[Any, Sampled]:
    """The variables that are such sums and no part of a larger one."""
    found: dict[Any, Sampled] = {}
    uses = Counter(var for binding in bindings for var in variables(binding.value))
    for binding in bindings:
        sample = _sample(binding.value, found, lambda var: uses[var] == 1 and var not in outputs)
        if sample is not None:
            found[binding.var] = sample
    parts = {var for sample in found.values() for var in sample.absorbed}
    return {var: sample for var, sample in found.items() if var not in parts}


def _sample(expr: Any, found: Mapping[Any, Sampled], single: Any) -> Sampled | None:
    """The sum that an expression is, of the sums that are known. single: whether a variable is read here alone."""
    name = op_name(expr)
    if name == "relax.take":
        return _take(expr)
    if name == "relax.multiply":
        for part, share in (expr.args, expr.args[::-1]):
            sample = found.get(part)
            if sample is not None and single(part) and sample.shares == (None,) and _along(share, expr, sample.axis):
                return replace(sample, shares=(share,), absorbed=(*sample.absorbed, part))
    if name == "relax.add" and all(arg in found and single(arg) for arg in expr.args):
        left, right = (found[arg] for arg in expr.args)
        alike = left.axis == right.axis and left.clip == right.clip
        if left.x.same_as(right.x) and alike and shape_of(expr.args[0]) == shape_of(expr.args[1]):
            absorbed = (*left.absorbed, *right.absorbed, *expr.args)
            places, shares = left.places + right.places, left.shares + right.shares
            return Sampled(left.x, left.axis, places, shares, left.clip, absorbed)
    return None


def _take(call: Any) -> Sampled | None:
    x, places = call.args[:2]
    if not isinstance(x, relax.Var) or str(call.attrs.mode) not in ("fast", "clip") or not hasattr(x.ty, "shape"):
        return None
    if len(shape_of(places)) != 1 or call.attrs.axis is None:
        return None
    return Sampled(x, int(call.attrs.axis) % len(shape_of(x)), (places,), (None,), str(call.attrs.mode) == "clip")


def _along(share: Any, call: Any, axis: int) -> bool:
    """True where a factor differs along one axis only."""
    shape, own = shape_of(call), shape_of(share)
    wide = (1,) * (len(shape) - len(own)) + own
    return len(wide) == len(shape) and all(n == (shape[i] if i == axis else 1) for i, n in enumerate(wide))


def emit_sampled(emitter: Emitter, sample: Sampled) -> Value | None:
    """The sum as one function; None where it is a take that is just as well alone."""
    value = emitter.value(sample.x)
    if len(value.perm) > 1 and value.perm[-1] == sample.axis and any(constant_of(at) is None for at in sample.places):
        value = emitter.to(value, (sample.axis, *(a for a in value.perm if a != sample.axis)))  # then rows are read
    places = [_vector(emitter, place) for place in sample.places]
    shares = [None if share is None else _vector(emitter, share) for share in sample.shares]
    axis = value.perm.index(sample.axis)
    note = _note(value, axis, places, shares)
    if not sample.absorbed and note is None:
        return None
    count = shape_of(places[0])[0]
    shape = tuple(count if i == sample.axis else n for i, n in enumerate(value.shape))
    weights = [share for share in shares if share is not None]
    last = value.shape[sample.axis] - 1

    def compute(x: Any, *tables: Any) -> Any:
        factors = iter(tables[len(places) :])
        own = [None if share is None else next(factors) for share in shares]

        def element(*at: Any) -> Any:
            total: Any = None
            for place, factor in zip(tables, own, strict=False):
                where = place[at[axis]]
                if sample.clip:
                    kind = str(place.dtype)
                    where = tirx.max(tirx.min(where, tirx.const(last, kind)), tirx.const(0, kind))
                part = x[(*at[:axis], where, *at[axis + 1 :])]
                part = part if factor is None else part * factor[at[axis]]
                total = part if total is None else total + part
            return total

        return te.compute(tuple(shape[a] for a in value.perm), element, name="sample")

    attributes = {"op_pattern": _OPAQUE, SAMPLES: True, **({} if note is None else {PICKS: note})}
    made = emitter.builder.emit_te(
        compute, value.expr, *places, *weights, primfunc_name_hint="sample", primfunc_attrs=attributes
    )
    return Value(made, shape, value.dtype, value.perm)


def _vector(emitter: Emitter, expr: Any) -> Any:
    """A tensor that has one long axis at most, as one with this axis alone."""
    array = constant_of(expr)
    if array is not None:
        return relax.const(np.ascontiguousarray(array.reshape(-1)), str(array.dtype))
    value = emitter.value(expr)
    if len(value.shape) == 1:
        return value.expr
    return emitter.builder.emit(relax.op.reshape(value.expr, (max(value.shape),)))


def _note(value: Value, axis: int, places: list[Any], shares: list[Any]) -> str | None:
    """The facts for a kernel of known places; None where they are not known, or no axis of neighbours is sampled."""
    if axis != len(value.perm) - 1 or value.dtype not in ("float32", "int32", "float16", "int8", "uint8"):
        return None
    if any(constant_of(table) is None for table in (*places, *(share for share in shares if share is not None))):
        return None
    if any(share is not None for share in shares) and value.dtype != "float32":
        return None
    table: list[NDArray[Any]] = [np.asarray(constant_of(place)) for place in places]
    weights = None
    if any(share is not None for share in shares):
        ones = np.ones(len(table[0]), np.float32)
        weights = np.stack([ones if share is None else np.asarray(constant_of(share)) for share in shares])
    return note_of(np.stack(table), weights)
