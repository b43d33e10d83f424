"""The layers of recurrent cells: each is a part of an initializer, which has the weights of both directions."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tesa.attributes.attribute import Bools, Shape
from tesa.frontend.graph import Graph, attributes

CELLS = ("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM")

_CARRIERS = ("Identity", "Cast", "DequantizeLinear", "QuantizeLinear")  # those that leave the shape as it is

_NUMBERED = re.compile(r"_\d+$")


@dataclass(frozen=True)
class Part:
    """One direction of an initializer (directions, rows, columns). rows: the first and the end, None for all."""

    initializer: str
    direction: int
    rows: tuple[int, int] | None = None

    def of(self, array: Any) -> Any:
        """(rows, columns), the part of an array like the initializer, as a view of it."""
        return array[self.direction] if self.rows is None else array[self.direction, slice(*self.rows)]


def cell_parts(graph: Graph) -> dict[str, tuple[Part, ...]]:
    """For each layer of a recurrent cell with constant weights: its own part first, then others that its name may mean.

    The layers are called as the expansions call them: cell.W, cell.R, cell.W_reverse and so on.
    """
    makers = {name: node for node in graph.nodes for name in node.output if name}
    found: dict[str, tuple[Part, ...]] = {}
    for node in graph.nodes:
        cell = graph.layers.get(node.output[0], "") if node.op_type in CELLS else ""
        for place, what in ((1, "W"), (2, "R")) if cell else ():
            name = _stored(graph, makers, node.input[place])
            weight = graph.constants.get(name)
            if weight is None or weight.ndim != 3:
                continue
            for direction, ending in zip(range(weight.shape[0]), ("", "_reverse"), strict=False):
                whole = Part(name, direction)
                parts: tuple[Part, ...] = (whole,)
                if node.op_type == "GRU" and what == "R" and not attributes(node).get("linear_before_reset", 0):
                    n = weight.shape[-1]  # the third gate has a product of its own
                    parts = (Part(name, direction, (0, 2 * n)), whole)
                    found.setdefault(f"{cell}.Rh{ending}", (Part(name, direction, (2 * n, 3 * n)),))
                found.setdefault(f"{cell}.{what}{ending}", parts)
    return found


def parts_of(cells: Mapping[str, tuple[Part, ...]], layer: str) -> tuple[Part, ...]:
    """The parts that a layer's name may mean, () for none. cells: as of cell_parts.

    Where a short loop is written out, each step is a layer of its own with a number behind; all have the same weight.

    >>> parts_of({"cell.R": (Part("r", 0),)}, "cell.R_3")
    (Part(initializer='r', direction=0, rows=None),)
    """
    return cells.get(layer) or cells.get(_NUMBERED.sub("", layer), ())


def whole_mask(mask: Bools, shape: Shape, parts: tuple[Part, ...]) -> Bools | None:
    """A mask for a layer as one for its initializer of this shape, which keeps all that is not the layer's.

    mask: (rows, columns), or with one direction in front; transposed where only that fits; or of the whole shape, for
    a layer of the first direction. None where it has another shape.
    """
    if mask.shape == shape and parts[-1].direction == 0 and parts[-1].rows is None:
        return mask
    one = mask[0] if mask.ndim == 3 and mask.shape[0] == 1 else mask
    for turned in (one, one.T):
        for part in parts:
            whole = np.ones(shape, bool)
            place = part.of(whole)
            if turned.shape == place.shape:
                place[...] = turned
                return whole
    return None


def _stored(graph: Graph, makers: Mapping[str, Any], name: str) -> str:
    """The tensor behind one that is a converted form of it."""
    while name not in graph.constants and name in makers and makers[name].op_type in _CARRIERS:
        name = makers[name].input[0]
    return name
