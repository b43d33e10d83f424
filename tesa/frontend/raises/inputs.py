"""Attributes that became inputs, so that they may be computed; here they become constants."""

from typing import Any

import numpy as np

from tesa.frontend.lift import Lifter, put, raises, take

REDUCTIONS = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSumSquare",
)  # fmt: skip


@raises("Squeeze", "Unsqueeze", "ReduceSum", to=13)
@raises(*REDUCTIONS, to=18)
def axes(lifter: Lifter, node: Any) -> None:
    """The axes; an empty list means all of them, as none does."""
    given = take(node, "axes")
    if given:
        node.input[:] = [node.input[0], lifter.constant(given, np.int64)]


@raises("Clip", to=11)
def bounds(lifter: Lifter, node: Any) -> list[Any]:
    """The bounds, in the element type of what is clipped."""
    given = [take(node, name) for name in ("min", "max")]
    made: list[Any] = []
    for bound in given:
        name, nodes = ("", []) if bound is None else lifter.constant_like(bound, node.input[0])
        node.input.append(name)
        made += nodes
    while not node.input[-1]:
        node.input.pop()
    return [*made, node]


@raises("Dropout", to=12)
def dropout(lifter: Lifter, node: Any) -> list[Any]:
    """Dropout without its ratio, which is for training. The mask was all zero at inference, now it is all one."""
    for name in ("ratio", "is_test"):
        take(node, name)
    if not lifter.is_read(node, 1):
        node.output[:] = node.output[:1]
        return [node]
    x, mask = node.input[0], node.output[1]
    node.output[:] = node.output[:1]
    shape, sizes = lifter.node("Shape", [x])
    if lifter.opset < 10:
        zeros, plain = lifter.node("ConstantOfShape", [sizes])
        return [node, shape, zeros, lifter.node("CastLike", [plain, x], mask)[0]]
    zeros, plain = lifter.node("ConstantOfShape", [sizes])
    return [node, shape, zeros, lifter.node("Cast", [plain], mask, to=9)[0]]


@raises("Pad", to=11)
def pad(lifter: Lifter, node: Any) -> list[Any]:
    """The widths and the value, in the element type of what is padded."""
    widths = take(node, "pads", None) or take(node, "paddings")
    value = take(node, "value")
    if widths is None:
        return [node]
    node.input.append(lifter.constant(widths, np.int64))
    made: list[Any] = []
    if value is not None:
        name, made = lifter.constant_like(value, node.input[0])
        node.input.append(name)
    return [*made, node]


@raises("Slice", to=10)
def slice_(lifter: Lifter, node: Any) -> None:
    """Begins, ends and axes."""
    given = [take(node, name) for name in ("starts", "ends", "axes")]
    for values in given:
        if values is not None:
            node.input.append(lifter.constant(values, np.int64))


@raises("TopK", to=10)
def top_k(lifter: Lifter, node: Any) -> None:
    """The number k."""
    k = take(node, "k")
    if k is not None:
        node.input.append(lifter.constant([k], np.int64))


@raises("Split", to=13)
def split_sizes(lifter: Lifter, node: Any) -> None:
    """The sizes of the parts."""
    sizes = take(node, "split")
    if sizes:
        node.input[:] = [node.input[0], lifter.constant(sizes, np.int64)]


@raises("Split", to=18)
def split_evenly(lifter: Lifter, node: Any) -> None:
    """Without sizes the parts are equal; their number stands in the node."""
    if len(node.input) < 2 or not node.input[1]:
        node.input[:] = node.input[:1]
        put(node, num_outputs=len(node.output))


@raises("Reshape", to=5)
def reshape(lifter: Lifter, node: Any) -> None:
    """The shape."""
    shape = take(node, "shape")
    if shape is not None:
        node.input.append(lifter.constant(shape, np.int64))


@raises("Tile", to=6)
def tile(lifter: Lifter, node: Any) -> None:
    """The numbers of copies of all axes, of which opset 1 names one."""
    given = [lifter.value(name) for name in node.input[1:]]
    shape = lifter.shape(node.input[0])
    if len(node.input) != 3:
        return
    if shape is None or any(v is None for v in given):
        raise lifter.unsupported(node, "its number of copies is no constant; export it with opset 13 or newer")
    times = np.ones(len(shape), np.int64)
    times[int(np.asarray(given[1]).reshape(()))] = int(np.asarray(given[0]).reshape(()))
    node.input[:] = [node.input[0], lifter.constant(times)]
