"""n:m weights: n non-zeros in each m neighbours along k, so that any m columns hold as many of every row.

The family for them is "indexed" with blocks of k that are a multiple of m: every row then has the same number of
non-zeros in a block, one trip count serves all, and no row is filled up. Where indexed has such blocks by itself, it
needs no help. Families that keep R rows in registers at once were slower here: they read X from the second-level cache.
"""

from collections.abc import Sequence

import numpy as np

from tesa.attributes.patterns.n_of_m import n_of_m
from tesa.attributes.zeros import zeros_of
from tesa.decompose.policy import policy
from tesa.schedules.pieces import Piece
from tesa.schedules.registry import find
from tesa.schedules.types import Config, Core, FloatArray, Problem

_CONFIGS = 3


def _space(problem: Problem, weight: FloatArray, core: Core) -> Sequence[Config]:
    """Configurations of indexed whose blocks are cut down to a multiple of m, those that it has not itself."""
    if problem.op not in ("linear", "conv2d") or problem.dtype != "float32":
        return ()
    found = _n_of_m(weight) if 0 < np.count_nonzero(weight) <= 0.5 * weight.size else None
    if found is None:
        return ()
    offered = [dict(config) for config in find("indexed").space(problem, weight, core)]
    fitted = [{**config, "kblock": config["kblock"] // found[1] * found[1]} for config in offered]
    return [config for config in fitted if config["kblock"] and config not in offered][:_CONFIGS]


def _n_of_m(weight: FloatArray) -> tuple[int, int] | None:
    """(n, m) where the weight has that pattern: only this one recogniser is asked."""
    structure = n_of_m(zeros_of(weight))
    return None if structure is None else structure["n_m"]


@policy("nm", space=_space)
def nm(problem: Problem, weight: FloatArray, config: Config) -> tuple[Piece, ...]:
    """An n:m weight in blocks of k in which all rows have the same number of non-zeros.

    config: that of the family "indexed".

    >>> p = Problem("linear", 2, 4, 16, (4, 16), (2, 16))
    >>> w = np.array([[1, 0, 2, 0], [0, 3, 0, 4]], np.float32)
    >>> [piece.pattern for piece in nm(p, w, {"vectors": 1, "rows": 1, "kblock": 2, "pack": 1})]
    ['1:2']
    """
    del problem
    found = _n_of_m(weight)
    return (Piece(weight, 32, f"{found[0]}:{found[1]}", kernels=(("indexed", config),)),) if found else ()
