"""A model as the analysis reads it: its own nodes, sizes fixed, weights that are only turned on their way folded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np

from tesa.base.onnxruntime import reference_outputs
from tesa.base.random_inputs import random_array
from tesa.errors import TesaError, UsageError
from tesa.frontend.graph import Graph, attributes, domain_of, tensor_type
from tesa.frontend.infer import infer_types
from tesa.frontend.lift import lift
from tesa.frontend.load import load_graph

GUESSES = (32, 64, 128, 224, 16, 8)
"""Sizes that are tried for what a model leaves open, behind the batch, where no data say it."""


def analysed(proto: Any, feeds: Mapping[str, Any] | None) -> tuple[Graph, dict[str, tuple[int, ...]]]:
    """(the graph, the shapes of its tensors). feeds: inputs of one run, whose sizes are taken; None to guess them."""
    graph = _loaded(proto, feeds)
    lift(graph)
    shapes, _ = infer_types(graph)
    shapes |= _run_for(graph, proto, feeds, shapes)
    for node in graph.nodes:
        _fold(graph, node)
    graph.nodes = [node for node in graph.nodes if any(name not in graph.constants for name in node.output if name)]
    shapes |= {value.name: _sizes(value) for value in graph.inputs}
    return graph, shapes


def _run_for(
    graph: Graph, proto: Any, feeds: Mapping[str, Any] | None, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    """The shapes that ONNX does not infer, as onnxruntime finds them; none where it cannot run the model."""
    made = {name for node in proto.graph.node for name in node.output if name}
    missing = [name for node in graph.nodes for name in node.output if name and name not in shapes and name in made]
    if not missing or find_spec("onnxruntime") is None:
        return {}
    try:
        found = reference_outputs(proto, feeds or _random(graph), missing)
    except TesaError:
        return {}
    return {name: tuple(np.shape(found[name])) for name in missing if isinstance(found[name], np.ndarray)}


def random_feeds(proto: Any) -> dict[str, Any]:
    """Random inputs of a model, of sizes that it can have."""
    return _random(_loaded(proto, None))


def _random(graph: Graph) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        value.name: random_array(value.name, _sizes(value), tensor_type(value), rng, None) for value in graph.inputs
    }


def _sizes(value: Any) -> tuple[int, ...]:
    return tuple(int(d.dim_value) for d in value.type.tensor_type.shape.dim)


def _loaded(proto: Any, feeds: Mapping[str, Any] | None) -> Graph:
    if feeds is not None:
        return load_graph(proto, {name: tuple(np.shape(array)) for name, array in feeds.items()})
    constants = {tensor.name for tensor in proto.graph.initializer}
    ports = [value for value in proto.graph.input if value.name not in constants]
    if all(d.dim_value > 0 for value in ports for d in value.type.tensor_type.shape.dim):
        return load_graph(proto)
    fault: TesaError | None = None
    for size in GUESSES:
        shapes = {
            value.name: tuple(
                d.dim_value if d.dim_value > 0 else 1 if axis == 0 else size
                for axis, d in enumerate(value.type.tensor_type.shape.dim)
            )
            for value in ports
        }
        try:
            return load_graph(proto, shapes)
        except TesaError as error:
            fault = error
    raise UsageError(
        f"the model leaves sizes open, and none of those that were tried fits ({fault}); give --data, which say them"
    )


def _fold(graph: Graph, node: Any) -> None:
    """Make what a node does to a weight, where it only turns or converts it, a constant that knows its initializer."""
    if domain_of(node) or node.op_type not in ("Transpose", "Identity", "Cast") or len(node.output) != 1:
        return
    array = graph.constants.get(node.input[0])
    source = graph.sources.get(node.input[0])
    if array is None or source is None or any(value.name == node.output[0] for value in graph.outputs):
        return
    axes = tuple(range(array.ndim)) if source.axes is None else source.axes
    if node.op_type == "Transpose":
        perm = attributes(node).get("perm") or list(range(array.ndim))[::-1]
        array, axes = array.transpose(perm), tuple(axes[axis] for axis in perm)
    graph.constants[node.output[0]] = array
    turned = source.axes is not None or node.op_type == "Transpose"
    graph.sources[node.output[0]] = replace(source, axes=axes if turned else None)
