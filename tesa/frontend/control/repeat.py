"""Repeat: a body that is run a fixed number of times, which Loop and Scan become once their count is known.

    Repeat(state 1..N, scanned 1..M, captured 1..K) -> (final state 1..N, stacked 1..S)

of the domain CONTROL. Each step reads the states, one slice of each scanned tensor and all captured tensors, and gives
new states and one slice of each stacked output. Attributes: steps; scanned: M, at least 1; captured: K; axes, reverse:
of each scanned tensor, along which axis it is cut and whether from its end; out_axes, out_reverse: of each stacked one
likewise, left out where there is none. body: its inputs and outputs are N + M + K and N + S.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import helper

from tesa.errors import UnsupportedError
from tesa.frontend.control.bodies import CONTROL, body_of, instantiate
from tesa.frontend.control.inside import graphs_of
from tesa.frontend.graph import Graph, attributes

UNROLLED = 160
"""Nodes of all steps together up to which a loop is written out: then facts and kernels are made for each step."""

LONGEST = 20_000
"""Nodes as which loops that cannot stay, and sequences, are written out, all together; short ones do not count."""

AXES_ARE_INPUTS = 13
"""The opset from which on Squeeze and Unsqueeze have their axes as an input."""


@dataclass(frozen=True)
class Repeated:
    """The parts of a Repeat node, see above."""

    node: Any
    body: Any
    steps: int
    states: tuple[str, ...]
    scanned: tuple[str, ...]
    captured: tuple[str, ...]
    axes: tuple[int, ...]
    reverse: tuple[bool, ...]
    out_axes: tuple[int, ...]
    out_reverse: tuple[bool, ...]


def repeated(node: Any) -> Repeated:
    """Read a Repeat node."""
    options, names = attributes(node), list(node.input)
    scanned, captured = options["scanned"], options["captured"]
    states = len(names) - scanned - captured
    return Repeated(
        node, body_of(node), options["steps"], tuple(names[:states]), tuple(names[states : states + scanned]),
        tuple(names[states + scanned :]), tuple(options["axes"]), tuple(map(bool, options["reverse"])),
        tuple(options.get("out_axes", ())), tuple(map(bool, options.get("out_reverse", ()))),
    )  # fmt: skip


def make_repeat(
    name: str,
    body: Any,
    steps: int,
    states: Sequence[str],
    scanned: Sequence[str],
    captured: Sequence[str],
    outputs: Sequence[str],
    *,
    axes: Sequence[int] | None = None,
    reverse: Sequence[bool] | None = None,
    out_axes: Sequence[int] | None = None,
    out_reverse: Sequence[bool] | None = None,
) -> Any:
    """A Repeat node. The axes are 0 and the directions forward if they are not given."""
    stacked = len(outputs) - len(states)
    node = helper.make_node("Repeat", [*states, *scanned, *captured], outputs, name, domain=CONTROL)
    options: dict[str, Any] = {
        "body": body, "steps": steps, "scanned": len(scanned), "captured": len(captured),
        "axes": list(axes or [0] * len(scanned)), "reverse": [int(r) for r in reverse or [False] * len(scanned)],
    }  # fmt: skip
    if stacked:
        options["out_axes"] = list(out_axes or [0] * stacked)
        options["out_reverse"] = [int(r) for r in out_reverse or [False] * stacked]
    node.attribute.extend(helper.make_attribute(key, value) for key, value in options.items())
    return node


def size(node: Any) -> int:
    """The number of nodes that a Repeat would be, written out."""
    loop = repeated(node)
    return loop.steps * max(_count(loop.body), 1)


def note_unrolled(graph: Graph, count: int, where: str) -> None:
    """Count nodes that a loop or sequence is going to be written out as. UnsupportedError where all are too many."""
    graph.unrolled += count if count > UNROLLED else 0
    if graph.unrolled > LONGEST:
        raise UnsupportedError(
            f"{where}: it has to be written out, for it has sequences or states that change their shapes. With others "
            f"of its kind that would take {graph.unrolled} operators, more than {LONGEST}. Export the model without it"
        )


def _count(body: Any) -> int:
    return sum(1 + sum(_count(inner) for inner in graphs_of(node)) for node in body.node)


class Lines:
    """Writes nodes and constants for what a node becomes, in the form of the graph's own opset."""

    def __init__(self, graph: Graph, where: str) -> None:
        self.graph, self.where = graph, where
        self.nodes: list[Any] = []

    def fresh(self, what: str) -> str:
        """A name that nothing has yet."""
        number = self.graph.written = self.graph.written + 1
        return f"{self.where}#{what}.{number}"

    def add(self, op: str, *inputs: str, output: str = "", **options: Any) -> str:
        """Write a node; the name of its output."""
        name = output or self.fresh(op.lower())
        self.nodes.append(helper.make_node(op, inputs, [name], name, **options))
        return name

    def constant(self, value: Any, dtype: Any = np.int64) -> str:
        """The name of a new constant."""
        name = self.fresh("value")
        self.graph.constants[name] = np.asarray(value, dtype)
        return name

    def unsqueeze(self, name: str, axis: int, output: str = "") -> str:
        """A tensor with one more axis of length 1."""
        if self.graph.opset < AXES_ARE_INPUTS:
            return self.add("Unsqueeze", name, output=output, axes=[axis])
        return self.add("Unsqueeze", name, self.constant([axis]), output=output)

    def stack(self, parts: Sequence[str], axis: int, output: str = "") -> str:
        """The parts side by side along a new axis."""
        return self.add("Concat", *(self.unsqueeze(part, axis) for part in parts), output=output, axis=axis)


def unrolled(graph: Graph, node: Any) -> list[Any]:
    """The nodes of all steps, one behind the other."""
    loop = repeated(node)
    lines = Lines(graph, node.name or node.output[0])
    formals = [value.name for value in loop.body.input]
    states, count = list(loop.states), len(loop.states)
    slices: list[list[str]] = []
    for step in range(loop.steps):
        places = (loop.steps - 1 - step if back else step for back in loop.reverse)
        cut = [
            lines.add("Gather", name, lines.constant(place), axis=axis)
            for name, axis, place in zip(loop.scanned, loop.axes, places, strict=True)
        ]
        actual = dict(zip(formals, [*states, *cut, *loop.captured], strict=True))
        made, results = instantiate(graph, loop.body, actual, lines.where)
        for one in made:
            one.name = f"{one.name}_{step + 1}" if one.name and step else one.name
        lines.nodes += made
        states = results[:count]
        slices.append(results[count:])
    for name, result in zip(node.output, states, strict=False):
        if name:
            lines.add("Identity", result, output=name)
    for i, (axis, back) in enumerate(zip(loop.out_axes, loop.out_reverse, strict=True)):
        parts = [results[i] for results in slices]
        if len(node.output) > count + i and node.output[count + i]:
            lines.stack(parts[::-1] if back else parts, axis, node.output[count + i])
    return lines.nodes
