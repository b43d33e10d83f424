"""Times of kernels: calls in slices of a few milliseconds, one sample for each slice, and their summary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from tesa.base.display import Displayed

SLICE_MS = 4.0
"""Milliseconds that one kernel runs before the next has its turn."""

FIRST_ROUNDS = 3
"""Slices that even a slow kernel gets."""

_ROUNDS = 20
_CALLS = 25  # of one slice, where the caches are emptied between them
WARM_CALLS = 100_000
"""Calls of one slice at most, where nothing happens between them."""


@dataclass(frozen=True)
class Timing(Displayed):
    """Milliseconds for one call: median and least of the slices, and the distance between their quartiles."""

    median_ms: float
    min_ms: float
    iqr_ms: float
    repeats: int

    @staticmethod
    def of(samples: Sequence[float]) -> Timing:
        """The summary of one sample in milliseconds for each slice."""
        low, high = np.percentile(samples, [25, 75])
        return Timing(float(median(samples)), float(min(samples)), float(high - low), len(samples))


UNTIMED = Timing(0.0, 0.0, 0.0, 0)
"""Stands for a kernel that is right and was not timed."""


def calls_per_slice(each_ms: float, least: int, most: int = _CALLS) -> int:
    """Calls in one slice; each_ms: what a call takes with all that is done between two of them.

    >>> calls_per_slice(1.0, 3), calls_per_slice(1000.0, 3), calls_per_slice(0.0, 3)
    (4, 3, 25)
    """
    return max(least, min(most, int(SLICE_MS / max(each_ms, 1e-6))))


def rounds_within(budget_ms: float, slice_ms: float) -> int:
    """Slices of a kernel, of slice_ms each, that fit in the time for it.

    >>> rounds_within(80.0, 8.0), rounds_within(80.0, 1000.0)
    (10, 3)
    """
    return max(FIRST_ROUNDS, min(_ROUNDS, int(budget_ms / max(slice_ms, 1e-6))))


def time_warm(library: Any, symbol: str, arguments: Sequence[Any], budget_ms: float) -> Timing:
    """The time of library[symbol](*arguments) with warm caches, in this process, within about budget_ms.

    library: a module of tvm.runtime. The loop of a slice is TVM's, in C++.
    """
    import tvm

    def slices_of(number: int) -> Callable[[], float]:
        evaluator = library.time_evaluator(symbol, tvm.cpu(), number=number, repeat=1)
        return lambda: float(evaluator(*arguments).results[0]) * 1e3

    number = calls_per_slice(min(slices_of(1)(), slices_of(1)()), 1, WARM_CALLS)
    one_slice = slices_of(number)
    first = one_slice()
    rounds = rounds_within(budget_ms, first * number)
    return Timing.of([first, *(one_slice() for _ in range(rounds - 1))])
