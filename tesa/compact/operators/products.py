"""Ties of convolutions and matrix products: outputs go with rows of the weight, inputs with its columns."""

from typing import Any

import numpy as np

from tesa.compact.analysis import Analysis, Contraction, Editor, Term, structure, ties
from tesa.compact.index import AxisIds, Ids, Structure
from tesa.compact.labels import Labels, tie_labels
from tesa.frontend.graph import attributes
from tesa.propagate.labels import matmul_axes, parse_einsum


@ties("Conv", "ConvTranspose")
def conv(a: Analysis, i: int, node: Any) -> Structure | None:
    """Channels in and out; the pixels and the taps of the window stay."""
    if any(a.constant(name) is None for name in node.input[1:] if name) or a.constant(node.input[0]) is not None:
        return None
    name = node.input[0]
    groups, channels = int(attributes(node).get("group", 1)), a.shape(name)[1]
    a.structures[name] = a.index.drop(a.of(name), range(2, len(a.shape(name))))
    ins = a.channels(name)
    count = a.shape(node.output[0])[1]
    outs = a.fresh(count)
    if a.moving and groups > 1:
        outs = _moved_groups(a, i, ins, (channels, count), groups)
    batch = next((part.ids for part in a.of(name) if part.axes == (0,)), None)
    if len(node.input) > 2 and node.input[2]:
        a.use(i, 2, (0, outs))
    owners = None
    if groups == 1:
        first, second = (outs, ins) if node.op_type == "Conv" else (ins, outs)
        a.use(i, 1, (0, first), (1, second))
    elif not a.moving:
        owners = _grouped(a, i, (ins, outs), (channels, count), groups)
    if ins is not None:
        a.contractions.append(Contraction(i, node.op_type, (Term(ins, {0: (1,)}, owners),)))
    return structure((0, batch), (1, outs))


def _moved_groups(a: Analysis, i: int, ins: Ids | None, counts: tuple[int, int], groups: int) -> Ids | None:
    """Ids of the outputs of a grouped convolution whose channels change places: inside of their group only.

    Of a depthwise one a channel goes with all that is made of it, wherever that may go.
    """
    channels, count = counts
    if channels == groups:
        if ins is None:
            a.use(i, 1)
            return None
        outs = ins if count == channels else a.index.fresh(count)
        if outs is not ins:
            a.index.tie(outs.reshape(groups, -1), ins.reshape(groups, 1))
        a.use(i, 1, (0, ins if a.graph.nodes[i].op_type == "ConvTranspose" else outs))
        return outs
    outs = a.index.fresh(count)
    first = np.zeros(channels, np.int64) if ins is None else ins
    tables = first.reshape(groups, -1), outs.reshape(groups, -1)
    for table in tables:
        a.index.balance(AxisIds((0, 1), table, (a.index.fresh(groups),)))
    a.grouped[i, 1] = tables
    a.own_cuts.add((i, 1))
    return outs


def _grouped(a: Analysis, i: int, ids: tuple[Ids | None, Ids | None], counts: tuple[int, int], groups: int) -> Ids:
    """Each group keeps as many channels as any other, or goes as a whole. Returns the id of each input's group."""
    gids = a.index.fresh(groups)
    tables = []
    for one, count in zip(ids, counts, strict=True):
        if one is None:
            a.index.pin(gids)
        tables.append(np.zeros((groups, count // groups), np.int64) if one is None else one.reshape(groups, -1))
    for table in tables:
        a.index.balance(AxisIds((0, 1), table, (gids,)))
    turned = a.graph.nodes[i].op_type == "ConvTranspose"

    def edit(editor: Editor, new: Any) -> None:
        ins, outs = (editor.keep[table] for table in tables)
        rows, columns = (ins, outs) if turned else (outs, ins)
        array = editor.constant(i, 1)
        blocks = np.split(array, groups)
        left = [blocks[g][rows[g]][:, columns[g]] for g in np.flatnonzero(editor.keep[gids])]
        editor.set_weight(i, new, 1, np.concatenate(left), (tables[0] if turned else tables[1]).reshape(-1))
        editor.set_attribute(new, "group", len(left))

    a.edits[i] = edit
    a.own_cuts.add((i, 1))
    return np.repeat(gids, counts[0] // groups)


@ties("MatMul")
def matmul(a: Analysis, i: int, node: Any) -> Structure | None:
    """The inner axes of both operands go together."""
    product = matmul_axes(a.shape(node.input[0]), a.shape(node.input[1]))
    labels = dict(enumerate(product.operands))
    return tie_labels(a, i, labels, product.out, "MatMul")


@ties("Gemm")
def gemm(a: Analysis, i: int, node: Any) -> Structure | None:
    """alpha * A B + beta * C."""
    options = attributes(node)
    labels: dict[int, Labels] = {
        0: ("k", "m") if options.get("transA", 0) else ("m", "k"),
        1: ("n", "k") if options.get("transB", 0) else ("k", "n"),
    }
    bias = node.input[2] if len(node.input) > 2 else ""
    if bias:
        labels[2] = ("m", "n")[2 - len(a.shape(bias)) :]
    return tie_labels(a, i, labels, ("m", "n"), "Gemm")


@ties("Einsum")
def einsum(a: Analysis, i: int, node: Any) -> Structure | None:
    """Every letter is a label; an ellipsis, or a letter twice in an operand, is left alone."""
    equation = attributes(node)["equation"].decode()
    product = parse_einsum(equation, tuple(a.shape(name) for name in node.input))
    twice = any(len(set(names)) < len(names) for names in product.operands)
    if "->" not in equation or "." in equation or twice or len(product.operands) > 2:
        return None
    return tie_labels(a, i, dict(enumerate(product.operands)), product.out, "Einsum")
