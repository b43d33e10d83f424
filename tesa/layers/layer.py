"""A layer that needs a kernel: its maths and its weight."""

from dataclasses import dataclass
from functools import cached_property

from tesa.attributes.statistics import Statistics, statistics_of
from tesa.attributes.zeros import frozen, zeros_of
from tesa.schedules.types import FloatArray, Problem


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer that needs a kernel: the problem, and the float32 (m, k) weight, which nobody changes any more.

    facts: TeSA facts as text, for the plan. weight is a frozen() view, so that its digest and its zeros are counted
    once, whoever asks.

    >>> import numpy as np
    >>> layer = Layer("fc", Problem("linear", 2, 2, 4, (2, 4), (2, 4)), np.eye(2, dtype=np.float32))
    >>> layer.statistics.kind, len(layer.digest)
    ('group 2', 16)
    """

    name: str
    problem: Problem
    weight: FloatArray
    facts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", frozen(self.weight))

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that identify values and places of the weight."""
        return zeros_of(self.weight).digest

    @cached_property
    def statistics(self) -> Statistics:
        """The pattern of the weight's zeros in numbers, counted once."""
        return statistics_of(self.weight)
