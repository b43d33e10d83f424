"""Sums, means, products and extremes along axes.

Some values decide a result alone: a factor 0 the product, +inf the maximum, -inf the minimum. What meets such a value
is dead if it is not known; a known element never leans on another one (see engine.py). Integers are reduced in their
own type, so that nothing is rounded and an overflow wraps around as it does in the model.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tesa.attributes.attribute import Bools, TeSA, Values, unknown
from tesa.propagate.registry import Operator, rule
from tesa.propagate.rules.common import axes_of, facts, pad_axes
from tesa.propagate.rules.movement import one_scale
from tesa.propagate.rules.mover import unneeded

REDUCE: dict[str, Callable[..., Any]] = {
    "sum": np.sum, "mean": np.mean, "max": np.max, "min": np.min, "prod": np.prod, "variance": np.var, "std": np.std,
    "argmax": np.argmax, "argmin": np.argmin,
}  # fmt: skip
DECIDES = {"prod": 0.0, "max": math.inf, "min": -math.inf, "argmax": math.inf, "argmin": -math.inf}
FLOAT_ONLY = {"mean", "variance", "std"}  # of integers: how the division rounds is the back end's business
LIMITS = {"float16": 65504.0}


def _axes(op: Operator) -> tuple[int, ...]:
    return axes_of(op.attrs.get("axis"), len(op.inputs[0]))


def _kind(op: Operator) -> str:
    return op.op.removeprefix("relax.")


def _integral(dtype: str) -> bool:
    return dtype.startswith(("int", "uint", "bool"))


def deciding(op: Operator, x: TeSA) -> Bools:
    """A mask of the results that one known element decides; the reduced axes have length 1."""
    kind, axes = _kind(op), _axes(op)
    value = DECIDES.get(kind)
    if value is None:
        return np.zeros((1,) * len(x.shape), bool)
    if op.dtypes[0] == "bool" and kind in ("max", "min"):
        value = float(kind == "max")
    found = (x.known & (x.value == value)).any(axis=axes, keepdims=True)
    if kind == "prod" and x.value.dtype.kind == "f":  # 0 * inf is no number
        found = found & ~(x.known & np.isinf(x.value)).any(axis=axes, keepdims=True)
    return np.asarray(found)


def over_input(mask: Bools, op: Operator) -> Bools:
    """A mask over the output with the reduced axes put back as axes of length 1."""
    return mask if op.attrs.get("keepdims") else np.expand_dims(mask, _axes(op))


def _backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    x, live = inputs[0], over_input(outputs[0].live, op)
    for further in outputs[1:]:
        live = live | over_input(further.live, op)
    decided = deciding(op, x)
    return (live & (x.known | ~decided) if decided.any() else live,)


def _bits(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[TeSA | None, ...]:
    """An extreme is one of the elements, and rounding keeps their order: rounded first, it is the same."""
    rising = outputs[0].quantization is not None and bool((outputs[0].quantization.scale > 0).all())
    return (one_scale(outputs[0], op.inputs[0]) if rising and _kind(op) in ("max", "min") else None,)


@rule(*(f"relax.{name}" for name in REDUCE), backward=_backward, precision=_bits)
def reduction(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """Known where all that is reduced is known, or where one known element decides alone (0 in a product)."""
    x, axes, kind, decided = inputs[0], _axes(op), _kind(op), deciding(op, inputs[0])
    known = np.asarray(x.known.all(axis=axes, keepdims=True)) | decided
    if not known.any() or 0 in x.shape or (kind in FLOAT_ONLY and _integral(op.dtypes[0])):
        return (unknown(op.outputs[0]),)
    with np.errstate(all="ignore"):
        full = _full(x, axes, op)
        value = _evaluate(kind, full, axes, op.dtypes[0])
        known = known & (decided | _in_range(kind, full, axes, op.dtypes[0]))
    if decided.any():
        value = np.where(decided, np.asarray(_decided_value(op, value)).astype(value.dtype), value)
    if not op.attrs.get("keepdims"):
        known, value = (np.squeeze(a, axes) for a in (known, value))
    return (facts(op.outputs[0], known, value),)


def _decided_value(op: Operator, value: Values) -> Any:
    kind = _kind(op)
    if kind.startswith("arg"):
        return value  # the place of the first deciding element: all that is not known stands below it
    return kind == "max" if op.dtypes[0] == "bool" else DECIDES.get(kind, 0)


def _full(x: TeSA, axes: tuple[int, ...], op: Operator) -> Values:
    """The values with the reduced axes at their full length; an extreme never falls on one that is not known."""
    kind = x.value.dtype if x.value.dtype.kind in "iub" and x.known.all() else np.dtype(np.float64)
    if _integral(op.dtypes[0]) and not _kind(op).startswith("arg"):
        kind = np.dtype(op.dtypes[0])
    value = x.value.astype(kind)
    if _kind(op).startswith("arg") and not x.known.all():
        value = np.where(x.known, value, -DECIDES[_kind(op)])
    shape = np.broadcast_shapes(value.shape, x.known.shape)
    return np.broadcast_to(value, [n if i in axes else shape[i] for i, n in enumerate(x.shape)])


def _evaluate(kind: str, full: Values, axes: tuple[int, ...], dtype: str) -> Values:
    if kind.startswith("arg"):
        everything = len(axes) == full.ndim
        at = REDUCE[kind](full, axis=None if everything else axes[0])
        return np.asarray(at).reshape([1 if i in axes else n for i, n in enumerate(full.shape)])
    options = {"dtype": full.dtype} if full.dtype.kind in "iu" and kind in ("sum", "prod") else {}
    return np.asarray(REDUCE[kind](full, axis=axes, keepdims=True, **options))


def _in_range(kind: str, full: Values, axes: tuple[int, ...], dtype: str) -> Bools:
    """A mask of the results of which no partial sum, in any order, can leave the range of the type."""
    if _integral(dtype) or kind in ("max", "min", "argmax", "argmin"):
        return np.ones((1,) * full.ndim, bool)
    limit = LIMITS.get(dtype, float(np.finfo(np.float32).max))
    size = np.where(np.isinf(full), 1.0, np.abs(full))
    if kind == "prod":
        bound = np.prod(np.maximum(size, 1.0), axis=axes, keepdims=True)
    elif kind in ("variance", "std"):
        bound = np.sum((full - np.mean(full, axis=axes, keepdims=True)) ** 2, axis=axes, keepdims=True)
    else:
        bound = np.sum(size, axis=axes, keepdims=True)
    return np.asarray(bound <= limit)


@rule("relax.median", backward=_backward)
def median(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """The middle one, the lower of two: known where all are. Of its place, the second output, nothing is known."""
    x, axes, keep = inputs[0], _axes(op), bool(op.attrs.get("keepdims"))
    known = np.asarray(x.known.all(axis=axes, keepdims=keep))
    if not known.any() or 0 in x.shape:
        return tuple(unknown(shape) for shape in op.outputs)
    whole = [n if i in axes else x.value.shape[i] for i, n in enumerate(x.shape)]
    value = np.quantile(np.broadcast_to(x.value, whole), 0.5, axis=axes, keepdims=keep, method="lower")
    return (facts(op.outputs[0], known, np.asarray(value)), *(unknown(shape) for shape in op.outputs[1:]))


def _collapsed(op: Operator) -> tuple[int, ...]:
    """The axes of the input that are summed up to fit the output's shape."""
    old, new = op.inputs[0], (1,) * (len(op.inputs[0]) - len(op.outputs[0])) + op.outputs[0]
    lead = len(op.inputs[0]) - len(op.outputs[0])
    return tuple(i for i, (m, n) in enumerate(zip(old, new, strict=True)) if i < lead or m != n)


def _collapse_backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    return (pad_axes(outputs[0].live, len(op.inputs[0])), *unneeded(op, 1))


@rule("relax.collapse_sum_to", "relax.collapse_sum_like", backward=_collapse_backward)
def collapse_sum(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """The sum over all copies of a broadcast: known where all of them are."""
    x, axes = inputs[0], _collapsed(op)
    known = np.asarray(x.known.all(axis=axes, keepdims=True))
    if not known.any():
        return (unknown(op.outputs[0]),)
    value = x.value.astype(op.dtypes[0] if _integral(op.dtypes[0]) else np.float64)
    full = np.broadcast_to(value, [n if i in axes else value.shape[i] for i, n in enumerate(x.shape)])
    lead = tuple(range(len(op.inputs[0]) - len(op.outputs[0])))
    total = full.sum(axis=axes, keepdims=True, dtype=value.dtype)
    return (facts(op.outputs[0], known.squeeze(lead), total.squeeze(lead)),)
