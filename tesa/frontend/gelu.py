"""Recognises GELU (Hendrycks and Gimpel, 2016) where an exporter has written it as a chain of operators."""

import math
from typing import Any

from onnx import helper

from tesa.frontend.graph import Graph
from tesa.frontend.rewrite import drop_unused


def fuse_gelu(graph: Graph) -> None:
    """Turn x * 0.5 * (1 + erf(x / sqrt(2))), in any order of its factors, into one Gelu node."""
    makers = {name: node for node in graph.nodes for name in node.output}
    for erf in [n for n in graph.nodes if n.op_type == "Erf"]:
        users = graph.users()
        x = _times(graph, makers.get(erf.input[0]), math.sqrt(0.5))
        add = _only_user(users, erf.output[0], "Add")
        if x is None or add is None or not _is_constant(graph, _other(add, erf.output[0]), 1.0):
            continue
        last = _gelu_product(graph, makers, users, add, x)
        if last is None:
            continue
        gelu = helper.make_node("Gelu", [x], [last.output[0]], name=last.name)
        graph.nodes[graph.nodes.index(last)] = gelu
    drop_unused(graph)


def _gelu_product(graph: Graph, makers: dict[str, Any], users: dict[str, list[Any]], add: Any, x: str) -> Any:
    """The multiplication that completes the product of x, 0.5 and the output of add; None if there is none."""
    node, seen_x, seen_half = add, False, False
    while not (seen_x and seen_half):
        readers = users.get(node.output[0], [])
        if len(readers) != 1 or readers[0] is None or readers[0].op_type not in ("Mul", "Div"):
            return None
        product = readers[0]
        other = _other(product, node.output[0])
        if product.op_type == "Div":
            if product.input[0] != node.output[0] or not _is_constant(graph, other, 2.0) or seen_half:
                return None
            seen_half = True
        elif other == x and not seen_x:
            seen_x = True
        elif _is_constant(graph, other, 0.5) and not seen_half:
            seen_half = True
        elif _times(graph, makers.get(other), 0.5) == x and not (seen_x or seen_half):
            seen_x = seen_half = True
        else:
            return None
        node = product
    return node


def _times(graph: Graph, node: Any, factor: float) -> str | None:
    """x if the node computes x * factor or x / (1 / factor)."""
    if node is None or node.op_type not in ("Mul", "Div"):
        return None
    first, second = node.input
    if node.op_type == "Div":
        return str(first) if _is_constant(graph, second, 1 / factor) else None
    if _is_constant(graph, second, factor):
        return str(first)
    return str(second) if _is_constant(graph, first, factor) else None


def _is_constant(graph: Graph, name: str, value: float) -> bool:
    array = graph.constants.get(name)
    return array is not None and array.size == 1 and math.isclose(float(array.reshape(())), value, rel_tol=2e-5)


def _other(node: Any, name: str) -> str:
    return str(node.input[1] if node.input[0] == name else node.input[0])


def _only_user(users: dict[str, list[Any]], name: str, op: str) -> Any:
    readers = users.get(name, [])
    return readers[0] if len(readers) == 1 and readers[0] is not None and readers[0].op_type == op else None
