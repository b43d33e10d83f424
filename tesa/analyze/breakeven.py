"""From which sparsity on a layer is faster than its dense self, for one kind of pattern."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tesa.attributes.impose import Imposed
from tesa.choose.pick import GAIN
from tesa.costs.grid import synthetic
from tesa.costs.prediction import DEVIATIONS, Priced
from tesa.costs.prices import smaller
from tesa.costs.table import CostTable
from tesa.schedules.types import Problem

_SPARSITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98)
_ELEMENTS = 1 << 21


@dataclass(frozen=True)
class BreakEven:
    """The least share of zeros from which on it pays, None where none does. pattern: the kind that was tried.

    low, high: where it lies in four of five cases, high None where it may be that none pays. least: the smallest share
    that was tried, which stands for anything below it. low may be a share at which no sparse form applies yet.
    """

    pattern: str
    sparsity: float | None
    low: float | None
    high: float | None
    least: float = 0.0


def break_even(table: CostTable, problem: Problem, like: Imposed) -> BreakEven:
    """Predict random weights of growing sparsity in the pattern of `like` against the dense kernel.

    The share of zeros lies between the last that does not pay and the first from which on all do, where the logarithms
    of the times cross. A weight of more than two million elements is replaced by one of fewer rows.
    """
    problem = smaller(problem, like.block, _ELEMENTS)
    dense = next((row for row in _ranked(table, problem, None) if row.dense), None)
    if dense is None:
        return BreakEven(like.text, None, None, None)
    points: list[tuple[float, float, float]] = []
    none = None  # the last share for which there is no sparse form yet, below all points
    steps = like.alike(_SPARSITIES)
    for imposed in steps:
        sparse = next((row for row in _ranked(table, problem, imposed) if not row.dense), None)
        if sparse is not None:
            prediction = sparse.prediction
            ahead = math.log(dense.prediction.ms * (1 - GAIN) / prediction.ms)
            # the two predictions go wrong together in part; taking them as independent is on the safe side
            doubt = DEVIATIONS * math.hypot(dense.prediction.deviation, prediction.deviation)
            points.append((imposed.sparsity, ahead, doubt))
        elif not points:
            none = imposed.sparsity
    middle, low, high = (_crossing([(s, ahead + sign * doubt) for s, ahead, doubt in points]) for sign in (0, 1, -1))
    if points and none is not None and low == points[0][0]:
        low = none  # it may pay as soon as there is a form
    return BreakEven(like.text, middle, low, high, steps[0].sparsity)


def _ranked(table: CostTable, problem: Problem, imposed: Imposed | None) -> list[Priced]:
    return table.rank_plain(problem, synthetic(problem, imposed))


def _crossing(points: Sequence[tuple[float, float]]) -> float | None:
    """The share from which on what is gained stays above zero; points: (share, logarithm of the gain)."""
    if not points or points[-1][1] <= 0:
        return None
    last = max((i for i, (_, ahead) in enumerate(points) if ahead <= 0), default=-1)
    if last < 0:
        return points[0][0]
    (s0, a0), (s1, a1) = points[last], points[last + 1]
    return round(s0 + (s1 - s0) * -a0 / (a1 - a0), 4)
