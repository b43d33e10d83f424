"""Looks for the places of rows and columns at which pruning in groups keeps most: masks for groups, rows to groups.

Lloyd's algorithm with capacities: the masks are the best for the groups, then the members are assigned to the groups
whose masks fit them best, until nothing is gained. Its starts are the members as they lie, by their sums and along the
axis in which they differ most; from the best of them pairs change places. No step loses, and no member moves is among
the starts, so that the result is never worse than what was there. One orbit moves in all layers that it lies in at
once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tesa.compress.rearrange.assign import assign
from tesa.compress.rearrange.sides import Floats, Ids, Matrix, Side, fit_of, kinds_of, order_of, total_kept, touched_by
from tesa.compress.rearrange.swaps import Swaps, effort

__all__ = ["Matrix", "ascend", "order_of"]

ROUNDS = 12


def ascend(matrices: Sequence[Matrix], orbits: Sequence[Ids], source: Ids) -> Ids:
    """For each class the one whose content it gets, starting from `source`, so that the layers keep more."""
    found = source.copy()
    touched = [touched_by(matrices, orbit) for orbit in orbits]
    wide = any(matrix.unit[1] > 1 for matrix in matrices)
    swaps = effort([(sides, orbit) for sides, orbit in zip(touched, orbits, strict=True) if sides])
    for _ in range(3 if wide else 1):
        gained = False
        for orbit, sides in zip(orbits, touched, strict=True):
            if sides:
                gained |= _improve(sides, orbit, found, swaps)
        if not gained:
            break
        swaps = Swaps(min(swaps.sweeps, 2), 0)  # what is left then follows from the other axis
    return found


def _improve(sides: Sequence[Side], orbit: Ids, source: Ids, swaps: Swaps) -> bool:
    """Find better places for the members of an orbit; `source` is changed. True if anything was gained."""
    start = total_kept(sides, source)
    best, best_total = source.copy(), start
    for begin in (source[orbit], _sorted(sides, orbit), _along(sides, orbit)):
        trial = source.copy()
        trial[orbit] = begin
        trial, now = _climbed(sides, orbit, trial)
        if now > best_total * (1 + 1e-9):
            best, best_total = trial, now
    best, best_total = swaps.better(sides, orbit, best, best_total)
    source[orbit] = best[orbit]
    return best_total > start * (1 + 1e-6)


def _climbed(sides: Sequence[Side], orbit: Ids, source: Ids) -> tuple[Ids, float]:
    """(the source after rounds of masks for groups and members to groups, what is kept); `source` is changed."""
    total = total_kept(sides, source)
    for _ in range(ROUNDS):
        before = source[orbit].copy()
        source[orbit] = _step(sides, orbit, source)
        now = total_kept(sides, source)
        if now <= total * (1 + 1e-6):
            if now < total:
                source[orbit] = before
            break
        total = now
    return source, max(total, total_kept(sides, source))


def _profiles(sides: Sequence[Side]) -> list[Floats]:
    """For each side (members, times x the other axis): what each member has to lose."""
    return [
        (side.matrix.scores if side.axis == 0 else side.matrix.scores.T)[side.places].reshape(len(side.places), -1)
        for side in sides
    ]


def _sorted(sides: Sequence[Side], orbit: Ids) -> Ids:
    """The members with the largest sums first."""
    sums = sum(profile.sum(1) for profile in _profiles(sides))
    return np.asarray(orbit[np.argsort(-np.asarray(sums), kind="stable")])


def _along(sides: Sequence[Side], orbit: Ids) -> Ids:
    """The members along the axis in which the shapes of their profiles differ most, whatever their sizes."""
    products = np.zeros((len(orbit), len(orbit)))
    for profile in _profiles(sides):
        shape = profile - profile.mean(1, keepdims=True)
        shape -= shape.mean(0)
        products += shape @ shape.T
    return np.asarray(orbit[np.argsort(np.linalg.eigh(products)[1][:, -1], kind="stable")])


def _step(sides: Sequence[Side], orbit: Ids, source: Ids) -> Ids:
    """Assign the contents of an orbit to its places, by the masks that there are now."""
    first, kind = kinds_of(sides)
    scores = np.zeros((len(orbit), len(first)))
    for side in sides:
        scores += fit_of(side, first, source)
    content = np.searchsorted(orbit, source[orbit])  # item i lies at place i
    chosen = assign(scores[content], kind)
    return np.asarray(orbit[content[chosen]])
