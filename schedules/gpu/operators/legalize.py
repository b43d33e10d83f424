"""TIR for Relax's operators on GPUs where TVM's own way would lose a not-a-number, or launches by loops of the host.

A GPU's minimum of a number and a not-a-number is the number, so limits are comparisons. Sorting counts, for each
element, how many come before it: a thread for each, no step that waits for another one, and the order of equal elements
is kept. It costs n x n comparisons of an axis of n, which a GPU does for the thousands that networks sort.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import te, tirx

from tesa.schedules.legalize import legalization as usual
from tesa.schedules.legalize import of_one, of_two, sign

Legal = dict[str, Callable[[Any, Any], Any]]


def legalization() -> Legal:
    """The argument of relax.transform.LegalizeOps for a GPU."""
    own: Legal = {
        "relax.nn.relu": of_one(lambda x: tirx.Select(x < tirx.const(0, x.dtype), tirx.const(0, x.dtype), x), "relu"),
        "relax.sign": of_one(sign, "sign"),
        "relax.clip": _clip,
        "relax.maximum": of_two(lambda a, b: tirx.Select(a < b, b, _other(a, b)), "maximum"),
        "relax.minimum": of_two(lambda a, b: tirx.Select(b < a, b, _other(a, b)), "minimum"),
        "relax.argsort": _argsort,
        "relax.sort": _sort,
        "relax.topk": _topk,
        "relax.cumsum": lambda bb, call: _scan(bb, call, te.sum),
        "relax.cumprod": lambda bb, call: _scan(bb, call, _PRODUCT),
        "relax.scatter_elements": _scatter_elements,
    }
    return {**usual(), **own}


def _other(a: Any, b: Any) -> Any:
    """a, or b where b is no number; of_two has seen to a."""
    return tirx.Select(tirx.isnan(b), b, a) if str(a.dtype).startswith("float") else a


def _clip(bb: Any, call: Any) -> Any:
    """The upper bound wins where it is the lower one."""
    low, high = (getattr(bound.value, "value", bound.value) for bound in call.args[1:])

    def limited(x: Any) -> Any:
        least, most = tirx.const(low, str(x.dtype)), tirx.const(high, str(x.dtype))
        above = tirx.Select(x < least, least, x)
        return tirx.Select(most < above, most, above)

    return of_one(limited, "clip")(bb, call)


_PRODUCT = te.comm_reducer(lambda a, b: a * b, lambda kind: tirx.const(1, kind), name="product")


def _axis(call: Any, x: Any) -> int:
    axis = call.attrs.axis
    return (int(axis) if axis is not None else 0) % len(x.shape)


def _scan(bb: Any, call: Any, combine: Any) -> Any:
    """Each element with all before it. Without an axis the tensor is flat."""
    exclusive = bool(call.attrs.exclusive) if call.attrs.exclusive is not None else False
    kind = call.attrs.dtype

    def compute(x: Any) -> Any:
        if call.attrs.axis is None:
            x = _flat(x)
        axis, dtype = _axis(call, x), str(kind) if kind else str(x.dtype)
        j = te.reduce_axis((0, x.shape[axis]), name="j")

        def element(*i: Any) -> Any:
            value = x[(*i[:axis], j, *i[axis + 1 :])].astype(dtype)
            neutral = tirx.const(0 if combine is te.sum else 1, dtype)
            before = j < i[axis] if exclusive else j <= i[axis]
            return combine(tirx.Select(before, value, neutral), axis=j)

        return te.compute(x.shape, element, name="scan")

    return bb.call_te(compute, call.args[0], primfunc_name_hint="scan")


def _flat(x: Any) -> Any:
    shape = [int(size) for size in x.shape]
    total = 1
    for size in shape:
        total *= size

    def element(i: Any) -> Any:
        place, rest = [], i
        for size in reversed(shape):
            place.append(tirx.indexmod(rest, size))
            rest = tirx.indexdiv(rest, size)
        return x[tuple(reversed(place))]

    return te.compute((total,), element, name="flat")


def _ranks(x: Any, axis: int, descending: bool) -> Any:
    """The number of elements of the axis before each one. What is no number comes last, or first of descending ones."""
    j = te.reduce_axis((0, x.shape[axis]), name="j")

    def element(*i: Any) -> Any:
        mine, other = x[i], x[(*i[:axis], j, *i[axis + 1 :])]
        before = _less(mine, other) if descending else _less(other, mine)
        after = _less(other, mine) if descending else _less(mine, other)
        equal = tirx.all(tirx.Not(before), tirx.Not(after), j < i[axis])
        return te.sum(tirx.Select(tirx.any(before, equal), tirx.const(1, "int32"), tirx.const(0, "int32")), axis=j)

    return te.compute(x.shape, element, name="ranks")


def _less(a: Any, b: Any) -> Any:
    """a < b, where what is no number is larger than all others."""
    if not str(a.dtype).startswith("float"):
        return a < b
    return tirx.any(a < b, tirx.all(tirx.isnan(b), tirx.Not(tirx.isnan(a))))


def _placed(x: Any, ranks: Any, axis: int, count: int, value: Callable[[Any, Any], Any], kind: str) -> Any:
    """For each of the first `count` places value(element, its number) of what belongs there."""
    j = te.reduce_axis((0, x.shape[axis]), name="j")
    shape = [*x.shape[:axis], count, *x.shape[axis + 1 :]]

    def element(*i: Any) -> Any:
        source = (*i[:axis], j, *i[axis + 1 :])
        chosen = ranks[source] == i[axis]
        # one element is chosen, so that the sum is it; what is no number must not be multiplied by 0
        return te.sum(tirx.Select(chosen, value(x[source], j).astype(kind), tirx.const(0, kind)), axis=j)

    return te.compute(shape, element, name="placed")


def _argsort(bb: Any, call: Any) -> Any:
    kind, descending = str(call.attrs.dtype or "int32"), bool(call.attrs.descending)

    def compute(x: Any) -> Any:
        axis = _axis(call, x)
        return _placed(x, _ranks(x, axis, descending), axis, x.shape[axis], lambda _, j: j, kind)

    return bb.call_te(compute, call.args[0], primfunc_name_hint="argsort")


def _sort(bb: Any, call: Any) -> Any:
    descending = bool(call.attrs.descending)

    def compute(x: Any) -> Any:
        axis = _axis(call, x)
        return _placed(x, _ranks(x, axis, descending), axis, x.shape[axis], lambda v, _: v, str(x.dtype))

    return bb.call_te(compute, call.args[0], primfunc_name_hint="sort")


def _topk(bb: Any, call: Any) -> Any:
    """The values, their numbers, or both, of the k largest or smallest elements in their order."""
    what, largest, kind = str(call.attrs.ret_type), bool(call.attrs.largest), str(call.attrs.dtype or "int32")

    def compute(x: Any) -> Any:
        axis = _axis(call, x)
        count = int(call.attrs.k) if int(call.attrs.k) > 0 else int(x.shape[axis])
        ranks = _ranks(x, axis, largest)
        values = _placed(x, ranks, axis, count, lambda v, _: v, str(x.dtype))
        places = _placed(x, ranks, axis, count, lambda _, j: j, kind)
        return {"values": values, "indices": places}.get(what, [values, places])

    return bb.call_te(compute, call.args[0], primfunc_name_hint="topk")


_SCATTERS: dict[str, tuple[Callable[[Any, Any], Any], Any]] = {
    "add": (lambda a, b: a + b, te.sum),
    "mul": (lambda a, b: a * b, _PRODUCT),
    "max": (lambda a, b: tirx.Select(a < b, b, a), te.max),
    "min": (lambda a, b: tirx.Select(b < a, b, a), te.min),
}


def _scatter_elements(bb: Any, call: Any) -> Any:
    """Each element looks for the updates that are meant for it; without a reduction the last one counts."""
    reduction, data = str(call.attrs.reduction), call.args[0]
    usual_way = usual().get("relax.scatter_elements")
    if reduction not in ("update", *_SCATTERS) and usual_way is not None:
        return usual_way(bb, call)

    def compute(x: Any, places: Any, updates: Any) -> Any:
        axis, size = _axis(call, x), x.shape
        count = updates.shape[axis]
        j = te.reduce_axis((0, count), name="j")

        def meant(i: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
            """True where update j is for element i, and its place, which is made one of the array's."""
            others = [a for a in range(len(i)) if a != axis]
            inside = [i[a] < updates.shape[a] for a in others]
            own = [tirx.min(at, updates.shape[a] - 1) for a, at in enumerate(i)]
            at = (*own[:axis], j, *own[axis + 1 :])
            target = places[at]
            target = tirx.Select(target < 0, target + tirx.Cast(str(places.dtype), size[axis]), target)
            return tirx.all(*inside, target == i[axis]), at

        def last(*i: Any) -> Any:
            mine, _ = meant(i)
            number = tirx.Cast("int32", j)
            return te.max(tirx.Select(mine, number, tirx.const(-1, "int32")), axis=j)

        def combined(*i: Any) -> Any:
            mine, at = meant(i)
            return combine(tirx.Select(mine, updates[at], _neutral(reduction, str(x.dtype))), axis=j)

        if reduction == "update":
            found = te.compute(size, last, name="last")

            def chosen(*i: Any) -> Any:
                own = [tirx.min(at, updates.shape[a] - 1) for a, at in enumerate(i)]
                at = (*own[:axis], tirx.max(found[i], 0), *own[axis + 1 :])
                return tirx.Select(found[i] >= 0, updates[at], x[i])

            return te.compute(size, chosen, name="scatter")
        both, combine = _SCATTERS[reduction]
        total = te.compute(size, combined, name="updates")
        return te.compute(size, lambda *i: both(x[i], total[i]), name="scatter")

    return bb.call_te(compute, data, call.args[1], call.args[2], primfunc_name_hint="scatter_elements")


def _neutral(reduction: str, kind: str) -> Any:
    """The number that a reduction leaves as it is."""
    if reduction in ("max", "min"):
        return tirx.min_value(kind) if reduction == "max" else tirx.max_value(kind)
    return tirx.const(1 if reduction == "mul" else 0, kind)
