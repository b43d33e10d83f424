"""Functions for users that know their arguments: a misspelt one is told with the nearest that there is."""

import functools
import inspect
from collections.abc import Callable
from difflib import get_close_matches
from typing import ParamSpec, TypeVar

from tesa.errors import UsageError

P = ParamSpec("P")
R = TypeVar("R")


def helpful(name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a public function: UsageError, in place of Python's TypeError, for a keyword that it does not have.

    name: as users call it.

    >>> @helpful("tesa.tune")
    ... def tune(*, trials=64):
    ...     return trials
    >>> tune(trails=8)
    Traceback (most recent call last):
    ...
    tesa.errors.UsageError: tesa.tune has no argument 'trails'; did you mean 'trials'?
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        parameters = inspect.signature(function).parameters
        takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())

        @functools.wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            for key in kwargs:
                if key not in parameters and not takes_all:
                    near = get_close_matches(key, parameters, n=1)
                    hint = f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(parameters)}"
                    raise UsageError(f"{name} has no argument {key!r}{hint}")
            return function(*args, **kwargs)

        return checked

    return decorate
