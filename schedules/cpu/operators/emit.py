"""Pieces for kernels that are written out as flat loops: views of buffers, loops, cuts into tiles."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from tvm import tirx

from tesa.schedules.cpu.operators import marks
from tesa.schedules.cpu.operators.stages import Stage
from tesa.schedules.cpu.operators.tree import flat_index, index, run, sequence, simplify, substitute


@dataclass(frozen=True)
class Access:
    """A load of a flat view: element offset + sum of stride * variable, over a stage's iters."""

    view: Any
    offset: Any
    strides: tuple[int, ...]

    def at(self, places: Sequence[Any]) -> Any:
        """The element index where the iters have these values (expressions or numbers)."""
        total = self.offset
        for stride, place in zip(self.strides, places, strict=True):
            if stride:
                total = total + place * index(stride)
        return simplify(total)

    def vector(self, places: Sequence[Any], lanes: int) -> Any:
        """A load of neighbours: lanes elements from there on."""
        return tirx.BufferLoad(self.view, [run(self.at(places), lanes)])


class Views:
    """One-dimensional views of parameters, declared once each."""

    def __init__(self) -> None:
        self.pairs: list[tuple[Any, Any]] = []

    def of(self, buffer: Any) -> Any:
        for known, view in self.pairs:
            if known.same_as(buffer):
                return view
        size = index(prod(map(int, buffer.shape)))
        view = tirx.decl_buffer([size], str(buffer.dtype), name=buffer.name + "_flat", data_alignment=4)
        self.pairs.append((buffer, view))
        return view

    def access(self, stage: Stage, load: Any) -> Access | None:
        """The way of a stage's load through memory; None where that is not linear."""
        moves = stage.load_strides(load)
        if moves is None:
            return None
        zero = [(var, tirx.const(0, var.ty.dtype)) for var, _ in stage.iters]
        offset = simplify(substitute(flat_index(load.source, load.indices), zero))
        return Access(self.of(load.source), offset, tuple(moves))

    def declare(self, body: Any) -> Any:
        """body with the views in front of it."""
        views = [tirx.DeclBuffer(view, data=tirx.buffer_data(buffer)) for buffer, view in self.pairs]
        return tirx.SeqStmt([*views, body])


def loop(name: str, extent: int, body: Callable[[Any], Any], spatial: bool = False) -> Any:
    """A loop, or just its body with 0 where there is one iteration."""
    if extent == 1:
        return body(index(0))
    var = tirx.Var(name, "int64")
    notes = {marks.SPATIAL: 1} if spatial else None
    return tirx.For(var, index(0), index(extent), tirx.ForKind.SERIAL, body(var), annotations=notes)


def vector_loop(lanes: int, body: Callable[[Any], Any]) -> Any:
    """A vector loop, or just its body with 0 for one lane."""
    if lanes == 1:
        return body(index(0))
    lane = tirx.Var("lane", "int64")
    return tirx.For(lane, index(0), index(lanes), tirx.ForKind.VECTORIZED, body(lane))


def put(places: Sequence[Any], axis: int | None, at: Any) -> list[Any]:
    """places with another value for an axis; None changes nothing."""
    return [at if i == axis else place for i, place in enumerate(places)]


def nest(name: str, stage: Stage, axes: Sequence[int], body: Callable[[list[Any]], Any]) -> Any:
    """Loops over some of a stage's iters around body(places), where the other iters are 0."""

    def over(places: list[Any], left: Sequence[int]) -> Any:
        if not left:
            return body(places)
        head, *tail = left
        return loop(f"{name}{head}", stage.iters[head][1], lambda at: over(put(places, head, at), tail), spatial=True)

    return over([index(0)] * len(stage.iters), axes)


def tiles(name: str, extent: int, sizes: Sequence[int], body: Callable[[Any, int], Any], spatial: bool = False) -> Any:
    """Cover 0..extent by tiles of the first size, what is left by the next, and so on; the rest as one tile.

    body(start, size) is called once for each size that occurs.
    """
    parts, done = [], 0
    for wanted in (*sizes, 0):
        size = wanted or extent - done
        count = (extent - done) // size if size else 0
        if not count:
            continue
        first = done

        def tile(step: Any, first: int = first, size: int = size) -> Any:
            return body(simplify(index(first) + step * index(size)), size)

        parts.append(loop(name, count, tile, spatial))
        done += count * size
    return sequence(parts)
