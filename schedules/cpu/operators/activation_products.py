"""The product of two activations that a function computes, as it is read, and what the loops that compute it share.

out[.., q, p] = f(sum over k of a[.., q, k] * b[.., k, p]), p the axis along which the output lies in memory. matmul.py
writes it for float32, codes_product.py for bytes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import ir, tirx

from tesa.schedules.cpu.operators.emit import Access, Views, nest, put, vector_loop
from tesa.schedules.cpu.operators.stages import Stage
from tesa.schedules.cpu.operators.tree import index, loads, rewrite, run, same, substitute


@dataclass(frozen=True)
class Product:
    """The product that a function computes. Axes are positions in the stage's iters; k is the last one.

    scalar does not move along p, vector does. accumulator is the load in last's value that stands for the sum; to_last
    says which iter of last each spatial iter of the product is (None: of extent 1).
    """

    product: Stage
    last: Stage
    scalar: Access
    vector: Access
    accumulator: Any
    to_last: tuple[int | None, ...]
    q: int | None
    p: int

    def extent(self, axis: int | None) -> int:
        return 1 if axis is None else self.product.iters[axis][1]

    @property
    def k(self) -> int:
        return self.product.iters[-1][1]

    def nest(self, body: Callable[[list[Any]], Any]) -> Any:
        """The loops over all axes but q, p and k around body(places)."""
        batch = [i for i in range(len(self.product.spatial)) if i not in (self.q, self.p)]
        return nest("b", self.product, batch, body)

    def row(self, places: list[Any], r: int) -> list[Any]:
        """The places r rows further on."""
        return places if self.q is None else put(places, self.q, places[self.q] + index(r))

    def finish(self, row: list[Any], start: int, lanes: int, read: Callable[[Any], Any]) -> Any:
        """What follows the sums, and the store, for some columns of a row. read(lane): the sum of one."""
        last = self.last

        def store(lane: Any) -> Any:
            moved = put(row, self.p, row[self.p] + index(start) + lane)
            outer: list[Any] = [index(0)] * len(last.spatial)
            for axis, place in zip(self.to_last, moved, strict=False):
                if axis is not None:
                    outer[axis] = place
            pairs = [(var, at) for (var, _), at in zip(last.spatial, outer, strict=True)]
            own = read(lane)
            value = own
            if last is not self.product:
                value = rewrite(last.store.value, ir.TensorLoad, lambda n: own if same(n, self.accumulator) else n)
            at = [substitute(i, pairs) for i in last.store.indices]
            return tirx.BufferStore(last.buffer, substitute(value, pairs), at)

        return vector_loop(lanes, store)


def read_product(stages: list[Stage], views: Views, read: Callable[[Stage], Sequence[Any] | None]) -> Product | None:
    """The product and what follows it. read: gives the two loads that a stage multiplies and adds up, if it does."""
    if len(stages) > 2 or not stages[0].reduce or not stages[-1].is_output:
        return None
    product, last = stages[0], stages[-1]
    factors = read(product)
    mapped = _to_last(product, last)
    if factors is None or mapped is None:
        return None
    accumulator, to_last = mapped
    wide = [i for i, (_, extent) in enumerate(last.spatial) if extent > 1]
    along = [i for i, axis in enumerate(to_last) if axis is not None and wide and axis == wide[-1]]
    sides = [views.access(product, load) for load in factors]
    if len(along) != 1 or sides[0] is None or sides[1] is None:
        return None
    p, k = along[0], len(product.iters) - 1
    moving = [side for side in sides if side is not None and side.strides[p]]
    still = [side for side in sides if side is not None and not side.strides[p]]
    if len(moving) != 1 or 1 not in (moving[0].strides[p], moving[0].strides[k]):
        return None
    rows = [i for i in range(k) if i != p and still[0].strides[i] and not moving[0].strides[i]]
    q = max(rows, key=lambda i: product.iters[i][1], default=None)
    return Product(product, last, still[0], moving[0], accumulator, to_last, q, p)


def _to_last(product: Stage, last: Stage) -> tuple[Any, tuple[int | None, ...]] | None:
    """(accumulator load, iter of last for each spatial iter of product); None where the epilogue moves things about."""
    if not product.stores_in_order():
        return None
    if last is product:
        own = [load for load in loads(product.store.value) if load.source.same_as(product.buffer)]
        return own[0], tuple(range(len(product.spatial)))
    own = [load for load in loads(last.store.value) if load.source.same_as(product.buffer)]
    if not own or any(not same(load, own[0]) for load in own[1:]):
        return None
    places: list[int | None] = []
    for at, (_, extent) in zip(own[0].indices, product.spatial, strict=True):
        match = [i for i, (var, _) in enumerate(last.spatial) if at.same_as(var)]
        if extent > 1 and (len(match) != 1 or last.spatial[match[0]][1] != extent):
            return None
        places.append(match[0] if match and extent > 1 else None)
    taken = [place for place in places if place is not None]
    covered = all(i in taken for i, (_, extent) in enumerate(last.spatial) if extent > 1)
    return (own[0], tuple(places)) if last.stores_in_order() and covered and len(set(taken)) == len(taken) else None


def splat(value: Any, lanes: int) -> Any:
    """The value in every lane."""
    return value if lanes == 1 else tirx.Broadcast(value, lanes)


def write(buffer: Any, value: Any) -> Any:
    """Store a vector in the first elements of a buffer."""
    return tirx.BufferStore(buffer, value, [run(index(0), int(value.ty.dtype.lanes))])
