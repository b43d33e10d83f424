"""The modes to compare with: everything in order, and at random."""

from collections.abc import Sequence

import numpy as np

from tesa.tune.search.registry import Scene, mode


@mode("random")
def random(scene: Scene, count: int, rng: np.random.Generator) -> Sequence[int]:
    """Every candidate is as likely as any other."""
    free = np.flatnonzero(~scene.taken)
    return [int(i) for i in rng.permutation(free)[:count]]


@mode("exhaustive", trials=None)
def exhaustive(scene: Scene, count: int, rng: np.random.Generator) -> Sequence[int]:
    """All candidates in the order of the list, default configurations first."""
    del rng
    return [int(i) for i in np.flatnonzero(~scene.taken)[:count]]
