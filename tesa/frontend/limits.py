"""The numbers that integer inputs of a model may be, as its tables say: what a Gather has no row for is no input.

From each operator that reads a tensor as indices the bounds go back through what leads there (casts, reshapes, a shift
by a constant, a sum of two indices) to the inputs of the model. A single number that is compared with a constant, as
the sampling rate of a speech model, is a switch, and is that constant; unless the branch that it chooses cannot run
with the sizes that are given. Where else an input goes bounds nothing.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from tesa.attributes.attribute import Shape, Values
from tesa.frontend.graph import Graph, attributes
from tesa.frontend.infer import infer_types

Interval = tuple[float, float]
INFINITE = (-np.inf, np.inf)

SAME = {
    "Cast": (0,), "CastLike": (0,), "Identity": (0,), "Dropout": (0,), "Reshape": (0,), "Transpose": (0,),
    "Squeeze": (0,), "Unsqueeze": (0,), "Flatten": (0,), "Expand": (0,), "Tile": (0,), "Slice": (0,), "Split": (0,),
    "Pad": (0, 2), "Clip": (0,), "Gather": (0,), "GatherElements": (0,), "GatherND": (0,), "Where": (1, 2),
    "Floor": (0,),    "Ceil": (0,), "Round": (0,), "ReduceMax": (0,), "ReduceMin": (0,), "ReduceMean": (0,),
    "DepthToSpace": (0,), "SpaceToDepth": (0,), "Trilu": (0,), "Compress": (0,), "Relu": (0,),
}  # fmt: skip
"""The inputs of which each element of an output is one, or lies between some."""

_UNCHANGED = (
    "Cast", "Identity", "Dropout", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Expand", "Tile",
)  # fmt: skip
_IN_PLACE = ("Cast", "Identity", "Dropout")
_FROM_THE_END = ("Gather", "GatherElements", "Scatter", "ScatterElements", "GatherND", "ScatterND")

SEVERAL = ("Max", "Min", "Mean", "Concat")
"""Operators of which this is so for every input."""


def input_limits(graph: Graph) -> dict[str, tuple[int, int]]:
    """The least and the largest index that an input may be, for each one that tables bound.

    Reals too, where the model casts them to indices. An interval that is empty, as where two tables ask for different
    things, is left out.
    """
    if not any(node.op_type in TABLES or node.op_type == "Equal" for node in graph.nodes):
        return {}
    work = _Walk(graph, infer_types(graph)[0])
    for node in reversed(graph.nodes):
        work.node(node)
    names = {value.name for value in graph.inputs}
    found = {name: bounds for name, bounds in work.bounds.items() if name in names and bounds != INFINITE}
    whole = {name: (int(np.ceil(max(low, -1e9))), int(np.floor(min(high, 1e9)))) for name, (low, high) in found.items()}
    return {name: (low, high) for name, (low, high) in whole.items() if low <= high}


def index_bounds(graph: Graph) -> dict[str, tuple[tuple[int, int], ...]]:
    """The numbers that may stand in an input that goes to a table as it is: others would read beside the table.

    One interval for all elements, or one for each place of the last axis, as of GatherND's indices. Unlike input_limits
    this is no guess of what makes sense. An index may count from the end, with a minus, where the operator takes that.
    What an input is computed with, cut, or chosen from before it comes to a table, bounds nothing.
    """
    if not any(node.op_type in TABLES for node in graph.nodes):
        return {}
    walk = _Walk(graph, infer_types(graph)[0])
    places: dict[str, tuple[int, ...]] = {}
    for node in reversed(graph.nodes):
        if node.op_type in ("GatherND", "ScatterND"):
            for name, sizes in _places(walk, node):
                walk.narrow(name, (-max(sizes), max(sizes) - 1))
                places[name] = (
                    tuple(map(min, sizes, places[name])) if len(places.get(name, ())) == len(sizes) else sizes
                )
        elif node.op_type in TABLES and node.op_type != "OneHot":
            for name, rows in TABLES[node.op_type](walk, node):
                walk.narrow(name, (-rows if node.op_type in _FROM_THE_END else 0, rows - 1))
        elif node.op_type in _UNCHANGED and node.output[0] in walk.bounds:
            walk.narrow(node.input[0], walk.bounds[node.output[0]])
            if node.op_type in _IN_PLACE and node.output[0] in places:
                places[node.input[0]] = places[node.output[0]]
    names = {value.name for value in graph.inputs}
    return {
        name: tuple((int(max(low, -size)), int(min(high, size - 1))) for size in places.get(name, (high + 1,)))
        for name, (low, high) in walk.bounds.items()
        if name in names and low <= high
    }


@dataclass
class _Walk:
    """The nodes from the last to the first. bounds: of the elements of each tensor, by all that read it."""

    graph: Graph
    shapes: Mapping[str, Shape]
    bounds: dict[str, Interval] = field(default_factory=dict)
    wanted: dict[str, bool] = field(default_factory=dict)
    """Of conditions: the side that has numbers."""

    def narrow(self, name: str, bounds: Interval) -> None:
        if not name or name in self.graph.constants or bounds == INFINITE:
            return
        low, high = self.bounds.get(name, INFINITE)
        self.bounds[name] = (max(low, bounds[0]), min(high, bounds[1]))

    def node(self, node: Any) -> None:
        table = TABLES.get(node.op_type)
        if table is not None:
            for name, rows in table(self, node):
                self.narrow(name, (0, rows - 1))
        self.switch(node)
        asked = [self.bounds[name] for name in node.output if name in self.bounds]
        if not asked:
            return
        bounds = (max(low for low, _ in asked), min(high for _, high in asked))
        if node.op_type in SAME or node.op_type in SEVERAL:
            places = range(len(node.input)) if node.op_type in SEVERAL else SAME[node.op_type]
            for place in places:
                self.narrow(self.at(node, place), bounds)
        elif node.op_type in _ARITHMETIC:
            for name, limit in _ARITHMETIC[node.op_type](self, node, bounds):
                self.narrow(name, limit)

    def switch(self, node: Any) -> None:
        """Follow conditions back to the single numbers that they compare with a constant."""
        output = node.output[0]
        if node.op_type == "Where":
            empty = [self._is_nan(name) for name in node.input[1:]]
            if empty[0] != empty[1]:
                self.wanted[node.input[0]] = empty[1]
        elif output in self.wanted and (node.op_type in SAME or node.op_type == "Not"):
            self.wanted[node.input[0]] = self.wanted[output] != (node.op_type == "Not")
        elif node.op_type == "Equal":
            for name, other in (node.input, reversed(node.input)):
                constant, shape = self.number(other), self.shape(name)
                if constant is not None and constant[0] == constant[1] and shape is not None and prod(shape) == 1:
                    value = constant[0] + (not self.wanted.get(output, True))
                    self.narrow(name, (value, value))

    def _is_nan(self, name: str) -> bool:
        array = self.graph.constants.get(name)
        return array is not None and array.dtype.kind == "f" and bool(np.isnan(array).all())

    def at(self, node: Any, place: int) -> str:
        return str(node.input[place]) if place < len(node.input) else ""

    def number(self, name: str) -> Interval | None:
        """The least and the largest element of a constant."""
        array = self.graph.constants.get(name)
        if array is None or not array.size or array.dtype.kind not in "iufb":
            return None
        return float(array.min()), float(array.max())

    def shape(self, name: str) -> Shape | None:
        array: Values | None = self.graph.constants.get(name)
        return self.shapes.get(name) if array is None else array.shape


Rows = Iterable[tuple[str, float]]
Bounds = Iterable[tuple[str, Interval]]


def _gather(w: _Walk, node: Any) -> Rows:
    """Gather, GatherElements, ScatterElements: rows along one axis."""
    shape = w.shape(node.input[0])
    axis = attributes(node).get("axis", attributes(node).get("gather_axis", 0))
    if shape:
        yield node.input[1], shape[axis]


def _places(w: _Walk, node: Any) -> Iterable[tuple[str, tuple[int, ...]]]:
    """The axes of GatherND and ScatterND on which the last axis of the indices has a place each."""
    shape, skipped = w.shape(node.input[0]), attributes(node).get("batch_dims", 0)
    places = w.shape(node.input[1])
    if shape and places and places[-1]:
        yield node.input[1], tuple(shape[skipped : skipped + places[-1]])


def _gather_nd(w: _Walk, node: Any) -> Rows:
    for name, sizes in _places(w, node):
        yield name, min(sizes)


def _embedding(w: _Walk, node: Any) -> Rows:
    """EmbedLayerNormalization(input_ids, segment_ids, words, positions, segments, ..., position_ids)."""
    for index, table in ((0, 2), (1, 4), (8, 3)):
        shape = w.shape(w.at(node, table))
        if shape and w.at(node, index):
            yield node.input[index], shape[0]


def _one_hot(w: _Walk, node: Any) -> Rows:
    """Other numbers make a row of zeros; drawn is one of the depth."""
    depth = w.number(node.input[1])
    if depth is not None:
        yield node.input[0], depth[1]


def _rotary(w: _Walk, node: Any) -> Rows:
    """RotaryEmbedding: of com.microsoft (x, positions, cos, sin), of ONNX (x, cos, sin, positions)."""
    index, table = (1, 2) if node.domain else (3, 1)
    shape = w.shape(w.at(node, table))
    if shape and w.at(node, index):
        yield node.input[index], shape[0]


TABLES: dict[str, Callable[[_Walk, Any], Rows]] = {
    **dict.fromkeys(("Gather", "GatherElements", "Scatter", "ScatterElements", "GatherBlockQuantized"), _gather),
    **dict.fromkeys(("GatherND", "ScatterND"), _gather_nd),
    "EmbedLayerNormalization": _embedding,
    "RotaryEmbedding": _rotary,
    "OneHot": _one_hot,
}


def _add(w: _Walk, node: Any, bounds: Interval) -> Bounds:
    constants = [w.number(name) for name in node.input]
    shift = [c for c in constants if c is not None]
    free = [name for name, c in zip(node.input, constants, strict=True) if c is None]
    low, high = (bounds[0] - sum(c[0] for c in shift), bounds[1] - sum(c[1] for c in shift))
    for name in free:  # each may be its share of the room
        yield name, (low / len(free), high / len(free))


def _sub(w: _Walk, node: Any, bounds: Interval) -> Bounds:
    first, second = (w.number(name) for name in node.input)
    if second is not None:
        yield node.input[0], (bounds[0] + second[1], bounds[1] + second[0])
    elif first is not None:
        yield node.input[1], (first[1] - bounds[1], first[0] - bounds[0])
    else:
        yield node.input[0], bounds
        yield node.input[1], (0.0, 0.0)


def _mul(w: _Walk, node: Any, bounds: Interval) -> Bounds:
    constants = [w.number(name) for name in node.input]
    free = [name for name, c in zip(node.input, constants, strict=True) if c is None]
    factor = prod(c[1] for c in constants if c is not None)
    if len(free) == 1 and factor > 0:
        yield free[0], (bounds[0] / factor, bounds[1] / factor)
    elif len(free) > 1 and bounds[0] <= 0 <= bounds[1]:
        for name in free:
            yield name, (0.0, float(np.floor(max(bounds[1], 0.0) ** (1 / len(free)))))


def _div(w: _Walk, node: Any, bounds: Interval) -> Bounds:
    divisor = w.number(node.input[1])
    if divisor is not None and divisor[0] > 0:
        yield node.input[0], (bounds[0] * divisor[1], bounds[1] * divisor[0])


def _cumulative(w: _Walk, node: Any, bounds: Interval) -> Bounds:
    """A sum over an axis, or a part of it."""
    shape = w.shape(node.input[0])
    if shape and prod(shape) and bounds[0] <= 0:
        yield node.input[0], (0.0, bounds[1] / max(shape))


def _negative(w: _Walk, node: Any, bounds: Interval) -> Bounds:
    yield node.input[0], (-bounds[1], -bounds[0])


def _absolute(w: _Walk, node: Any, bounds: Interval) -> Bounds:
    yield node.input[0], (0.0, bounds[1])


_ARITHMETIC: dict[str, Callable[[_Walk, Any, Interval], Bounds]] = {
    "Add": _add, "Sum": _add, "Sub": _sub, "Mul": _mul, "Div": _div, "CumSum": _cumulative, "ReduceSum": _cumulative,
    "Neg": _negative, "Abs": _absolute,
}  # fmt: skip
