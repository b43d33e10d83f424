"""The kernels of a decomposed weight on a GPU: all pieces in one launch, or a kernel of any family for each, in turn.

A configuration is flat: "fused.rows" belongs to the one kernel that computes all pieces at once (mixed.py), "1.indexed.
rows" to the kernel of piece 1, of the family "indexed", in a chain of launches (chain.py).
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from tesa.schedules.gpu import chain
from tesa.schedules.gpu.mixed import Mixed
from tesa.schedules.gpus import Gpu, GpuCode
from tesa.schedules.pieces import (
    FUSED,
    Pieces,
    SumOfPieces,
    by_panel,
    chained,
    is_fused,
    links,
    part,
    ranked,
    register,
)  # fmt: skip
from tesa.schedules.registry import Family, find
from tesa.schedules.types import Config, Problem

_FUSED_CONFIGS = 4  # of one decomposition
_INSTRUCTIONS = 100_000  # straight-line code of one piece


@lru_cache(maxsize=4)  # the candidates of a layer ask for the same ones
def layout(problem: Problem, found: Pieces) -> Mixed:
    """The pieces as one kernel takes them: blocks of two rows or more go through the matrix unit, the rest does not.

    Of a mixed problem all int8 pieces go through it.
    """
    tiles, alone = (np.zeros(found[0].weight.shape, np.float32) for _ in range(2))
    for piece in found:
        target = tiles if by_panel(problem, piece) else alone
        target += piece.weight
    return Mixed(problem, tiles, alone)


def _space(problem: Problem, found: Pieces, gpu: Gpu, families: Sequence[Family]) -> list[Config]:
    """The kernels of some pieces: in one launch, and in a chain, as parts of a configuration."""
    made: list[Config] = []
    mixed = layout(problem, found)
    if not any(piece.kernels for piece in found) and mixed.tiles.any():
        for config in mixed.space(gpu)[:_FUSED_CONFIGS]:
            made.append({f"{FUSED}.{key}": value for key, value in config.items()})
    if problem.dtype != "float32" or (len(found) == 1 and not found[0].kernels):
        return made  # int32 sums have no residual to add to; one piece is an ordinary kernel's work
    choices = [_choices(problem, found, i, gpu, families) for i in range(len(found))]
    return [*made, chained(choices)] if all(name for name, _ in choices) else made


def _choices(
    problem: Problem, found: Pieces, index: int, gpu: Gpu, families: Sequence[Family]
) -> tuple[str, Config]:  # fmt: skip
    """The best kernel for a piece by estimate, ("", {}) where there is none."""
    sub = chain.problems(problem, len(found))[index]
    best = ranked(found[index], families, gpu, lambda _: sub, _INSTRUCTIONS, _FUSED_CONFIGS)
    return best[0] if best else ("", {})


def _estimate(problem: Problem, found: Pieces, gpu: Gpu, config: Config) -> float:
    """Milliseconds of the one launch, or the sum of those of all pieces."""
    if is_fused(config):
        return layout(problem, found).estimate(gpu, part(FUSED, config))
    subs = chain.problems(problem, len(found))
    return float(sum(
        find(one.family, "gpu").estimate(sub, one.piece.weight, gpu, one.config)
        for one, sub in zip(links(found, config), subs, strict=True)
    ))  # fmt: skip


def _emit(problem: Problem, found: Pieces, gpu: Gpu, config: Config, symbol: str) -> GpuCode:
    """The kernel of all pieces."""
    if is_fused(config):
        return layout(problem, found).emit(gpu, part(FUSED, config), symbol)
    return chain.emit(problem, links(found, config), gpu, symbol)


register(SumOfPieces("gpu", _space, _estimate, _emit))
