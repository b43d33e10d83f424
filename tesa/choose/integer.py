"""Tells which layers of a network of codes are computed on integers: those that a kernel family offers a kernel for."""

from collections.abc import Sequence

from tesa.decompose.candidates import candidates
from tesa.errors import UnsupportedError
from tesa.layers.codes_layers import Integer
from tesa.schedules.types import FloatArray, Problem
from tesa.targets.target import Target


def integer_for(target: Target, families: Sequence[str] | None = None) -> Integer:
    """For tesa.layers.function.lower: True for an int8 problem with a kernel on the target.

    families: only these compete, as in tesa.decompose.candidates.candidates. Unknown names are no matter of this.
    """

    def offered(problem: Problem, weight: FloatArray) -> bool:
        try:
            return bool(candidates(problem, weight, target, families))
        except UnsupportedError:
            return False

    return offered
