"""Learns how much the error of each layer counts beside those of the others, by evaluations of whole configurations.

Errors of single layers do not add up: what an early layer gets wrong, later ones are repaired against, or make worse.
Each layer's error gets a factor; the programme is solved for every set of factors, so that each proposal spends its
budget, and those stay whose configuration has the least error (the coefficients of SPDY: Frantar and Alistarh, 2022).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tesa.explore.choices import Choice, Config

Factors = Mapping[str, float]
"""Logarithms of the factors, by layer; 0 where there is none."""

TILTS = (-3.0, 3.0, -6.0, 6.0)
"""First proposals: the factors fall or rise along the network by so many orders of e."""
WIDE, NARROW = 2.0, 0.5
"""Spread of the proposals at the start and at the end."""
TRIES = 40


def learn(
    names: Sequence[str], start: Factors, proposed: Callable[[Factors], Config | None],
    energy: Callable[[Config], float], least: float, evaluations: int, *, seed: int = 0,
    enough: Callable[[], bool] = lambda: False,
) -> tuple[dict[str, float], dict[str, Choice] | None]:  # fmt: skip
    """(the best factors, their configuration; None where none beat `least`), after so many new configurations.

    proposed: the configuration for factors, None where there is none. energy: of a configuration, to be made small.
    least: the energy to beat. enough: ends it before all evaluations are spent.

    >>> from tesa.explore.choices import DENSE
    >>> half = Choice.parse("0.5")
    >>> picks = lambda f: {"a": half, "b": DENSE} if f.get("a", 0) < f.get("b", 0) else {"a": DENSE, "b": half}
    >>> factors, found = learn(["a", "b"], {}, picks, lambda c: float(c["b"] == half), 1.0, 8)
    >>> str(found["a"]), factors["a"] < factors["b"]
    ('0.5:unstructured', True)
    """
    rng = np.random.default_rng(seed)
    best, found = dict(start), None
    seen: set[tuple[str, ...]] = set()
    for number in range(evaluations):
        spread = WIDE * (NARROW / WIDE) ** (number / max(evaluations - 1, 1))
        made = _proposal(names, best, proposed, seen, rng, spread, number)
        if made is None:
            break
        factors, config = made
        value = energy(config)
        if value < least:
            best, found, least = factors, dict(config), value
        if enough():
            break
    return best, found


def _proposal(
    names: Sequence[str], best: Factors, proposed: Callable[[Factors], Config | None], seen: set[tuple[str, ...]],
    rng: Any, spread: float, number: int,
) -> tuple[dict[str, float], Config] | None:  # fmt: skip
    """Factors near the best ones whose configuration was not seen yet; None where none is found."""
    for attempt in range(TRIES):
        if number + attempt < len(TILTS):
            steps = TILTS[number + attempt] * (np.arange(len(names)) / max(len(names) - 1, 1) - 0.5)
        else:
            steps = rng.normal(0, spread * (1 + attempt / TRIES), len(names)) * (rng.random(len(names)) < 0.5)
        factors = {name: best.get(name, 0.0) + float(step) for name, step in zip(names, steps, strict=True)}
        config = proposed(factors)
        key = None if config is None else tuple(str(config[name]) for name in names)
        if config is not None and key is not None and key not in seen:
            seen.add(key)
            return factors, config
    return None


def weighed(
    errors: Mapping[str, Mapping[Choice, float]], factors: Factors, power: float
) -> dict[str, dict[Choice, float]]:
    """The table of errors, to a power, times the factors."""
    return {
        name: {choice: math.exp(factors.get(name, 0.0)) * error**power for choice, error in row.items()}
        for name, row in errors.items()
    }
