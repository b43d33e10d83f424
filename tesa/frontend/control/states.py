"""The types of a loop's states, which have to stay the same from step to step."""

from collections.abc import Mapping
from typing import Any

from tesa.attributes.attribute import Shape
from tesa.frontend.control.repeat import repeated
from tesa.frontend.control.typed import body_graph, type_of
from tesa.frontend.graph import Graph
from tesa.frontend.infer import infer_types


def keeps_types(graph: Graph, node: Any, shapes: Mapping[str, Shape], dtypes: Mapping[str, Any]) -> bool | None:
    """True if the states of a Repeat have the same types after a step as before it; None where that is not known."""
    body = body_graph(graph, node, shapes, dtypes)
    if body is None:
        return None
    before = [type_of(graph, name, shapes, dtypes) for name in repeated(node).states]
    inferred = infer_types(body)
    after = [type_of(body, output.name, *inferred) for output in body.outputs[: len(before)]]
    if any(new is None for new in after):
        return None
    return before == after
