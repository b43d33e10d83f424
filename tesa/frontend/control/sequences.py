"""Sequences of tensors whose members are known at import: they are resolved to their tensors."""

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from onnx import helper

from tesa.attributes.attribute import Shape, Values
from tesa.errors import ModelError, UnsupportedError
from tesa.frontend.control.bodies import body_of, instantiate, is_control
from tesa.frontend.control.inside import all_nodes
from tesa.frontend.control.known import known_values
from tesa.frontend.control.repeat import Lines, note_unrolled
from tesa.frontend.graph import Graph, attributes, domain_of

MAKERS = {
    "SequenceConstruct", "SequenceEmpty", "SplitToSequence", "SequenceInsert", "SequenceErase", "Optional",
}  # fmt: skip
READERS = {"SequenceAt", "SequenceLength", "ConcatFromSequence", "OptionalGetElement", "OptionalHasElement"}
OPERATORS = MAKERS | READERS

Members = tuple[str, ...]


def is_sequence_operator(node: Any) -> bool:
    """True for an operator that makes or reads a sequence or an optional value."""
    return (node.op_type in OPERATORS and not domain_of(node)) or is_control(node, "SequenceMap")


def has_sequences(graph: Graph) -> bool:
    """True if a node of the graph itself makes or reads a sequence."""
    return any(is_sequence_operator(node) for node in graph.nodes)


def holds_sequences(body: Any) -> bool:
    """True if sequences occur in a body."""
    return any(is_sequence_operator(node) for node in all_nodes(body.node))


def resolve_sequences(graph: Graph, last: bool = False) -> bool:
    """Replace each sequence by its tensors, in place, as far as it is known which they are. True if anything changed.

    last: of what is not known now, nothing will ever be: an UnsupportedError.
    """
    wanted = {name for node in graph.nodes if is_sequence_operator(node) for name in node.input if name}
    values, shapes, _ = known_values(graph, wanted)
    work = _Sequences(graph, values, shapes)
    nodes: list[Any] = []
    for node in graph.nodes:
        try:
            made = work.resolved(node)
        except IndexError as error:
            raise ModelError(f"{work.where(node)}: the sequences that it reads have different lengths") from error
        nodes += [node] if made is None else made
    read = {name for node in nodes for name in node.input} | {output.name for output in graph.outputs}
    kept = [node for node in nodes if not _done(node, work.members, read)]
    changed = [id(node) for node in kept] != [id(node) for node in graph.nodes]
    graph.nodes = kept
    left = [node for node in graph.nodes if is_sequence_operator(node)]
    if last and not changed and left:
        raise work.left(next((n for n in left if not set(n.output) & set(work.members)), left[0]))
    return changed


def _done(node: Any, members: Mapping[str, Members], read: Iterable[str]) -> bool:
    """True for what makes a known sequence that nobody reads any more."""
    carries = is_sequence_operator(node) or node.op_type == "Identity"
    return carries and bool(node.output) and all(name in members and name not in read for name in node.output)


class _Sequences:
    """members: the tensors in each sequence that is known."""

    def __init__(self, graph: Graph, values: Mapping[str, Values], shapes: Mapping[str, Shape]) -> None:
        self.graph, self.values, self.shapes = graph, values, shapes
        self.members: dict[str, Members] = {}
        self.optional: set[str] = set()

    def resolved(self, node: Any) -> list[Any] | None:
        """The nodes that take the place of one; None where it stays, as what makes a sequence does."""
        if node.op_type == "Identity" and node.input[0] in self.members:
            self.members[node.output[0]] = self.members[node.input[0]]
            return None
        if not is_sequence_operator(node):
            return None
        if node.op_type == "SplitToSequence":
            return self._split(node)
        if node.op_type == "SequenceMap":
            return self._map(node)
        if node.op_type.startswith("Optional"):
            return self._optional(node)
        if node.op_type == "SequenceConstruct":
            self.members[node.output[0]] = tuple(node.input)
            return None
        if node.op_type == "SequenceEmpty":
            self.members[node.output[0]] = ()
            return None
        known = self.members.get(node.input[0])
        return None if known is None else self._of(node, known)

    def _of(self, node: Any, members: Members) -> list[Any] | None:
        """An operator on a known sequence."""
        lines, output = Lines(self.graph, node.name or node.output[0]), node.output[0]
        if node.op_type == "SequenceLength":
            lines.add("Identity", lines.constant(len(members)), output=output)
        elif node.op_type == "ConcatFromSequence":
            options = attributes(node)
            if not members:
                raise ModelError(f"{self.where(node)}: it joins a sequence without members")
            if options.get("new_axis", 0):
                lines.stack(members, options["axis"], output)
            else:
                lines.add("Concat", *members, output=output, axis=options["axis"])
        elif node.op_type == "SequenceAt":
            place = self._place(node, 1, len(members))
            if place is None:
                return None
            lines.add("Identity", members[place], output=output)
        elif node.op_type == "SequenceInsert":
            place = self._place(node, 2, len(members), len(members) + 1)
            if place is None:
                return None
            self.members[output] = (*members[:place], node.input[1], *members[place:])
            return None
        elif node.op_type == "SequenceErase":
            place = self._place(node, 1, len(members), last=len(members) - 1)
            if place is None:
                return None
            self.members[output] = (*members[:place], *members[place + 1 :])
            return None
        return lines.nodes

    def _place(
        self, node: Any, index: int, length: int, ends: int | None = None, last: int | None = None
    ) -> int | None:
        """The constant position that a node names; negative ones count from the end; by default the last one."""
        if len(node.input) <= index or not node.input[index]:
            return length if last is None else last
        value = self.values.get(node.input[index])
        if value is None:
            return None
        place = int(value.reshape(-1)[0])
        place = place + length if place < 0 else place
        if not 0 <= place < (length if ends is None else ends):
            raise ModelError(f"{self.where(node)}: position {place} of a sequence of {length} tensors")
        return place

    def _split(self, node: Any) -> list[Any] | None:
        """Slices of a tensor along one axis: of length 1 each by default, which keepdims=0 takes the axis from."""
        options, source = attributes(node), node.input[0]
        given = node.input[1] if len(node.input) > 1 else ""
        shape = self.values[source].shape if source in self.values else self.shapes.get(source)
        if shape is None or (given and given not in self.values):
            return None
        axis = options.get("axis", 0) % len(shape)
        length = shape[axis]
        if given and self.values[given].ndim:
            sizes = [int(n) for n in self.values[given]]
        else:
            size = int(self.values[given]) if given else 1
            if size < 1:
                raise ModelError(f"{self.where(node)}: it cuts parts of the length {size}")
            note_unrolled(self.graph, -(-length // size), self.where(node))
            sizes = [min(size, length - start) for start in range(0, length, size)]
        lines, names = Lines(self.graph, node.name or node.output[0]), []
        bounds = [0, *itertools.accumulate(sizes)]
        for start, end in itertools.pairwise(bounds):
            if not given and not options.get("keepdims", 1):
                names.append(lines.add("Gather", source, lines.constant(start), axis=axis))
            else:
                ends = (lines.constant([value]) for value in (start, end, axis))
                names.append(lines.add("Slice", source, *ends))
        lines.nodes.append(helper.make_node("SequenceConstruct", names, [node.output[0]], node.name))
        self.members[node.output[0]] = tuple(names)
        return lines.nodes

    def _map(self, node: Any) -> list[Any] | None:
        """The body of a SequenceMap once for each member; what is no sequence is the same for all of them."""
        body, names = body_of(node), list(node.input)
        if names[0] not in self.members:
            return None
        count, lines = len(self.members[names[0]]), Lines(self.graph, node.name or node.output[0])
        note_unrolled(self.graph, count * sum(1 for _ in all_nodes(body.node)), self.where(node))
        made: list[list[str]] = []
        for place in range(count):
            given = [self.members[name][place] if name in self.members else name for name in names]
            actual = dict(zip((value.name for value in body.input), given, strict=True))
            nodes, results = instantiate(self.graph, body, actual, lines.where)
            lines.nodes += nodes
            made.append(results)
        for i, output in enumerate(node.output):
            parts = [results[i] for results in made]
            lines.nodes.append(helper.make_node("SequenceConstruct", parts, [output], output))
            self.members[output] = tuple(parts)
        return lines.nodes

    def _optional(self, node: Any) -> list[Any] | None:
        """An optional value that is there is the value itself; one without a value has no element."""
        source = node.input[0] if node.input else ""
        if node.op_type == "Optional" and not source:
            self.optional.add(node.output[0])
            return None
        if node.op_type == "OptionalHasElement":
            made = any(source in other.output for other in self.graph.nodes if other.op_type == "Optional")
            if any(source in n.output and (is_control(n)) for n in self.graph.nodes) and not made:
                return None
            lines = Lines(self.graph, node.name or node.output[0])
            has = bool(source) and source not in self.optional
            lines.add("Identity", lines.constant(has, bool), output=node.output[0])
            return lines.nodes
        if source in self.optional:
            raise ModelError(f"{self.where(node)}: it takes the value of an optional that has none")
        return [helper.make_node("Identity", [source], [node.output[0]], node.name)]

    def left(self, node: Any) -> UnsupportedError:
        """The error for a sequence that is an output of the model, or whose members only data tell."""
        known = [name for name in node.output if name in self.members]
        if known:
            return UnsupportedError(
                f"{self.where(node)}: {known[0]!r} is a sequence that leaves the model, or that is read by what "
                "knows no sequences; tesa compiles tensors only. Give out the tensors in it"
            )
        return UnsupportedError(
            f"{self.where(node)}: which tensors are in its sequence is known only when the model runs; tesa compiles "
            "tensors of fixed sizes. Export the model with tensors instead of sequences"
        )

    def where(self, node: Any) -> str:
        """The file, the node and its operator, as messages begin."""
        return f"{self.graph.source}: node {node.name or node.output[0]!r} ({node.op_type})"
