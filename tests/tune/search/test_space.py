"""Neighbours: of the same family, one step away, and mutual on a whole grid."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tesa.decompose.candidates import Option
from tesa.schedules.types import config_key
from tesa.tune.search import Space

CONFIGS = st.fixed_dictionaries({"rows": st.sampled_from([1, 2, 8, 26]), "pack": st.sampled_from([0, 1])})


def key_of(option: Option) -> str:
    """The log's key."""
    return config_key(*option)


OPTIONS = st.lists(st.tuples(st.sampled_from(["dense", "indexed"]), CONFIGS), min_size=1, max_size=20, unique_by=key_of)


def test_one_number_moves_to_the_next_value_seen() -> None:
    grid: list[Option] = [("block", {"rows": r, "pack": p}) for r in (4, 8, 24) for p in (0, 1)]
    space = Space([*grid, ("dense", {"rows": 5})])
    near = [space.options[i][1] for i in space.neighbours(space.keys.index('block{"pack": 0, "rows": 8}'))]
    assert near == [{"rows": 4, "pack": 0}, {"rows": 8, "pack": 1}, {"rows": 24, "pack": 0}]
    assert space.neighbours(6).size == 0  # alone in its family


def test_a_list_with_holes_has_neighbours_too() -> None:
    space = Space([("a", {"x": 1, "y": 1}), ("a", {"x": 2, "y": 2}), ("a", {"x": 9, "y": 9})])
    assert space.neighbours(0).tolist() == [1]
    assert space.neighbours(1).tolist() == [0, 2]


def test_numbers_that_only_some_configurations_have() -> None:
    space = Space([("a", {"x": 1}), ("a", {"x": 1, "y": 3}), ("b", {"y": 3})])
    assert space.neighbours(0).tolist() == [1]
    assert space.neighbours(1).tolist() == [0]


@given(OPTIONS)
def test_neighbours_are_others_of_the_family(options: list[Option]) -> None:
    space = Space(options)
    for index in range(len(space)):
        near = space.neighbours(index)
        assert index not in near
        assert (space.family[near] == space.family[index]).all()
        alone = int((space.family == space.family[index]).sum()) == 1
        assert (near.size == 0) == alone
        for other in near:  # mutual where it is one step
            first, second = options[index][1], options[int(other)][1]
            if sum(first[key] != second[key] for key in first) == 1 and 1 in _steps(options, first, second):
                assert index in space.neighbours(int(other))


def _steps(options: list[Option], first: object, second: object) -> set[int]:
    values = {"rows": [1, 2, 8, 26], "pack": [0, 1]}
    a, b = dict(first), dict(second)  # type: ignore[call-overload]
    seen = {key: sorted({config[key] for _, config in options}) for key in values}
    return {abs(seen[key].index(a[key]) - seen[key].index(b[key])) for key in values if a[key] != b[key]}


def test_an_option_that_is_offered_twice_is_one() -> None:
    space = Space([("a", {"x": 1, "y": 2}), ("b", {}), ("a", {"y": 2, "x": 1})])
    assert [name for name, _ in space.options] == ["a", "b"]


def test_keys_are_those_of_the_log() -> None:
    space = Space([("dense", {"vectors": 2, "rows": 4})])
    assert space.keys == ('dense{"rows": 4, "vectors": 2}',)
    assert space.index == {space.keys[0]: 0}
    assert np.array_equal(space.family, [0])
