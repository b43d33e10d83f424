"""Ties of operators of another domain, by the labels that a user's converter was registered with."""

from typing import Any

from tesa.compact.analysis import OTHER, Analysis, ties
from tesa.compact.index import Structure
from tesa.compact.labels import tie_labels
from tesa.errors import UsageError
from tesa.frontend.graph import domain_of
from tesa.frontend.registry import labels_of
from tesa.propagate.labels import parse_einsum


@ties(OTHER)
def labelled(a: Analysis, i: int, node: Any) -> Structure | None:
    """Axes of one label are tied. Without labels, and with several outputs, everything stays."""
    labels = labels_of(node.op_type, domain_of(node))
    if not labels or len(node.output) > 1:
        return None
    shapes = tuple(a.shape(name) for name in node.input)
    try:
        product = parse_einsum(labels, shapes)
        if any(len(set(names)) < len(names) for names in product.operands):
            raise ValueError("an operand has a label twice")
        if len(product.out) != len(a.shape(node.output[0])):
            raise ValueError(f"the output has the shape {list(a.shape(node.output[0]))}")
    except ValueError as error:
        raise UsageError(
            f"{a.graph.source}: node {node.name or node.output[0]!r}: the labels {labels!r} of the converter of "
            f"{domain_of(node)}::{node.op_type} do not fit inputs of shape {[list(s) for s in shapes]}: {error}"
        ) from error
    return tie_labels(a, i, dict(enumerate(product.operands)), product.out)
