"""Numbers for the indices of tensors, and the ties between those that can only be removed together.

Every index along an axis that may get shorter has a number, its id. Where two indices can only be removed together
they share an id, or a tie joins their ids to one class. The id PIN stands for an index that stays.

An axis that a reshape has split, as heads of attention are, has its ids on several axes at once: of 12 heads with 64
features each head may lose other features, as long as all lose equally many. The last of these axes is the member
axis, those before it are group axes, whose own ids say whether a whole group goes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Bools = NDArray[np.bool_]
PIN = 0


@dataclass(frozen=True, eq=False)
class AxisIds:
    """The ids along some axes of a tensor. ids: of the shape of these axes. groups: ids of each axis but the last."""

    axes: tuple[int, ...]
    ids: Ids
    groups: tuple[Ids, ...] = ()

    def __repr__(self) -> str:
        return f"AxisIds(axes {self.axes}, {'x'.join(map(str, self.ids.shape))} ids)"


Structure = tuple[AxisIds, ...]
"""The removable indices of a tensor. An axis in none of the parts stays as it is."""


class Index:
    """Hands out ids and collects what is known of them: ties, pins and balances."""

    def __init__(self) -> None:
        self.size = 1
        self.balances: list[AxisIds] = []
        self._edges: list[tuple[Ids, Ids]] = []

    def fresh(self, *shape: int) -> Ids:
        """New ids."""
        count = int(np.prod(shape))
        ids = np.arange(self.size, self.size + count).reshape(shape)
        self.size += count
        return ids

    def tie(self, a: Ids, b: Ids) -> None:
        """Tie each id of `a` to the one of `b` in the same place; b may be shorter and is then broadcast."""
        if a is not b:
            wide = np.broadcast_to(b, a.shape)
            self._edges.append((a.reshape(-1), wide.reshape(-1)))

    def pin(self, ids: Ids) -> None:
        """Keep these indices."""
        self.tie(ids, np.zeros((1,) * ids.ndim, np.int64))

    def balance(self, part: AxisIds) -> None:
        """Require that all groups that stay keep the same number of members."""
        self.balances.append(part)

    def collapse(self, part: AxisIds, axis: int | None = None) -> Structure:
        """The part where only whole slices along one axis may go: along `axis`, else along its last group axis.

        Along the member axis all groups then lose the same members.
        """
        at = len(part.axes) - 2 if axis is None else part.axes.index(axis)
        ids = part.groups[at] if at < len(part.groups) else self.fresh(part.ids.shape[at])
        self.tie(part.ids, ids.reshape([-1 if k == at else 1 for k in range(part.ids.ndim)]))
        for k, others in enumerate(part.groups):
            if k != at:
                self.pin(others)
        return (AxisIds((part.axes[at],), ids),)

    def plain(self, structure: Structure, axis: int) -> tuple[Structure, Ids | None]:
        """The structure in which this axis has ids of its own, and these; None if the axis stays as it is."""
        rest: list[AxisIds] = []
        for part in structure:
            joint = axis in part.axes and len(part.axes) > 1
            rest += self.collapse(part, axis if axis in part.axes[:-1] else None) if joint else [part]
        return tuple(rest), next((part.ids for part in rest if part.axes == (axis,)), None)

    def drop(self, structure: Structure, axes: Sequence[int]) -> Structure:
        """The structure in which these axes stay as they are: their ids are pinned.

        Where other axes were made of the same one, whole slices along the first of them may still go.
        """
        rest: list[AxisIds] = []
        for part in structure:
            left = [axis for axis in part.axes if axis not in axes]
            joint = left and len(left) < len(part.axes)
            rest += self.collapse(part, left[0]) if joint else [part]
        structure = tuple(rest)
        for axis in axes:
            structure, ids = self.plain(structure, axis)
            if ids is not None:
                self.pin(ids)
                structure = tuple(p for p in structure if p.axes != (axis,))
        return structure

    def classes(self) -> Ids:
        """For each id the smallest id of its class."""
        if not self._edges:
            return np.arange(self.size)
        a, b = (np.concatenate([edge[k] for edge in self._edges]) for k in (0, 1))
        return components(self.size, a, b)


def components(size: int, a: Ids, b: Ids) -> Ids:
    """The smallest member of each node's connected component in the graph with edges a[i] - b[i].

    Roots are hooked to smaller roots and paths halved until nothing changes, after Shiloach and Vishkin (1982).

    >>> components(5, np.array([1, 3]), np.array([2, 2])).tolist()
    [0, 1, 1, 1, 4]
    """
    label = np.arange(size)
    while True:
        left, right = label[a], label[b]
        open_edges = left != right
        if not open_edges.any():
            return label
        left, right = left[open_edges], right[open_edges]
        np.minimum.at(label, np.maximum(left, right), np.minimum(left, right))
        while True:
            halved = label[label]
            if (halved == label).all():
                break
            label = halved


def moved(structure: Structure, where: dict[int, int]) -> Structure:
    """The structure after its axes have got new numbers. An axis without a new number has length 1, no ids."""
    return tuple(replace(part, axes=tuple(where[a] for a in part.axes)) for part in structure)


def cut_array(array: NDArray[Any], structure: Structure, keep: Bools) -> NDArray[Any]:
    """The array without the indices that go. keep: by id, whether it stays."""
    for part in structure:
        if len(part.axes) == 1:
            array = np.compress(keep[part.ids], array, axis=part.axes[0])
        else:
            array = _cut_joint(array, part, keep)
    return array


def _cut_joint(array: NDArray[Any], part: AxisIds, keep: Bools) -> NDArray[Any]:
    rank, left = len(part.axes), left_of(part, keep)
    front = np.moveaxis(array, part.axes, range(rank))
    front = front[np.ix_(*(np.flatnonzero(keep[ids]) for ids in part.groups))]
    chosen = np.argsort(~left, axis=-1, kind="stable")[..., : left.reshape(-1, left.shape[-1])[0].sum()]
    wide = chosen.reshape(chosen.shape + (1,) * (front.ndim - rank))
    return np.moveaxis(np.take_along_axis(front, wide, axis=rank - 1), range(rank), part.axes)


def left_of(part: AxisIds, keep: Bools) -> Bools:
    """A mask of the members that stay, of the groups that stay."""
    cells = keep[part.ids]
    for axis, ids in enumerate(part.groups):
        cells = np.compress(keep[ids], cells, axis=axis)
    return cells


def cut_shape(shape: Sequence[int], structure: Structure, keep: Bools) -> tuple[int, ...]:
    """The shape of a tensor without the indices that go."""
    sizes = list(shape)
    for part in structure:
        for axis, ids in zip(part.axes, part.groups, strict=False):
            sizes[axis] = int(keep[ids].sum())
        left = left_of(part, keep)
        sizes[part.axes[-1]] = int(left.reshape(-1, left.shape[-1])[0].sum())
    return tuple(sizes)
