"""n:m weights: n non-zeros in each m neighbours along k, so that any m columns hold as many of every row.

The family for them takes k in blocks (Family.block_of_k), here a multiple of m: every row then has the same number of
non-zeros in a block, one trip count serves all, and no row is filled up. Where it has such blocks by itself, it needs
no help. Families that keep R rows in registers at once were slower here: they read X from the second-level cache.
"""

from collections.abc import Sequence

import numpy as np

from tesa.attributes.patterns.n_of_m import n_of_m
from tesa.attributes.zeros import zeros_of
from tesa.decompose.policy import policy
from tesa.schedules.pieces import Piece
from tesa.schedules.refusal import refuse, unsuited
from tesa.schedules.registry import Family, families
from tesa.schedules.types import Config, Core, FloatArray, Problem

_CONFIGS = 3


def _space(problem: Problem, weight: FloatArray, core: Core) -> Sequence[Config]:
    """Configurations of the family whose blocks are cut down to a multiple of m, those that it has not itself."""
    if why := unsuited(problem):
        return refuse(why)
    found = _n_of_m(weight) if 0 < np.count_nonzero(weight) <= 0.5 * weight.size else None
    if found is None:
        return refuse("the weight has no n:m pattern with half or more of it zero")
    blocked = _blocked()
    size = blocked.block_of_k
    offered = [dict(config) for config in blocked.space(problem, weight, core)]
    fitted = [{**config, size: config[size] // found[1] * found[1]} for config in offered]
    made = [config for config in fitted if config[size] and config not in offered][:_CONFIGS]
    return made or refuse(f"the family {blocked.name} has blocks of a multiple of {found[1]} itself")


def _blocked() -> Family:
    """The first family of CPUs that takes k in blocks."""
    return next(family for family in families("cpu") if family.block_of_k)


def _n_of_m(weight: FloatArray) -> tuple[int, int] | None:
    """(n, m) where the weight has that pattern: only this one recogniser is asked."""
    structure = n_of_m(zeros_of(weight))
    return None if structure is None else structure["n_m"]


@policy("nm", space=_space, kinds=("cpu",))
def nm(problem: Problem, weight: FloatArray, config: Config) -> tuple[Piece, ...]:
    """An n:m weight in blocks of k in which all rows have the same number of non-zeros.

    config: that of the family which takes k in blocks.

    >>> p = Problem("linear", 2, 4, 16, (4, 16), (2, 16))
    >>> w = np.array([[1, 0, 2, 0], [0, 3, 0, 4]], np.float32)
    >>> [piece.pattern for piece in nm(p, w, {"vectors": 1, "rows": 1, "kblock": 2, "pack": 1})]
    ['1:2']
    """
    del problem
    found = _n_of_m(weight)
    return (Piece(weight, 32, f"{found[0]}:{found[1]}", kernels=((_blocked().name, config),)),) if found else ()
