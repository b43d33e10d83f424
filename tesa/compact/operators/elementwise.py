"""Ties of operators that work element by element: an index of the output goes with the same one of each input."""

from typing import Any

import numpy as np

from tesa.compact.analysis import Analysis, Editor, ties
from tesa.compact.index import AxisIds, Structure, moved
from tesa.compact.labels import broadcast_labels, tie_labels
from tesa.frontend.graph import attributes

UNARY = (
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BitwiseNot", "Cast", "Ceil", "Celu", "Clip", "Cos",
    "Cosh", "Dropout", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN",
    "LeakyRelu", "Log", "Mish", "Neg", "Not", "QuickGelu", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid",
    "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Swish", "Tan", "Tanh", "ThresholdedRelu",
)  # fmt: skip
NARY = (
    "Add", "And", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater", "GreaterOrEqual",
    "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "Pow", "PRelu", "Sub", "Sum", "Where", "Xor",
)  # fmt: skip


@ties(*UNARY)
def unary(a: Analysis, i: int, node: Any) -> Structure | None:
    """The output has the structure of the input; further inputs are numbers."""
    if any(name and a.shape(name) not in ((), (1,)) for name in node.input[1:]):
        return None
    for name in filter(None, node.output[1:]):
        a.structures[name] = a.of(node.input[0])
    return a.of(node.input[0])


@ties(*NARY)
def nary(a: Analysis, i: int, node: Any) -> Structure | None:
    """With broadcasting: what an input has only once is needed by all."""
    rank = len(a.shape(node.output[0]))
    labels = {p: broadcast_labels(rank, a.shape(name)) for p, name in enumerate(node.input)}
    return tie_labels(a, i, labels, tuple(range(rank)))


@ties("QuantizeLinear", "DequantizeLinear")
def quantize(a: Analysis, i: int, node: Any) -> Structure | None:
    """Element by element; scales and zero points along one axis are cut with it."""
    name = node.input[0]
    options, rank = attributes(node), len(a.shape(name))
    if a.constant(name) is not None or options.get("block_size", 0):
        return None
    axis = int(options.get("axis", 1)) % max(rank, 1)
    if any(a.shape(n) not in ((), (1,)) for n in node.input[1:] if n):
        ids = a.plain(name, axis)
        if any(a.constant(n) is None for n in node.input[1:] if n):
            return None
        for position, extra in enumerate(node.input[1:], start=1):
            if extra and a.shape(extra) not in ((), (1,)):
                a.use(i, position, (0, ids))
    return a.of(name)


@ties("BatchNormalization")
def batch_norm(a: Analysis, i: int, node: Any) -> Structure | None:
    """Scale, shift, mean and variance go with the channels."""
    if attributes(node).get("training_mode", 0) or any(a.constant(n) is None for n in node.input[1:5]):
        return None
    ids = a.channels(node.input[0])
    for position in range(1, 5):
        a.use(i, position, (0, ids))
    return a.of(node.input[0])


@ties("InstanceNormalization")
def instance_norm(a: Analysis, i: int, node: Any) -> Structure | None:
    """Each channel is normalised for itself."""
    name = node.input[0]
    if any(a.constant(n) is None for n in node.input[1:3]):
        return None
    a.structures[name] = a.index.drop(a.of(name), range(2, len(a.shape(name))))
    ids = a.channels(name)
    a.use(i, 1, (0, ids))
    a.use(i, 2, (0, ids))
    return a.of(name)


@ties("GroupNormalization")
def group_norm(a: Analysis, i: int, node: Any) -> Structure | None:
    """A group is normalised as one: it goes whole or not at all."""
    name = node.input[0]
    channels, groups = a.shape(name)[1], int(attributes(node)["num_groups"])
    if any(a.constant(n) is None for n in node.input[1:3]):
        return None
    a.structures[name] = a.index.drop(a.of(name), range(2, len(a.shape(name))))
    ids = a.channels(name)
    if ids is None:
        return a.of(name)
    table = ids.reshape(groups, -1)
    if a.moving:  # members change places inside of their group
        a.index.balance(AxisIds((0, 1), table, (a.index.fresh(groups),)))
        if any(a.shape(extra)[0] != channels for extra in node.input[1:3]):
            return None
        for position in (1, 2):
            a.use(i, position, (0, ids))
        return a.of(name)
    a.index.tie(table, table[:, :1])
    for position in (1, 2):
        whole = a.shape(node.input[position])[0] == channels
        a.use(i, position, (0, ids if whole else table[:, 0]))

    def edit(editor: Editor, new: Any) -> None:
        editor.set_attribute(new, "num_groups", int(editor.keep[table[:, 0]].sum()))

    a.edits[i] = edit
    return a.of(name)


@ties("Softmax", "LogSoftmax", "Hardmax", "LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization",
      "CumSum")  # fmt: skip
def rowwise(a: Analysis, i: int, node: Any) -> Structure | None:
    """Mixes a row: its axes stay, the others pass."""
    name = node.input[0]
    rank, options = len(a.shape(name)), attributes(node)
    if node.op_type == "CumSum":
        given = a.constant(node.input[1])
        if given is None:
            return None
        axis = int(given.reshape(()))
    else:
        axis = int(options.get("axis", -1))
    axis %= max(rank, 1)
    several = node.op_type.endswith("Normalization")
    if any(a.constant(n) is None for n in node.input[1:] if n) or a.constant(name) is not None:
        return None
    flat = all(len(a.shape(n)) <= 1 for n in node.input[1:] if n)
    if a.moving and flat and axis == rank - 1 and node.op_type not in ("Hardmax", "CumSum"):
        return _moved_row(a, i, node, axis) if several else a.of(name)
    a.structures[name] = a.index.drop(a.of(name), range(axis, rank) if several else [axis])
    for extra in filter(None, node.output[1:]):
        a.structures[extra] = a.of(name)
    return a.of(name)


def _moved_row(a: Analysis, i: int, node: Any, axis: int) -> Structure:
    """A norm over an axis whose indices change places: its scale and shift go with them."""
    name = node.input[0]
    ids = a.plain(name, axis)
    for position, extra in enumerate(node.input[1:], start=1):
        if extra and a.shape(extra) != (1,):
            a.use(i, position, (0, ids))
    for extra in filter(None, node.output[1:]):  # mean and deviation: the axis has length 1 there
        a.structures[extra] = tuple(part for part in a.of(name) if axis not in part.axes)
    return a.of(name)


@ties("MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "LRN")
def pool(a: Analysis, i: int, node: Any) -> Structure | None:
    """Channel by channel; the pixels stay. LRN reads neighbouring channels, so these stay as well."""
    name = node.input[0]
    if any(node.output[1:]):  # positions of the largest, counted over all channels
        return None
    first = 1 if node.op_type == "LRN" else 2
    a.structures[name] = a.index.drop(a.of(name), range(first, len(a.shape(name))))
    return a.of(name)


@ties("Resize")
def resize(a: Analysis, i: int, node: Any) -> Structure | None:
    """Axes that keep their size pass; the others stay."""
    name = node.input[0]
    before, after = a.shape(name), a.shape(node.output[0])
    options = attributes(node)
    if (
        a.constant(name) is not None
        or options.get("axes")
        or options.get("keep_aspect_ratio_policy", b"stretch") != b"stretch"
        or options.get("coordinate_transformation_mode") == b"tf_crop_and_resize"
    ):
        return None
    changed = [axis for axis, (m, n) in enumerate(zip(before, after, strict=True)) if m != n or axis > 1]
    a.structures[name] = a.index.drop(a.of(name), changed)
    if len(node.input) > 3 and node.input[3]:
        if a.constant(node.input[3]) is None:
            return None
        a.edits[i] = lambda editor, new: editor.set_input(new, 3, np.asarray(editor.shape(node.output[0]), np.int64))
    return a.of(name)


@ties("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare",
      "ReduceLogSum", "ReduceLogSumExp", "ArgMax", "ArgMin")  # fmt: skip
def reduce(a: Analysis, i: int, node: Any) -> Structure | None:
    """The axes that stay pass. What is summed over may lose zeros; for the other reductions it stays."""
    name, options = node.input[0], attributes(node)
    rank = len(a.shape(name))
    given: Any = None
    if len(node.input) > 1 and node.input[1]:
        found = a.constant(node.input[1])
        if found is None:
            return None
        given = found.reshape(-1).tolist()
    if node.op_type.startswith("Arg"):
        given = [int(options.get("axis", 0))]
    if not given:
        given = [] if options.get("noop_with_empty_axes", 0) else range(rank)
    axes = sorted({int(axis) % rank for axis in given})
    alike = a.moving and not node.op_type.startswith("Arg")
    if alike or node.op_type in ("ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare"):
        return _sum(a, i, node, axes)
    a.structures[name] = a.index.drop(a.of(name), axes)
    stay = [axis for axis in range(rank) if options.get("keepdims", 1) or axis not in axes]
    return moved(a.of(name), {axis: position for position, axis in enumerate(stay)})


def _sum(a: Analysis, i: int, node: Any, axes: list[int]) -> Structure:
    rank, keepdims = len(a.shape(node.input[0])), bool(attributes(node).get("keepdims", 1))
    labels = tuple(range(rank))
    out = tuple(("gone", x) if x in axes and keepdims else x for x in labels if keepdims or x not in axes)
    return tie_labels(a, i, {0: labels}, out)
