"""The digest of generated code: the same for the same code, another one for anything else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import tesa.decompose  # noqa: F401  registers the families
from tesa.build.digest import code_digest
from tesa.schedules.registry import families
from tesa.schedules.types import Problem
from tesa.targets.target import parse_target
from tests.build import toy

PROBLEM = Problem("linear", 32, 64, 48, (1, 64, 48), (1, 32, 48))
RNG = np.random.default_rng(0)
WEIGHT = (RNG.standard_normal((32, 64)) * (RNG.random((32, 64)) < 0.3)).astype(np.float32)


@pytest.mark.parametrize("target", ["x86:haswell", "x86:znver5"])
def test_the_symbol_is_no_part_of_the_code(target: str) -> None:
    core = parse_target(target).core
    found = {}
    for family in families("cpu"):
        for config in list(family.space(PROBLEM, WEIGHT, core))[:3]:
            one, other = (family.emit(PROBLEM, WEIGHT, core, config, name) for name in ("tesa_one", "tesa_another"))
            digest = code_digest(one, "tesa_one")
            assert code_digest(other, "tesa_another") == digest
            found[family.name, str(config)] = digest
    assert len({name for name, _ in found}) > 3
    assert len(set(found.values())) == len(found)


def test_all_that_is_emitted_counts() -> None:
    problem = toy.linear()
    weight = toy.weight(problem)
    code = toy.code(problem, weight, "one")
    others = [
        toy.code(problem, weight, "one", repeat=2),
        toy.code(problem, weight, "one", error=1.0),
        toy.code(problem, weight + 1, "one"),
        replace(code, constants=(weight.T,)),
        replace(code, constants=()),
        replace(code, pipeline="straight"),
        replace(code, panels=((toy.code(problem, weight, "one_panel").main,),)),
        replace(code, pieces=(("one_piece", code),)),
    ]
    digests = [code_digest(item, "one") for item in (code, *others)]
    assert len(set(digests)) == len(digests)
    assert all(len(digest) == 16 for digest in digests)
    assert code_digest(toy.code(problem, weight, "one"), "one") == digests[0]
