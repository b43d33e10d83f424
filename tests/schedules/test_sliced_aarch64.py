"""The sliced family by permutations in which a place beyond the registers gives 0, of one, two and four registers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tesa.schedules.types import Epilogue, Problem
from tesa.targets.target import Target, parse_target
from tests.emulated.programs import Case, case, check

TARGET = parse_target("aarch64:cortex-a76")
CONFIGS = [(1, 2, 4), (1, 4, 4), (3, 4, 2), (8, 2, 2), (8, 4, 1)]


def permuting(*registers: int) -> Target:
    """The target with permutations of so many registers alone."""
    permute = TARGET.core.permute
    assert permute is not None
    names = tuple((count, name) for count, name in permute.intrinsics if count in registers)
    return replace(TARGET, core=replace(TARGET.core, permute=replace(permute, intrinsics=names)))


def sliced(target: Target, n: int, window: int, share: int, m: int = 70) -> Case:
    rng = np.random.default_rng(n)
    k, config = 200, {"window": window, "share": share}
    weight = (rng.standard_normal((m, k)) * (rng.random((m, k)) < 0.3)).astype(np.float32)
    problem = Problem("linear", m, k, n, (1, k, n), (1, m, n), epilogue=Epilogue(True, True, "relu6"))
    name = f"{target.core.permute} {config} n={n}"
    return case("sliced", problem, weight, target, config, name=name)


@pytest.mark.slow
def test_permutations_of_one_two_and_four_registers() -> None:
    targets = [permuting(1), permuting(2), permuting(1, 2), permuting(1, 2, 4), TARGET]
    check([sliced(target, *config) for target in targets for config in CONFIGS], TARGET)
