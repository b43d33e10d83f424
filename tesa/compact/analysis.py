"""A walk over the graph that finds which indices of which tensors can only be removed together."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from tesa.attributes.attribute import Values
from tesa.compact.index import AxisIds, Bools, Ids, Index, Structure
from tesa.frontend.graph import Graph, domain_of
from tesa.frontend.registry import MICROSOFT


class Editor(Protocol):
    """The operations by which an operator's `edit` rewrites its node after the decision; Cutter says what each does."""

    keep: Bools

    def constant(self, i: int, position: int) -> Values: ...
    def shape(self, tensor: str) -> list[int]: ...
    def set_weight(self, i: int, node: Any, position: int, array: Values, rows: Ids) -> None: ...
    def set_input(self, node: Any, position: int, array: Values) -> None: ...
    def set_sizes(self, node: Any, position: int, tensor: str) -> None: ...
    def set_attribute(self, node: Any, name: str, value: Any) -> None: ...
    def drop_attributes(self, node: Any, *names: str) -> None: ...
    def picks(self, node: Any, picks: Mapping[int, Values]) -> list[Any]: ...


Edit = Callable[[Editor, Any], list[Any] | None]
Handler = Callable[["Analysis", int, Any], Structure | None]


@dataclass(frozen=True, eq=False)
class Term:
    """Indices that a node sums over. ids: of the indices. axes: where they lie in each operand, by its position.

    owners: of the same shape, the id of the group of a grouped convolution: where it goes, the sum goes as well.
    """

    ids: Ids
    axes: Mapping[int, tuple[int, ...]]
    owners: Ids | None = None


@dataclass(frozen=True, eq=False)
class Contraction:
    """A node that sums over indices. kind: the operator, if a constant among them can be corrected for, else ""."""

    node: int
    kind: str
    terms: tuple[Term, ...]


OTHER = "another domain"
"""The name that `ties` knows all operators by that are neither ONNX's nor ONNX Runtime's."""

_HANDLERS: dict[str, Handler] = {}


def ties(*operators: str) -> Callable[[Handler], Handler]:
    """Register the decorated function: it gives the constants of these operators, and their outputs, a structure.

    It returns that of the first output, None where all of the inputs and outputs have to stay.
    """

    def register(handler: Handler) -> Handler:
        for name in operators:
            if name in _HANDLERS:
                raise ValueError(f"operator {name!r} has two handlers")
            _HANDLERS[name] = handler
        return handler

    return register


def handled() -> tuple[str, ...]:
    """The ONNX operators through which channels can be removed, by name."""
    return tuple(sorted(set(_HANDLERS) - {OTHER}))


class Analysis:
    """The structure of every tensor of a graph: the indices along its axes, and what they are tied to.

    structures: of activations. uses: of constants, by node and input. contractions: the sums over what may go. edits:
    for a node that names sizes or indices, the function that rewrites it. own_cuts: uses of constants that such a
    function cuts. whole: layers from which nothing is cut. codes: for a tensor of integers that stand for numbers, the
    tensor of the numbers: where these are 0, all that reads the codes counts them as 0. held: ids that an operator
    keeps because it is not known, and which.

    moving: the ties are those of indices that change places, not of ones that go: an operator that mixes an axis alike
    for all of its indices, as a softmax or a mean, lets them, while one that counts groups ties more. free: inputs and
    outputs whose channels or features may change places as well. grouped: of a grouped convolution (inputs, outputs)
    by use, each (groups, members).
    """

    def __init__(
        self,
        graph: Graph,
        shapes: Mapping[str, tuple[int, ...]],
        whole: Collection[str] = (),
        *,
        moving: bool = False,
        free: Collection[str] = (),
    ) -> None:
        self.graph, self.shapes, self.index, self.whole, self.moving = graph, shapes, Index(), whole, moving
        self.structures: dict[str, Structure] = {}
        self.uses: dict[tuple[int, int], Structure] = {}
        self.contractions: list[Contraction] = []
        self.edits: dict[int, Edit] = {}
        self.own_cuts: set[tuple[int, int]] = set()
        self.codes: dict[str, str] = {}
        self.held: list[tuple[Ids, str]] = []
        self.grouped: dict[tuple[int, int], tuple[Ids, Ids]] = {}
        for value in graph.inputs:
            if value.name in free:
                sizes = shapes[value.name]
                axis = 1 if len(sizes) > 3 else len(sizes) - 1  # of pictures the channels, of rows the features
                self.structures[value.name] = structure((axis, self.fresh(sizes[axis]) if axis > 0 else None))
        for i, node in enumerate(graph.nodes):
            self._visit(i, node)
        for output in graph.outputs:
            if output.name not in free:
                self.hold(output.name)

    def _visit(self, i: int, node: Any) -> None:
        handler = _HANDLERS.get(node.op_type if domain_of(node) in ("", MICROSOFT) else OTHER)
        tensors = [name for name in (*node.input, *node.output) if name and name not in self.graph.constants]
        known = handler is not None and all(name in self.shapes for name in tensors)
        layer = self.graph.layers.get(node.output[0], "")
        if layer in self.whole:
            handler = None
        found = handler(self, i, node) if handler is not None and known else None
        if found is not None:
            self.structures[node.output[0]] = found
        for name in node.input if found is None else ():
            why = f"node {layer!r} reads it, which is smaller as it is in the file" if layer in self.whole else ""
            self.hold(name, why or _unknown(self.graph, node))

    def hold(self, name: str, why: str = "") -> None:
        """Keep all of this tensor. why: in words, where it is another reason than that it is needed."""
        for part in self.structures.get(name, ()):
            for ids in (part.ids, *part.groups):
                if why and not self.moving:
                    self.held.append((ids.reshape(-1), why))
                else:
                    self.index.pin(ids)

    def constant(self, name: str) -> Values | None:
        """The array of a constant, None for anything else."""
        return self.graph.constants.get(name)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a constant or an activation."""
        found = self.graph.constants.get(name)
        return self.shapes[name] if found is None else tuple(found.shape)

    def of(self, name: str) -> Structure:
        """The structure of an activation."""
        return self.structures.get(name, ())

    def plain(self, name: str, axis: int) -> Ids | None:
        """The ids along one axis of an activation, None if it stays as it is."""
        self.structures[name], ids = self.index.plain(self.of(name), axis)
        return ids

    def channels(self, name: str) -> Ids | None:
        """The ids along axis 1 of an activation, whatever else was made of the same axis; None if it stays as it is."""
        parts: list[AxisIds] = []
        for part in self.of(name):
            parts += self.index.collapse(part, 1) if 1 in part.axes and len(part.axes) > 1 else [part]
        self.structures[name] = tuple(parts)
        return next((part.ids for part in parts if part.axes == (1,)), None)

    def fresh(self, length: int) -> Ids | None:
        """Ids for a new axis; None for an axis of length 1, which cannot get shorter."""
        return self.index.fresh(length) if length > 1 else None

    def use(self, i: int, position: int, *axes: tuple[int, Ids | None]) -> None:
        """Note the ids of a constant's axes. An id of None: the axis stays."""
        self.uses[i, position] = tuple(AxisIds((axis,), ids) for axis, ids in axes if ids is not None)


def _unknown(graph: Graph, node: Any) -> str:
    """The reason why a node keeps what it reads: nothing can be removed through its operator."""
    domain = domain_of(node)
    operator = f"{domain}::{node.op_type}" if domain else node.op_type
    layer = graph.layers.get(node.output[0], node.name or node.output[0])
    return f"{operator} (node {layer!r}) reads it, an operator that nothing is removed through"


def structure(*axes: tuple[int, Ids | None]) -> Structure:
    """A structure of plain axes."""
    return tuple(AxisIds((axis,), ids) for axis, ids in axes if ids is not None and bool(np.any(ids)))
