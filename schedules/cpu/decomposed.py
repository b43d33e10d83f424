"""The kernels of a decomposed weight: all pieces in one fused kernel, or a kernel of any family for each, in a chain.

A configuration is flat: "fused.rows" belongs to the one kernel that computes all pieces at once (fused.py),
"1.indexed.kblock" to the kernel of piece 1, of the family "indexed", in a chain through memory (chain.py).
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from tesa.schedules.cpu import chain, fused, fused_space
from tesa.schedules.pieces import (
    FUSED,
    Piece,
    PieceKernel,
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
from tesa.schedules.types import Code, Config, Core, Problem

_FUSED_CONFIGS = 4  # of one decomposition
_INSTRUCTIONS = 100_000  # straight-line code of one piece: a second to generate and assemble
_ELEMENTS = 1 << 22  # of a weight, by which kernels of pieces are compared
_BAND = 64  # rows side by side that are taken together


def _estimate(problem: Problem, found: Pieces, core: Core, config: Config) -> float:
    """Milliseconds of the fused kernel, or the sum of the pieces and of what goes through memory."""
    if is_fused(config):
        return fused_space.estimate(problem, layout(problem, found), core, part(FUSED, config))
    return _chain_estimate(problem, links(found, config), core)


def _emit(problem: Problem, found: Pieces, core: Core, config: Config, symbol: str) -> Code:
    """One kernel out of the pieces of a weight."""
    if is_fused(config):
        return fused.emit(problem, layout(problem, found), core, part(FUSED, config), symbol)
    return chain.emit(problem, links(found, config), core, symbol)


@lru_cache(maxsize=4)  # the candidates of a layer ask for the same ones
def layout(problem: Problem, found: Pieces) -> fused.Layout:
    """The fused kernel's view of pieces: blocks of two rows or more are computed by panels, all others by element.

    Of a mixed problem all int8 pieces are computed by panels. The rows are taken in the order of the piece that has
    one; without it, the rows of a block are sorted by their number of scattered elements.
    """
    shape = found[0].weight.shape
    panels, scattered = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    height, order = shape[0], None
    for piece in found:
        if by_panel(problem, piece):
            panels += piece.weight
            height = min(height, piece.block[0]) if piece.block[0] > 1 else height
        else:
            scattered += piece.weight
        order = piece.order if order is None else order
    rows = np.arange(shape[0]) if order is None else order
    if order is None and scattered.any():
        counts = np.count_nonzero(scattered, axis=1)
        rows = np.lexsort((counts, rows // height))
    return fused.Layout(panels, scattered, rows)


def _space(problem: Problem, found: Pieces, core: Core, families: Sequence[Family]) -> list[Config]:
    """The kernels of some pieces: fused ones and chains, as parts of a configuration."""
    made: list[Config] = []
    bound = any(piece.kernels for piece in found)
    if not bound and (problem.dtype != "mixed" or any(piece.bits == 8 for piece in found)):
        for config in fused_space.space(problem, layout(problem, found), core)[:_FUSED_CONFIGS]:
            made.append({f"{FUSED}.{key}": value for key, value in config.items()})
    if problem.dtype == "int8" or (len(found) == 1 and problem.dtype == "float32" and not bound):
        return made  # int32 sums have no residual to add to; one piece is an ordinary kernel's work
    choices = [_choices(problem, found, i, core, families) for i in range(len(found))]
    if not all(choices):
        return made
    if len(found) == 1:
        return made + [chained([choice]) for choice in choices[0]]
    best = [choice[0] for choice in choices]
    others = [(i, other) for i, choice in enumerate(choices) for other in choice[1:2]]
    picks = [best, *([*best[:i], other, *best[i + 1 :]] for i, other in others)]
    return made + [chained(pick) for pick in picks]


def _choices(
    problem: Problem, found: Sequence[Piece], index: int, core: Core, families: Sequence[Family]
) -> list[tuple[str, Config]]:
    """The best configuration of every family for a piece, the best family first."""
    problem, found = _fewer_rows(problem, found)

    def own(family: str) -> Problem:
        return chain.problems(problem, [(other, family) for other in found])[index]

    best: dict[str, Config] = {}
    for name, config in ranked(found[index], families, core, own, _INSTRUCTIONS):
        best.setdefault(name, config)
    return list(best.items())


def _fewer_rows(problem: Problem, found: Sequence[Piece]) -> tuple[Problem, Sequence[Piece]]:
    """A large layer cut down to some of its rows: which kernel is the best for a piece hardly depends on how many."""
    rows = max(_ELEMENTS // problem.k // _BAND, 4) * _BAND
    if problem.window is not None or problem.m <= 2 * rows:
        return problem, found
    bands = problem.m // _BAND
    some = np.unique(np.arange(rows // _BAND) * bands // (rows // _BAND))
    index = (some[:, None] * _BAND + np.arange(_BAND)).ravel()
    made = replace(problem, m=len(index), y_shape=(problem.batch, len(index), problem.n))
    return made, [replace(piece, weight=piece.weight[index], order=None) for piece in found]


def _chain_estimate(problem: Problem, made: Sequence[PieceKernel], core: Core) -> float:
    subs = chain.problems(problem, [(one.piece, one.family) for one in made])
    work: Any = sum(
        find(one.family).estimate(sub, one.piece.weight, core, one.config) for one, sub in zip(made, subs, strict=True)
    )
    moved = 0.0
    if problem.dtype == "mixed":
        moved += 5.0 * problem.batch * problem.k * problem.n
        moved += 0.0 if len(made) == 1 else 4.0 * (len(made) + 1) * problem.batch * problem.m * problem.n
    return float(work + moved / core.rates.far_bytes / core.rates.cycles_per_ms / problem.threads)


register(SumOfPieces("cpu", _space, _estimate, _emit))
