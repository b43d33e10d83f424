"""The cost of the layers that are left dense, by estimate."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tesa.choose.plan import LayerPlan, Plan
from tesa.costs.grid import synthetic
from tesa.costs.prices import smaller
from tesa.costs.table import CostTable
from tesa.layers.left import LeftDense
from tesa.schedules.types import Problem

_ELEMENTS = 1 << 18


@dataclass(frozen=True)
class Priced:
    """A layer that is left dense, and its estimated milliseconds. share: of these in all layers with weights."""

    left: LeftDense
    ms: float
    share: float

    def __str__(self) -> str:
        return f"{self.left}; {self.cost}"

    @property
    def cost(self) -> str:
        """The estimate in words."""
        return f"it may take about {self.ms:.3g} ms, {self.share:.0%} of the layers with weights (an estimate)"


def priced(left: Sequence[LeftDense], plan: Plan, table: CostTable) -> tuple[Priced, ...]:
    """Price each layer as a dense linear one of as much work. table: of the target; a bare one estimates roughly."""
    times = [_dense_ms(table, item.problem) for item in left]
    total = sum(times) + sum(_planned_ms(layer) for layer in plan.layers)
    return tuple(Priced(item, ms, ms / total if total else 0.0) for item, ms in zip(left, times, strict=True))


def noted(plan: Plan, found: Sequence[Priced]) -> Plan:
    """The plan with what is left dense in the rows of the calls that compute it."""
    by = {item.left.layer: item for item in found}
    rows = []
    for row in plan.layers:
        item = next((by[name] for name in row.covers if name in by), None) if row.kind == "operator" else None
        if item is not None:
            why = f"left dense: {item.left.why}; {item.cost}"
            row = replace(row, note=why, sparsity=item.left.sparsity)
        rows.append(row)
    return replace(plan, layers=tuple(rows))


def _dense_ms(table: CostTable, problem: Problem) -> float:
    small = smaller(problem, (1, 1), _ELEMENTS)
    ranked = table.rank_plain(small, synthetic(small, None))
    found = next((row for row in ranked if row.dense), ranked[0])
    return float(found.prediction.ms) * problem.m / small.m


def _planned_ms(layer: LayerPlan) -> float:
    """The measured or predicted milliseconds of a layer's kernel."""
    for part in layer.parts[:1]:
        wanted = part.family, dict(part.config)
        for candidate in part.candidates:
            if (candidate.family, dict(candidate.config)) == wanted:
                return candidate.measured_ms or candidate.predicted_ms or 0.0
    return 0.0
