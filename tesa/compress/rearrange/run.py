"""rearrange: the same network with its channels in other places, where pruning in groups keeps more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.attributes.impose import Imposed
from tesa.compact.index import Ids, Structure
from tesa.compress.layers import Layer
from tesa.compress.rearrange.apply import apply
from tesa.compress.rearrange.ascend import Matrix, ascend, order_of
from tesa.compress.rearrange.gains import Arranged, Gain
from tesa.compress.rearrange.graph import analysed
from tesa.compress.rearrange.moves import Moves, moves
from tesa.compress.tensors import Tensors

Floats = NDArray[np.float64]
FIXED = 0
"""The class of what stays: that of all ids that are pinned."""


def arrange(
    proto: Any,
    tensors: Tensors,
    layers: Sequence[Layer],
    patterns: Mapping[str, Imposed],
    budgets: Mapping[str, str],
    scores: Callable[[Layer], Floats],
    *,
    feeds: Mapping[str, Any] | None = None,
    borders: bool = True,
) -> Arranged:
    """Rearrange a ModelProto in place, for layers that will be pruned by these patterns, budgets and scores.

    feeds: inputs of one run, for a model with open sizes. borders: inputs and outputs may get a Gather, where that lets
    several layers move.
    """
    graph, shapes = analysed(proto, feeds)
    names = [value.name for value in (*graph.inputs, *graph.outputs)] if borders else []
    found = moves(graph, shapes, [name for name in names if shapes.get(name)], tensors)
    matrices = [
        matrix
        for layer in layers
        if layer.name in patterns
        for matrix in [_matrix(found, layer, patterns[layer.name], budgets[layer.name], scores)]
        if matrix is not None
    ]
    border = {name: found.analysis.of(name) for name in dict.fromkeys(names) if found.analysis.of(name)}
    orbits = [orbit for orbit in found.orbits if _worth(found, orbit, matrices, border)]
    source = ascend(matrices, orbits, found.identity())
    gains = tuple(_gain(matrix, source) for matrix in matrices)
    changed = sum(bool((source[orbit] != orbit).any()) for orbit in orbits)
    gathers = apply(found, source, proto, tensors, border) if changed else ()
    return Arranged(gains, changed, gathers)


def rearrange(proto: Any, orders: Callable[[Ids], Ids], *, feeds: Mapping[str, Any] | None = None) -> tuple[int, Any]:
    """(orbits, a copy of a model) in which the members of each orbit have changed places as `orders` says.

    orders: of an array of members the same in another order. For tests, and for orders that come from elsewhere.
    """
    copy = type(proto)()
    copy.CopyFrom(proto)
    graph, shapes = analysed(copy, feeds)
    names = [value.name for value in (*graph.inputs, *graph.outputs) if shapes.get(value.name)]
    tensors = Tensors(copy, "the model")
    found = moves(graph, shapes, names, tensors)
    source = found.identity()
    for orbit in found.orbits:
        source[orbit] = orders(orbit)
    border = {name: found.analysis.of(name) for name in dict.fromkeys(names) if found.analysis.of(name)}
    apply(found, source, copy, tensors, border)
    return len(found.orbits), copy


def _matrix(
    found: Moves, layer: Layer, imposed: Imposed, budget: str, scores: Callable[[Layer], Floats]
) -> Matrix | None:
    """The scores of a layer with the classes of its rows and columns; None for a pattern without units."""
    if imposed.imposition.unit is None or layer.at < 0 or layer.op == "recurrent":
        return None
    rows, columns = np.full(layer.rows, FIXED), np.full(layer.k, FIXED)
    use = _use(found, layer)
    if use is None:
        return None
    i, position = use
    graph = found.analysis.graph
    name = graph.nodes[i].input[position]
    source = graph.sources.get(name)
    axes = tuple(range(len(layer.shape))) if source is None or source.axes is None else source.axes
    if (i, position) in found.analysis.grouped:
        outs = found.analysis.grouped[i, position][1]
        return Matrix(layer.name, scores(layer), imposed, budget, found.label[outs.reshape(-1)], columns)
    structure: Structure = found.analysis.uses.get((i, position), ())
    for part in structure:
        if len(part.axes) > 1:
            continue
        stored = axes[part.axes[0]]
        if stored == layer.perm[0] and layer.shape[stored] == layer.rows:
            rows = found.label[part.ids]
        elif len(layer.perm) > 1 and stored == layer.perm[1]:
            columns = np.repeat(found.label[part.ids], layer.k // layer.shape[stored])
    return Matrix(layer.name, scores(layer), imposed, budget, rows, columns)


def _use(found: Moves, layer: Layer) -> tuple[int, int] | None:
    """The node and input of the analysed graph at which a layer's weight is read."""
    for i, node in enumerate(found.analysis.graph.nodes):
        if node.output[0] == layer.node.output[0] and len(node.input) > layer.position:
            source = found.analysis.graph.sources.get(node.input[layer.position])
            if source is not None and source.initializer == layer.tensor:
                return i, layer.position
    return None


def _worth(found: Moves, orbit: Ids, matrices: Sequence[Matrix], border: Mapping[str, Structure]) -> bool:
    """False for an orbit at an input or output that would need a Gather for the sake of one layer."""
    members = set(orbit.tolist())
    touches = any(
        bool(members & set(found.label[part.ids].reshape(-1).tolist())) for parts in border.values() for part in parts
    )
    if not touches:
        return True
    joint = any(
        len(part.axes) > 1 and members & set(found.label[part.ids].reshape(-1).tolist())
        for parts in border.values()
        for part in parts
    )
    count = sum(bool(np.isin(m.rows, orbit).any() or np.isin(m.columns, orbit).any()) for m in matrices)
    return count > 1 and not joint


def _gain(matrix: Matrix, source: Ids) -> Gain:
    total = float(matrix.scores.sum()) or 1.0
    now = matrix.scores[np.ix_(order_of(matrix.rows, source), order_of(matrix.columns, source))]
    flat = np.sort(matrix.scores, axis=None)[::-1]
    free = float(flat[: int(matrix.mask(now).sum())].sum())
    return Gain(matrix.name, matrix.kept(matrix.scores) / total, matrix.kept(now) / total, free / total)
