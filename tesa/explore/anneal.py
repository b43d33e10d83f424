"""Simulated annealing over configurations, on errors of whole networks (Kirkpatrick et al., 1983)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tesa.explore.choices import Choice

TRIES = 200  # at a neighbour that the budget allows

Cost = Callable[[Mapping[str, Choice]], float]


def anneal(
    start: Mapping[str, Choice], levels: Mapping[str, Sequence[Choice]], cost: Cost, budget: float, energy: Cost,
    evaluations: int, *, seed: int = 0, hot: float = 0.3, cold: float = 0.02,
) -> dict[str, Choice]:  # fmt: skip
    """The configuration of the least energy that was seen, after so many evaluations of new ones.

    levels: the choices of each layer, from slow to fast. A neighbour has one layer changed, or one made slower and one
    faster; what costs more than the budget is no neighbour. hot, cold: the temperature at the start and at the end, as
    the relative rise of the energy that is taken with a chance of one in e. An energy that is infinite is never taken.
    """
    rng = np.random.default_rng(seed)
    now, least = dict(start), dict(start)
    at = lowest = energy(now)
    seen = {_key(now)}
    for number in range(max(evaluations, 0)):
        warm = hot * (cold / hot) ** (number / max(evaluations - 1, 1))
        found = _neighbour(now, levels, cost, budget, seen, rng)
        if found is None:
            break
        seen.add(_key(found))
        value = energy(found)
        rise = (value - at) / max(abs(at), 1e-12)
        if math.isfinite(value) and (rise <= 0 or rng.random() < math.exp(-rise / warm)):
            now, at = found, value
        if value < lowest:
            least, lowest = dict(found), value
    return least


def _neighbour(
    now: Mapping[str, Choice], levels: Mapping[str, Sequence[Choice]], cost: Cost, budget: float,
    seen: set[tuple[str, ...]], rng: np.random.Generator,
) -> dict[str, Choice] | None:  # fmt: skip
    names = [name for name in levels if len(levels[name]) > 1]
    if not names:
        return None
    for _ in range(TRIES):
        found = dict(now)
        count = min(1 + int(rng.random() < 0.6), len(names))
        for name in rng.choice(names, count, replace=False):
            place = levels[name].index(found[name])
            near = [p for p in range(len(levels[name])) if p != place and abs(p - place) <= 2]
            found[name] = levels[name][int(rng.choice(near))]
        if _key(found) not in seen and cost(found) <= budget:
            return found
    return None


def _key(config: Mapping[str, Choice]) -> tuple[str, ...]:
    return tuple(map(str, config.values()))
