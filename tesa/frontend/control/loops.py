"""Loop and Scan as Repeat: how many steps a loop makes, and what each of them reads and writes."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from onnx import helper

from tesa.attributes.attribute import Shape, Values
from tesa.errors import ModelError, UnsupportedError
from tesa.frontend.control.bodies import body_of, captured
from tesa.frontend.control.known import LARGEST, ancestors, evaluator, is_short
from tesa.frontend.control.repeat import Lines, make_repeat
from tesa.frontend.graph import Graph, attributes

MOST = 1 << 20
"""Steps that a loop with a condition may make at most."""

_WORK = 1 << 15
"""Nodes that are computed to count the steps of a loop: a second or two of work."""

LONGEST = 1 << 24
"""Steps of a loop of a fixed number: they are numbered by a constant."""

_MOST_SEQUENCES = 1 << 12  # of the Scan of opset 8, each of which becomes a loop of its own


def from_loop(
    graph: Graph, node: Any, values: Mapping[str, Values], undecided: Callable[[str], bool]
) -> list[Any] | None:
    """The nodes that take the place of a Loop; None where its count may be known later.

    undecided: True for a tensor that may get a value later. UnsupportedError where data decide how often it runs.
    """
    where = f"{graph.source}: node {node.name or node.output[0]!r} (Loop)"
    for name in filter(None, node.input[:2]):
        if name not in values and undecided(name):
            return None
    most, go = (None if not name else values.get(name) for name in node.input[:2])
    if node.input[0] and most is None:
        raise UnsupportedError(
            f"{where}: the number of its iterations, {node.input[0]!r}, is known only when the model runs; tesa "
            "compiles loops of a fixed number. Export the model with that number as a constant"
        )
    limit = None if most is None else max(int(most.reshape(-1)[0]), 0)
    body, formals = body_of(node), [value.name for value in body_of(node).input]
    states = list(node.input)[2 : len(formals) - captured(node)]
    outer = list(node.input)[len(node.input) - captured(node) :]
    fixed = {
        name: values[value]
        for name, value in zip(formals[len(formals) - len(outer) :], outer, strict=True)
        if value in values
    }
    started = {i: values[name] for i, name in enumerate(states) if name in values}
    steps: int | None = 0
    if not node.input[1] or (go is not None and go.reshape(-1)[0]):
        steps = _count(graph, body, limit, fixed, started)
    elif go is None:
        steps = None
    if steps is None and any(undecided(name) for name in (*states, *outer) if name and name not in values):
        return None
    if steps is None and (limit is None or limit > MOST):
        raise UnsupportedError(
            f"{where}: a condition that depends on data decides how often it runs; tesa compiles loops of a fixed "
            f"number. Export the model with a constant maximum of at most {MOST} iterations"
        )
    return _Loop(graph, node, body, states, outer, where).write((limit or 0) if steps is None else steps, steps is None)


def _count(
    graph: Graph, body: Any, limit: int | None, fixed: Mapping[str, Values], started: Mapping[int, Values]
) -> int | None:
    """The number of steps of a loop that begins with a true condition; None if data decide it.

    fixed: the known inputs that stay the same, by their names in the body; started: the known first states.
    """
    formals = [value.name for value in body.input]
    results = [output.name for output in body.output]
    nodes = ancestors(body.node, [results[0]])
    reads = {name for node in nodes for name in node.input} | {results[0]}
    if formals[1] == results[0] or (not reads & set(formals[2:]) - set(fixed) and formals[0] not in reads):
        feeds = {formals[1]: np.asarray(True)} | {name: fixed[name] for name in fixed if name in reads}
        value = _first(graph, nodes, feeds, [results[0]])
        if value is None:
            return None
        endless = bool(value[0].reshape(-1)[0])
        return limit if endless else min(1, limit if limit is not None else 1)
    wanted, carried = _carried(body, formals, results)
    if any(i not in started for i in carried):
        return None
    nodes = ancestors(body.node, wanted)
    needed = {name for node in nodes for name in node.input} | set(wanted)
    feeds = {formals[0]: np.asarray(0, np.int64), formals[1]: np.asarray(True)}
    feeds |= {formals[2 + i]: started[i] for i in carried} | dict(fixed)
    if not needed - {name for node in nodes for name in node.output} - {""} <= set(feeds):
        return None
    return _simulate(graph, nodes, {n: v for n, v in feeds.items() if n in needed}, wanted, formals, carried, limit)


def _carried(body: Any, formals: list[str], results: list[str]) -> tuple[list[str], list[int]]:
    """(the outputs that the condition of the next steps is made of, the states among them)."""
    carried: list[int] = []
    wanted = [results[0]]
    while True:
        reads = {name for node in ancestors(body.node, wanted) for name in node.input} | set(wanted)
        states = len(results) - 1
        more = [i for i in range(min(states, len(formals) - 2)) if formals[2 + i] in reads and i not in carried]
        if not more:
            return wanted, carried
        carried += more
        wanted += [results[1 + i] for i in more]


def _simulate(
    graph: Graph, nodes: list[Any], feeds: dict[str, Values], wanted: list[str], formals: list[str],
    carried: list[int], limit: int | None,
) -> int | None:  # fmt: skip
    """Run the part of a body that its condition is made of until it ends; None where that takes too long."""
    most = _WORK // max(len(nodes), 1)
    tries = most if limit is None else min(most, limit)
    if not is_short(nodes):
        return None
    try:
        program = evaluator(nodes, feeds, list(dict.fromkeys(wanted)), graph.opset)
        for step in range(tries):
            if formals[0] in feeds:
                feeds[formals[0]] = np.asarray(step, np.int64)
            found = dict(zip(dict.fromkeys(wanted), program.run(None, feeds), strict=True))
            if not np.asarray(found[wanted[0]]).reshape(-1)[0]:
                return step + 1
            fresh = {formals[2 + i]: np.asarray(found[name]) for i, name in zip(carried, wanted[1:], strict=True)}
            if max((value.size for value in fresh.values()), default=0) > LARGEST:
                return None
            feeds = {**feeds, **{name: value for name, value in fresh.items() if name in feeds}}
    except Exception:  # what the reference cannot compute is not known
        return None
    return limit if tries == limit else None


def _first(graph: Graph, nodes: list[Any], feeds: dict[str, Values], wanted: list[str]) -> list[Values] | None:
    """The wanted tensors after one step; one of the feeds may be wanted itself."""
    if wanted[0] in feeds:
        return [feeds[wanted[0]]]
    if not is_short(nodes):
        return None
    try:
        return [np.asarray(v) for v in evaluator(nodes, feeds, wanted, graph.opset).run(None, feeds)]
    except Exception:  # what the reference cannot compute is not known
        return None


class _Loop:
    """Writes a Loop of a known number of steps, or of a known maximum, as a Repeat."""

    def __init__(self, graph: Graph, node: Any, body: Any, states: list[str], outer: list[str], where: str) -> None:
        self.graph, self.node, self.where = graph, node, where
        self.states, self.outer = states, outer
        self.body = copy.deepcopy(body)
        self.lines = Lines(graph, node.name or node.output[0])

    def write(self, steps: int, conditional: bool) -> list[Any]:
        """The nodes. conditional: the loop may end before its last step; its states stay as they are then."""
        outputs = list(self.node.output)
        stacked = [name for name in outputs[len(self.states) :] if name]
        if stacked and (conditional or not steps):
            what = "data decide how often it runs" if conditional else "it makes no step"
            raise UnsupportedError(
                f"{self.where}: {what}, so that the shape of {stacked[0]!r}, which it collects, is not known or has no "
                "elements; tesa compiles for fixed sizes. Export the model without the loop"
            )
        if steps > LONGEST:
            raise UnsupportedError(
                f"{self.where}: it makes {steps} iterations, and tesa compiles loops of at most {LONGEST}. Check the "
                "number of its iterations"
            )
        if not steps:
            return [
                helper.make_node("Identity", [state], [name], name)
                for state, name in zip(self.states, outputs, strict=False)
                if name
            ]
        if conditional:
            self._hold()
            first = self.node.input[1] or self.lines.constant(True, bool)
            self.states = [self._scalar(first), *self.states]
            outputs = ["", *outputs]
        else:
            self._drop_condition()
        counter = self.lines.constant(np.arange(steps))
        self._move_counter()
        outputs = [name or self.lines.fresh("unread") for name in outputs]
        outputs += [self.lines.fresh("unread") for _ in range(len(self.body.output) - len(outputs))]
        self.lines.nodes.append(
            make_repeat(self.node.name, self.body, steps, self.states, [counter], self.outer, outputs)
        )
        return self.lines.nodes

    def _scalar(self, name: str) -> str:
        return self.lines.add("Reshape", name, self.lines.constant(np.zeros(0)))

    def _drop_condition(self) -> None:
        """The condition is true in every step; the counter and the condition are the first two inputs of the body."""
        name = self.lines.constant(True, bool)
        self.outer = [*self.outer, name]
        condition = copy.deepcopy(self.body.input[1])
        del self.body.input[1]
        self.body.input.append(condition)
        del self.body.output[0]

    def _move_counter(self) -> None:
        """In the body of a Repeat the slices of scanned tensors stand behind the states."""
        counter = copy.deepcopy(self.body.input[0])
        del self.body.input[0]
        rest = [copy.deepcopy(value) for value in self.body.input]
        del self.body.input[:]
        count = len(self.states)
        self.body.input.extend([*rest[:count], counter, *rest[count:]])

    def _hold(self) -> None:
        """Each state keeps its value once the condition is false, and the condition stays false."""
        formals, results = ([value.name for value in values] for values in (self.body.input, self.body.output))
        go = f"{self.lines.where}#go"
        shape = f"{self.lines.where}#shape"
        self.outer = [*self.outer, self.lines.constant(np.zeros(0))]
        self.body.input.append(helper.make_empty_tensor_value_info(shape))
        nodes = [
            helper.make_node("Reshape", [results[0], shape], [f"{go}.next"]),
            helper.make_node("And", [formals[1], f"{go}.next"], [go]),
        ]
        made = [go]
        for i in range(len(self.states)):
            name = f"{self.lines.where}#state{i}"
            nodes.append(helper.make_node("Where", [formals[1], results[1 + i], formals[2 + i]], [name]))
            made.append(name)
        self.body.node.extend(nodes)
        del self.body.output[:]
        self.body.output.extend(helper.make_empty_tensor_value_info(name) for name in made)


def from_scan(
    graph: Graph, node: Any, values: Mapping[str, Values], shapes: Mapping[str, Shape], last: bool
) -> list[Any] | None:
    """The nodes that take the place of a Scan; None where the length that it runs along may be known later."""
    options, where = attributes(node), f"{graph.source}: node {node.name or node.output[0]!r} (Scan)"
    body, count = body_of(node), int(options["num_scan_inputs"])
    names, outer = list(node.input), list(node.input)[len(node.input) - captured(node) :]
    names = names[: len(names) - len(outer)]
    batched = int(options["since"]) < 9
    lengths = names.pop(0) if batched else ""
    states, scanned = names[: len(names) - count], names[len(names) - count :]
    known = {name: values[name].shape if name in values else shapes.get(name) for name in scanned}
    if any(shape is None for shape in known.values()):
        if last:
            raise UnsupportedError(f"{where}: the shape of what it scans, {scanned[0]!r}, is not known before it runs")
        return None
    stacked = len(body.output) - len(states)
    axes = [1] * count if batched else list(options.get("scan_input_axes", [0] * count))
    axes = [axis % len(known[name] or ()) for axis, name in zip(axes, scanned, strict=True)]
    found = {(known[name] or ())[axis] for axis, name in zip(axes, scanned, strict=True)}
    if len(found) != 1:
        raise ModelError(f"{where}: what it scans has the lengths {sorted(found)}; they must be the same")
    (steps,) = found
    if not steps:
        raise UnsupportedError(f"{where}: what it scans has no elements; tesa cannot compile that")
    reverse = options.get("directions" if batched else "scan_input_directions", [0] * count)
    if batched:
        if lengths:
            raise UnsupportedError(f"{where}: lengths of its sequences are not supported; export it with opset 9")
        batch = (known[scanned[0]] or ())[0]
        if batch > _MOST_SEQUENCES:
            raise UnsupportedError(
                f"{where}: it runs over {batch} sequences, and at most {_MOST_SEQUENCES} are compiled. Export it with "
                "opset 9"
            )
        return _batched(graph, node, body, batch, steps, states, scanned, outer, reverse)
    outputs = [name or f"{node.name or node.output[0]}#unread{i}" for i, name in enumerate(node.output)]
    out_axes = options.get("scan_output_axes", [0] * stacked)
    out_reverse = options.get("scan_output_directions", [0] * stacked)
    return [make_repeat(node.name, body, steps, states, scanned, outer, outputs, axes=axes, reverse=reverse,
                        out_axes=out_axes, out_reverse=out_reverse)]  # fmt: skip


def _batched(
    graph: Graph, node: Any, body: Any, batch: int, steps: int, states: list[str], scanned: list[str],
    outer: list[str], reverse: Any,
) -> list[Any]:  # fmt: skip
    """The Scan of opset 8, which runs for each sequence of a batch: one Repeat each, and their results stacked."""
    lines = Lines(graph, node.name or node.output[0])
    rows: list[list[str]] = []
    for place in range(batch):
        index = lines.constant(place)
        first = [lines.add("Gather", name, index, axis=0) for name in (*states, *scanned)]
        outputs = [lines.fresh("sequence") for _ in body.output]
        made = make_repeat(
            f"{lines.where}.{place}", body, steps, first[: len(states)], first[len(states) :], outer, outputs,
            reverse=reverse,
        )  # fmt: skip
        lines.nodes.append(made)
        rows.append(outputs)
    for i, name in enumerate(node.output):
        if name:
            lines.stack([row[i] for row in rows], 0, name)
    return lines.nodes
