"""The candidates of one layer as points: which are neighbours, and which family each belongs to."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.decompose.candidates import Option
from tesa.schedules.types import config_key

Ints = NDArray[np.int64]


class Space:
    """The options of a layer, each once, by their index. keys[i] is the log's key of options[i].

    >>> space = Space([("dense", {"rows": 4}), ("dense", {"rows": 8}), ("dense", {"rows": 16}), ("vector", {})])
    >>> space.neighbours(0).tolist(), space.family.tolist()
    ([1], [0, 0, 0, 1])
    """

    def __init__(self, options: Sequence[Option]) -> None:
        unique: dict[str, Option] = {}
        for option in options:
            unique.setdefault(config_key(*option), option)
        self.options, self.keys = tuple(unique.values()), tuple(unique)
        self.index = {key: i for i, key in enumerate(self.keys)}
        self.names = tuple(dict.fromkeys(name for name, _ in self.options))
        self.family: Ints = np.array([self.names.index(name) for name, _ in self.options], np.int64)

    def __len__(self) -> int:
        return len(self.options)

    def option(self, key: str) -> Option:
        """The option with that key of the log."""
        return self.options[self.index[key]]

    def neighbours(self, index: int) -> Ints:
        """The options of the same family that are one step away: one number is the next one that the family has there.

        Where there are none, as in a list that is not a whole grid, those that are the fewest steps away.
        """
        members = np.flatnonzero(self.family == self.family[index])
        steps = self._steps
        away = np.abs(steps[members] - steps[index]).sum(axis=1)
        others = away > 0
        if not others.any():
            return members[:0]
        near: Ints = members[others & (away <= max(1, int(away[others].min())))]
        return near

    @cached_property
    def _steps(self) -> Ints:
        """(options, numbers): the place of each number among those that its family has there, -1 where it has none."""
        columns = sorted({(f, key) for f, (_, config) in zip(self.family, self.options, strict=True) for key in config})
        steps = np.full((len(self), len(columns)), -1, np.int64)
        for place, (family, key) in enumerate(columns):
            members = np.flatnonzero(self.family == family)
            found: list[Any] = [self.options[i][1].get(key) for i in members]
            order = sorted({value for value in found if value is not None})
            steps[members, place] = [-1 if value is None else order.index(value) for value in found]
        return steps
