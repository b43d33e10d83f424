"""Rewrites of an ONNX graph that make it plain: constants and norms folded, what does nothing removed.

Each takes a Graph and changes it in place. Done here and not in Relax because a node still has its name here, and
because a rewrite in NumPy takes microseconds where folding in TVM compiles a function.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from onnx import helper

from tesa.attributes.attribute import Quantization, Shape, Values
from tesa.errors import ModelError
from tesa.frontend.computed import count_computed
from tesa.frontend.giants import GROWING, check_possible
from tesa.frontend.graph import Graph, Source, attributes
from tesa.frontend.infer import infer_nodes, infer_types, value_info
from tesa.frontend.names import Unique, layer_names
from tesa.frontend.quantized import dequantize_constant, quantize_constant

WEIGHT_OPS = {
    "Conv": 1, "ConvInteger": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1, "MatMulInteger": 1, "FusedConv": 1,
    "FusedGemm": 1, "FusedMatMul": 1, "NhwcFusedConv": 1, "NhwcConv": 1,
}  # fmt: skip
CARRIERS = {"Identity", "Transpose", "DequantizeLinear", "QuantizeLinear", "Cast", "Reshape"}
FOLDABLE = {
    "Abs", "Add", "And", "Cast", "Ceil", "Clip", "Concat", "ConstantOfShape", "Div", "Equal", "Exp", "Expand",
    "Flatten", "Floor", "Gather", "Greater", "Identity", "Less", "Log", "MatMul", "Max", "Min", "Mod", "Mul", "Neg",
    "Not", "Or", "Pow", "Range", "Reciprocal", "ReduceProd", "ReduceSum", "Relu", "Reshape",
    "Sigmoid", "Slice", "Sqrt", "Squeeze", "Sub", "Tanh", "Tile", "Transpose", "Tril", "Trilu", "Unsqueeze", "Where",
    "CastLike", "Cos", "CumSum", "EyeLike", "GatherElements", "GatherND", "GreaterOrEqual", "LessOrEqual",
    "MelWeightMatrix", "ReduceMax", "ReduceMin", "Round", "ScatterElements", "ScatterND", "Sign", "Sin", "Sum", "Xor",
}  # fmt: skip
DOES_NOTHING = ("Identity", "Dropout")
FOLD_LIMIT = 1 << 26  # elements; what is larger stays an operator


def name_layers(graph: Graph, around: str = "") -> None:
    """Give each node its layer; a weight layer is called like its weight.

    around: the layer of the loop whose body the graph is, which takes in the nodes without a name.
    """
    makers = {name: node for node in graph.nodes for name in node.output}
    weights = {}
    for node in graph.nodes:
        position = weight_position(graph, makers, node)
        if position is not None and node.op_type in WEIGHT_OPS:
            name = carried(makers, node.input[position])
            weights[node.output[0]] = graph.sources[name].initializer if name in graph.sources else name
    graph.layers = layer_names(graph.nodes, weights)
    if around:
        unnamed = [node for node in graph.nodes if not node.name and node.output[0] not in weights]
        graph.layers |= {node.output[0]: around for node in unnamed}


def weight_position(graph: Graph, makers: Mapping[str, Any], node: Any) -> int | None:
    """The input of a node that is its weight: of a matrix product the right one, or the left one; else None."""
    if node.op_type == "Gather":
        return 0 if carried(makers, node.input[0]) in graph.constants else None
    sides = (1, 0) if node.op_type in ("Gemm", "MatMul", "MatMulInteger") else (1,)
    for position in sides if node.op_type in WEIGHT_OPS and len(node.input) > 1 else ():
        if carried(makers, node.input[position]) in graph.constants:
            return position
    return None


def carried(makers: Mapping[str, Any], name: str) -> str:
    """The tensor that another one is a stored, transposed or converted form of."""
    while name in makers and makers[name].op_type in CARRIERS:
        name = makers[name].input[0]
    return name


def name_new_layers(graph: Graph) -> None:
    """Give a layer to each node that has none, because it was made out of a branch or loop."""
    unique = Unique(graph.layers.values())
    for node in graph.nodes:
        if node.output[0] not in graph.layers:
            own = node.name.strip("/").replace("/", ".")
            graph.layers[node.output[0]] = unique(own or node.op_type.lower())


def drop_identities(graph: Graph) -> None:
    """Remove Identity and Dropout, which do nothing at inference. One that makes an output of the model stays."""
    outputs = {output.name for output in graph.outputs}
    alias: dict[str, str] = {}
    nodes = []
    second = {node.output[1] for node in graph.nodes if node.op_type in DOES_NOTHING and len(node.output) > 1} - {""}
    masks = second and second & graph.users().keys()
    for node in graph.nodes:
        if any(name in alias for name in node.input):
            node.input[:] = [alias.get(name, name) for name in node.input]
        read = len(node.output) > 1 and node.output[1] in masks
        if node.op_type in DOES_NOTHING and node.output[0] not in outputs and not read:
            alias[node.output[0]] = node.input[0]
        else:
            nodes.append(node)
    graph.nodes = nodes


def fold_constants(graph: Graph) -> None:
    """Evaluate the nodes whose inputs are all constants, and those that ask for a shape that is known."""
    while True:
        shapes = infer_types(graph)[0] if any(n.op_type in ("Shape", "Size") for n in graph.nodes) else {}
        before, outputs = len(graph.nodes), {output.name for output in graph.outputs}
        graph.nodes = [node for node in graph.nodes if node.output[0] in outputs or not _fold(graph, node, shapes)]
        if len(graph.nodes) == before or not any(n.op_type in ("Shape", "Size") for n in graph.nodes):
            return


def _fold(graph: Graph, node: Any, shapes: dict[str, tuple[int, ...]]) -> bool:
    """Turn a node into a constant if that can be done. True if it is now superfluous."""
    output = node.output[0]
    if len(node.output) != 1:
        return False
    if node.op_type in ("Shape", "Size") and (node.input[0] in shapes or node.input[0] in graph.constants):
        source = graph.constants.get(node.input[0])
        value: Values | None = _shape_value(node, shapes[node.input[0]] if source is None else source.shape)
    elif not node.input or any(name and name not in graph.constants for name in node.input):
        return False
    elif node.op_type == "DequantizeLinear":
        value = dequantize_constant(graph, node)
    elif node.op_type == "QuantizeLinear":
        value = quantize_constant(graph, node)
        value = _evaluate(graph, node) if value is None else value
    elif node.op_type in FOLDABLE and not node.domain:
        value = _evaluate(graph, node)
    else:
        return False
    if value is None or value.size > FOLD_LIMIT:
        return False
    graph.constants[output] = value
    _carry_source(graph, node)
    return True


def _carry_source(graph: Graph, node: Any) -> None:
    source = graph.sources.get(node.input[0]) if node.input else None
    if source is None or node.op_type not in ("Transpose", "DequantizeLinear", "QuantizeLinear", "Clip", "Cast"):
        return
    axes = source.axes
    rank = graph.constants[node.output[0]].ndim
    if node.op_type == "Transpose":
        perm = tuple(attributes(node).get("perm", range(rank)[::-1]))
        axes = tuple((axes or tuple(range(rank)))[i] for i in perm)
    graph.sources[node.output[0]] = Source(source.initializer, axes)
    old = graph.quantization.get(node.input[0])
    if old is not None and node.op_type == "Transpose":
        scale, zero = (np.transpose(v, perm) for v in (old.scale, old.zero_point))
        graph.quantization[node.output[0]] = replace(old, scale=scale, zero_point=zero)


def _shape_value(node: Any, shape: tuple[int, ...]) -> Values:
    if node.op_type == "Size":
        return np.asarray(math.prod(shape), np.int64)
    options = attributes(node)
    return np.asarray(shape[options.get("start", 0) : options.get("end", len(shape))], np.int64)


def _evaluate(graph: Graph, node: Any) -> Values | None:
    """Run one node with ONNX's reference implementation; None where that has none."""
    from onnx.reference import ReferenceEvaluator

    values = {name: graph.constants[name] for name in node.input if name}
    ins = [value_info(name, value) for name, value in values.items()]
    outs = [helper.make_empty_tensor_value_info(node.output[0])]
    body = helper.make_graph([node], "fold", ins, outs)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", graph.opset)])
    if not _may_be_evaluated(graph, node, values):
        return None
    try:
        result = ReferenceEvaluator(model).run(None, values)[0]
    except Exception:  # whatever the reference cannot do stays an operator of the model, nothing is lost
        return None
    return np.asarray(result)


def _may_be_evaluated(graph: Graph, node: Any, values: Mapping[str, Values]) -> bool:
    """False where the result is too large, or nobody knows how large. ModelError for one that is larger than allowed.

    Counted together are the bytes of all results at import, against the size of the file's own constants.
    """
    shapes: dict[str, Shape] = {name: value.shape for name, value in values.items()}
    dtypes: dict[str, Any] = {name: value.dtype for name, value in values.items()}
    infer_nodes(graph, [node], shapes, dtypes)
    where = f"{graph.source}: node {node.name or node.output[0]!r} ({node.op_type}): tensor {node.output[0]!r}"
    if node.output[0] not in shapes or node.output[0] not in dtypes:
        return node.op_type not in GROWING and sum(value.size for value in values.values()) <= FOLD_LIMIT
    shape, dtype = shapes[node.output[0]], dtypes[node.output[0]]
    check_possible(shape, dtype, where)
    if math.prod(shape) > FOLD_LIMIT:
        return False
    count_computed(graph, shape, dtype, where)
    return True


def fold_batch_norms(graph: Graph) -> None:
    """Fold each BatchNormalization into the convolution that alone feeds it. A zero weight stays zero."""
    norms = [n for n in graph.nodes if n.op_type == "BatchNormalization"]
    users, makers = (graph.users(), {node.output[0]: node for node in graph.nodes}) if norms else ({}, {})
    folded = set()
    for norm in norms:
        conv = makers.get(norm.input[0])
        if conv is None or conv.op_type != "Conv" or len(users[conv.output[0]]) != 1:
            continue
        names = [*norm.input[1:5], *(n for n in conv.input[1:] if n)]
        if any(n not in graph.constants for n in names) or attributes(norm).get("training_mode", 0):
            continue
        constants = [graph.constants[n] for n in norm.input[1:5]]
        scale, shift, mean, variance = (np.asarray(c, np.float64) for c in constants)
        spread = variance + attributes(norm).get("epsilon", 1e-5)
        _check_norm(graph, norm, conv, constants, bool((spread > 0).all()))
        factor = scale / np.sqrt(spread)
        _scale_conv(graph, conv, factor, shift - mean * factor)
        conv.output[0] = norm.output[0]
        graph.layers[norm.output[0]] = graph.layers[norm.input[0]]
        folded.add(id(norm))
    graph.nodes = [node for node in graph.nodes if id(node) not in folded]


def _check_norm(graph: Graph, norm: Any, conv: Any, constants: Sequence[Values], positive: bool) -> None:
    """Raise a ModelError for a norm that does not fit the convolution before it, or whose numbers are none."""
    weight = graph.constants[conv.input[1]]
    where = f"{graph.source}: node {norm.name or norm.output[0]!r} (BatchNormalization)"
    if any(constant.shape != weight.shape[:1] for constant in constants):
        raise ModelError(
            f"{where}: its parameters have the shapes {', '.join(str(list(c.shape)) for c in constants)}, expected "
            f"{list(weight.shape[:1])}: one number for each channel"
        )
    if not positive:
        raise ModelError(f"{where}: a variance plus epsilon is not above 0, so that its results are no numbers")


def _scale_conv(graph: Graph, conv: Any, factor: Values, shift: Values) -> None:
    weight = graph.constants[conv.input[1]]
    rows = factor.reshape(-1, *[1] * (weight.ndim - 1))
    bias = graph.constants[conv.input[2]] if len(conv.input) > 2 and conv.input[2] else np.zeros(len(factor))
    names = [f"{conv.output[0]}#{what}" for what in ("weight", "bias")]
    graph.constants[names[0]] = (weight * rows).astype(weight.dtype)
    graph.constants[names[1]] = (bias * factor + shift).astype(weight.dtype)
    if conv.input[1] in graph.sources:
        graph.sources[names[0]] = graph.sources[conv.input[1]]
    old = graph.quantization.get(conv.input[1])
    if old is not None:
        scale = (old.scale * rows).astype(np.float32)
        zero = np.broadcast_to(old.zero_point, scale.shape)
        graph.quantization[names[0]] = Quantization(old.bits, old.signed, scale, zero)
    conv.input[:] = [conv.input[0], *names]


def note_unused(graph: Graph) -> None:
    """Note in graph.dropped and graph.unused the parts that no output of the model depends on."""
    needed, nodes = _needed(graph, graph.nodes)
    read, _ = _needed(graph, graph.given.nodes)  # what a rewrite has read and made a constant of its own of
    alive = {node.output[0] for node in nodes}
    graph.dropped = tuple(graph.layers[node.output[0]] for node in graph.nodes if node.output[0] not in alive)
    names = [*(value.name for value in graph.inputs), *graph.given.constants]
    graph.unused = tuple(name for name in names if name not in needed | read)


def drop_unused(graph: Graph) -> None:
    """Remove nodes and constants that no output of the model depends on."""
    needed, graph.nodes = _needed(graph, graph.nodes)
    graph.constants = {name: array for name, array in graph.constants.items() if name in needed}


def _needed(graph: Graph, among: Sequence[Any]) -> tuple[set[str], list[Any]]:
    """(tensors, nodes) of these nodes that an output of the model depends on."""
    needed, nodes = {output.name for output in graph.outputs}, []
    for node in reversed(among):
        if needed.intersection(node.output):
            nodes.append(node)
            needed.update(node.input)
    return needed, nodes[::-1]
