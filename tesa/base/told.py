"""Checks of what others tell: devices, trackers, workers of a cluster, and files that anybody may have written.

Whatever comes from outside is data. It is held against what it may be where it comes in, and a name once more where a
path is made of it.
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

DEEPEST = 64
"""Levels of lists and objects in each other, in any JSON that is read."""

_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*( [A-Za-z0-9_.+-]+)*", re.ASCII)
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}", re.ASCII)
_LONGEST_WORD = 80
_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_SQUARE = bytes.maketrans(b"{}", b"[]")
_PLAIN = bytes(set(range(256)) - set(b"[]{}"))
_LONGEST_LINE = 300


class Untruthful(ValueError):
    """Raised for what was told and cannot be: of another kind, without an end, or a name that is none."""


def word(value: object, what: str) -> str:
    """A name that may become a part of a file's name: letters, digits and ". _ + -", with single blanks inside.

    what: it is the name of, for the message. Raises Untruthful for anything else, "../x" for example.

    >>> word("cortex-a76", "a CPU"), word("emulated aarch64", "a CPU")
    ('cortex-a76', 'emulated aarch64')
    """
    if isinstance(value, str) and len(value) <= _LONGEST_WORD and _WORD.fullmatch(value):
        return value
    raise Untruthful(f"{shown(value)} is no name of {what}: up to {_LONGEST_WORD} letters, digits and . _ + -")


def identifier(value: object, what: str) -> str:
    """A name that a function of C may have. Raises Untruthful for anything else.

    >>> identifier("tesa_12ab", "a kernel")
    'tesa_12ab'
    """
    if isinstance(value, str) and _IDENTIFIER.fullmatch(value):
        return value
    raise Untruthful(f"{shown(value)} is no name of {what}: letters, digits and _")


def line(text: str, most: int = _LONGEST_LINE) -> str:
    """The text in one line of at most so many characters, without what a terminal would obey.

    >>> line("red \\x1b[31m and more", 16)
    'red ?[31m and m…'
    """
    cut = text[: most + 1]
    clean = "".join(letter if letter.isprintable() else " " if letter.isspace() else "?" for letter in cut)
    return clean if len(clean) <= most else f"{clean[: most - 1]}…"


def shown(value: object) -> str:
    """A value in a message, shortened."""
    return line(repr(value[:_LONGEST_LINE] if isinstance(value, str | bytes) else value), 60)


def milliseconds(value: object, what: str) -> float:
    """A time that a clock may have told: finite, not negative, less than a month. Raises Untruthful otherwise.

    >>> milliseconds(0.25, "the device")
    0.25
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and 0 <= value < 2.6e9:
        return float(value)
    raise Untruthful(f"{what} tells a time of {shown(value)} ms")


def parsed(data: str | bytes, most: int | None = None) -> Any:
    """JSON as plain data. most: bytes or characters that it may have.

    Raises Untruthful, a ValueError, whatever is wrong: no JSON, no UTF-8, NaN, too long, nested too deeply.

    >>> parsed('{"cores": 4}')
    {'cores': 4}
    """
    if most is not None and len(data) > most:
        raise Untruthful(f"{len(data)} characters, where {most} are enough")
    try:
        found = orjson.loads(data)
    except ValueError as error:
        raise Untruthful(line(str(error))) from error
    _check_depth(data.encode() if isinstance(data, str) else data)
    return found


def _check_depth(data: bytes) -> None:
    """shallow for the bytes of JSON that has been read: its brackets alone, of which each round takes the innermost."""
    brackets = _STRINGS.sub(b"", data).translate(_SQUARE, _PLAIN)
    for _ in range(DEEPEST + 1):
        if not brackets:
            return
        brackets = brackets.replace(b"[]", b"")
    raise Untruthful(f"lists and objects are nested deeper than {DEEPEST} levels")


def shallow(data: Any) -> None:
    """Raise Untruthful where plain data is nested deeper than DEEPEST levels: functions that work on it would trip."""
    level: list[Any] = [data]
    for _ in range(DEEPEST):
        level = [item for one in level for item in _inside(one)]
        if not level:
            return
    raise Untruthful(f"lists and objects are nested deeper than {DEEPEST} levels")


def texts(value: object, what: str, most: int = 32) -> dict[str, str]:
    """A small object of texts, each made a line of. Raises Untruthful for anything else."""
    if not isinstance(value, Mapping) or len(value) > most:
        raise Untruthful(f"{what} is {shown(value)}, and no object of at most {most} texts")
    for name, text in value.items():
        if not isinstance(name, str) or not isinstance(text, str):
            raise Untruthful(f"{what} has {shown(name)}: {shown(text)}, and no text")
    return {line(name, _LONGEST_WORD): line(text) for name, text in value.items()}


def whole(value: object, what: str, least: int, most: int) -> int:
    """A whole number within bounds. Raises Untruthful for anything else.

    >>> whole(9190, "a port", 1, 65535)
    9190
    """
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
        return value
    raise Untruthful(f"{what} is {shown(value)}, and no whole number from {least} to {most}")


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return [item for item in value.values() if isinstance(item, dict | list)]
    return [item for item in value if isinstance(item, dict | list)] if isinstance(value, list) else ()
