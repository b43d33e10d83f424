"""The pieces of a decomposed weight, and the list of the ways in which a kind of machine computes their sum."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tesa.schedules.registry import Family
from tesa.schedules.types import Code, Config, Core, FloatArray, Problem


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


@dataclass(frozen=True)
class PieceKernel:
    """A piece and what computes it: a kernel family with one configuration, or one kernel for all pieces."""

    piece: Piece
    family: str
    config: Config


@dataclass(frozen=True)
class SumOfPieces:
    """The way in which a kind of machine ("cpu") computes the sum of some pieces.

    space(problem, pieces, core, families): configurations, made of those of the families that may compute a piece.
    estimate(problem, pieces, core, config), emit(problem, pieces, core, config, symbol): as of a Family.
    kernels(pieces, config): what computes each piece; ValueError for a configuration that does not say so.
    alone(config): the kernel of the only piece, where the configuration is of one piece that a kernel of its own
    computes; else None.
    """

    kind: str
    space: Callable[[Problem, Pieces, Core, Sequence[Family]], list[Config]]
    estimate: Callable[[Problem, Pieces, Core, Config], float]
    emit: Callable[[Problem, Pieces, Core, Config, str], Code]
    kernels: Callable[[Pieces, Config], tuple[PieceKernel, ...]]
    alone: Callable[[Config], tuple[str, Config] | None]


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
