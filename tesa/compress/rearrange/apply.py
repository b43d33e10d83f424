"""Writes a rearrangement into a file: its constants with their indices in other places, and Gathers at its borders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper

from tesa.attributes.attribute import Values
from tesa.compact.index import AxisIds, Ids, Structure
from tesa.compress.rearrange.moves import Moves
from tesa.compress.tensors import Tensors
from tesa.frontend.control.inside import all_nodes
from tesa.frontend.graph import Graph, Source


def apply(found: Moves, source: Ids, proto: Any, tensors: Tensors, border: Mapping[str, Structure]) -> tuple[str, ...]:
    """Rearrange the constants of a model in place. border: structures of the inputs and outputs that may change.

    source: by class, whose content it gets. Returns the inputs and outputs that got a Gather.
    """
    graph, stored = found.analysis.graph, dict[str, Values]()
    for use, structure in found.analysis.uses.items():
        name = graph.nodes[use[0]].input[use[1]]
        _note(graph, stored, name, moved(found, source, graph.constants[name], structure))
    for use, (ins, outs) in found.analysis.grouped.items():
        node = graph.nodes[use[0]]
        array = graph.constants[node.input[use[1]]]
        made = _grouped(found, source, array, ins, outs, node.op_type == "ConvTranspose")
        _note(graph, stored, node.input[use[1]], made)
    for initializer, array in stored.items():
        old = tensors.get(initializer)
        if old is not None and not np.array_equal(old, array, equal_nan=old.dtype.kind == "f"):
            tensors.set(initializer, np.ascontiguousarray(array).astype(old.dtype))
    return tuple(name for name, structure in border.items() if _gather(found, source, proto, tensors, name, structure))


def _note(graph: Graph, stored: dict[str, Values], name: str, array: Values) -> None:
    """Note the new numbers of a constant by its initializer. All uses of one move it alike, since they are tied."""
    origin = graph.sources.get(name, Source(name))
    turned = array if origin.axes is None else array.transpose(np.argsort(origin.axes))
    first = stored.setdefault(origin.initializer, turned)
    if first.shape != turned.shape or not np.array_equal(first, turned, equal_nan=first.dtype.kind == "f"):
        raise AssertionError(f"two layers move their shared weight {origin.initializer!r} in two ways")


def moved(found: Moves, source: Ids, array: NDArray[Any], structure: Structure) -> NDArray[Any]:
    """An array with the indices of these axes in other places."""
    for part in structure:
        array = _along(found, source, array, part)
    return array


def _along(found: Moves, source: Ids, array: NDArray[Any], part: AxisIds) -> NDArray[Any]:
    order = found.order(part.ids, source)
    if (order == np.arange(len(order))).all():
        return array
    if len(part.axes) == 1:
        return np.take(array, order, axis=part.axes[0])
    rank = len(part.axes)
    front = np.moveaxis(array, part.axes, range(rank))
    flat = front.reshape(len(order), *front.shape[rank:])[order]
    return np.moveaxis(flat.reshape(front.shape), range(rank), part.axes)


def _grouped(found: Moves, source: Ids, array: NDArray[Any], ins: Ids, outs: Ids, transposed: bool) -> NDArray[Any]:
    """The weight of a grouped convolution, (out, in of a group, ...) or transposed (in, out of a group, ...)."""
    rows, columns = (ins, outs) if transposed else (outs, ins)
    blocks = []
    order = found.order(rows, source)
    array = array[order]
    for g, block in enumerate(np.split(array, len(rows))):
        inner = found.order(columns, source).reshape(columns.shape)[g] - g * columns.shape[1]
        blocks.append(block[:, inner])
    return np.concatenate(blocks)


def _gather(found: Moves, source: Ids, proto: Any, tensors: Tensors, name: str, structure: Structure) -> bool:
    """Put an input or output of the model into the order of those around it. False where that is its own."""
    graph = proto.graph
    is_input = any(value.name == name for value in graph.input)
    steps: list[tuple[int, Ids]] = []
    for part in structure:
        order = found.order(part.ids, source)
        if (order != np.arange(len(order))).any():
            if len(part.axes) > 1:
                raise AssertionError(f"the indices of {name!r} lie on several axes")
            steps.append((part.axes[0], order if is_input else np.argsort(order)))
    if not steps:
        return False
    taken = {n for node in all_nodes(graph.node) for n in (*node.input, *node.output)}
    inner = f"{name}/moved"
    while inner in taken:
        inner += "_"
    for node in graph.node:
        node.input[:] = [inner if n == name else n for n in node.input]
        node.output[:] = [inner if n == name else n for n in node.output]
    made, current = [], name if is_input else inner
    for number, (axis, order) in enumerate(steps):
        last = number == len(steps) - 1
        target = (inner if is_input else name) if last else f"{inner}/axis{axis}"
        places = tensors.add(f"{inner}/places{axis}", np.asarray(order, np.int64))
        made.append(helper.make_node("Gather", [current, places], [target], f"{name}/moved{axis}", axis=axis))
        current = target
    if is_input:
        rest = list(graph.node)
        del graph.node[:]
        graph.node.extend([*made, *rest])
    else:
        graph.node.extend(made)
    return True
