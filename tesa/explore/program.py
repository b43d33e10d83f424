"""A dynamic programme: one choice for each layer, with the least error in sum that a budget of time allows.

The multiple-choice knapsack over a table of layers (Frantar and Alistarh, SPDY, 2022). Time is counted in whole steps,
rounded up, so that what is found keeps the budget; all budgets are solved at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.explore.choices import Choice

Costs = Mapping[str, Mapping[Choice, float]]

STEPS = 4000


@dataclass(frozen=True, eq=False)
class Solved:
    """All budgets solved. step: of cost; least: the least cost that there is."""

    names: tuple[str, ...]
    choices: tuple[tuple[Choice, ...], ...]
    picks: NDArray[Any]
    counts: tuple[NDArray[Any], ...]
    step: float
    errors: NDArray[Any]

    def at(self, budget: float) -> dict[str, Choice] | None:
        """The configuration of a budget of cost; None where even the cheapest costs more."""
        place = min(int(np.floor(budget / self.step + 1e-9)), len(self.errors) - 1)
        if place < 0 or not np.isfinite(self.errors[place]):
            return None
        found = {}
        for i in range(len(self.names) - 1, -1, -1):
            pick = int(self.picks[i, place])
            found[self.names[i]] = self.choices[i][pick]
            place -= int(self.counts[i][pick])
        return dict(reversed(found.items()))


def solve(costs: Costs, errors: Costs) -> Solved:
    """Solve all budgets for costs and errors of each layer's choices; what has no error does not compete.

    >>> from tesa.explore.choices import DENSE
    >>> half = Choice.parse("0.5")
    >>> costs = {"a": {DENSE: 2.0, half: 1.0}, "b": {DENSE: 2.0, half: 1.0}}
    >>> errors = {"a": {DENSE: 0.0, half: 5.0}, "b": {DENSE: 0.0, half: 1.0}}
    >>> {name: str(choice) for name, choice in solve(costs, errors).at(3.0).items()}
    {'a': 'dense', 'b': '0.5:unstructured'}
    """
    names = tuple(costs)
    choices = tuple(tuple(c for c in costs[name] if c in errors[name]) for name in names)
    top = sum(max(costs[name][c] for c in mine) for name, mine in zip(names, choices, strict=True))
    step = max(top, 1e-12) / STEPS
    counts = tuple(
        np.array([int(np.ceil(costs[name][c] / step - 1e-9)) for c in mine])
        for name, mine in zip(names, choices, strict=True)
    )
    width = int(sum(count.max() for count in counts)) + 1
    best = np.zeros(width)
    picks = np.zeros((len(names), width), np.int16)
    for i, name in enumerate(names):
        rows = np.full((len(choices[i]), width), np.inf)
        for j, choice in enumerate(choices[i]):
            count = int(counts[i][j])
            rows[j, count:] = best[: width - count] + errors[name][choice]
        picks[i] = rows.argmin(axis=0)
        best = rows.min(axis=0)
    return Solved(names, choices, picks, counts, step, best)
