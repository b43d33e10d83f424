"""The default mode: proposals by evolution, ranked by a model that learns from every measurement."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tesa.tune.search.cost_model import ready, scores
from tesa.tune.search.features import Wide
from tesa.tune.search.registry import Scene, mode
from tesa.tune.search.space import Space

ELITE = 8
"""The number of measured candidates, the fastest, that are parents."""

GENERATIONS = 4
POPULATION = 64
EXPLORE = 0.1
"""Share of the named candidates that the model has no say in."""


@mode("model", ready=ready)
def model(scene: Scene, count: int, rng: np.random.Generator) -> Sequence[int]:
    """Neighbours of the best and their offspring, ranked by boosted trees trained on what was measured."""
    free = np.flatnonzero(~scene.taken)
    if len(free) <= count:
        return [int(i) for i in free]
    score = scores(scene.table(), scene.estimates, scene.times, scene.experience, scene.seed)
    bred = evolve(scene.space, score, parents(scene, score), rng)
    bred = bred[~scene.taken[bred]]
    ranked = [int(i) for i in bred[np.argsort(score[bred], kind="stable")]]
    blind = _explored(scene, free, count, rng)
    chosen = list(dict.fromkeys([*ranked[: count - len(blind)], *blind]))
    rest = [int(i) for i in free[np.argsort(score[free], kind="stable")]]
    return list(dict.fromkeys([*chosen, *ranked, *rest]))[:count]


def parents(scene: Scene, score: Wide) -> NDArray[np.int64]:
    """The fastest measured candidates, and of each family the one that the model likes best."""
    known = np.flatnonzero(np.isfinite(scene.times))
    fastest = known[np.argsort(scene.times[known], kind="stable")][:ELITE]
    likely = [
        members[np.argmin(score[members])]
        for members in (np.flatnonzero(scene.space.family == family) for family in range(len(scene.space.names)))
    ]
    return np.unique(np.concatenate([fastest, np.array(likely, np.int64)]))


def evolve(space: Space, score: Wide, first: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """All that was met on the way of a few generations: the neighbours of the fittest, and some strangers."""
    population, met = first, set(first.tolist())
    for _ in range(GENERATIONS):
        strangers = rng.choice(len(space), min(len(space), POPULATION // 4), replace=False)
        children = [space.neighbours(int(parent)) for parent in population]
        pool = np.unique(np.concatenate([population, strangers, *children]))
        met.update(pool.tolist())
        population = pool[np.argsort(score[pool], kind="stable")][: POPULATION // 4]
    return np.array(sorted(met), np.int64)


def _explored(scene: Scene, free: NDArray[np.int64], count: int, rng: np.random.Generator) -> list[int]:
    """Some at random, each family as likely as any other. The share is also the chance of one more."""
    wanted = EXPLORE * count
    number = int(wanted) + int(rng.random() < wanted % 1)
    names = np.unique(scene.space.family[free])
    found = []
    for _ in range(number):
        members = free[scene.space.family[free] == rng.choice(names)]
        found.append(int(rng.choice(members)))
    return list(dict.fromkeys(found))
