"""Chooses the bits of each layer: as few as a budget of error or accuracy allows, most in the layers that bear least.

Each layer alone is quantized to each number of bits, and the error that this makes is its sensitivity (as HAWQ and its
kin do with curvature). Layers are raised in the order of error saved for each byte spent; errors of single layers do
not add up, so how far the order has to be followed is found by quantizing jointly, halving the way each time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tesa.base.progress import Event, Progress, silent
from tesa.compress.quantize.settings import FLOAT
from tesa.errors import UsageError

LEVELS = (4, 8, FLOAT)

Measure = Callable[[Mapping[str, int]], tuple[float, float | None, float | None]]
"""The relative error of such bits by layer, and the score and the dense model's score, where there is a metric."""


@dataclass(frozen=True)
class Budget:
    """The most that quantizing may cost: a relative error of the outputs, or a drop of the metric; one of them.

    >>> Budget(drop=0.01).holds(error=0.2, score=0.985, dense=0.99)
    True
    """

    error: float | None = None
    drop: float | None = None

    def __post_init__(self) -> None:
        if (self.error is None) == (self.drop is None):
            raise UsageError("mixed precision needs one budget: an error of the outputs, or a drop of the metric")
        value = self.error if self.error is not None else self.drop
        if value is None or not 0 <= value < float("inf"):
            raise UsageError(f"a budget is a number of 0 or more, got {value}")

    def holds(self, error: float, score: float | None, dense: float | None) -> bool:
        """True where the budget is kept."""
        if self.error is not None:
            return error <= self.error
        if score is None or dense is None or self.drop is None:
            raise UsageError("a budget of the metric needs a metric: give a file with --metric")
        return dense - score <= self.drop + 1e-12


def mixed_bits(
    measure: Measure, size: Callable[[str], int], least: Mapping[str, int], fixed: Sequence[str], budget: Budget,
    progress: Progress = silent,
) -> dict[str, int]:  # fmt: skip
    """The bits of each layer. least: of each to begin with. fixed: layers whose bits stay. size: a layer's weights."""
    free = [name for name in least if name not in fixed]
    if budget.holds(*measure(least)):
        return dict(least)
    steps = _steps(measure, size, least, free, progress)
    low, high = 0, len(steps)
    if not budget.holds(*measure(_raised(least, steps))):
        held = ", ".join(fixed)
        raise UsageError(f"the budget is missed even with all other layers in float32, by the bits given for {held}")
    while high - low > 1:  # `low` steps miss the budget, `high` keep it
        middle = (low + high) // 2
        progress(Event("mix", middle, len(steps)))
        low, high = (low, middle) if budget.holds(*measure(_raised(least, steps[:middle]))) else (middle, high)
    return _lowered(measure, least, _raised(least, steps[:high]), free, budget)


_Step = tuple[str, int]


def _steps(
    measure: Measure, size: Callable[[str], int], least: Mapping[str, int], free: Sequence[str], progress: Progress
) -> list[_Step]:
    """All raises of layers to more bits, the most error saved for a bit first; a layer's own in their order."""
    exact = dict.fromkeys(least, FLOAT)
    ranked: list[tuple[float, _Step]] = []
    for place, name in enumerate(free):
        progress(Event("sensitivity", place, len(free), name))
        levels = [least[name], *(bits for bits in LEVELS if bits > least[name])]
        errors = [0.0 if bits == FLOAT else measure({**exact, name: bits})[0] for bits in levels]
        last = float("inf")
        for i in range(1, len(levels)):
            worth = max(errors[i - 1] - errors[i], 0.0) / ((levels[i] - levels[i - 1]) * size(name))
            last = min(last, worth)
            ranked.append((last, (name, levels[i])))
    progress(Event("sensitivity", len(free), len(free)))
    return [step for _, step in sorted(ranked, key=lambda row: (-row[0], row[1][1]))]


def _raised(least: Mapping[str, int], steps: Sequence[_Step]) -> dict[str, int]:
    found = dict(least)
    for name, bits in steps:
        found[name] = max(bits, found[name])
    return found


def _lowered(
    measure: Measure, least: Mapping[str, int], bits: dict[str, int], free: Sequence[str], budget: Budget
) -> dict[str, int]:
    """The same with the layers that still bear fewer bits lowered again, those in float32 first."""
    for name in sorted(free, key=lambda layer: -bits[layer]):
        for fewer in [b for b in LEVELS if least[name] <= b < bits[name]]:
            if budget.holds(*measure({**bits, name: fewer})):
                bits[name] = fewer
                break
    return bits
