"""A constant that differs only near the border, as a small table and the numbers of its rows and columns."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx import helper

from tesa.attributes.attribute import Values

SAME = 1e-6  # rows that differ by less, relative to the largest value, are one row: float32 does not tell them apart


def distinct(array: Values, axis: int) -> tuple[Values, Values] | None:
    """(which slices along the axis differ, for each slice the one it equals); None if more than half of them differ.

    >>> distinct(np.array([[1.0, 2.0, 2.0, 2.0, 3.0, 3.0]]), 1)
    (array([0, 1, 4]), array([0, 1, 1, 1, 2, 2]))
    """
    rows = np.moveaxis(array, axis, 0)
    limit = SAME * float(np.abs(array).max(initial=0.0))
    found: list[int] = []
    numbers = []
    for row in range(len(rows)):
        same = (k for k, other in enumerate(found) if float(np.abs(rows[row] - rows[other]).max(initial=0.0)) <= limit)
        number = next(same, len(found))
        if number == len(found):
            found.append(row)
        if 2 * len(found) > len(rows):
            return None
        numbers.append(number)
    return np.asarray(found), np.asarray(numbers)


def tabulate(
    array: Values, output: str, name: str, constant: Callable[[str, Values], str], space: Sequence[int]
) -> list[Any]:
    """Nodes that make the tensor `output` with these numbers out of a smaller constant; none if it is not smaller.

    constant: stores an array under a name like the given one and returns the name. space: the axes to look at.
    """
    steps = []
    for axis in space:
        found = distinct(array, axis)
        if found is not None:
            array = array.take(found[0], axis)
            steps.append((axis, found[1]))
    if not steps:
        return []
    source, nodes = constant(f"{name}/table", array), []
    for number, (axis, rows) in enumerate(steps):
        target = output if number == len(steps) - 1 else f"{output}/axis{axis}"
        index = constant(f"{name}/index{axis}", rows)
        nodes.append(helper.make_node("Gather", [source, index], [target], f"{name}/axis{axis}", axis=axis))
        source = target
    return nodes
