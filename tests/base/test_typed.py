"""Plain data becomes dataclasses only where every field is of its kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from tesa.base.told import Untruthful
from tesa.base.typed import typed


@dataclass(frozen=True)
class Inner:
    size: tuple[int, int]


@dataclass(frozen=True)
class Outer:
    name: str
    share: float
    inner: Inner | None = None
    more: Mapping[str, int] = field(default_factory=dict)
    flag: bool = False
    pair: tuple[str, ...] = ()
    any: Any = None


WHOLE = {"name": "a", "share": 1, "inner": {"size": [1, 2]}, "more": {"b": 3}, "flag": True, "pair": ["c"], "any": [{}]}


def test_what_is_right_comes_back() -> None:
    assert typed(Outer, WHOLE) == Outer("a", 1.0, Inner((1, 2)), {"b": 3}, True, ("c",), [{}])
    assert isinstance(typed(Outer, WHOLE).share, float)
    assert typed(Outer, {"name": "a", "share": 0.5}) == Outer("a", 0.5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": 1}, "name: 1 in the place of a text"),
        ({"share": "1"}, "share: '1' in the place of a number"),
        ({"share": float("nan")}, "share: nan"),
        ({"share": float("inf")}, "share: inf"),
        ({"share": True}, "share: True"),
        ({"inner": []}, "inner: .* an object"),
        ({"inner": {"size": [1]}}, "inner.size: .* a list of 2"),
        ({"inner": {"size": [1, 2.0]}}, "inner.size: 2.0 in the place of a whole number"),
        ({"inner": {"size": [1, 1 << 70]}}, "whole number"),
        ({"inner": {}}, "inner: size is missing"),
        ({"more": {"b": None}}, "more.b: None"),
        ({"flag": 1}, "flag: 1 in the place of true or false"),
        ({"pair": "c"}, "pair: 'c' in the place of a list"),
        ({"colour": 1}, "nothing is called 'colour'"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(Untruthful, match=said):
        typed(Outer, {**WHOLE, **change})


@pytest.mark.parametrize("value", [None, [], "a", 3])
def test_what_is_no_object(value: object) -> None:
    with pytest.raises(Untruthful, match="in the place of an object"):
        typed(Outer, value)
