"""The modes of search. A mode is a function, in a file of its own, that names the candidates to measure next."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray

from tesa.errors import UsageError
from tesa.tune.search.experience import Experience
from tesa.tune.search.features import Table, Wide
from tesa.tune.search.space import Space


@dataclass(frozen=True, eq=False)
class Scene:
    """The knowledge of a layer that a mode names the next candidates by. All arrays are by the index of an option.

    estimates: expected milliseconds. times: measured ones, NaN where not measured, infinite where it failed. taken:
    what must not be named: it has been measured, or is about to be. table: features. experience: of other layers.
    """

    space: Space
    estimates: Wide
    times: Wide
    taken: NDArray[np.bool_]
    table: Callable[[], Table]
    experience: Experience
    seed: int


TRIALS = 64
"""Measurements of a layer, on average, where the user does not say how many."""

Propose = Callable[[Scene, int, np.random.Generator], Sequence[int]]


def _always() -> None:
    """Nothing is needed."""


@dataclass(frozen=True)
class Mode:
    """propose(scene, count, rng): up to count indices of options that are not taken, the most promising first.

    It must depend on its arguments alone. ready() raises UsageError where something is missing that the mode needs.
    trials: measurements of a layer, on average, where the user does not say; None for all candidates.
    """

    name: str
    summary: str
    propose: Propose
    ready: Callable[[], None] = _always
    trials: int | None = TRIALS


_MODES: dict[str, Mode] = {}


def mode(
    name: str, *, ready: Callable[[], None] = _always, trials: int | None = TRIALS
) -> Callable[[Propose], Propose]:
    """Register the decorated function as a mode of search; its docstring's first line is the summary.

    >>> @mode("backwards")
    ... def backwards(scene, count, rng):
    ...     '''The last of the list first.'''
    ...     return np.flatnonzero(~scene.taken)[::-1][:count]
    >>> find_mode("backwards").summary
    'The last of the list first.'
    >>> del _MODES["backwards"]
    """

    def register(propose: Propose) -> Propose:
        if name in _MODES:
            raise ValueError(f"mode {name!r} is registered twice")
        _MODES[name] = Mode(name, (propose.__doc__ or "").strip().splitlines()[0], propose, ready, trials)
        return propose

    return register


def modes() -> tuple[Mode, ...]:
    """Every mode, in the order of registration: the default first."""
    return tuple(_MODES.values())


def find_mode(name: str) -> Mode:
    """The mode of that name. UsageError with the known names if there is none."""
    if name not in _MODES:
        near = get_close_matches(str(name), _MODES, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"unknown mode of search {name!r}; {hint}there are {', '.join(_MODES)}")
    return _MODES[name]
