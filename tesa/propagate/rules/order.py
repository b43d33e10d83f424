"""Running sums and products, sorting and searching: what depends on the order along an axis."""

import numpy as np

from tesa.attributes.attribute import Bools, Shape, TeSA, Values, unknown
from tesa.propagate.registry import Operator, rule
from tesa.propagate.rules.common import facts, full_along
from tesa.propagate.rules.movement import Chain, Reshape, move, needed


def _line(op: Operator) -> tuple[Shape, int, Chain]:
    """(shape, axis, steps to it): an operator without an axis runs over the flattened tensor."""
    shape, axis = op.inputs[0], op.attrs.get("axis")
    if axis is not None:
        return shape, int(axis) % len(shape), ()
    flat = (int(np.prod(shape)),)
    return flat, 0, (Reshape(shape, flat),)


def _shifted(array: Values, axis: int, first: object) -> Values:
    """The array one place later along the axis, `first` in front."""
    front = np.full_like(array.take([0], axis=axis), first)
    return np.concatenate([front, array.take(range(array.shape[axis] - 1), axis=axis)], axis=axis)


def _until(mask: Bools, axis: int) -> Bools:
    """True for each place at or before a True one."""
    return np.flip(np.logical_or.accumulate(np.flip(mask, axis), axis=axis), axis)


def _scan_facts(op: Operator, x: TeSA) -> tuple[Bools, Values, Bools]:
    """(known, value, 0 from here on), at full length along the axis. In a product a known 0 decides all after it."""
    shape, axis, steps = _line(op)
    known, value = (full_along(move(steps, a), axis, shape[axis]) for a in (x.known, x.value))
    whole = op.dtypes[0].startswith(("int", "uint", "bool"))
    known, value = np.broadcast_arrays(known, value.astype(op.dtypes[0] if whole else np.float64))
    stop = np.zeros_like(known)
    if op.op == "relax.cumprod":
        finite = np.logical_and.accumulate(~(known & np.isinf(value)), axis=axis) if not whole else np.ones_like(known)
        stop = np.logical_or.accumulate(known & (value == 0), axis=axis) & finite
    return known, value, stop


def _scan_backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    """A term is needed by every live sum from its place on; in a product only by those before the first known 0."""
    shape, axis, steps = _line(op)
    if 0 in shape:
        return (np.ones((1,) * len(op.inputs[0]), bool),)
    known, _, stop = _scan_facts(op, inputs[0])
    live = full_along(outputs[0].live, axis, shape[axis])
    if op.attrs.get("exclusive"):
        live = np.flip(_shifted(np.flip(live, axis), axis, False), axis)
    need = _until(live, axis)
    if stop.any():
        need = np.where(known, need, _until(live & ~stop, axis))
    return (needed(steps, need),)


@rule("relax.cumsum", "relax.cumprod", backward=_scan_backward)
def scan(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """Known as far as all terms are known; a known factor 0 makes the rest of a product 0."""
    shape, axis, _ = _line(op)
    if not inputs[0].known.any() or 0 in shape:
        return (unknown(op.outputs[0]),)
    known, value, stop = _scan_facts(op, inputs[0])
    function = np.cumprod if op.op == "relax.cumprod" else np.cumsum
    with np.errstate(all="ignore"):
        total = np.where(stop, 0, function(np.where(known, value, 0), axis=axis, dtype=value.dtype))
    total = total.astype(value.dtype)
    sure = np.logical_and.accumulate(known, axis=axis) | stop
    if op.attrs.get("exclusive"):
        start = 1 if op.op == "relax.cumprod" else 0
        total, sure = _shifted(total, axis, start), _shifted(sure, axis, True)
    return (facts(op.outputs[0], sure, total),)


def _row_backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    _, axis, steps = _line(op)
    need = np.zeros((1,) * len(outputs[0].shape), bool)
    for out in outputs:
        need = need | out.live.any(axis=axis, keepdims=True)
    return (needed(steps, need),)


def _ordered(op: Operator, x: TeSA, descending: bool) -> tuple[Bools, Values, Values, Bools]:
    """(known rows, sorted values, their places, rows without equals), all rows at full length."""
    shape, axis, steps = _line(op)
    known, value = (full_along(move(steps, a), axis, shape[axis]) for a in (x.known, x.value))
    places = np.argsort(value, axis=axis, kind="stable")
    value = np.take_along_axis(value, places, axis=axis)
    last = shape[axis] - 1
    distinct = (value.take(range(last), axis) != value.take(range(1, last + 1), axis)).all(axis=axis, keepdims=True)
    if descending:
        value, places = np.flip(value, axis), np.flip(places, axis)
    return np.asarray(known.all(axis=axis, keepdims=True)), value, places, np.asarray(distinct)


@rule("relax.sort", "relax.argsort", backward=_row_backward)
def sort(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """Known where the whole row is; the places only where no two of its elements are equal."""
    if not inputs[0].known.any() or 0 in op.inputs[0]:
        return (unknown(op.outputs[0]),)
    known, value, places, distinct = _ordered(op, inputs[0], bool(op.attrs.get("descending")))
    if op.op == "relax.sort":
        return (facts(op.outputs[0], known, value),)
    return (facts(op.outputs[0], known & distinct, places),)


@rule("relax.topk", backward=_row_backward)
def topk(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """Known where the whole row is; the places only where no two of its elements are equal."""
    if not inputs[0].known.any() or 0 in op.inputs[0] or 0 in op.outputs[0]:
        return tuple(unknown(shape) for shape in op.outputs)
    known, value, places, distinct = _ordered(op, inputs[0], bool(op.attrs.get("largest", True)))
    axis = int(op.attrs["axis"]) % len(op.inputs[0])
    first = range(op.outputs[0][axis])
    both = (facts(op.outputs[0], known, value.take(first, axis=axis)),
            facts(op.outputs[0], known & distinct, places.take(first, axis=axis)))  # fmt: skip
    return {"both": both, "values": both[:1], "indices": both[1:]}[str(op.attrs.get("ret_type", "both"))]


def _bucket_backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    return outputs[0].live, np.full((1,), bool(outputs[0].live.any()))


@rule("relax.bucketize", backward=_bucket_backward)
def bucketize(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """The number of boundaries below an element: known where the element and the boundaries are."""
    x, bounds = inputs
    if not bounds.known.all() or not x.known.any():
        return (unknown(op.outputs[0]),)
    limits = np.broadcast_to(bounds.value, bounds.shape)
    if bool((limits[1:] < limits[:-1]).any()):
        return (unknown(op.outputs[0]),)
    value = np.searchsorted(limits, x.value, side="right" if op.attrs.get("right") else "left")
    return (facts(op.outputs[0], x.known, value),)
