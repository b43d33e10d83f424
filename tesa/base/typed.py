"""Plain data held against types: what a file says becomes a value of a dataclass only where every field is of its kind.

The types are those that the dataclasses are annotated with, so that a format is described once. Only what plain data
can be is known: numbers, texts, None, tuples, objects, dataclasses of these, and unions.
"""

import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import lru_cache
from math import isfinite
from typing import Any, Literal, TypeVar

from tesa.base.told import Untruthful, shown

T = TypeVar("T")

_LARGEST = 1 << 63
_MOST = 10_000_000  # elements of a list
_TEXTS, _WHOLES = frozenset({str}), frozenset({int})


def typed(kind: type[T], value: object, where: str = "") -> T:
    """The value as a `kind`: lists become tuples, objects dataclasses, whole numbers floats where these are wanted.

    where: the place of the value, for messages. Raises Untruthful, a ValueError, for anything that is not of that kind:
    a number that is none (NaN) or has no end, True for 1, an object with other fields than the dataclass has.

    >>> typed(tuple[int, ...], [1, 2])
    (1, 2)
    """
    try:
        read: Reader = reader(kind)  # type: ignore[arg-type]
        found: T = read(value)
    except Untruthful as error:
        raise (_within(where, error) if where else error) from None
    return found


Reader = Callable[[object], Any]


@lru_cache(maxsize=1024)
def reader(kind: Any) -> Reader:
    """The function that typed calls for a kind: for many values of it."""
    if kind in _PLAIN:
        return _PLAIN[kind]
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return _union(inner)
    if origin is Literal:
        return _literal(inner)
    if origin is tuple:
        return _list(inner[0]) if inner[1:] == (...,) else _tuple(inner)
    if origin in (Mapping, dict):
        return _mapping(inner[1] if inner else Any)
    if is_dataclass(kind):
        return _object(kind)
    raise TypeError(f"no plain data is a {kind}")


def _number(value: object) -> float:
    if type(value) is float and -1e300 < value < 1e300:  # not for NaN
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300 and isfinite(value):
        return float(value)
    raise _wrong(value, "a number")


def _whole(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and -_LARGEST <= value < _LARGEST:
        return value
    raise _wrong(value, "a whole number")


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    raise _wrong(value, "a text")


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise _wrong(value, "true or false")


def _nothing(value: object) -> None:
    if value is not None:
        raise _wrong(value, "null")


_PLAIN: dict[Any, Reader] = {
    float: _number,
    int: _whole,
    str: _text,
    bool: _flag,
    type(None): _nothing,
    Any: lambda value: value,
}


def _union(kinds: tuple[Any, ...]) -> Reader:
    """None first, which decides at once: the message is then of what else it might be."""
    readers = [reader(kind) for kind in kinds if kind is not type(None)]
    optional = type(None) in kinds

    def read(value: object) -> Any:
        if optional and value is None:
            return None
        for one in readers[:-1]:
            try:
                return one(value)
            except Untruthful:
                continue
        return readers[-1](value)

    return read


def _literal(values: tuple[Any, ...]) -> Reader:
    def read(value: object) -> Any:
        if isinstance(value, str | int) and value in values:
            return value
        raise _wrong(value, f"one of {', '.join(map(repr, values))}")

    return read


def _list(kind: Any) -> Reader:
    one = reader(kind)

    def read(value: object) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple) or len(value) > _MOST:
            raise _wrong(value, "a list")
        return tuple([one(item) for item in value])

    return read


def _tuple(kinds: tuple[Any, ...]) -> Reader:
    readers = [reader(kind) for kind in kinds]

    def read(value: object) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple) or len(value) != len(readers):
            raise _wrong(value, f"a list of {len(readers)}")
        return tuple([one(item) for one, item in zip(readers, value, strict=True)])

    return read


def _mapping(kind: Any) -> Reader:
    one = reader(kind)

    def read(value: object) -> dict[str, Any]:
        if type(value) is not dict and not isinstance(value, Mapping):
            raise _wrong(value, "an object")
        if _are_right(value, one):
            return dict(value)
        found = {}
        name: Any = ""
        try:
            for name, item in value.items():
                found[_text(name)] = one(item)
        except Untruthful as error:
            raise _within(name, error) from None
        return found

    return read


def _are_right(value: Mapping[Any, Any], one: Reader) -> bool:
    """True where all of an object are of the kind that is wanted: seen at once, for there are thousands."""
    if not value or not _TEXTS.issuperset(map(type, value)):
        return False
    if one is _PLAIN[Any]:
        return True
    items = value.values()
    if one is _whole:
        return _WHOLES.issuperset(map(type, items)) and min(items) >= -_LARGEST and max(items) < _LARGEST
    return one is _text and _TEXTS.issuperset(map(type, items))


def _object(kind: Any) -> Reader:
    hints = typing.get_type_hints(kind)
    readers = {item.name: reader(hints[item.name]) for item in fields(kind)}
    needed = {i.name for i in fields(kind) if i.default is MISSING and i.default_factory is MISSING}

    def read(value: object) -> Any:
        if type(value) is not dict and not isinstance(value, Mapping):
            raise _wrong(value, "an object")
        found, name = {}, ""
        for name in () if readers.keys() >= value.keys() else value:
            if name not in readers:
                raise Untruthful(f"nothing is called {shown(name)}")
        if missing := needed.difference(value):
            raise Untruthful(f"{min(missing)} is missing")
        try:
            for name, item in value.items():
                found[name] = readers[name](item)
        except Untruthful as error:
            raise _within(name, error) from None
        return kind(**found)

    return read


class _PlacedError(Untruthful):
    """An error in something that has a name. The place is the names, from outside to inside."""

    def __init__(self, place: str, text: str) -> None:
        super().__init__(f"{place}: {text}")
        self.place, self.text = place, text


def _within(name: Any, error: Untruthful) -> Untruthful:
    name = shown(name).strip("'")
    if isinstance(error, _PlacedError):
        return _PlacedError(f"{name}.{error.place}", error.text)
    return _PlacedError(name, str(error))


def _wrong(value: object, wanted: str) -> Untruthful:
    return Untruthful(f"{shown(value)} in the place of {wanted}")
