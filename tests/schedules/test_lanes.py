"""Dense int8 for features_last: exact sums whatever the shape, window and core, and how they are stored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tesa.schedules.registry import find
from tesa.schedules.types import ACTIVATIONS, Epilogue, Output, Problem, Window
from tesa.targets.target import Target, parse_target, runs_here
from tests.emulated.programs import case
from tests.emulated.programs import check as check_emulated
from tests.node import TARGETS, Case, check_all
from tests.schedules.features_last import Kernel, check, convolution, draw, linear

CHIPS = ("icelake-server", "skylake-avx512", "alderlake", "haswell", "x86-64-v2")
"""AVX-512 with dot products of bytes and of words, AVX2 with them, and SSE."""

HERE = [target for target in map(parse_target, (f"x86:{chip}" for chip in CHIPS)) if runs_here(target)]
EMULATED = {"neoverse-n2": "max", "neoverse-n1": "neoverse-n1", "cortex-a53": "cortex-a53"}
FAMILY = find("lanes")

pytestmark = pytest.mark.usefixtures("any_work_on_threads")

SIZES = ((1, 1, 1), (3, 2, 5), (16, 4, 1), (17, 33, 3), (5, 64, 7), (40, 41, 30), (64, 70, 13), (100, 19, 49))
WINDOWS = (
    (3, Window(7, 9, (3, 3), (1, 1), (1, 1, 1, 1))),
    (8, Window(8, 8, (3, 3), (2, 2), (0, 0, 1, 1))),
    (6, Window(6, 11, (2, 3), (1, 2), (0, 2, 1, 2), (2, 1))),
    (5, Window(5, 7, (1, 1), (2, 2))),
    (7, Window(9, 8, (3, 2), (1, 1), (0, 0, 0, 0), (1, 2))),
    (1, Window(6, 6, (3, 1), (1, 1), (2, 0, 0, 0))),
    (4, Window(5, 5, (5, 5))),
    (9, Window(4, 6, (1, 1), (1, 1))),
    (3, Window(1, 40, (1, 5), (1, 1), (0, 2, 0, 2))),
)
OUTPUTS = (Output("int32"), Output(), Output("uint8", 0.05, 7), Output("int8", 0.04, -3))
RESIDUALS = (Output(), Output("uint8", 0.05, 9), Output("int8", 0.02, -1))


def problems(seed: int) -> Iterator[Problem]:
    """Every size and window, with outputs, epilogues, batches and threads drawn for each."""
    rng = np.random.default_rng(seed)

    def options() -> dict[str, Any]:
        output = OUTPUTS[int(rng.integers(4))]
        found = {"batch": int(rng.integers(1, 3)), "threads": int(rng.integers(1, 4)), "output": output,
                 "x_zero": int(rng.integers(256)), "residual": RESIDUALS[int(rng.integers(3))]}  # fmt: skip
        if output.dtype == "int32":
            return found
        activation = rng.choice([None, "relu", *ACTIVATIONS])
        bias, residual = (bool(rng.integers(2)) for _ in range(2))
        return {**found, "epilogue": Epilogue(bias, residual, None if activation is None else str(activation), True)}

    for size in SIZES:
        yield linear(*size, **options())
    for channels, window in WINDOWS:
        yield convolution(int(rng.integers(1, 40)), channels, window, **options())


def kernels(target: Target, seed: int) -> Iterator[Kernel]:
    for number, problem in enumerate(problems(seed)):
        weight = draw(problem, 0.8, number)
        space = FAMILY.space(problem, weight, target.core)
        yield problem, weight, "lanes", space[(number + seed) % len(space)]


@pytest.mark.parametrize("target", HERE, ids=lambda target: target.cpu)
@pytest.mark.parametrize("seed", [0, 1])
def test_every_problem_is_right(target: Target, seed: int) -> None:
    check(list(kernels(target, seed))[seed::2], target)


@pytest.mark.parametrize("cpu", EMULATED)
def test_every_problem_is_right_on_arm(cpu: str) -> None:
    target = parse_target(f"aarch64:{cpu}")
    cases = [case(family, problem, weight, target, config) for problem, weight, family, config in kernels(target, 2)]
    check_emulated(cases, target, EMULATED[cpu])


@pytest.mark.parametrize("target", TARGETS)
def test_every_problem_is_right_in_webassembly(target: str) -> None:
    made = [Case(p, w, family, config) for p, w, family, config in kernels(parse_target(target), 3) if p.threads == 1]
    assert len(made) > 4
    check_all(made, target)


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
