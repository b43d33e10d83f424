"""Decides branches and loops at import: what constants and shapes decide becomes plain nodes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from onnx import helper

from tesa.attributes.attribute import Shape, Values
from tesa.errors import ModelError, UnsupportedError
from tesa.frontend.control.bodies import CONTROL, body_of, captured, instantiate, is_control
from tesa.frontend.control.known import depends_on_data, known_values
from tesa.frontend.control.loops import from_loop, from_scan
from tesa.frontend.control.repeat import UNROLLED, Lines, size, unrolled
from tesa.frontend.control.sequences import has_sequences, holds_sequences, resolve_sequences
from tesa.frontend.control.typed import keeps_types
from tesa.frontend.graph import Graph

LONGEST = 20_000
"""Nodes of all steps together up to which a loop that cannot stay one is written out."""


@dataclass(frozen=True)
class Known:
    """A graph with what is known of its tensors. last: nothing more is going to be known."""

    graph: Graph
    values: dict[str, Values]
    shapes: dict[str, Shape]
    dtypes: dict[str, Any]
    last: bool

    def undecided(self, name: str) -> bool:
        """True where a tensor that has no value yet may get one later."""
        return not self.last and not depends_on_data(self.graph, name)


def resolve(graph: Graph, last: bool = False) -> bool:
    """Replace branches, loops and sequences by plain nodes, in place; a loop of many steps by a Repeat.

    last: of what is not decided now, nothing will ever be. True if anything changed. UnsupportedError, ModelError.
    """
    changed, unread = False, {name for node in graph.nodes for name in node.output} - _read(graph)
    while True:
        again = resolve_sequences(graph, last) if has_sequences(graph) else False
        controls = [node for node in graph.nodes if is_control(node)]
        if controls:
            wanted = {name for node in controls for name in node.input if name}
            known = Known(graph, *known_values(graph, wanted), last)
            again |= _round(known)
        if not again:
            if changed:
                _drop_unread(graph, unread)
            return changed
        changed = True


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
    if size(node) > LONGEST:
        raise UnsupportedError(
            f"{_where(known.graph, node)}: it has sequences or states that change their shapes, so that it has to be "
            f"written out, which would take {size(node)} operators, more than {LONGEST}. Export the model without it"
        )
    return unrolled(known.graph, node)


def _select(known: Known, node: Any) -> list[Any] | None:
    """Where, or what the condition chooses if it is known; the two must have one shape."""
    condition, yes, no = node.input
    value = known.values.get(condition)
    if value is not None:
        return [helper.make_node("Identity", [yes if value.reshape(-1)[0] else no], list(node.output), node.name)]
    kinds = []
    for name in (yes, no):
        constant = known.graph.constants.get(name)
        shape = known.shapes.get(name) if constant is None else constant.shape
        dtype = known.dtypes.get(name) if constant is None else constant.dtype
        if shape is None or dtype is None:
            if not known.last:
                return None
            raise UnsupportedError(
                f"{_where(known.graph, node)}: its condition is known only when the model runs, and the shape of the "
                f"result {name!r} of a branch is not known before"
            )
        kinds.append((list(shape), str(dtype)))
    if kinds[0] != kinds[1]:
        a, b = (f"{dtype}{shape}" for shape, dtype in kinds)
        raise UnsupportedError(
            f"{_where(known.graph, node)}: its condition is known only when the model runs, and its branches give {a} "
            f"and {b}; tesa compiles for fixed sizes, both must be the same. Export the model with one of the branches"
        )
    lines = Lines(known.graph, node.name or node.output[0])
    scalar = lines.add("Reshape", condition, lines.constant([1] * len(kinds[0][0])))
    lines.add("Where", scalar, yes, no, output=node.output[0])
    return lines.nodes


def _where(graph: Graph, node: Any) -> str:
    return f"{graph.source}: node {node.name or node.output[0]!r} ({node.op_type.replace('Select', 'If')})"


_HANDLERS: dict[str, Callable[[Known, Any], list[Any] | None]] = {
    "If": _if, "Loop": _loop, "Scan": _scan, "Repeat": _repeat, "Select": _select,
}  # fmt: skip
