"""Looks at a model's functions before they are written out: a few hundred bytes can stand for endless nodes."""

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

from tesa.errors import ModelError
from tesa.frontend.control.inside import all_nodes
from tesa.frontend.giants import GROWTH, readable
from tesa.frontend.given import file_size
from tesa.frontend.graph import domain_of

MOST = 20_000
"""Nodes that the functions of a small model may become. Each may call another one twice: forty are 10^12 nodes."""

ROOM = 256 << 20
"""Bytes that the functions of a small model may become."""

_TIMES = 20  # as many nodes as the file has: those of a large one may become more

Key = tuple[str, str, str]


def check_calls(proto: Any, source: str) -> None:
    """Raise a ModelError for functions that call themselves, are there twice, or become too many nodes or bytes."""
    functions: dict[Key, Any] = {}
    for function in proto.functions:
        if functions.setdefault(_key(function, function.name), function) is not function:
            raise ModelError(f"{source}: the model has several functions {function.name!r}. Export it again")
    nodes_there = [node for part in (proto.graph, *proto.functions) for node in all_nodes(part.node)]
    for node in nodes_there:
        _check_arity(node, functions.get(_key(node, node.op_type)), source)
    calls = {key: _calls(function.node, functions) for key, function in functions.items()}
    nodes: dict[Key, int] = {}
    sizes: dict[Key, int] = {}
    for key in _callees_first(calls, source):
        nodes[key] = sum(1 for _ in all_nodes(functions[key].node)) + sum(nodes[called] for called in calls[key])
        sizes[key] = functions[key].ByteSize() + sum(sizes[called] for called in calls[key])
    used = _calls(proto.graph.node, functions)
    made, most = sum(nodes[key] for key in used), max(MOST, _TIMES * len(nodes_there))
    if made > most:
        raise ModelError(
            f"{source}: its functions call each other so often that they are {made:.3g} nodes where they are written "
            f"out, and at most {most} are. Export the model without them"
        )
    size, room = sum(sizes[key] for key in used), max(ROOM, GROWTH * file_size(proto))
    if size > room:
        raise ModelError(
            f"{source}: its functions would take {readable(size)} where they are written out, and at most "
            f"{readable(room)} are taken. Export the model with their constants outside of them"
        )


def _check_arity(node: Any, called: Any, source: str) -> None:
    """called: the function of the model that the node calls, None if it calls none."""
    if called is not None and (len(node.input) > len(called.input) or len(node.output) > len(called.output)):
        raise ModelError(
            f"{source}: node {node.name or next(iter(node.output), '?')!r} calls function {called.name!r} of the model "
            f"with {len(node.input)} inputs and {len(node.output)} outputs, and it has {len(called.input)} and "
            f"{len(called.output)}. Export the model again"
        )


def _callees_first(calls: Mapping[Key, list[Key]], source: str) -> Iterable[Key]:
    try:
        return list(TopologicalSorter(calls).static_order())
    except CycleError as error:
        raise ModelError(
            f"{source}: function {error.args[1][0][1]!r} of the model calls itself; functions must not be recursive. "
            "Export the model again"
        ) from error


def _calls(nodes: Iterable[Any], functions: Mapping[Key, Any]) -> list[Key]:
    """The functions that nodes call, once for each call."""
    keys = (_key(node, node.op_type) for node in all_nodes(nodes))
    return [key for key in keys if key in functions]


def _key(message: Any, name: str) -> Key:
    """message: a NodeProto or a FunctionProto."""
    return domain_of(message), name, message.overload
