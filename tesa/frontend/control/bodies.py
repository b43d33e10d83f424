"""Bodies of branches and loops, closed over: what a body reads from around it becomes an input of its node.

In ONNX a branch or the body of a loop may read any tensor of the graph around it by name. A rewrite that looks at
node.input alone would miss that. So a node with bodies becomes one of the domain CONTROL with the tensors that its
bodies read as further inputs at its end, and each body has inputs of its own for them. Constants of bodies become
constants of the graph.
"""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from onnx import helper

from tesa.frontend.control.inside import all_nodes, graphs_of
from tesa.frontend.graph import Graph, Source, attributes, domain_of
from tesa.frontend.names import Unique
from tesa.frontend.tensors import constant_node, densify, to_array

CONTROL = "tesa.control"
"""The domain of branches and loops that are closed over: If, Loop, Scan, SequenceMap, and Repeat, see repeat.py."""

OPEN = ("If", "Loop", "Scan", "SequenceMap")


def is_control(node: Any, *operators: str) -> bool:
    """True for a node of the domain CONTROL, of one of these operators if any are given."""
    return node.domain == CONTROL and (not operators or node.op_type in operators)


def captured(node: Any) -> int:
    """The number of inputs at the end of a closed node that its bodies read from around it."""
    return int(attributes(node).get("captured", 0))


def body_of(node: Any, name: str = "body") -> Any:
    """The graph that an attribute of a node holds."""
    return next(a.g for a in node.attribute if a.name == name)


def close(graph: Graph) -> None:
    """Close over every branch and loop of the graph, in place."""
    if not any(_is_open(node) for node in graph.nodes):
        return
    taken = Unique(_names(graph))
    graph.nodes = [close_node(graph, node, taken) if _is_open(node) else node for node in graph.nodes]


def name_first_outputs(graph: Graph) -> None:
    """Give a name to the first output of each node that leaves it out: a node is known by it."""
    for node in graph.nodes:
        if node.output and not node.output[0]:
            node.output[0] = _fresh(graph, node.name or node.op_type, "unread")


def _is_open(node: Any) -> bool:
    return node.op_type in OPEN and not domain_of(node)


def _names(graph: Graph) -> set[str]:
    """Every name that is in use, also inside of bodies."""
    names = set(graph.constants) | {value.name for value in graph.inputs}
    for node in all_nodes(graph.nodes):
        names.update(node.output)
        for body in graphs_of(node):
            names.update(value.name for value in body.input)
            names.update(tensor.name for tensor in body.initializer)
    return names


def close_node(graph: Graph, node: Any, taken: Unique | None = None) -> Any:
    """A node of CONTROL in place of an If, Loop or Scan. taken: names in use, by the file; without them
    each new constant gets a numbered name."""
    new = copy.deepcopy(node)
    bodies = list(graphs_of(new))
    for body in bodies:
        _lift_constants(graph, body, {}, taken)
    read = list(dict.fromkeys(name for body in bodies for name in free_names(body)))
    for body in bodies:
        body.input.extend(helper.make_empty_tensor_value_info(name) for name in read)
    given = list(new.input)
    while given and not given[-1]:  # optional inputs that are left out stand at the end only as ""
        given.pop()
    least = 2 if node.op_type == "Loop" else 1
    new.input[:] = [*given, *[""] * (least - len(given)), *read]
    new.domain = CONTROL
    new.attribute.extend([helper.make_attribute("captured", len(read)), helper.make_attribute("since", graph.opset)])
    return new


def _lift_constants(graph: Graph, body: Any, outer: Mapping[str, str], taken: Unique | None) -> None:
    """Make the constants of a body, and of the bodies in it, constants of the graph. outer: new names around it."""
    arrays = {t.name: to_array(t, graph.source) for t in body.initializer}
    arrays |= {t.values.name: densify(t, graph.source) for t in body.sparse_initializer}
    for node in body.node:
        if node.op_type == "Constant" and not domain_of(node):
            arrays[node.output[0]] = constant_node(node, graph.source)
    formals = {value.name for value in body.input} - set(arrays)
    own = formals | {name for node in body.node for name in node.output}
    new = {old: name for old, name in outer.items() if old not in own}
    for name, array in arrays.items():
        new[name] = fresh = _fresh(graph, "body", name) if taken is None else taken(name)
        graph.constants[fresh] = array
        graph.sources[fresh] = Source(fresh)
    kept = [value for value in body.input if value.name in formals]
    nodes = [node for node in body.node if node.op_type != "Constant" or domain_of(node)]
    for node in nodes:
        node.input[:] = [new.get(name, name) for name in node.input]
        for inner in graphs_of(node):
            _lift_constants(graph, inner, new, taken)
    for output in body.output:
        output.name = new.get(output.name, output.name)
    _replace(body.input, kept)
    _replace(body.node, nodes)
    body.ClearField("initializer")
    body.ClearField("sparse_initializer")


def _replace(field: Any, messages: Iterable[Any]) -> None:
    kept = [copy.deepcopy(message) for message in messages]
    del field[:]
    field.extend(kept)


def free_names(body: Any) -> list[str]:
    """The names that a body reads from around it, in the order in which it does."""
    known = {"", *(value.name for value in body.input), *(tensor.name for tensor in body.initializer)}
    made = {name for node in body.node for name in node.output}
    found: dict[str, None] = {}
    for node in body.node:
        reads = [*node.input, *(name for inner in graphs_of(node) for name in free_names(inner))]
        found.update(dict.fromkeys(name for name in reads if name not in known and name not in made))
    found.update(dict.fromkeys(o.name for o in body.output if o.name not in known and o.name not in made))
    return list(found)


def renamed(node: Any, names: Mapping[str, str]) -> Any:
    """A copy of a node that reads and writes tensors by their new names, in its bodies as well."""
    new = type(node)()
    new.CopyFrom(node)
    new.input[:] = [names.get(name, name) for name in node.input]
    new.output[:] = [names.get(name, name) for name in node.output]
    for body in graphs_of(new):
        _rename_free(body, names)
    return new


def _rename_free(body: Any, names: Mapping[str, str]) -> None:
    own = {value.name for value in body.input} | {tensor.name for tensor in body.initializer}
    own |= {name for node in body.node for name in node.output}
    inside = {old: new for old, new in names.items() if old not in own}
    for node in body.node:
        node.input[:] = [inside.get(name, name) for name in node.input]
        for inner in graphs_of(node):
            _rename_free(inner, inside)
    for output in body.output:
        output.name = inside.get(output.name, output.name)


def instantiate(graph: Graph, body: Any, actual: Mapping[str, str], where: str) -> tuple[list[Any], list[str]]:
    """(nodes of a body with names of their own, the tensors that are its outputs).

    actual: the tensor of the graph for each input of the body. where: what the new names begin with.
    """
    names = dict(actual)
    for tensor in body.initializer:
        names[tensor.name] = _fresh(graph, where, tensor.name)
        graph.constants[names[tensor.name]] = to_array(tensor, graph.source)
    for node in body.node:
        names |= {name: _fresh(graph, where, name) for name in node.output if name}
    nodes = [renamed(node, names) for node in body.node]
    nodes = [close_node(graph, node, None) if _is_open(node) else node for node in nodes]
    for node in nodes:
        if node.output and not node.output[0]:
            node.output[0] = _fresh(graph, where, "unread")
    return nodes, [names.get(output.name, output.name) for output in body.output]


def _fresh(graph: Graph, where: str, name: str) -> str:
    number = graph.written = graph.written + 1
    return f"{where}#{name}.{number}"


def opened(node: Any) -> Any:
    """A closed node as ONNX has it: its bodies read the tensors around them by name. A Repeat becomes a Scan."""
    new = copy.deepcopy(node)
    count = captured(node)
    outer = list(node.input)[len(node.input) - count :]
    for body in graphs_of(new):
        formals = [value.name for value in body.input][len(body.input) - count :]
        del body.input[len(body.input) - count :]
        _rename_free(body, dict(zip(formals, outer, strict=True)))
        _copy_outputs(body)
    del new.input[len(new.input) - count :]
    options = attributes(node)
    kept = [a for a in new.attribute if a.name not in ("captured", "since")]
    new.domain = ""
    if node.op_type == "Repeat":
        new.op_type = "Scan"
        kept = [helper.make_attribute("body", body_of(new)), *_scan_attributes(options)]
    _replace(new.attribute, kept)
    return new


def _copy_outputs(body: Any) -> None:
    """Give a body outputs that a node of its own makes, each of them once: onnxruntime asks for that."""
    made = {name for node in body.node for name in node.output}
    for i, output in enumerate(body.output):
        if output.name in made:
            made.remove(output.name)
            continue
        name = f"{output.name}#copy{i}"
        body.node.append(helper.make_node("Identity", [output.name], [name], name))
        output.name = name


def _scan_attributes(options: Mapping[str, Any]) -> list[Any]:
    names = {
        "scanned": "num_scan_inputs", "axes": "scan_input_axes", "reverse": "scan_input_directions",
        "out_axes": "scan_output_axes", "out_reverse": "scan_output_directions",
    }  # fmt: skip
    return [helper.make_attribute(new, options[old]) for old, new in names.items() if old in options]
