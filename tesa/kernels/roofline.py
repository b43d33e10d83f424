"""A kernel under the roof of its machine: what it computes and moves, and what that allows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tesa.base import display
from tesa.choose.plan import LayerPlan
from tesa.errors import UsageError
from tesa.measure.peak import Peak, peak
from tesa.measure.timing import Timing
from tesa.schedules.types import FloatArray, Problem
from tesa.targets.target import Target


class Measurable(Protocol):
    """A kernel as far as its roofline needs it. weight: (m, k)."""

    problem: Problem
    weight: FloatArray
    target: Target

    @property
    def plan(self) -> LayerPlan:
        """The decision for it, with the bytes of its constants."""
        ...

    def time(self) -> Timing:
        """The milliseconds of one call."""
        ...


@dataclass(frozen=True)
class Roofline(display.Displayed):
    """One kernel and the roof of one core.

    flops: two for each non-zero weight and column; dense_flops: with the zeros; bytes: of X, of what is stored of the
    weight, of the residual and of Y, each once; ms: of one call; peak: the most that the machine does; dtype: what is
    multiplied, "float32" or "int8", where operations are those on whole numbers.
    """

    kernel: str
    flops: float
    dense_flops: float
    bytes: float
    ms: float
    threads: int
    peak: Peak
    dtype: str = "float32"

    @property
    def operation(self) -> str:
        """The unit of work, "FLOP", or "OP" for int8."""
        return "FLOP" if self.dtype == "float32" else "OP"

    @property
    def unit(self) -> str:
        """The unit of rates, "GFLOP/s", or "GOP/s" for int8."""
        return f"G{self.operation}/s"

    @property
    def most(self) -> float:
        """Billions of operations a second that all its threads can do where no byte is waited for."""
        return (self.peak.gflops if self.dtype == "float32" else self.peak.int8_gops) * self.threads

    @property
    def gflops(self) -> float:
        """Billions of useful operations a second: those with non-zero weights."""
        return self.flops / self.ms / 1e6

    @property
    def intensity(self) -> float:
        """Useful operations for each byte that is moved."""
        return self.flops / self.bytes

    @property
    def roof(self) -> float:
        """The billions of operations a second that the roof allows at this intensity, if all data came from memory."""
        return min(self.most, self.intensity * self.peak.gbytes * self.threads)

    @property
    def bound(self) -> str:
        """The side of the roof that the kernel stands under: "compute" or "memory"."""
        return "memory" if self.intensity * self.peak.gbytes * self.threads < self.most else "compute"

    @property
    def share(self) -> float:
        """gflops over roof; above 1 where data comes from caches."""
        return self.gflops / self.roof

    def plot(self, path: str | Path | None = None) -> Any:
        """The kernel as a point under the roof. path: where to write it. UsageError without matplotlib."""
        return display.picture(self, path=path)


def roofline(kernel: Measurable) -> Roofline:
    """Time a kernel and place it under the roof of this machine.

    Raises UsageError for one that this machine cannot run, or of int8 where no instruction multiplies that.
    """
    problem, top = kernel.problem, peak(kernel.target)
    if problem.dtype == "mixed":
        raise UsageError("a kernel of dtype 'mixed' has two roofs, of int8 and of float32: it is drawn under neither")
    if problem.dtype == "int8" and not top.int8_gops:
        raise UsageError("this machine has no instruction for products of int8, so that there is no roof to draw")
    columns = problem.batch * problem.n
    moved = kernel.plan.footprint.values + kernel.plan.footprint.indices or problem.weight_bytes
    x, y = int(np.prod(problem.x_shape)), int(np.prod(problem.y_shape))
    tensors = x * np.dtype(problem.x_dtype).itemsize + y * np.dtype(problem.output.dtype).itemsize
    return Roofline(
        kernel=repr(kernel),
        flops=2.0 * np.count_nonzero(kernel.weight) * columns,
        dense_flops=2.0 * kernel.weight.size * columns,
        bytes=float(moved + tensors + 4 * y * problem.epilogue.residual),
        ms=kernel.time().min_ms,
        threads=problem.threads,
        peak=top,
        dtype=problem.dtype,
    )
