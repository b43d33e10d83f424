"""The indices of a network's tensors that may change places: its orbits, and where their members lie.

Compaction's ids say which indices can only go together: a class. Two classes that lie in the same places of the same
tensors, equally often and in the same order, may change places: an orbit. What joins layers, as a sum, a concat, a
slice or the heads of attention, needs no rule of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.compact import operators  # noqa: F401  (importing it registers the ties)
from tesa.compact.analysis import Analysis
from tesa.compact.index import PIN, AxisIds, Ids
from tesa.compact.tied import tie_weights
from tesa.frontend.graph import Graph, Source

_MIX = tuple(np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


@dataclass(frozen=True, eq=False)
class Moves:
    """label: for each id its class. orbits: arrays of classes that may change places among themselves."""

    analysis: Analysis
    label: Ids
    orbits: tuple[Ids, ...]

    def identity(self) -> Ids:
        """For each class the class whose content it has: its own."""
        return np.arange(len(self.label))

    def order(self, ids: Ids, source: Ids) -> Ids:
        """For an axis with these ids the old index of each new one. source: see identity."""
        flat = self.label[ids.reshape(-1)]
        by_class = np.argsort(flat, kind="stable")
        sorted_classes = flat[by_class]
        starts = np.searchsorted(sorted_classes, sorted_classes)
        nth = np.empty(len(flat), np.int64)
        nth[by_class] = np.arange(len(flat)) - starts
        begin = np.searchsorted(sorted_classes, source[flat])
        return np.asarray(by_class[begin + nth])


def moves(graph: Graph, shapes: Mapping[str, tuple[int, ...]], free: Collection[str], stored: Container[str]) -> Moves:
    """The orbits of a graph. free: inputs and outputs whose channels may change places. stored: the tensors of the file
    that can be written; all others stay as they are."""
    analysis = Analysis(graph, shapes, moving=True, free=free)
    tie_weights(analysis)
    _tie_vectors(analysis, stored)
    for part in _parts(analysis):
        for ids in part[1].groups:
            analysis.index.pin(ids)
    label = analysis.index.classes()
    signature = _signatures(analysis, label)
    movable = np.unique(label)
    movable = movable[(movable != label[PIN]) & (signature[0][movable] != 0)]
    order = np.lexsort((signature[1][movable], signature[0][movable]))
    movable = movable[order]
    same = (np.diff(signature[0][movable]) == 0) & (np.diff(signature[1][movable]) == 0)
    orbits = np.split(movable, np.flatnonzero(~same) + 1)
    found = sorted((np.sort(orbit) for orbit in orbits if len(orbit) > 1), key=lambda orbit: int(orbit[0]))
    return Moves(analysis, label, tuple(found))


def _tie_vectors(a: Analysis, stored: Container[str]) -> None:
    """Let what several nodes read as a vector move alike for all of them, and nothing that the file does not hold."""
    uses: dict[str, list[tuple[int, int]]] = {}
    for i, node in enumerate(a.graph.nodes):
        for position, name in enumerate(node.input):
            array = a.constant(name)
            if array is None:
                continue
            initializer = a.graph.sources.get(name, Source(name)).initializer
            if initializer not in stored:
                _pin(a, (i, position))
            elif array.ndim == 1 and array.size > 1:
                uses.setdefault(initializer, []).append((i, position))
    for places in uses.values():
        parts = [a.uses.get(place, ()) for place in places]
        if not all(parts):
            for place in places:
                _pin(a, place)
            continue
        for other in parts[1:]:
            a.index.tie(parts[0][0].ids, other[0].ids)


def _pin(a: Analysis, use: tuple[int, int]) -> None:
    for part in a.uses.get(use, ()):
        for ids in (part.ids, *part.groups):
            a.index.pin(ids)
    for table in a.grouped.get(use, ()):
        a.index.pin(table)


def _parts(a: Analysis) -> Iterator[tuple[Any, AxisIds]]:
    for name, structure in a.structures.items():
        for part in structure:
            yield (0, name, part.axes), part
    for use, structure in a.uses.items():
        for part in structure:
            yield (1, use, part.axes), part
    for number, part in enumerate(a.index.balances):
        yield (2, number, part.axes), part


def _signatures(a: Analysis, label: Ids) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Two sums of hashes for each class, over all places where it lies: the tensor, the axes, the row, and which of its
    ids lie there in which order."""
    by_class = np.argsort(label, kind="stable")
    rank = np.empty(len(label), np.int64)
    rank[by_class] = np.arange(len(label)) - np.searchsorted(label[by_class], label[by_class])
    first, second = (np.zeros(len(label), np.uint64) for _ in range(2))
    number = 0
    for _, part in _parts(a):
        for row in part.ids.reshape(-1, part.ids.shape[-1]) if len(part.axes) > 1 else [part.ids.reshape(-1)]:
            number += 1
            classes = label[row]
            order = np.argsort(classes, kind="stable")
            nth = np.empty(len(row), np.int64)
            nth[order] = np.arange(len(row)) - np.searchsorted(classes[order], classes[order])
            key = np.asarray([number], np.uint64) * _MIX[0] ^ (rank[row].astype(np.uint64) * _MIX[1])
            key = _mixed(key + nth.astype(np.uint64) * _MIX[2])
            np.add.at(first, classes, key)
            np.add.at(second, classes, _mixed(key ^ _MIX[0]))
    return first, second


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Bits of a number spread over all of it (the finaliser of splitmix64)."""
    x = (x ^ (x >> np.uint64(30))) * _MIX[1]
    x = (x ^ (x >> np.uint64(27))) * _MIX[2]
    return np.asarray(x ^ (x >> np.uint64(31)))
