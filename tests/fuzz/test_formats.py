"""Damaged files of every format that tesa reads: some of a fixed seed, and what a longer run has found."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz import damage
from tests.fuzz.damage import mutants
from tests.fuzz.files import files
from tests.fuzz.harness import REFUSED, RIGHT, Harness
from tests.support import rest_slow

CORPUS = Path(__file__).parent / "corpus" / "formats"


@pytest.fixture(scope="module")
def harness() -> Iterator[Harness]:
    with Harness("tests.fuzz.formats:check") as server:
        yield server


@pytest.mark.slow
def test_files_are_read_as_they_are(harness: Harness) -> None:
    seeds = [(name, name.encode() + b"\n" + data) for name, found in files().items() for data in found]
    outcomes = [(name, outcome.kind, outcome.text) for name, _, outcome in harness.run_all(seeds)]
    assert [item for item in outcomes if item[1] != RIGHT] == []


@pytest.mark.parametrize(("start", "count"), rest_slow([(0, 44), (44, 176)]))
def test_damaged_files_are_read_or_refused(start: int, count: int, harness: Harness) -> None:
    found = [(name, outcome) for name, _, outcome in harness.run_all(mutants(files(), start, count, 0))]
    assert [(name, outcome.kind, outcome.text) for name, outcome in found if outcome.bad] == []
    assert {outcome.kind for _, outcome in found} == {RIGHT, REFUSED}


def test_what_was_found_is_mended(harness: Harness) -> None:
    found = {path.name: harness.run(path.read_bytes()) for path in sorted(CORPUS.glob("*.bin"))}
    assert found
    assert {name: (outcome.kind, outcome.text) for name, outcome in found.items() if outcome.bad} == {}


def test_a_mutant_is_the_same_each_time() -> None:
    one, other = (dict(mutants(files(), 0, 60, 3)) for _ in range(2))
    assert one == other
    assert len(set(one.values())) > 50


def test_what_stands_in_the_place_of_a_value_stays_as_it_is() -> None:
    """Else a mutant would depend on those that were made before it."""
    before = repr(damage.NASTY)
    for number in range(2000):
        damage.json_mutant(random.Random(number), b'{"a": [1, {"b": 2}]}')
    assert repr(damage.NASTY) == before
