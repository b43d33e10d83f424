"""Quantized operators whose channels are last, as ONNX Runtime writes them, between two transposes."""

from collections.abc import Callable
from typing import Any

from onnx import helper

from tesa.frontend.graph import Graph, attributes, domain_of
from tesa.frontend.infer import infer_types
from tesa.frontend.rewriter import Rewrite


def channels_last(r: Rewrite, inner: Callable[[Rewrite], None]) -> None:
    """Write a node whose input and output have their channels last; `inner` writes it as if they were axis 1."""
    rank = _rank(r)
    node, output = r.node, r.node.output[0]
    core = type(node)()
    core.CopyFrom(node)
    core.output[0] = f"{output}#first"
    core.input[0] = r.add("Transpose", [node.input[0]], f"{output}#in", perm=[0, rank - 1, *range(1, rank - 1)])
    r.node = core
    inner(r)
    r.node = node
    r.add("Transpose", [core.output[0]], output, perm=[0, *range(2, rank), 1])


def _rank(r: Rewrite) -> int:
    """The number of axes of the input: by the weight, the window, or what is known of it; a picture has four."""
    if "QLinearConv" in r.node.op_type and r.at(3) in r.graph.constants:
        return r.graph.constants[r.at(3)].ndim
    if "kernel_shape" in r.options:
        return len(r.options["kernel_shape"]) + 2
    return len(infer_types(r.graph)[0].get(r.node.input[0], (0,) * 4))


def max_pool(r: Rewrite) -> None:
    """NhwcMaxPool(x): the plain operator."""
    r.core("MaxPool", [r.at(0)], r.node.output[0], **r.options)


def cancel_turns(graph: Graph) -> None:
    """Take out pairs of transposes that undo each other, in place."""
    makers = {name: node for node in graph.nodes for name in node.output}
    outputs = {value.name for value in graph.outputs}
    alias: dict[str, str] = {}
    for node in graph.nodes:
        node.input[:] = [alias.get(name, name) for name in node.input]
        before = makers.get(node.input[0]) if node.input else None
        if before is None or not (_is_transpose(node) and _is_transpose(before)) or node.output[0] in outputs:
            continue
        first, second = (list(attributes(n).get("perm", [])) for n in (before, node))
        if first and second and [first[i] for i in second] == sorted(first):
            alias[node.output[0]] = before.input[0]
    if not alias:
        return
    read = {name for node in graph.nodes for name in node.input} | outputs
    graph.nodes = [n for n in graph.nodes if not _is_transpose(n) or (n.output[0] not in alias and n.output[0] in read)]
    read = {name for node in graph.nodes for name in node.input} | outputs
    graph.nodes = [n for n in graph.nodes if not _is_transpose(n) or n.output[0] in read]


def _is_transpose(node: Any) -> bool:
    return node.op_type == "Transpose" and not domain_of(node)


def softmax(r: Rewrite) -> None:
    """QLinearSoftmax(x, xs, xz, ys, yz); before opset 13 it runs over all axes from `axis` on."""
    options = r.options
    x, axis = r.real(0), int(options.get("axis", -1))
    if int(options.get("opset", 13)) >= 13:
        r.quantize(r.core("Softmax", [x], axis=axis), r.at(3), r.at(4))
        return
    flat = r.core("Softmax", [r.add("Flatten", [x], axis=axis)], axis=1)
    r.quantize(r.add("Reshape", [flat, r.add("Shape", [x])]), r.at(3), r.at(4))


def where(r: Rewrite) -> None:
    """QLinearWhere(condition, x, xs, xz, y, ys, yz, zs, zz)."""
    r.quantize(r.core("Where", [r.at(0), r.real(1), r.real(4)]), r.at(7), r.at(8))


def mean(r: Rewrite) -> None:
    """QLinearReduceMean(x, xs, xz, ys, yz)."""
    options = r.options
    axes = [r.constant(list(options["axes"]))] if "axes" in options else []
    r.quantize(r.core("ReduceMean", [r.real(0), *axes], keepdims=options.get("keepdims", 1)), r.at(3), r.at(4))


def same(op: str) -> Callable[[Rewrite], None]:
    """An operator of ONNX Runtime that ONNX has too."""

    def rewrite(r: Rewrite) -> None:
        node = helper.make_node(op, r.node.input, r.node.output, r.node.name, **r.options)
        r.nodes.append(node)

    return rewrite
