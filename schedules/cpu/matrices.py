"""Sums by an instruction that multiplies small matrices of bytes: 2 rows of W by 2 columns of X, 8 k at a time.

Before, with dot products of 4 bytes (arithmetic.py), for 2 rows and 4 columns, two steps of
    for r in 2:  acc[r][0 ... 3] += W[e, r] . x[0 ... 3]
After, one step, an element being 8 neighbouring k of one column in 64 bits:
    for h in 2:  acc[h][0 ... 3] += x[2 h], x[2 h + 1]  times  W[e, 0], W[e, 1]
so that acc[h] is (column 2 h, row 0), (column 2 h, row 1), (column 2 h + 1, row 0), (column 2 h + 1, row 1). In the end
the even lanes of acc[0] and acc[1] are the sums of row 0, the odd ones those of row 1. Half of the instructions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from tesa.schedules.cpu.arithmetic import Arithmetic, arithmetic
from tesa.schedules.types import Config, Core, Problem

LANES = 4
"""Sums of one vector: the instruction's 2 x 2."""


@dataclass(frozen=True)
class Matrices(Arithmetic):
    """The arithmetic of int8 by small matrices, for an even number of rows and vectors of 4 lanes."""

    def accumulate(
        self, acc: Any, shape: tuple[int, int, int], w: Callable[[Any], Any], x: Callable[[Any, Any, Any], Any]
    ) -> None:
        """acc += W X for pairs of rows and columns, in the order that settle() mends."""
        rows, vectors, width = shape
        assert self.dot is not None  # fits() said so
        every, pairs = T.ramp(0, 1, width), [_pair(w(r).source, w(r).indices[0]) for r in range(0, rows, 2)]
        for v in range(vectors):
            source, start = x(0, v, 0)
            for half in range(2):
                columns = _pair(source, start + 2 * half)
                for i, weights in enumerate(pairs):
                    at = (2 * i + half, v, every)
                    value = tirx.call_llvm_pure_intrin("int32x4", self.dot.matrix, acc[at], columns, weights)
                    T.buffer_store(acc, value, list(at))

    def settle(self, acc: Any, shape: tuple[int, int, int]) -> None:
        """Bring the sums of each row, which are in the even or the odd lanes of two vectors, together."""
        rows, vectors, width = shape
        every = T.ramp(0, 1, width)
        for i in range(0, rows, 2):
            for v in range(vectors):
                both = [T.bind(acc[i + half, v, every]) for half in range(2)]
                for odd in range(2):
                    value = T.Shuffle(both, [2 * lane + odd for lane in range(width)])
                    T.buffer_store(acc, value, [i + odd, v, every])


def _pair(source: Any, start: Any) -> Any:
    """Two neighbouring elements, as bytes."""
    return tirx.reinterpret("int8x16", source[T.ramp(start, 1, 2)])


def fits(problem: Problem, core: Core, rows: int, lanes: int) -> bool:
    """True where panels of so many rows and vectors of so many lanes can be computed by small matrices."""
    matrix = core.dot.matrix if core.dot is not None else ""
    return bool(matrix) and problem.dtype == "int8" and rows % 2 == 0 and lanes == LANES


def forms(problem: Problem, core: Core) -> tuple[Config, ...]:
    """The kinds of arithmetic that a configuration may name."""
    return ({}, {"matrix": 1}) if fits(problem, core, 2, LANES) else ({},)


def sums_of(problem: Problem, core: Core, config: Config) -> Arithmetic:
    """The arithmetic of a configuration: by small matrices where it says matrix 1."""
    if not config.get("matrix"):
        return arithmetic(problem, core)
    return Matrices("int32", 8, core.dot)
