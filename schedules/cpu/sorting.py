"""Sorted numbers and their places, for code that cannot call a sort of TVM's runtime.

Before:
    for every line of X along an axis:  order = places of its elements, sorted by them; Y, I = the first of them
After:
    for outer, inner:
        order = 0 ... n - 1
        for width = 1, 2, 4 ... n:                         a merge sort from below, which keeps the order of equals
            for runs of 2 * width:  merge order[run], order[run + width] into the other half of the buffer
        for j < count:  Y[outer, j, inner] = X[outer, order[j], inner];  I[outer, j, inner] = order[j]
A number that is none (NaN) has no order; where it comes out is not defined, and nothing else goes wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from tesa.schedules.cpu.loops import flat, function, named, parameter, serial


@dataclass(frozen=True)
class Sort:
    """A sort of lines along an axis. count: how many of each line come out; values, places: what comes out, in order.

    dtype: of X; index: of the places.
    """

    shape: tuple[int, ...]
    axis: int
    count: int
    dtype: str = "float32"
    descending: bool = False
    values: bool = True
    places: bool = False
    index: str = "int32"


def sort(symbol: str, what: Sort) -> Any:
    """The function of X, values and places, those of them that come out.

    >>> sort("sorted", Sort((2, 3), 1, 3)).attrs["global_symbol"]
    'sorted'
    """
    shape = what.shape
    made = (*shape[: what.axis], what.count, *shape[what.axis + 1 :])
    with function(symbol) as builder:
        x = parameter("X", shape, what.dtype)
        outputs = [parameter("Y", made, what.dtype)] if what.values else []
        outputs += [parameter("I", made, what.index)] if what.places else []
        _body(what, flat(x), [flat(output) for output in outputs])
    return builder.get()


def _body(what: Sort, x: Any, outputs: Sequence[Any]) -> None:
    length = what.shape[what.axis]
    outer, inner = prod(what.shape[: what.axis]), prod(what.shape[what.axis + 1 :])
    order = named("order", T.alloc_buffer((2 * max(length, 1),), "int32", align=64))
    state = named("state", T.alloc_buffer((2,), "int32", align=64))
    rounds = max(length - 1, 0).bit_length()
    with serial("line", outer) as line, serial("column", inner) as column:
        base = line * (length * inner) + column

        def key(place: Any) -> Any:
            return x[base + place * inner]

        with serial("i", length) as i:
            T.buffer_store(order, i, [i])
        with serial("round", rounds) as turn:
            _round(what, turn, length, order, state, key)
        with serial("j", what.count) as j:
            place, to = order[(rounds % 2) * length + j], line * (what.count * inner) + j * inner + column
            results = ([key(place)] if what.values else []) + ([tirx.Cast(what.index, place)] if what.places else [])
            for output, result in zip(outputs, results, strict=True):
                T.buffer_store(output, result, [to])


def _round(what: Sort, turn: Any, length: int, order: Any, state: Any, key: Any) -> None:
    """Merge runs of 2 ** turn places, from one half of order into the other."""
    source, target = (turn % 2) * length, (1 - turn % 2) * length
    width = tirx.shift_left(tirx.const(1, "int32"), turn)
    with serial("run", (length + 2 * width - 1) // (2 * width)) as run:
        first = run * 2 * width
        middle, end = T.min(first + width, length), T.min(first + 2 * width, length)
        T.buffer_store(state, first, [0])
        T.buffer_store(state, middle, [1])
        with serial("k", end - first) as k:
            # the places that are compared exist even where a run has come to its end
            left = order[source + T.min(state[0], length - 1)]
            right = order[source + T.min(state[1], length - 1)]
            before = key(right) > key(left) if what.descending else key(right) < key(left)
            takes = tirx.any(state[0] >= middle, tirx.all(state[1] < end, before))
            with T.If(takes):
                with T.Then():
                    T.buffer_store(order, right, [target + first + k])
                    T.buffer_store(state, state[1] + 1, [1])
                with T.Else():
                    T.buffer_store(order, left, [target + first + k])
                    T.buffer_store(state, state[0] + 1, [0])
