"""Upsample and the first Resize, which became the Resize of now."""

from typing import Any

import numpy as np

from tesa.attributes.attribute import Values
from tesa.frontend.graph import attributes
from tesa.frontend.lift import Lifter, put, raises, take

SIMPLE = "simple"
"""A nearest_mode of ours: the pixel before where an axis grows, the pixel after where it shrinks, as in opset 10."""


@raises("Upsample", to=10)
def upsample(lifter: Lifter, node: Any) -> None:
    """The scales were an attribute, at first one for each of two axes; a pixel is at its corner."""
    scales = take(node, "scales")
    sides = [take(node, name) for name in ("height_scale", "width_scale")]
    if scales is None and None not in sides:
        scales = [1.0, 1.0, *sides]
    _as_resize(node, lifter.constant(scales, np.float32) if scales is not None else node.input[1])
    if attributes(node)["mode"] == b"nearest":
        put(node, nearest_mode="floor")


@raises("Resize", to=11)
def resize(lifter: Lifter, node: Any) -> list[Any]:
    """A pixel is at its corner; the nearest is the one before or after, by whether the axis grows."""
    _as_resize(node, node.input[1])
    scales = lifter.value(node.input[2])
    if attributes(node)["mode"] != b"nearest":
        return [node]
    if scales is None:
        put(node, nearest_mode=SIMPLE)
        return [node]
    steps = simple_steps(scales)
    if len(steps) == 1:
        put(node, nearest_mode=steps[0][0])
        node.input[2] = lifter.constant(steps[0][1])
        return [node]
    (before, up), (after, down) = steps
    options = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric"}
    first, between = lifter.node(
        "Resize", [node.input[0], "", lifter.constant(up)], name=lifter.part(node, "grow"), nearest_mode=before,
        **options,
    )  # fmt: skip
    node.input[:] = [between, "", lifter.constant(down)]
    put(node, nearest_mode=after)
    return [first, node]


def simple_steps(scales: Values) -> list[tuple[str, Values]]:
    """(nearest_mode, scales) of one or two Resize nodes that together are a Resize of opset 10.

    >>> simple_steps(np.array([1, 2, 0.5], np.float32))
    [('floor', array([1., 2., 1.], dtype=float32)), ('ceil', array([1. , 1. , 0.5], dtype=float32))]
    """
    steps = [("floor", np.maximum(scales, 1)), ("ceil", np.minimum(scales, 1))]
    return [step for step in steps if (step[1] != 1).any()] or steps[:1]


def _as_resize(node: Any, scales: str) -> None:
    linear = attributes(node).get("mode", b"nearest") != b"nearest"
    node.op_type = "Resize"
    node.input[:] = [node.input[0], "", scales]
    put(node, mode="linear" if linear else "nearest", coordinate_transformation_mode="asymmetric")


@raises("Resize", to=18)
def without_empty(lifter: Lifter, node: Any) -> None:
    """Leave out the inputs that are not used, which had to be there as empty tensors."""
    for i in range(1, len(node.input)):
        value = lifter.value(node.input[i])
        if value is not None and not value.size:
            node.input[i] = ""
    if len(node.input) > 1 and attributes(node).get("coordinate_transformation_mode") != b"tf_crop_and_resize":
        node.input[1] = ""
    while not node.input[-1]:
        node.input.pop()
