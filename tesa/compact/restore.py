"""Writes back as it was in the file what compaction did not cut, where that takes fewer bytes.

Importing folds and writes out: a norm disappears into a convolution, 4-bit weights become float32, a recurrent cell a
hundred nodes. That serves the compiler, not a file. A tensor that has the same name in the cut graph and in the file,
and that nothing was cut from, has the same numbers in both, so the nodes of either may make it. Its region is what
makes it out of the nearest such tensors before it; of both regions the one of fewer bytes is written.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import AttributeProto

from tesa.attributes.attribute import Quantization, Values
from tesa.compact.write import constant_size, node_size
from tesa.frontend.graph import Graph, Source
from tesa.frontend.names import Unique


@dataclass(frozen=True, eq=False)
class CutGraph:
    """A graph after its cut: nodes, constants, sources, quantization as in Graph.

    changed: the tensors that are no longer what the file has under their name.
    """

    nodes: list[Any]
    constants: dict[str, Values]
    sources: Mapping[str, Source]
    quantization: Mapping[str, Quantization]
    changed: frozenset[str] = frozenset()


@dataclass(frozen=True)
class _Region:
    """The nodes of the file, by number, and its constants that make `roots`."""

    roots: tuple[str, ...]
    nodes: frozenset[int]
    constants: frozenset[str]


def restored(graph: Graph, cut: CutGraph) -> CutGraph:
    """The cut graph with the nodes and constants of the file in the place of all that they are smaller than."""
    work = _Restoring(graph, cut)
    regions = [region for region in map(work.region, range(len(graph.given.nodes))) if region is not None]
    chosen = [region for region in regions if work.gain(region) > 0]
    return work.apply(chosen) if chosen else cut


class _Restoring:
    def __init__(self, graph: Graph, cut: CutGraph) -> None:
        self.graph, self.cut, self.given = graph, cut, graph.given
        self.inputs = {value.name for value in graph.inputs}
        self.outputs = {value.name for value in graph.outputs}
        self.old = {name: i for i, node in enumerate(self.given.nodes) for name in node.output if name}
        self.new = {name: i for i, node in enumerate(cut.nodes) for name in node.output if name}
        self.readers, self.old_readers = _readers(cut.nodes), _readers(self.given.nodes)
        constants = ((name, array, graph.constants.get(name)) for name, array in cut.constants.items())
        other = {name for name, array, before in constants if name in self.old and not _same(array, before)}
        self.changed = cut.changed | other
        self.sizes: dict[str, int] = {}

    def there(self, name: str) -> bool:
        """True for a tensor that both graphs make under this name."""
        return name in self.new or name in self.cut.constants

    def region(self, number: int) -> _Region | None:
        """The nodes that make the outputs of a node of the file; None where the cut graph lacks or has changed them."""
        roots = tuple(name for name in self.given.nodes[number].output if name and self.there(name))
        if not roots or any(name in self.changed for name in roots):
            return None
        nodes, constants, waiting = set(), set(), [number]
        while waiting:
            i = waiting.pop()
            if i in nodes:
                continue
            nodes.add(i)
            if _holds_graphs(self.given.nodes[i]):
                return None
            for name in filter(None, self.given.nodes[i].input):
                if name in self.given.constants:
                    constants.add(name)
                elif name in self.inputs or (self.there(name) and name not in self.changed):
                    continue
                elif self.there(name) or name not in self.old:
                    return None
                else:
                    waiting.append(self.old[name])
        return _Region(roots, frozenset(nodes), frozenset(constants))

    def gain(self, region: _Region) -> int:
        """The bytes that the region of the file saves."""
        nodes, constants = self._replaced(region)
        now = sum(node_size(self.graph, self.cut.nodes[i]) for i in nodes)
        now += sum(self._size(name) for name in constants)
        then = sum(node_size(self.graph, self.given.nodes[i]) for i in region.nodes)
        for name in region.constants:
            stays = name in self.cut.constants and name not in constants
            shared = stays and _same(self.cut.constants[name], self.given.constants[name])
            if not shared and set(self.old_readers[name]) <= region.nodes:
                then += constant_size(self.graph, name, self.given.constants[name], None, None)
        return now - then

    def _size(self, name: str) -> int:
        if name not in self.sizes:
            found = (self.cut.constants[name], self.cut.sources.get(name), self.cut.quantization.get(name))
            self.sizes[name] = constant_size(self.graph, name, *found)
        return self.sizes[name]

    def _replaced(self, region: _Region) -> tuple[set[int], set[str]]:
        """The nodes and constants of the cut graph that nobody would need any more."""
        reads = {name for i in region.nodes for name in self.given.nodes[i].input}
        seen: set[int] = set()
        found: set[str] = set()
        waiting = list(region.roots)
        while waiting:
            name = waiting.pop()
            if name in self.cut.constants:
                found.add(name)
            elif name in self.new and self.new[name] not in seen:
                seen.add(self.new[name])
                inputs = filter(None, self.cut.nodes[self.new[name]].input)
                waiting += [x for x in inputs if x in self.cut.constants or x not in reads]
        gone: set[int] = set()
        for i in sorted(seen, reverse=True):
            others = [name for name in self.cut.nodes[i].output if name and name not in region.roots]
            if all(name not in self.outputs and set(self.readers.get(name, ())) <= gone for name in others):
                gone.add(i)
        alone = {name for name in found if name in region.roots or set(self.readers.get(name, ())) <= gone}
        return gone, {name for name in alone if name not in self.outputs or name in region.roots}

    def apply(self, regions: Iterable[_Region]) -> CutGraph:
        """The graph with these regions in place."""
        regions = list(regions)
        roots = {name for region in regions for name in region.roots}
        taken = {*self.new, *self.cut.constants, *self.old, *self.given.constants, *self.inputs}
        unique = Unique(taken | set(self.readers))
        nodes = [_copy(node) for node in self.cut.nodes]
        for node in nodes:
            node.output[:] = [unique(f"{name}/unread") if name in roots else name for name in node.output]
        constants = {name: array for name, array in self.cut.constants.items() if name not in roots}
        names: dict[str, str] = {}
        for name in sorted({name for region in regions for name in region.constants}):
            array, there = self.given.constants[name], constants.get(name)
            names[name] = name if there is None or _same(there, array) else unique(f"{name}/whole")
            if there is None or names[name] != name:
                constants[names[name]] = array
        for i in sorted({i for region in regions for i in region.nodes}):
            node = _copy(self.given.nodes[i])
            node.input[:] = [names.get(name, name) for name in node.input]
            again = [name for name in node.output if name and self.there(name) and name not in roots]
            node.output[:] = [unique(f"{name}/unread") if name in again else name for name in node.output]
            nodes.append(node)
        ordered = _ordered(nodes, self.outputs)
        if ordered is None:
            return self.cut
        read = {name for node in ordered for name in node.input}
        back = {new: old for old, new in names.items() if new != old and old not in read | self.outputs}
        for node in ordered:
            node.input[:] = [back.get(name, name) for name in node.input]
        constants |= {old: constants.pop(new) for new, old in back.items()}
        aside = set(back.values())  # what the name stood for before is not needed any more
        sources = {name: source for name, source in self.cut.sources.items() if name not in aside}
        quantization = {name: q for name, q in self.cut.quantization.items() if name not in aside}
        return CutGraph(ordered, constants, sources, quantization, self.cut.changed)


def _readers(nodes: Iterable[Any]) -> dict[str, list[int]]:
    readers: dict[str, list[int]] = {}
    for i, node in enumerate(nodes):
        for name in node.input:
            readers.setdefault(name, []).append(i)
    return readers


def _same(a: Values, b: Values | None) -> bool:
    return a is b or (b is not None and a.dtype == b.dtype and a.shape == b.shape and bool(np.array_equal(a, b)))


def _holds_graphs(node: Any) -> bool:
    """True for a branch or loop, whose bodies read tensors by name."""
    return any(a.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for a in node.attribute)


def _copy(node: Any) -> Any:
    new = type(node)()
    new.CopyFrom(node)
    return new


def _ordered(nodes: list[Any], outputs: Collection[str]) -> list[Any] | None:
    """The nodes that the outputs need, each behind those that it reads from; None if they read in a circle."""
    makers = {name: i for i, node in enumerate(nodes) for name in node.output if name}
    state: dict[int, bool] = {}  # False while what a node reads from is put in order
    order: list[Any] = []
    stack = [(makers[name], False) for name in sorted(outputs, reverse=True) if name in makers]
    while stack:
        i, ready = stack.pop()
        if ready:
            state[i] = True
            order.append(nodes[i])
        elif i not in state:
            state[i] = False
            stack.append((i, True))
            before = [makers[name] for name in nodes[i].input if name in makers]
            if any(state.get(k) is False for k in before):
                return None
            stack += [(k, False) for k in reversed(before) if k not in state]
    return order
