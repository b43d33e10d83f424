"""Expected times of kernels that nobody has measured."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tesa.decompose.candidates import Option

DEVIATIONS = 1.2816
"""Standard deviations on either side that hold 80 % of a normal distribution."""


@dataclass(frozen=True)
class Prediction:
    """An expected time in milliseconds; in four of five cases the real one lies between low_ms and high_ms.

    source: "table", or "estimate" where the table knows nothing of this family and its analytic estimate stands in.
    """

    ms: float
    low_ms: float
    high_ms: float
    source: str = "table"

    @property
    def deviation(self) -> float:
        """The deviation of the logarithm of the time."""
        return math.log(self.high_ms / self.low_ms) / 2 / DEVIATIONS

    @staticmethod
    def of(logarithm: float, deviation: float, source: str) -> Prediction:
        """From the logarithm of the time and its deviation."""
        wide = DEVIATIONS * deviation
        return Prediction(math.exp(logarithm), math.exp(logarithm - wide), math.exp(logarithm + wide), source)


@dataclass(frozen=True)
class Priced:
    """One way to run a layer, and what it is expected to cost. dense: it computes with the zeros of the weight."""

    option: Option
    prediction: Prediction
    dense: bool
