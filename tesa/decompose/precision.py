"""Two precisions in one weight: int8 codes, and the float32 outliers among them; see tesa.attributes.codes."""

from collections.abc import Sequence

import numpy as np

from tesa.attributes.codes import are_codes
from tesa.decompose.policy import policy
from tesa.schedules.pieces import Piece
from tesa.schedules.refusal import refuse, unsuited
from tesa.schedules.types import Config, Core, FloatArray, Gpu, Problem


def _space(problem: Problem, weight: FloatArray, core: Core | Gpu) -> Sequence[Config]:
    del weight, core
    why = unsuited(problem, dtypes=("mixed",), pointwise=True)
    return refuse(why) if why else ({},)


@policy("precision", space=_space)
def precision(problem: Problem, weight: FloatArray, config: Config) -> tuple[Piece, ...]:
    """The int8 codes of a mixed weight by integer arithmetic, its float32 outliers element by element.

    >>> p = Problem("linear", 1, 4, 16, (4, 16), (1, 16), dtype="mixed")
    >>> found = precision(p, np.array([[3, -128, 0.5, 400]], np.float32), {})
    >>> [(piece.bits, piece.weight.tolist()) for piece in found]
    [(8, [[3.0, -128.0, 0.0, 0.0]]), (32, [[0.0, 0.0, 0.5, 400.0]])]
    """
    del config
    if problem.dtype != "mixed":
        return ()
    codes = are_codes(weight)
    exact, rest = (np.where(which, weight, np.float32(0)).astype(np.float32) for which in (codes, ~codes))
    made = (Piece(exact, 8, "int8", (len(weight), 1)), Piece(rest, 32, "outliers"))
    return tuple(piece for piece in made if piece.nonzeros)


@policy("widen", space=_space, kinds=("cpu",))
def widen(problem: Problem, weight: FloatArray, config: Config) -> tuple[Piece, ...]:
    """A mixed weight as one float32 matrix, X converted when the kernel runs: what the split is measured against."""
    del config
    return (Piece(weight, 32, "float32", (len(weight), 1)),) if problem.dtype == "mixed" else ()
