"""Old names of arguments that keep working."""

import warnings
from typing import TypeVar

T = TypeVar("T")


def renamed(old: str, given: T | None, new: str, value: T | None) -> T | None:
    """The value of an argument that has a new name, under which it goes before.

    A value under the old name is taken with a DeprecationWarning that tells the new one.

    >>> renamed("form", None, "family", "dense")
    'dense'
    """
    if given is None or value is not None:
        return value
    warnings.warn(f"{old}= is called {new}= now", DeprecationWarning, stacklevel=4)  # past `helpful`
    return given
