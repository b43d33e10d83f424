"""Numbers that a caller gives, checked with a message that helps."""

import operator
from typing import Any

from tesa.errors import UsageError


def whole(name: str, value: Any, least: int = 1) -> int:
    """A whole number of at least `least`, or a UsageError that says what is wrong with it.

    >>> whole("threads", 2)
    2
    >>> whole("threads", "2")
    Traceback (most recent call last):
    ...
    tesa.errors.UsageError: threads must be a whole number of at least 1, got the text '2'; give threads=2
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is not None and number >= least:
        return number
    what, hint = f"got {value!r}", ""
    if isinstance(value, str):
        what = f"got the text {value!r}"
        hint = f"; give {name}={int(value)}" if value.strip().isdecimal() and int(value) >= least else ""
    elif isinstance(value, float) and value.is_integer() and value >= least:
        hint = f"; give {name}={int(value)}"
    raise UsageError(f"{name} must be a whole number of at least {least}, {what}{hint}")
