"""Lets pairs of rows or columns change places as long as their groups keep more, the masks being made anew each time.

An assignment to fixed masks does not see that a mask changes with its members; a swap that is judged by the new masks
does. Partners are those that fit best by the masks as they are, and some at random. Where nothing is gained any more
some pairs are shaken, and it goes on from there (iterated local search: Lourenço, Martin and Stützle, 2003).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tesa.compress.rearrange.sides import Floats, Ids, Side, arranged, fit_of, kinds_of, order_of, total_kept

WORK = 2_000_000_000
"""Numbers that may be looked at for all orbits of a network, some tens of seconds of a processor."""
PARTNERS = 24
"""Best-fitting members that each member is tried with; a third as many others are drawn."""
SWEEPS, SHAKES = 6, 2
FEW = 0.01
"""Share of the members that changed places in a sweep below which the next one is not worth its time."""


@dataclass(frozen=True)
class Swaps:
    """The effort of a search: sweeps over all members, and shakes of pairs after them."""

    sweeps: int
    shakes: int

    def better(self, sides: Sequence[Side], orbit: Ids, source: Ids, total: float) -> tuple[Ids, float]:
        """(the source with members of the orbit in better places, what is kept): never less than before."""
        rng = np.random.default_rng(0)
        best, best_total = self._settled(sides, orbit, source, total, rng)
        for _ in range(self.shakes):
            trial = best.copy()
            for i, j in rng.integers(0, len(orbit), (max(2, len(orbit) // 16), 2)):
                trial[orbit[[i, j]]] = trial[orbit[[j, i]]]
            trial, now = self._settled(sides, orbit, trial, total_kept(sides, trial), rng)
            if now > best_total:
                best, best_total = trial, now
        return best, best_total

    def _settled(
        self, sides: Sequence[Side], orbit: Ids, source: Ids, total: float, rng: np.random.Generator
    ) -> tuple[Ids, float]:
        for _ in range(self.sweeps):
            trial, count = _sweep(sides, orbit, source, rng)
            now = total_kept(sides, trial) if count else total
            if now <= total:
                break
            source, total = trial, now
            if count < FEW * len(orbit):
                break
        return source, total


def effort(orbits: Sequence[tuple[Sequence[Side], Ids]]) -> Swaps:
    """The sweeps and shakes that a network of these orbits, with the layers that they touch, can have.

    >>> effort([])
    Swaps(sweeps=6, shakes=2)
    """
    cost = sum(
        min(len(orbit), PARTNERS * 4 // 3) * side.places.size * side.matrix.scores.shape[1 - side.axis]
        for sides, orbit in orbits
        for side in sides
    )
    sweeps = WORK // max(cost, 1)
    return Swaps(max(1, min(SWEEPS, sweeps)), min(SHAKES, max(0, sweeps - SWEEPS) // SWEEPS))


class _Groups:
    """The groups of one side: the sums of their units, and what they keep of them.

    parts: (members, times, units) what each member adds. group: (places, times). sums: (groups, units).
    """

    def __init__(self, side: Side, source: Ids) -> None:
        matrix, rows = side.matrix, side.axis == 0
        m, k = matrix.scores.shape
        height, width = matrix.unit
        now = arranged(matrix, source)
        mask = matrix.mask(now)[::height, ::width]
        across = order_of(matrix.columns if rows else matrix.rows, source)
        if rows:
            own = np.add.reduceat(matrix.scores[:, across], np.arange(0, k, width), axis=1)
        else:
            own = np.add.reduceat(matrix.scores[across], np.arange(0, m, height), axis=0).T
            mask = mask.T
        self.parts: Floats = own[side.places]
        self.group: Ids = side.places // matrix.unit[side.axis]
        units = np.add.reduceat(np.add.reduceat(now, np.arange(0, m, height), 0), np.arange(0, k, width), 1)
        self.sums: Floats = units if rows else units.T
        counts = mask.sum(1)
        self.count = int(counts[0]) if rows and matrix.budget == "balanced" and (counts == counts[0]).all() else 0
        by_row = matrix.budget == "balanced"
        self.least = np.zeros((1, 1)) if self.count else _thresholds(self.sums, mask, by_row, rows)
        self.kept = self.value(self.sums)

    def value(self, sums: Floats) -> Floats:
        """(n,): what groups with these sums (n, units) keep, but for a constant."""
        if self.count:
            at = sums.shape[1] - self.count
            return np.asarray(np.partition(sums, at, axis=1)[:, at:].sum(1) if at else sums.sum(1))
        return np.asarray(np.maximum(sums - self.least, 0).sum(1))

    def gains(self, content: Ids, i: int, others: Ids) -> Floats:
        """(others,): what is gained if the contents of place i and of each other place change places."""
        found = np.zeros(len(others))
        for nth in range(self.group.shape[1]):
            a, b = self.group[i, nth], self.group[others, nth]
            apart = np.flatnonzero(b != a)
            if not len(apart):
                continue
            there = b[apart]
            delta = self.parts[content[others[apart]], nth] - self.parts[content[i], nth]
            found[apart] += self.value(self.sums[a] + delta) + self.value(self.sums[there] - delta)
            found[apart] -= self.kept[a] + self.kept[there]
        return found

    def swap(self, content: Ids, i: int, j: int) -> None:
        """Let the contents of two places change places; `content` is as before."""
        for nth in range(self.group.shape[1]):
            a, b = self.group[i, nth], self.group[j, nth]
            if a != b:
                delta = self.parts[content[j], nth] - self.parts[content[i], nth]
                self.sums[a] += delta
                self.sums[b] -= delta
                self.kept[[a, b]] = self.value(self.sums[[a, b]])


def _thresholds(sums: Floats, mask: NDArray[np.bool_], by_row: bool, rows: bool) -> Floats:
    """Between the least unit that is kept and the largest that is not: of each group of rows, or of all."""
    axis = None if not by_row else 1 if rows else 0
    kept = np.where(mask, sums, np.inf).min(axis=axis, keepdims=True)
    lost = np.where(mask, -np.inf, sums).max(axis=axis, keepdims=True)
    return np.asarray(np.where(np.isinf(lost), 0.0, (np.where(np.isinf(kept), lost, kept) + lost) / 2))


def _sweep(sides: Sequence[Side], orbit: Ids, source: Ids, rng: np.random.Generator) -> tuple[Ids, int]:
    """(the source after each member was tried with others, how many changed places)."""
    groups = [_Groups(side, source) for side in sides]
    first, kind = kinds_of(sides)
    fit: Floats = np.sum([fit_of(side, first, source) for side in sides], axis=0)
    content = np.searchsorted(orbit, source[orbit])
    places, count = len(orbit), 0
    for i in range(places):
        others = _partners(fit, kind, content, i, rng)
        if not len(others):
            continue
        gains: Floats = np.sum([one.gains(content, i, others) for one in groups], axis=0)
        best = int(np.argmax(gains))
        if gains[best] > 1e-7 * sum(float(one.kept[one.group[i, 0]]) for one in groups):
            j = int(others[best])
            for one in groups:
                one.swap(content, i, j)
            content[[i, j]] = content[[j, i]]
            count += 1
    found = source.copy()
    found[orbit] = orbit[content]
    return found, count


def _partners(fit: Floats, kind: Ids, content: Ids, i: int, rng: np.random.Generator) -> Ids:
    """Places of other kinds whose contents would fit best into that of place i, and theirs into it, and some others."""
    places = len(kind)
    if places <= PARTNERS * 4 // 3:
        return np.flatnonzero(kind != kind[i])
    mine = fit[content[i]]
    gains = mine[kind] - mine[kind[i]] + fit[content, kind[i]] - fit[content, kind]
    gains[kind == kind[i]] = -np.inf
    found = np.union1d(np.argpartition(gains, places - PARTNERS)[-PARTNERS:], rng.integers(0, places, PARTNERS // 3))
    return np.asarray(found[kind[found] != kind[i]])
