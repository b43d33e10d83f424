"""Search for the input elements that move a live output: adaptive group testing on random numbers."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tesa.attributes.attribute import Bools, Values
from tesa.propagate.scramble.experiment import TRIALS, Experiment, State
from tesa.propagate.scramble.groups import Groups, groupings
from tesa.propagate.scramble.invariant import differ


class TooMuchWork(Exception):
    """Raised when the budget of runs is spent."""


class Search:
    """Finds the input elements that move none of the live outputs.

    live: which elements of each output matter. actual: the state in which all that is known stays.
    """

    def __init__(self, experiment: Experiment, live: Sequence[Bools], actual: State) -> None:
        self.experiment = experiment
        self.actual = actual
        self.live = list(live)
        self.left = experiment.allowed
        self.exact = True

    def dead(self, state: State, candidates: Sequence[Bools], salt: int) -> list[Bools]:
        """The candidates that move nothing, while what `state` fixes stays and the rest is random."""
        s = self.experiment
        whole = s.as_wholes(state)
        if whole is not None:
            live = [np.full(mask.shape, bool(mask.any())) for mask in self.live]
            groups = Groups.of_tensors([bool(c.any()) for c in candidates], [shape for shape, _ in s.types])
            moved = self._movers(whole, groups, live, salt)
            return [c & ~m for c, m in zip(candidates, groups.spread(moved), strict=True)]
        dead = [np.zeros(c.shape, bool) for c in candidates]
        for i, grouping in enumerate(groupings([int(c.sum()) for c in candidates], s.types, s.allowed)):
            left = [c & ~d for c, d in zip(candidates, dead, strict=True)]
            groups = grouping.groups(left)
            self.exact = self.exact and grouping.exact
            if groups.count:
                moved = self._movers(state, groups, self.live, salt + i)
                still = groups.spread(~moved)
                dead = [d | (c & f) for d, c, f in zip(dead, left, still, strict=True)]
        return dead

    def confirmed(self, state: State, dead: list[Bools]) -> list[Bools]:
        """The findings of several rounds, tested together: an element that moves something after all is not dead."""
        if not any(d.any() for d in dead) or self.experiment.as_wholes(state) is not None:
            return dead
        groups = Groups.of_masks(dead)
        moved = groups.spread(self._movers(state, groups, self.live, 90))
        return [d & ~m for d, m in zip(dead, moved, strict=True)]

    def _movers(self, state: State, groups: Groups, live: Sequence[Bools], salt: int) -> Bools:
        """(groups,): which groups move a live output. All groups left have moved nothing in TRIALS trials in a row.

        Once in a trial the old numbers are those that are known, be they infinite.
        """
        moved = np.zeros(groups.count, bool)
        choices = self.experiment.pairs(state)
        quiet = trial = 0
        while quiet < TRIALS and not moved.all():
            before = moved.sum()
            pairs = choices[trial % TRIALS]
            for i, pair in enumerate((*pairs, pairs[0])):
                stays = self.actual if i == len(pairs) else state
                old = self.experiment.sample(stays, (salt, trial, i), pair, probe=False)
                new = self.experiment.sample(state, (salt, trial, i), pair, probe=True)
                while not moved.all():
                    found = self._bisect(old, new, groups, np.flatnonzero(~moved), live)
                    if not found:
                        break
                    moved[found] = True
            quiet = quiet + 1 if moved.sum() == before else 0
            trial += 1
        return moved

    def _bisect(
        self, old: list[Values], new: list[Values], groups: Groups, order: NDArray[np.intp], live: Sequence[Bools]
    ) -> list[int]:
        """Some of the groups in `order` that move an output on the way from the old numbers to the new ones.

        At step k the first k groups are new. If the output differs between two steps, it does so in one half at least.
        """
        position = groups.positions(order)

        def at(step: int) -> tuple[Values, ...]:
            self.left -= 1
            if self.left < 0:
                raise TooMuchWork
            mixed = [np.where(p < step, n, o) for p, n, o in zip(position, new, old, strict=True)]
            return self.experiment.program(mixed)

        first, last = at(0), at(len(order))
        waiting = [(0, len(order), first, last)] if differ(first, last, live) else []
        found = []
        while waiting:
            low, high, y_low, y_high = waiting.pop()
            if high - low == 1:
                found.append(int(order[low]))
                continue
            middle = (low + high) // 2
            y = at(middle)
            if differ(y_low, y, live):
                waiting.append((low, middle, y_low, y))
            if differ(y, y_high, live):
                waiting.append((middle, high, y, y_high))
        return found
