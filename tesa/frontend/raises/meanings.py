"""Operators that meant something else: other axes, other defaults, a broadcast that was asked for."""

from typing import Any

import numpy as np
from onnx import TensorProto

from tesa.frontend.graph import attributes
from tesa.frontend.lift import Lifter, put, raises, take


@raises("Softmax", "LogSoftmax", "Hardmax", to=13)
def softmax(lifter: Lifter, node: Any) -> list[Any]:
    """One row was all axes from `axis` on, which was 1 if it was not given; now it is one axis."""
    axis, shape = int(take(node, "axis", 1)), lifter.shape(node.input[0])
    if shape is not None:
        axis %= max(len(shape), 1)
        long = [i for i in range(axis, len(shape)) if shape[i] != 1] or [max(len(shape), 1) - 1]
        if len(long) == 1:
            put(node, axis=long[0])
            return [node]
    flatten, rows = lifter.node("Flatten", node.input[:1], name=lifter.part(node, "flatten"), axis=axis)
    sizes, target = lifter.node("Shape", node.input[:1])
    mixed, output = lifter.fresh(node.op_type.lower()), node.output[0]
    node.input[0], node.output[0] = rows, mixed
    put(node, axis=1)
    return [sizes, flatten, node, lifter.node("Reshape", [mixed, target], output, lifter.part(node, "reshape"))[0]]


BROADCASTING = ("Add", "And", "Div", "Equal", "Greater", "Less", "Mul", "Or", "Pow", "Sub", "Xor")


@raises(*BROADCASTING, to=7)
def broadcast(lifter: Lifter, node: Any) -> list[Any]:
    """The second operand could be aligned at any axis of the first; now it is aligned at the end."""
    axis = take(node, "axis")
    if not take(node, "broadcast", 0) or axis is None:
        return [node]
    ranks = [None if shape is None else len(shape) for shape in map(lifter.shape, node.input)]
    if None in ranks:
        raise lifter.unsupported(node, "its operands' numbers of axes are not known; export it with opset 7 or newer")
    first, second = (int(rank or 0) for rank in ranks)
    behind = first - int(axis) % max(first, 1) - second
    if behind <= 0:
        return [node]
    where = lifter.constant(np.arange(second, second + behind))
    wider, node.input[1] = lifter.node("Unsqueeze", [node.input[1], where], name=lifter.part(node, "unsqueeze"))
    return [wider, node]


@raises("Gemm", to=7)
def gemm(lifter: Lifter, node: Any) -> None:
    """It broadcast its bias where it was asked to."""
    take(node, "broadcast")


@raises("Concat", to=4)
def concat(lifter: Lifter, node: Any) -> None:
    """The axis was 1 if it was not given."""
    put(node, axis=take(node, "axis", 1))


@raises("Selu", to=6)
def selu(lifter: Lifter, node: Any) -> None:
    """The constants had fewer digits."""
    put(node, alpha=take(node, "alpha", 1.6732), gamma=take(node, "gamma", 1.0507))


@raises("Cast", to=6)
def cast(lifter: Lifter, node: Any) -> None:
    """The type was a word."""
    to = attributes(node).get("to")
    if isinstance(to, bytes):
        put(node, to=int(TensorProto.DataType.Value(to.decode().upper())))


@raises("RNN", "GRU", "LSTM", to=7)
def recurrent(lifter: Lifter, node: Any) -> None:
    """Drop the attribute that said again that the whole sequence is wanted."""
    take(node, "output_sequence")


@raises("BatchNormalization", to=14)
def batch_norm(lifter: Lifter, node: Any) -> list[Any]:
    """Further outputs meant training; before opset 9 every pixel could have a norm of its own (spatial = 0)."""
    take(node, "is_test")
    spatial = take(node, "spatial", 1)
    if any(lifter.is_read(node, i) for i in range(1, len(node.output))):
        put(node, training_mode=1)
    node.output[:] = node.output[:1]
    if spatial:
        return [node]
    x, scale, shift, mean, variance = node.input
    epsilon, made = lifter.constant_like(attributes(node).get("epsilon", 1e-5), x)
    for op, left, right in (("Add", variance, epsilon), ("Sqrt", "", None), ("Div", scale, "")):
        inputs = [n or made[-1].output[0] for n in (left, right) if n is not None]
        made.append(lifter.node(op, inputs)[0])
    factor = made[-1].output[0]
    away, moved = lifter.node("Sub", [x, mean])
    times, scaled = lifter.node("Mul", [moved, factor])
    return [*made, away, times, lifter.node("Add", [scaled, shift], node.output[0], node.name)[0]]


@raises("RoiAlign", to=16)
def roi_align(lifter: Lifter, node: Any) -> None:
    """Regions were not shifted by half a pixel."""
    put(node, coordinate_transformation_mode="output_half_pixel")


@raises("Scatter", to=11)
def scatter(lifter: Lifter, node: Any) -> None:
    """The older name of ScatterElements."""
    node.op_type = "ScatterElements"
