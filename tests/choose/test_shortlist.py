"""A compile measures the most promising few of each family."""

import numpy as np
import pytest

from tesa.choose.shortlist import KEEP, shortlist
from tesa.decompose.candidates import candidates, predict
from tesa.schedules.registry import find
from tesa.schedules.types import Problem, config_key
from tesa.targets.target import parse_target

TARGET = parse_target("x86:cascadelake")


def options(size, density):
    rng = np.random.default_rng(0)
    weight = np.where(rng.random((size, size)) < density, 1.0, 0.0).astype("float32")
    problem = Problem("linear", size, size, 64, (1, size, 64), (1, size, 64))
    found = candidates(problem, weight, TARGET)
    return found, predict(found, problem, weight, TARGET), problem, weight


def test_the_best_of_each_family_by_estimate():
    found, predicted, problem, weight = options(128, 0.1)
    short = shortlist(found, predicted, problem, weight, TARGET.core)
    assert {name for name, _ in short} == {name for name, _ in found}
    for name in ("dense", "indexed", "unrolled"):
        kept = [predicted[config_key(name, config)] for option, config in short if option == name]
        every = sorted(predicted[config_key(name, config)] for option, config in found if option == name)
        assert sorted(kept) == every[:KEEP]


def test_straight_line_code_has_a_budget():
    found, predicted, problem, weight = options(256, 0.5)
    assert "unrolled" in {name for name, _ in found}
    assert "unrolled" in {name for name, _ in shortlist(found, predicted, problem, weight, TARGET.core)}
    assert "unrolled" not in {name for name, _ in shortlist(found, predicted, problem, weight, TARGET.core, 30_000)}


def test_what_was_asked_for_is_there_whatever_it_takes():
    found, predicted, problem, weight = options(256, 0.5)
    only = [option for option in found if option[0] == "unrolled"]
    (chosen,) = shortlist(only, predicted, problem, weight, TARGET.core, 30_000)
    size = find("unrolled").size
    assert size is not None
    assert size(problem, weight, TARGET.core, chosen[1]) == min(
        size(problem, weight, TARGET.core, config) for _, config in only
    )


@pytest.mark.parametrize("room", [0, 2_000, 4_000, 100_000])
def test_more_room_keeps_more(room):
    found, predicted, problem, weight = options(128, 0.1)
    kept = [
        option for option in shortlist(found, predicted, problem, weight, TARGET.core, room) if option[0] == "unrolled"
    ]
    size = find("unrolled").size
    assert size is not None
    assert sum(size(problem, weight, TARGET.core, config) for _, config in kept) <= room
