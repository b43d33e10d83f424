"""The numbers that some tensors of a graph are known to hold, wherever constants and shapes alone decide them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx.shape_inference
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from tesa.attributes.attribute import Shape, Values
from tesa.frontend.control.bodies import CONTROL
from tesa.frontend.control.inside import all_nodes
from tesa.frontend.giants import GROWING
from tesa.frontend.graph import Graph, attributes, domain_of
from tesa.frontend.infer import infer_types, value_info

LARGEST = 1 << 16  # elements of a result: what decides a condition is small
RANDOM = ("Random", "Bernoulli", "Multinomial")


def known_values(graph: Graph, wanted: Iterable[str]) -> tuple[dict[str, Values], dict[str, Shape], dict[str, Any]]:
    """(numbers, shapes, NumPy dtypes) of the wanted tensors and those that they are made of, as far as they follow
    from constants and shapes. The graph stays as it is.
    """
    nodes = ancestors(graph.nodes, wanted)
    work = replace(graph, nodes=nodes, constants=dict(graph.constants), outputs=[])
    while True:
        shapes, dtypes = infer_types(work)
        left = [node for node in work.nodes if not _evaluate(work, node, shapes)]
        done = len(left) == len(work.nodes)
        work.nodes = left
        if done:
            return work.constants, shapes, dtypes


def ancestors(nodes: Sequence[Any], wanted: Iterable[str]) -> list[Any]:
    """The nodes that some tensors depend on, in order."""
    needed, found = set(wanted), []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            found.append(node)
            needed.update(node.input)
    return found[::-1]


def depends_on_data(graph: Graph, name: str) -> bool:
    """True where a tensor is made from the numbers of an input of the model and not only from shapes."""
    inputs, needed = {value.name for value in graph.inputs}, {name}
    for node in reversed(graph.nodes):
        if needed.intersection(node.output) and node.op_type not in ("Shape", "Size"):
            needed.update(node.input)
    return bool(needed & inputs)


def contradiction(graph: Graph, name: str, shapes: Mapping[str, Shape], dtypes: Mapping[str, Any]) -> str:
    """The reason why a tensor cannot be computed with the sizes that the graph has; "" if none is found."""
    for node in ancestors(graph.nodes, [name]):
        inputs = [x for x in node.input if x]
        missing = any(x and x not in shapes and x not in graph.constants for x in node.output)
        if domain_of(node) or not missing or any(x not in shapes and x not in graph.constants for x in inputs):
            continue
        made = [helper.make_empty_tensor_value_info(x) for x in node.output if x]
        given = [x for x in dict.fromkeys(inputs) if x not in graph.constants]
        ports = [
            helper.make_tensor_value_info(x, helper.np_dtype_to_tensor_dtype(np.dtype(dtypes[x])), shapes[x])
            for x in given
        ]
        tensors = [numpy_helper.from_array(graph.constants[x], x) for x in set(inputs) if x in graph.constants]
        body = helper.make_graph([node], "one", ports, made, tensors)
        model = helper.make_model(body, opset_imports=[helper.make_opsetid("", graph.opset)])
        try:
            onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        except onnx.shape_inference.InferenceError as error:
            sizes = ", ".join(str(list(shapes[x] if x in shapes else graph.constants[x].shape)) for x in inputs)
            reason = str(error).strip().splitlines()[-1].rpartition("Error] ")[2]
            return f"{node.op_type} of {sizes}: {reason or 'its shapes do not fit each other'}"
    return ""


def run(nodes: Sequence[Any], feeds: Mapping[str, Values], wanted: Sequence[str], opset: int) -> list[Values] | None:
    """The wanted tensors, computed from the feeds with ONNX's reference implementation; None where it cannot."""
    try:
        return evaluator(nodes, feeds, wanted, opset).run(None, dict(feeds))  # type: ignore[no-any-return]
    except Exception:  # what the reference cannot do is not known
        return None


def is_short(nodes: Iterable[Any]) -> bool:
    """False for nodes that the reference may work on for ever, or fill the memory with, whatever their inputs are."""
    return all(node.op_type not in ("Loop", "Scan", "SequenceMap", *GROWING) for node in all_nodes(nodes))


def evaluator(nodes: Sequence[Any], feeds: Mapping[str, Values], wanted: Sequence[str], opset: int) -> Any:
    """ONNX's reference implementation of some nodes."""
    ins = [value_info(name, np.asarray(value)) for name, value in feeds.items()]
    outs = [helper.make_empty_tensor_value_info(name) for name in wanted]
    body = helper.make_graph(list(nodes), "known", ins, outs)
    return ReferenceEvaluator(helper.make_model(body, opset_imports=[helper.make_opsetid("", opset)]))


def _evaluate(graph: Graph, node: Any, shapes: Mapping[str, Shape]) -> bool:
    """Make the outputs of a node constants if its inputs are, or if it asks for a shape. True if that was done."""
    if node.op_type in ("Shape", "Size") and node.input[0] not in graph.constants:
        if node.input[0] not in shapes:
            return False
        shape, options = shapes[node.input[0]], attributes(node)
        part = shape[options.get("start", 0) : options.get("end", len(shape))]
        value = np.asarray(np.prod(shape) if node.op_type == "Size" else part, np.int64)
        graph.constants[node.output[0]] = value
        return True
    names = [name for name in node.input if name]
    if domain_of(node) or node.op_type.startswith(RANDOM) or any(name not in graph.constants for name in names):
        return False
    sizes = [graph.constants[name].size for name in names]
    sizes += [int(np.prod(shapes[name])) for name in node.output if name in shapes]
    if max(sizes, default=0) > LARGEST or node.domain == CONTROL:
        return False
    if not is_short([node]) and not (node.op_type in GROWING and node.output[0] in shapes):
        return False
    wanted = [name for name in node.output if name]
    values = run([node], {name: graph.constants[name] for name in names}, wanted, graph.opset)
    if values is None or any(not isinstance(value, np.ndarray | np.generic) for value in values):
        return False
    graph.constants |= {name: np.asarray(value) for name, value in zip(wanted, values, strict=True)}
    return True
