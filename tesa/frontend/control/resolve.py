"""Decides branches and loops at import: what constants and shapes decide becomes plain nodes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import helper

from tesa.attributes.attribute import Shape, Values
from tesa.errors import ModelError, UnsupportedError
from tesa.frontend.control.bodies import CONTROL, body_of, captured, instantiate, is_control
from tesa.frontend.control.known import contradiction, depends_on_data, known_values
from tesa.frontend.control.loops import from_loop, from_scan
from tesa.frontend.control.repeat import UNROLLED, Lines, note_unrolled, size, unrolled
from tesa.frontend.control.sequences import has_sequences, holds_sequences, resolve_sequences
from tesa.frontend.control.states import keeps_types
from tesa.frontend.graph import Graph


@dataclass(frozen=True)
class Known:
    """A graph with what is known of its tensors. last: nothing more is going to be known. stuck: nor does it change."""

    graph: Graph
    values: dict[str, Values]
    shapes: dict[str, Shape]
    dtypes: dict[str, Any]
    last: bool
    stuck: bool = False

    def undecided(self, name: str) -> bool:
        """True where a tensor that has no value yet may get one later."""
        return not self.last and not depends_on_data(self.graph, name)


def resolve(graph: Graph, last: bool = False) -> bool:
    """Replace branches, loops and sequences by plain nodes, in place; a loop of many steps by a Repeat.

    last: of what is not decided now, nothing will ever be. True if anything changed. UnsupportedError, ModelError.
    """
    changed, unread = False, {name for node in graph.nodes for name in node.output} - _read(graph)
    before, stuck = _read(graph), False
    while True:
        again = resolve_sequences(graph, last and stuck) if has_sequences(graph) else False
        controls = [node for node in graph.nodes if is_control(node)]
        if controls:
            wanted = {name for node in controls for name in node.input if name}
            again |= _round(Known(graph, *known_values(graph, wanted), last, stuck))
        if again:
            _drop_unread(graph, unread)
        elif stuck or not last:
            if changed:
                _drop_constants(graph, before)
            return changed
        changed |= again
        stuck = not again


def _drop_constants(graph: Graph, before: set[str]) -> None:
    """Drop constants that were read only to decide something; a weight stays, which a mask may name."""
    for name in (before & set(graph.constants)) - _read(graph):
        if graph.constants[name].ndim < 2:
            del graph.constants[name]


def _read(graph: Graph) -> set[str]:
    return {name for node in graph.nodes for name in node.input} | {output.name for output in graph.outputs}


def _drop_unread(graph: Graph, unread: set[str]) -> None:
    """Drop what was read only to decide something. unread: the tensors that nobody read in the graph as it was."""
    while True:
        needed = _read(graph) | unread
        kept = [node for node in graph.nodes if needed.intersection(node.output)]
        if len(kept) == len(graph.nodes):
            return
        graph.nodes = kept


def _round(known: Known) -> bool:
    """Replace what can be now. True if there was anything."""
    graph, nodes, changed = known.graph, [], False
    for node in graph.nodes:
        handler = _HANDLERS.get(node.op_type) if is_control(node) else None
        made = handler(known, node) if handler is not None else None
        nodes += [node] if made is None else made
        changed |= made is not None
    graph.nodes = nodes
    return changed


def _if(known: Known, node: Any) -> list[Any] | None:
    """One branch where the condition is known; else both of them and a choice by the condition."""
    condition = node.input[0]
    value = known.values.get(condition)
    if value is not None:
        if value.size != 1:
            raise ModelError(f"{_where(known.graph, node)}: its condition has {value.size} elements, expected one")
        return _branch(known.graph, node, "then_branch" if value.reshape(-1)[0] else "else_branch", node.output)
    if known.undecided(condition):
        return None
    if any(holds_sequences(body_of(node, branch)) for branch in ("then_branch", "else_branch")):
        raise UnsupportedError(
            f"{_where(known.graph, node)}: its condition is known only when the model runs, and its branches give "
            "sequences; tesa can choose between tensors only. Export the model without the branch"
        )
    lines = Lines(known.graph, node.name or node.output[0])
    both = []
    for branch in ("then_branch", "else_branch"):
        names = [lines.fresh(branch) if name else "" for name in node.output]
        lines.nodes += _branch(known.graph, node, branch, names)
        both.append(names)
    for output, yes, no in zip(node.output, *both, strict=True):
        if output:
            made = helper.make_node("Select", [condition, yes, no], [output], node.name or output, domain=CONTROL)
            lines.nodes.append(made)
    return lines.nodes


def _branch(graph: Graph, node: Any, branch: str, outputs: Any) -> list[Any]:
    """The nodes of a branch, which give these outputs."""
    body = body_of(node, branch)
    outer = list(node.input)[len(node.input) - captured(node) :]
    actual = dict(zip((value.name for value in body.input), outer, strict=True))
    nodes, results = instantiate(graph, body, actual, node.name or node.output[0])
    if len(results) < len(outputs):
        raise ModelError(f"{_where(graph, node)}: its {branch} gives {len(results)} outputs, expected {len(outputs)}")
    pairs = [(result, name) for result, name in zip(results, outputs, strict=False) if name]
    return nodes + [helper.make_node("Identity", [result], [name], name) for result, name in pairs]


def _loop(known: Known, node: Any) -> list[Any] | None:
    return from_loop(known.graph, node, known.values, known.undecided)


def _scan(known: Known, node: Any) -> list[Any] | None:
    return from_scan(known.graph, node, known.values, known.shapes, known.last)


def _repeat(known: Known, node: Any) -> list[Any] | None:
    """Written out where it is short, or where its states are sequences or change their shapes from step to step."""
    stays = size(node) > UNROLLED and not holds_sequences(body_of(node))
    if stays and (known.last or keeps_types(known.graph, node, known.shapes, known.dtypes) is not False):
        return None
    note_unrolled(known.graph, size(node), _where(known.graph, node))
    return unrolled(known.graph, node)


def _select(known: Known, node: Any) -> list[Any] | None:
    """The nodes of a Where, or of the side that its condition chooses if it is known; both must have one shape."""
    condition, yes, no = node.input
    value = known.values.get(condition)
    if value is not None:
        return [helper.make_node("Identity", [yes if value.reshape(-1)[0] else no], list(node.output), node.name)]
    sides, kinds = [yes, no], [_kind(known, yes), _kind(known, no)]
    if None in kinds:
        if not known.last or kinds == [None, None]:
            return _wait(known, node, yes)
        place = kinds.index(None)
        why = contradiction(known.graph, sides[place], known.shapes, known.dtypes)
        other = kinds[1 - place]
        if not why or other is None or not other[1].startswith("float"):
            return _wait(known, node, sides[place], why)
        sides[place], kinds[place] = _never(known, node, other, why), other
    if kinds[0] != kinds[1]:
        a, b = (f"{kind[1]}{kind[0]}" for kind in kinds if kind is not None)
        raise UnsupportedError(
            f"{_where(known.graph, node)}: its condition is known only when the model runs, and its branches give {a} "
            f"and {b}; tesa compiles for fixed sizes, both must be the same. Export the model with one of the branches"
        )
    rank = len(kinds[0][0]) if kinds[0] else 0
    lines = Lines(known.graph, node.name or node.output[0])
    scalar = lines.add("Reshape", condition, lines.constant([1] * rank))
    lines.add("Where", scalar, *sides, output=node.output[0])
    return lines.nodes


def _kind(known: Known, name: str) -> tuple[list[int], str] | None:
    """(shape, element type) of a tensor, None where they are not known."""
    constant = known.graph.constants.get(name)
    shape = known.shapes.get(name) if constant is None else constant.shape
    dtype = known.dtypes.get(name) if constant is None else constant.dtype
    return None if shape is None or dtype is None else (list(shape), str(np.dtype(dtype)))


def _wait(known: Known, node: Any, name: str, why: str = "") -> list[Any] | None:
    """None, as long as something else may still change; else an UnsupportedError for the result of a branch."""
    if known.stuck:
        raise UnsupportedError(
            f"{_where(known.graph, node)}: its condition is known only when the model runs, and the shape of the "
            f"result {name!r} of a branch is not known before{': ' + why if why else ''}. Export one of the branches"
        )
    return None


def _never(known: Known, node: Any, other: tuple[list[int], str], why: str) -> str:
    """NaN in the place of the result of a branch that cannot run with these sizes, of the type of the other one.

    The file itself fails there, as onnxruntime would say when it runs. why: what is wrong in the branch.
    """
    note = f"{node.name or node.output[0]}: a branch cannot run with these sizes ({why}); its results are NaN"
    if note not in known.graph.notes:
        known.graph.notes += (note,)
    return Lines(known.graph, node.name or node.output[0]).constant(np.full(other[0], np.nan), other[1])


def _where(graph: Graph, node: Any) -> str:
    return f"{graph.source}: node {node.name or node.output[0]!r} ({node.op_type.replace('Select', 'If')})"


_HANDLERS: dict[str, Callable[[Known, Any], list[Any] | None]] = {
    "If": _if, "Loop": _loop, "Scan": _scan, "Repeat": _repeat, "Select": _select,
}  # fmt: skip
