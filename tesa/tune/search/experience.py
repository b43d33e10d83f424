"""Measurements of many layers, for a model that ranks the candidates of another one."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tesa.tune.search.features import Table, Wide

LEAST = 3
"""Measurements that a layer must have before others can learn from it."""


@dataclass(frozen=True, eq=False)
class Lessons:
    """The measurements of one layer. miss: log of measured / estimated time, its median over the layer taken off.

    rank: log of the time over the best one of the layer.
    """

    table: Table
    estimates: Wide
    miss: Wide
    rank: Wide

    @staticmethod
    def of(table: Table, estimates: Wide, times: Wide) -> Lessons | None:
        """From the times of a layer's options in milliseconds, NaN or infinite where there is none. None: too few."""
        known = np.flatnonzero(np.isfinite(times) & (times > 0))
        if len(known) < LEAST:
            return None
        miss = np.log(times[known]) - np.log(np.maximum(estimates[known], 1e-12))
        rank = np.log(times[known]) - np.log(times[known].min())
        return Lessons(table.take(known), estimates[known], miss - np.median(miss), rank)


@dataclass(eq=False)
class Experience:
    """Lessons by the name of the layer that they are from."""

    lessons: dict[str, Lessons] = field(default_factory=dict)

    def learn(self, name: str, lessons: Lessons | None) -> None:
        """Replace what is known from this layer."""
        if lessons is not None:
            self.lessons[name] = lessons

    def without(self, name: str) -> Experience:
        """That of all other layers."""
        return Experience({other: lessons for other, lessons in self.lessons.items() if other != name})
