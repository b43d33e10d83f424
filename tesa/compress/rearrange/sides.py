"""The layers' scores as rearranging sees them: where the members of an orbit lie in them, and what is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tesa.attributes.impose import Imposed
from tesa.attributes.patterns.tiles import block_scores
from tesa.compress.budget import keep

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]


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


@dataclass(frozen=True, eq=False)
class Side:
    """An orbit on one axis of a matrix. places: (members, times) the indices of each member's places."""

    matrix: Matrix
    axis: int
    places: Ids


def touched_by(matrices: Sequence[Matrix], orbit: Ids) -> list[Side]:
    """The places at which the order of an orbit's members matters."""
    found = []
    for matrix in matrices:
        for axis, classes in enumerate((matrix.rows, matrix.columns)):
            if not 1 < matrix.unit[axis] < matrix.scores.shape[axis]:
                continue
            inside = np.flatnonzero(np.isin(classes, orbit))
            if len(inside):
                by_class = inside[np.argsort(classes[inside], kind="stable")]
                found.append(Side(matrix, axis, by_class.reshape(len(orbit), -1)))
    return found


def arranged(matrix: Matrix, source: Ids) -> Floats:
    """(m, k): the scores of a matrix once its members have changed places."""
    return matrix.scores[np.ix_(order_of(matrix.rows, source), order_of(matrix.columns, source))]


def total_kept(sides: Sequence[Side], source: Ids) -> float:
    """The scores that the masks leave of all matrices of these sides together."""
    unique = {id(side.matrix): side.matrix for side in sides}
    return sum(matrix.kept(arranged(matrix, source)) for matrix in unique.values())


def fit_of(side: Side, first: Ids, source: Ids) -> Floats:
    """(members, kinds of places): what each member would keep under the mask of each kind of place."""
    matrix, rows = side.matrix, side.axis == 0
    across = order_of(matrix.columns if rows else matrix.rows, source)
    scores = matrix.scores[:, across] if rows else matrix.scores[across]
    mask = matrix.mask(arranged(matrix, source))
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


def kinds_of(sides: Sequence[Side]) -> tuple[Ids, Ids]:
    """(a place of each kind, the kind of each place): places of a kind lie in the same groups of all layers."""
    groups = np.concatenate([side.places // side.matrix.unit[side.axis] for side in sides], axis=1)
    _, first, kind = np.unique(groups, axis=0, return_index=True, return_inverse=True)
    return np.asarray(first), np.asarray(kind.reshape(-1))
