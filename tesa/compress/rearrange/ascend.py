"""Looks for the places of rows and columns at which pruning in groups keeps most: masks for groups, rows to groups.

Lloyd's algorithm with capacities: the masks are the best for the groups, then the members are assigned to the groups
whose masks fit them best, until nothing is gained. No step loses, and no member moves is among the starts, so that the
result is never worse than what was there. One orbit moves in all layers that it lies in at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tesa.attributes.impose import Imposed
from tesa.attributes.patterns.tiles import block_scores
from tesa.compress.budget import keep
from tesa.compress.rearrange.assign import assign

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]
ROUNDS = 12


@dataclass(frozen=True, eq=False)
class Matrix:
    """The scores of a layer's weight (m, k), and the pattern that it will get. rows, columns: the class of each."""

    name: str
    scores: Floats
    imposed: Imposed
    budget: str
    rows: Ids
    columns: Ids

    @property
    def unit(self) -> tuple[int, int]:
        """Rows x columns of what is pruned as a whole."""
        rule = self.imposed.imposition
        assert rule.unit is not None
        m, k = self.scores.shape
        return rule.unit(m, k, self.imposed.sizes)

    def mask(self, scores: Floats) -> NDArray[np.bool_]:
        """The mask of the weight once its scores lie so."""
        return keep(scores, self.imposed, self.budget)

    def kept(self, scores: Floats) -> float:
        """The scores that the mask leaves."""
        return float(scores[self.mask(scores)].sum())


def order_of(classes: Ids, source: Ids) -> Ids:
    """For each place of an axis the index whose content it gets. source: by class, whose content it gets."""
    by_class = np.argsort(classes, kind="stable")
    ordered = classes[by_class]
    nth = np.empty(len(classes), np.int64)
    nth[by_class] = np.arange(len(classes)) - np.searchsorted(ordered, ordered)
    return np.asarray(by_class[np.searchsorted(ordered, source[classes]) + nth])


def ascend(matrices: Sequence[Matrix], orbits: Sequence[Ids], source: Ids) -> Ids:
    """For each class the one whose content it gets, starting from `source`, so that the layers keep more."""
    found = source.copy()
    touched = [_touched(matrices, orbit) for orbit in orbits]
    wide = any(matrix.unit[1] > 1 for matrix in matrices)
    for _ in range(3 if wide else 1):
        gained = False
        for orbit, sides in zip(orbits, touched, strict=True):
            if sides:
                gained |= _improve(sides, orbit, found)
        if not gained:
            break
    return found


@dataclass(frozen=True, eq=False)
class _Side:
    """An orbit on one axis of a matrix. places: (members, times) the indices of each member's places."""

    matrix: Matrix
    axis: int
    places: Ids


def _touched(matrices: Sequence[Matrix], orbit: Ids) -> list[_Side]:
    """The places at which the order of an orbit's members matters."""
    found = []
    for matrix in matrices:
        for axis, classes in enumerate((matrix.rows, matrix.columns)):
            if not 1 < matrix.unit[axis] < matrix.scores.shape[axis]:
                continue
            inside = np.flatnonzero(np.isin(classes, orbit))
            if len(inside):
                by_class = inside[np.argsort(classes[inside], kind="stable")]
                found.append(_Side(matrix, axis, by_class.reshape(len(orbit), -1)))
    return found


def _arranged(matrix: Matrix, source: Ids) -> Floats:
    return matrix.scores[np.ix_(order_of(matrix.rows, source), order_of(matrix.columns, source))]


def _total(sides: Sequence[_Side], source: Ids) -> float:
    unique = {id(side.matrix): side.matrix for side in sides}
    return sum(matrix.kept(_arranged(matrix, source)) for matrix in unique.values())


def _improve(sides: Sequence[_Side], orbit: Ids, source: Ids) -> bool:
    """Find better places for the members of an orbit; `source` is changed. True if anything was gained."""
    start = _total(sides, source)
    best, best_total = source[orbit].copy(), start
    for begin in (source[orbit].copy(), _sorted(sides, orbit, source)):
        trial = source.copy()
        trial[orbit] = begin
        total = _total(sides, trial)
        for _ in range(ROUNDS):
            before = trial[orbit].copy()
            trial[orbit] = _step(sides, orbit, trial)
            now = _total(sides, trial)
            if now <= total * (1 + 1e-6):
                if now < total:
                    trial[orbit] = before
                break
            total = now
        now = _total(sides, trial)
        if now > best_total * (1 + 1e-9):
            best, best_total = trial[orbit].copy(), now
    source[orbit] = best
    return best_total > start * (1 + 1e-6)


def _sorted(sides: Sequence[_Side], orbit: Ids, source: Ids) -> Ids:
    """The members with the largest sums first."""
    sums = np.zeros(len(orbit))
    for side in sides:
        sums += side.matrix.scores.sum(1 - side.axis)[side.places].sum(1)
    del source
    return np.asarray(orbit[np.argsort(-sums, kind="stable")])


def _step(sides: Sequence[_Side], orbit: Ids, source: Ids) -> Ids:
    """Assign the contents of an orbit to its places, by the masks that there are now."""
    kinds = np.concatenate([side.places // side.matrix.unit[side.axis] for side in sides], axis=1)
    _, first, kind = np.unique(kinds, axis=0, return_index=True, return_inverse=True)
    kind = kind.reshape(-1)
    scores = np.zeros((len(orbit), len(first)))
    for side in sides:
        scores += _fit(side, first, source)
    content = np.searchsorted(orbit, source[orbit])  # item i lies at place i
    chosen = assign(scores[content], kind)
    return np.asarray(orbit[content[chosen]])


def _fit(side: _Side, first: Ids, source: Ids) -> Floats:
    """(members, kinds of places): what each member would keep under the mask of each kind of place."""
    matrix, rows = side.matrix, side.axis == 0
    across = order_of(matrix.columns if rows else matrix.rows, source)
    scores = matrix.scores[:, across] if rows else matrix.scores[across]
    mask = matrix.mask(_arranged(matrix, source))
    if not rows:  # the mask is the same for all rows of a unit
        height = matrix.unit[0]
        sizes = np.minimum(height, len(scores) - np.arange(0, len(scores), height))
        scores = block_scores(scores, height, 1) * sizes[:, None]  # type: ignore[arg-type]
        mask = mask[::height]
        scores, mask = scores.T, mask.T
    found = np.zeros((len(side.places), len(first)))
    for nth in range(side.places.shape[1]):
        found += scores[side.places[:, nth]] @ mask[side.places[first, nth]].T.astype(np.float64)
    return found
