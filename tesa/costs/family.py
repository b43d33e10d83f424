"""One kernel family of a cost table: the error of its estimate, interpolated between the measured kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.base.typed import typed
from tesa.costs.facts import Facts
from tesa.costs.features import numbers
from tesa.costs.kriging import Kriging, Shape
from tesa.costs.prediction import DEVIATIONS
from tesa.costs.sample import Measured
from tesa.schedules.types import Config, Core, Problem

LEAST = 8
"""Layers of a family that must be measured before the table says anything of it."""

SHARE = 0.8
"""The share of all predictions that lie between low and high."""


@dataclass(frozen=True)
class Query:
    """A kernel whose time is asked for. dense: it computes with the zeros of the weight."""

    problem: Problem
    facts: Facts
    config: Config
    estimate_ms: float
    dense: bool = False


@dataclass(frozen=True, eq=False)
class FamilyModel:
    """The measured kernels of one family. keys: of its configurations; doubt: the distance of a time's quartiles as a
    share of it; shape: as learnt, if it was learnt before."""

    name: str
    core: Core
    keys: tuple[str, ...]
    layers: NDArray[np.int64]
    queries: tuple[Query, ...]
    times: NDArray[np.float64]
    doubt: NDArray[np.float64]
    shape: Shape | None = None

    @staticmethod
    def of(name: str, core: Core, layers: Sequence[Measured], shape: Shape | None = None) -> FamilyModel:
        """Collect what was measured of the family."""
        found = [(i, layer, s) for i, layer in enumerate(layers) for s in layer.samples if s.family == name]
        keys = tuple(sorted({key for _, _, sample in found for key in sample.config}))
        return FamilyModel(
            name=name,
            core=core,
            keys=keys,
            layers=np.array([i for i, _, _ in found], np.int64),
            queries=tuple(Query(layer.problem, layer.facts, s.config, s.estimate_ms, s.dense) for _, layer, s in found),
            times=np.array([sample.ms for _, _, sample in found]),
            doubt=np.array([sample.iqr_ms / sample.ms for _, _, sample in found]),
            shape=shape,
        )

    @property
    def enough(self) -> bool:
        """True where the family was measured on LEAST layers."""
        return len(np.unique(self.layers)) >= LEAST

    @cached_property
    def fitted(self) -> Kriging:
        """The logarithm of measured / estimated time, interpolated. Learns the shape where it is not known."""
        ratios = np.log(self.times / np.array([query.estimate_ms for query in self.queries]))
        return Kriging.fit(self._numbers(self.queries), ratios, self.layers, self.doubt, self.shape)

    @cached_property
    def left_out(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """For each kernel, log(measured / predicted from the other layers), and the deviation that was expected."""
        return self.fitted.left_out(self.layers)

    @cached_property
    def width(self) -> float:
        """The factor of expected deviations that is needed so that SHARE of the kernels lies within low and high."""
        error, deviation = self.left_out
        return float(np.quantile(np.abs(error) / deviation, SHARE)) / DEVIATIONS

    def predict(self, queries: Sequence[Query]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The logarithm of each time in milliseconds, and its deviation."""
        ratio, deviation = self.fitted.predict(self._numbers(queries))
        return np.log([query.estimate_ms for query in queries]) + ratio, deviation * self.width

    def _numbers(self, queries: Sequence[Query]) -> NDArray[np.float64]:
        # for a kernel that computes with the zeros, one weight is like another
        facts = [Facts.full(q.problem.k) if q.dense else q.facts for q in queries]
        rows = (
            numbers(q.problem, about, self.core, q.config, q.estimate_ms, self.keys)
            for q, about in zip(queries, facts, strict=True)
        )
        return np.array([list(row.values()) for row in rows])


def shape_to_json(shape: Shape) -> dict[str, Any]:
    """Plain data, rounded: more digits change no prediction that anybody could measure."""
    facts = {name: round(value, 4) for name, value in asdict(shape).items() if name != "lengths"}
    return {"lengths": [round(value, 4) for value in shape.lengths], **facts}


def shape_from_json(data: Mapping[str, Any]) -> Shape:
    """The inverse of shape_to_json. ValueError for anything else."""
    return typed(Shape, data, "a shape")
