"""Layers that are left dense: they have a weight, and get no kernel of their own."""

from dataclasses import dataclass

import numpy as np

from tesa.layers.function import Lowered
from tesa.propagate.model import TesaModel, WeightFacts
from tesa.schedules.types import Problem


@dataclass(frozen=True)
class LeftDense:
    """A layer that is left dense, and why. sparsity: of the weight that is computed with all of its zeros.

    problem: the work as that of a linear layer, for an estimate of its time.
    """

    layer: str
    why: str
    sparsity: float
    problem: Problem

    def __str__(self) -> str:
        return f"{self.layer}: left dense ({self.sparsity:.0%} zeros stay in it): {self.why}"


def left_dense(attributed: TesaModel, lowered: Lowered, threads: int) -> tuple[LeftDense, ...]:
    """The weights that propagation knows and that became no weight layer."""
    done = {source for layer in lowered.layers for source in (layer.source, *layer.sources)}
    return tuple(
        LeftDense(facts.layer, _why(facts), facts.sparsity, _problem(attributed, facts, threads))
        for var, facts in attributed.weights.items()
        if var not in done
    )


def _why(facts: WeightFacts) -> str:
    if facts.weight.dtype != np.float32:
        return f"its weight is {facts.weight.dtype.name}, kernels are made for float32"
    if facts.weight.ndim < 2:
        return "its weight is one vector, kernels are made for matrices"
    return "with the zeros between its batch entries it would be too large for one matrix"


def _problem(attributed: TesaModel, facts: WeightFacts, threads: int) -> Problem:
    """A linear layer of as many multiplications, with as many results."""
    out, shape = int(np.prod(attributed.tesa[facts.var].shape)), facts.weight.shape
    if facts.op == "relax.matmul":
        k = shape[-1] if facts.argument == 0 or len(shape) == 1 else shape[-2]
        m = 1 if len(shape) == 1 else shape[-2] if facts.argument == 0 else shape[-1]
        work = out * k
    elif facts.op.endswith("_transpose"):
        m, work = shape[1], int(np.prod(attributed.tesa[facts.input].shape)) * int(np.prod(shape[1:]))
    else:
        m, work = shape[0], out * int(np.prod(shape[1:]))
    n = max(1, out // max(m, 1))
    k = max(1, work // max(m * n, 1))
    return Problem("linear", m, k, n, (k, n), (m, n), threads=threads)
