"""Physical layouts: which logical axis an array's axes hold, and how that changes through a reshape.

A weight layer wants its activations with the features outermost and the tokens or pixels innermost, because that is
the axis its kernel vectorizes. Instead of transposing around every layer, each value remembers its permutation and
the operators between are rewritten to work in place of it; only where two layouts meet is data moved.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Any

Perm = tuple[int, ...]


@dataclass(frozen=True)
class Grid:
    """The numbers that codes of uint8 stand for: (code - zero) * scale."""

    scale: float
    zero: int


SIGNED = Grid(1.0, 128)
"""The grid of int8 codes that are stored as uint8: with 128 added."""


@dataclass(frozen=True)
class Value:
    """A tensor of the lowered function. Axis i of expr holds axis perm[i] of the logical tensor.

    grid: None where expr holds the elements themselves. Else it holds uint8 codes of them: of real numbers, or of int8.
    layer: that would make the elements of the codes.
    """

    expr: Any
    shape: tuple[int, ...]
    dtype: str
    perm: Perm
    grid: Grid | None = None
    layer: str = ""

    @property
    def physical(self) -> tuple[int, ...]:
        """The shape of expr."""
        return tuple(self.shape[axis] for axis in self.perm)


def identity(rank: int) -> Perm:
    """The permutation of a plain row-major array."""
    return tuple(range(rank))


def features_outer(rank: int) -> Perm:
    """The last two axes swapped: (..., tokens, features) is stored as (..., features, tokens)."""
    return (*range(rank - 2), rank - 1, rank - 2) if rank >= 2 else identity(rank)


def features_outermost(rank: int) -> Perm:
    """The last axis before all others: the tokens of all batch entries are neighbours.

    >>> features_outermost(3)
    (2, 0, 1)
    """
    return (rank - 1, *range(rank - 1)) if rank else ()


def compose(perm: Perm, axes: tuple[int, ...]) -> Perm:
    """The layout of permute_dims(x, axes) when x has layout perm and no data moves."""
    position = {axis: new for new, axis in enumerate(axes)}
    return tuple(position[axis] for axis in perm)


def steps(perm: Perm, wanted: Perm) -> tuple[int, ...]:
    """The axes of the transpose that takes an array of layout perm to the wanted layout."""
    return tuple(perm.index(axis) for axis in wanted)


def same_order(shape: tuple[int, ...], perm: Perm, wanted: Perm) -> bool:
    """True where both layouts put the elements in the same order: they differ by axes of size one at most."""
    return [a for a in perm if shape[a] != 1] == [a for a in wanted if shape[a] != 1]


def _groups(old: tuple[int, ...], new: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """Smallest runs of old and new axes with equal products: what a reshape splits or merges."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) and j < len(new):
        a, b, size_a, size_b = [i], [j], old[i], new[j]
        while size_a != size_b:
            if size_a < size_b:
                i += 1
                a.append(i)
                size_a *= old[i]
            else:
                j += 1
                b.append(j)
                size_b *= new[j]
        i, j = i + 1, j + 1
        groups.append((a, b))
    if not groups:
        groups.append(([], []))
    groups[-1][0].extend(range(i, len(old)))
    groups[-1][1].extend(range(j, len(new)))
    return groups


def reshape_perm(shape: tuple[int, ...], perm: Perm, new_shape: tuple[int, ...]) -> Perm | None:
    """The layout after a logical reshape that moves no data, or None where the layout does not allow it.

    >>> reshape_perm((1, 128, 384), (0, 2, 1), (1, 128, 12, 32))
    (0, 2, 3, 1)
    """
    if math.prod(shape) != math.prod(new_shape) or 0 in shape:
        return None
    order = {axis: place for place, axis in enumerate(perm)}
    placed: list[tuple[int, list[int]]] = []
    for old_axes, new_axes in _groups(shape, new_shape):
        places = [order[a] for a in old_axes if shape[a] != 1]
        if any(later != first + 1 for first, later in _gaps(places, shape, perm)):
            return None
        placed.append((min(places, default=-1), new_axes))
    placed.sort(key=lambda item: item[0])
    return tuple(axis for _, axes in placed for axis in axes)


def _gaps(places: list[int], shape: tuple[int, ...], perm: Perm) -> list[tuple[int, int]]:
    """Neighbouring places of a group, counted without axes of size one."""
    long = [place for place, axis in enumerate(perm) if shape[axis] != 1]
    return list(itertools.pairwise(long.index(p) for p in places))
