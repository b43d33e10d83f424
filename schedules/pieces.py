"""The pieces of a decomposed weight, and the list of the ways in which a kind of machine computes their sum."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.schedules.registry import Family
from tesa.schedules.types import Config, FloatArray, Problem


@dataclass(frozen=True, eq=False)
class Piece:
    """A share of a weight. weight is float32 (m, k), zero wherever another piece has the element.

    bits: 32, or 8 where every element is a whole number from -128 to 127. pattern: its name in the plan, such as
    "block 32x32". block: (rows, columns) of the blocks that its non-zeros fill, (1, 1) for scattered elements; a piece
    of one row's height is computed element by element. order: (m,), the rows in the order in which a kernel may take
    them so that neighbours have much in common; None is their own order. The kernel stores each row where it belongs.
    kernels: (family, configuration) pairs that may compute it; empty leaves the choice to the estimates.
    """

    weight: FloatArray
    bits: int = 32
    pattern: str = "unstructured"
    block: tuple[int, int] = (1, 1)
    order: NDArray[np.int64] | None = None
    kernels: tuple[tuple[str, Config], ...] = ()

    @property
    def nonzeros(self) -> int:
        """The number of its elements."""
        return int(np.count_nonzero(self.weight))


Pieces = tuple[Piece, ...]

FUSED = "fused"
"""The family of the one kernel that computes all pieces; its configuration in one of a decomposition: "fused.rows"."""


@dataclass(frozen=True)
class PieceKernel:
    """A piece and what computes it: a kernel family with one configuration, or one kernel for all pieces."""

    piece: Piece
    family: str
    config: Config


@dataclass(frozen=True)
class SumOfPieces:
    """The way in which a kind of machine ("cpu" or "gpu") computes the sum of some pieces.

    space(problem, pieces, core, families): configurations, made of those of the families that may compute a piece.
    estimate(problem, pieces, core, config), emit(problem, pieces, core, config, symbol): as of a Family.
    """

    kind: str
    space: Callable[[Problem, Pieces, Any, Sequence[Family]], list[Config]]
    estimate: Callable[[Problem, Pieces, Any, Config], float]
    emit: Callable[[Problem, Pieces, Any, Config, str], Any]


_SUMS: dict[str, SumOfPieces] = {}


def register(made: SumOfPieces) -> None:
    """Add the way of a kind of machine."""
    _SUMS[made.kind] = made


def sums() -> tuple[SumOfPieces, ...]:
    """The ways there are, one for each kind of machine."""
    return tuple(_SUMS.values())


def part(name: str, config: Config) -> dict[str, int]:
    """The part of a configuration whose keys begin with a name: "fused.rows" is the "rows" of "fused".

    >>> part("cover", {"cover.32x32": 310, "fused.rows": 8})
    {'32x32': 310}
    """
    head = f"{name}."
    return {key[len(head) :]: value for key, value in config.items() if key.startswith(head)}


def chained(pick: Sequence[tuple[str, Config]]) -> Config:
    """The kernels of a chain as one configuration; a family without parameters still has to be named.

    >>> chained([("block", {"rows": 16}), ("vector", {})])
    {'0.block.rows': 16, '1.vector.': 0}
    """
    flat: dict[str, int] = {}
    for i, (name, config) in enumerate(pick):
        flat.update({f"{i}.{name}.{key}": int(value) for key, value in config.items()} or {f"{i}.{name}.": 0})
    return flat


def link(config: Config, index: int) -> tuple[str, Config]:
    """The family and configuration of a chain's piece. ValueError for a configuration that names none.

    >>> link({"0.block.rows": 16, "1.vector.": 0}, 1)
    ('vector', {})
    """
    parts = [(key.split(".", 2), value) for key, value in config.items()]
    mine = [(words[1], words[2], value) for words, value in parts if words[0] == str(index) and len(words) == 3]
    if not mine:
        raise ValueError(f"configuration {dict(config)} names no kernel for piece {index}, as '{index}.dense.rows'")
    return mine[0][0], {key: value for _, key, value in mine if key}


def links(found: Pieces, config: Config) -> tuple[PieceKernel, ...]:
    """The pieces of a chain with their kernels. ValueError as link."""
    return tuple(PieceKernel(piece, *link(config, i)) for i, piece in enumerate(found))


def is_fused(config: Config) -> bool:
    """True for the configuration of one kernel for all pieces."""
    return any(key.startswith(f"{FUSED}.") for key in config)


def kernels(found: Pieces, config: Config) -> tuple[PieceKernel, ...]:
    """The kernel of each piece; a fused one is the same for all of them. ValueError as link."""
    if is_fused(config):
        return tuple(PieceKernel(piece, FUSED, part(FUSED, config)) for piece in found)
    return links(found, config)


def alone(config: Config) -> tuple[str, Config] | None:
    """The kernel of the only piece, where the configuration is of one piece in a kernel of its own; else None.

    >>> alone({"0.block.rows": 16}), alone({"0.block.rows": 16, "1.vector.": 0})
    (('block', {'rows': 16}), None)
    """
    if is_fused(config) or any(key.split(".")[0] == "1" for key in config):
        return None
    return link(config, 0)


def by_panel(problem: Problem, piece: Piece) -> bool:
    """True for a piece that a fused kernel computes by blocks of rows; of a mixed problem those are the int8 ones."""
    return piece.bits == 8 if problem.dtype == "mixed" else piece.block[0] > 1


def ranked(
    piece: Piece,
    families: Sequence[Family],
    machine: Any,
    problem: Callable[[str], Problem],
    instructions: int,
    most: int | None = None,
) -> list[tuple[str, Config]]:
    """The kernels that may compute a piece, (family, configuration), the fastest by estimate first.

    machine: a Core or Gpu. problem: the piece's own, by the name of the family. instructions: the most that a kernel of
    straight-line code may have. most: how many configurations of a family are looked at, by default all.
    """
    found: list[tuple[float, str, Config]] = []
    for family in families:
        wanted = [config for name, config in piece.kernels if name == family.name]
        if piece.kernels and not wanted:
            continue
        own = problem(family.name)
        for config in (wanted or family.space(own, piece.weight, machine))[:most]:
            if family.size is None or family.size(own, piece.weight, machine, config) <= instructions:
                found.append((family.estimate(own, piece.weight, machine, config), family.name, config))
    return [(name, config) for _, name, config in sorted(found, key=lambda one: one[0])]
