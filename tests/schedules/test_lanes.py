"""Dense int8 for features_last: exact sums whatever the shape, window and core, and how they are stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from tesa.schedules.registry import find
from tesa.schedules.types import Output, Problem
from tesa.targets.target import Target, parse_target, runs_here
from tests.emulated.programs import case
from tests.emulated.programs import check as check_emulated
from tests.node import TARGETS, Case, check_all
from tests.schedules.features_last import Kernel, check, draw, linear, problems
from tests.support import rest_slow

CHIPS = ("icelake-server", "skylake-avx512", "alderlake", "haswell", "x86-64-v2")
"""AVX-512 with dot products of bytes and of words, AVX2 with them, and SSE."""

HERE = [target for target in map(parse_target, (f"x86:{chip}" for chip in CHIPS)) if runs_here(target)]
EMULATED = {"neoverse-n2": "max", "neoverse-n1": "neoverse-n1", "cortex-a53": "cortex-a53"}
FAMILY = find("lanes")

pytestmark = pytest.mark.usefixtures("any_work_on_threads")


def kernels(target: Target, seed: int) -> Iterator[Kernel]:
    for number, problem in enumerate(problems(seed)):
        weight = draw(problem, 0.8, number)
        space = FAMILY.space(problem, weight, target.core)
        yield problem, weight, "lanes", space[(number + seed) % len(space)]


@pytest.mark.parametrize("target", rest_slow(HERE, 2), ids=lambda target: target.cpu)
@pytest.mark.parametrize("seed", rest_slow([0, 1]))
def test_every_problem_is_right(target: Target, seed: int) -> None:
    check(list(kernels(target, seed))[seed::2], target)


@pytest.mark.parametrize("cpu", rest_slow(EMULATED))
def test_every_problem_is_right_on_arm(cpu: str) -> None:
    target = parse_target(f"aarch64:{cpu}")
    start = list(EMULATED).index(cpu) % 2
    made = list(kernels(target, 2))[start::2]
    cases = [case(family, problem, weight, target, config) for problem, weight, family, config in made]
    check_emulated(cases, target, EMULATED[cpu])


@pytest.mark.parametrize("target", rest_slow(TARGETS))
def test_every_problem_is_right_in_webassembly(target: str) -> None:
    made = [Case(p, w, family, config) for p, w, family, config in kernels(parse_target(target), 3) if p.threads == 1]
    assert len(made) > 2
    check_all(made, target)


def test_weights_that_come_from_afar() -> None:
    """A panel larger than the nearest cache is asked for ahead of its end, and columns come in chunks."""
    target = HERE[0]
    small = replace(target, core=replace(target.core, l1_bytes=1024, l2_bytes=8192))
    made = []
    for problem in (linear(70, 100, 60, threads=2), linear(33, 200, 70)):
        made.append((problem, draw(problem, 0.8, 0), "lanes", {"vectors": 2, "columns": 7}))
    check(made, small)


@pytest.mark.parametrize("target", HERE, ids=lambda target: target.cpu)
def test_the_largest_sums_do_not_saturate(target: Target) -> None:
    problem = linear(20, 64, 9)
    some = [np.full((20, 64), code, np.float32) for code in (-128, 127)]
    check([(problem, w, "lanes", FAMILY.space(problem, w, target.core)[0]) for w in some], target)


def test_it_is_dense_and_says_what_it_cannot_do() -> None:
    core = parse_target("x86:znver4").core
    problem = linear(32, 64, 9)
    weight = draw(problem, 0.1, 0)
    (config, *_) = FAMILY.space(problem, weight, core)
    assert FAMILY.dense is not None
    assert FAMILY.dense(weight, config)
    other = Problem("linear", 32, 64, 9, (64, 9), (32, 9), dtype="int8", output=Output("int32"))
    assert not FAMILY.space(other, weight, core)
    with pytest.raises(ValueError, match="lanes cannot compute int8 'linear' of features_first"):
        FAMILY.emit(other, weight, core, config, "k")
