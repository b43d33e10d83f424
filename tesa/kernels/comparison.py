"""Kernels side by side, timed in turn, so that a busy moment of the machine falls on all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tesa.base import display
from tesa.base.frames import frame
from tesa.errors import UsageError
from tesa.measure.timing import Timing


class Timed(Protocol):
    """A kernel that can be timed a slice at a time."""

    def slices(self) -> Callable[[], float]:
        """A function that runs it for some milliseconds and answers those of one call."""
        ...


@dataclass(frozen=True)
class Compared:
    """One kernel of a comparison. ratio: the least time of the first kernel over this one's: 2 is twice as fast."""

    kernel: str
    timing: Timing
    ratio: float


@dataclass(frozen=True)
class KernelComparison(display.Displayed):
    """The times of some kernels, in the order in which they were given. It is a sequence of Compared."""

    rows: tuple[Compared, ...]

    def __iter__(self) -> Iterator[Compared]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Compared:
        return self.rows[index]

    def to_pandas(self) -> Any:
        """A pandas.DataFrame of one row for each kernel. UsageError without pandas."""
        return frame([
            {"kernel": row.kernel, "min_ms": row.timing.min_ms, "median_ms": row.timing.median_ms, "ratio": row.ratio}
            for row in self.rows
        ])  # fmt: skip

    def plot(self, path: str | Path | None = None) -> Any:
        """A bar for each kernel: its least time. path: where to write it (.png, .svg, .pdf).

        UsageError without matplotlib.
        """
        return display.picture(self, path=path)


def compare(*kernels: Timed, rounds: int = 20) -> KernelComparison:
    """Time kernels in turn, a slice of a few milliseconds each, and compare their least times.

    rounds: slices of each kernel. Kernels may be of different weights and sizes. UsageError for fewer than two, for one
    that this machine cannot run, and for one that Node.js runs.
    """
    if len(kernels) < 2:
        raise UsageError("there is nothing to compare: give two kernels or more")
    if rounds < 1:
        raise UsageError(f"rounds must be at least 1, got {rounds}")
    slices = [kernel.slices() for kernel in kernels]
    samples: list[list[float]] = [[] for _ in kernels]
    for _ in range(rounds):
        for one, found in zip(slices, samples, strict=True):
            found.append(one())
    timings = [Timing.of(found) for found in samples]
    first = timings[0].min_ms
    rows = zip(kernels, timings, strict=True)
    return KernelComparison(tuple(Compared(repr(kernel), t, first / t.min_ms) for kernel, t in rows))
