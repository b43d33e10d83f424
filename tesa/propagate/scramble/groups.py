"""Groups of elements that are scrambled together: single ones, slices, or whole tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.attributes.attribute import Bools, Shape
from tesa.propagate.rules.common import as_channels

Numbers = NDArray[np.intp]
ELEMENTS = 8192  # told apart at most
RUNS = 6  # that one group may cost


@dataclass(frozen=True, eq=False)
class Groups:
    """For each input the number of the group that an element is in, -1 for none; count groups in all."""

    numbers: tuple[Numbers, ...]
    count: int

    @staticmethod
    def of_masks(masks: Sequence[Bools]) -> Groups:
        """One group for each input, of the elements in its mask."""
        numbers = [np.where(m, i, -1) for i, m in enumerate(masks)]
        return Groups(*_packed(numbers))

    @staticmethod
    def of_tensors(wanted: Sequence[bool], shapes: Sequence[Shape]) -> Groups:
        """One group for each input that is wanted, of all its elements."""
        return Groups.of_masks([np.full(shape, bool(w)) for w, shape in zip(wanted, shapes, strict=True)])

    def spread(self, flags: Bools) -> list[Bools]:
        """(groups,) -> for each input a mask of its shape; False for elements of no group."""
        padded = np.append(flags, False)
        return [padded[n] for n in self.numbers]

    def positions(self, order: Numbers) -> list[Numbers]:
        """For each input the place of an element's group in `order`; beyond its end for those of no group in it."""
        place = np.full(self.count + 1, len(order), np.intp)
        place[order] = np.arange(len(order))
        return [place[n] for n in self.numbers]


@dataclass(frozen=True)
class Grouping:
    """A grouping of the elements of each input: along one axis each, in blocks of that many slices.

    exact: every element is a group of its own. axes: -1 for an input that this plan leaves alone.
    """

    exact: bool
    axes: tuple[int, ...] = ()
    blocks: tuple[int, ...] = ()

    def groups(self, masks: Sequence[Bools]) -> Groups:
        """The groups of the elements in the masks."""
        numbers: list[Numbers] = []
        begin = 0
        for i, mask in enumerate(masks):
            if self.exact:
                own = np.arange(mask.size).reshape(mask.shape)
            elif self.axes[i] < 0:
                own = np.full(mask.shape, -1 - begin)
            else:
                along = np.arange(mask.shape[self.axes[i]]) // self.blocks[i]
                own = np.broadcast_to(as_channels(along, mask.ndim, self.axes[i]), mask.shape)
            numbers.append(np.where(mask & (own + begin >= 0), own + begin, -1))
            begin += mask.size
        return Groups(*_packed(numbers))


def groupings(sizes: Sequence[int], types: Sequence[tuple[Shape, Any]], runs: int) -> tuple[Grouping, ...]:
    """The groupings to try one after the other. sizes: the candidates in each input. runs: that may be spent.

    >>> groupings([6], [((2, 3), "float32")], 10000)
    (Grouping(exact=True, axes=(), blocks=()),)
    >>> groupings([10**6], [((10, 1000, 100), "float32")], 10000)[0]
    Grouping(exact=False, axes=(1,), blocks=(2,))
    """
    if sum(sizes) <= min(ELEMENTS, runs // RUNS):
        return (Grouping(True),)
    result = []
    orders = [_axes_by_use(shape) if size else () for size, (shape, _) in zip(sizes, types, strict=True)]
    turns = min(max((len(order) for order in orders), default=0), 3)
    budget = max(runs // (RUNS * max(turns, 1)), 1)
    for turn in range(turns):
        axes = tuple(order[turn] if turn < len(order) else -1 for order in orders)
        total = sum(types[i][0][axis] for i, axis in enumerate(axes) if axis >= 0)
        block = -(-total // budget)
        result.append(Grouping(False, axes, tuple(block for _ in axes)))
    return tuple(result) or (Grouping(False, (-1,) * len(sizes), (1,) * len(sizes)),)


def _axes_by_use(shape: Shape) -> tuple[int, ...]:
    """The axes longer than 1, channels (axis 1) first, then features (the last)."""
    rank = len(shape)
    wanted = dict.fromkeys([*([1] if rank > 1 else []), rank - 1, *range(rank)])
    return tuple(axis for axis in wanted if 0 <= axis < rank and shape[axis] > 1)


def _packed(numbers: Sequence[Numbers]) -> tuple[tuple[Numbers, ...], int]:
    """Group numbers 0, 1, ... in their order."""
    used = np.unique(np.concatenate([n.reshape(-1) for n in numbers])) if numbers else np.zeros(0, np.intp)
    used = used[used >= 0]
    return tuple(np.where(n >= 0, np.searchsorted(used, n), -1) for n in numbers), len(used)
