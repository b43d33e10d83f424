"""Families that do not apply say why."""

import numpy as np
import pytest

from tesa.decompose.candidates import candidates, reasons
from tesa.errors import UnsupportedError
from tesa.schedules.refusal import reason_of
from tesa.schedules.registry import families
from tesa.schedules.types import Problem, Window
from tesa.targets.target import parse_target

AVX512 = parse_target("x86:icelake-server")


def _linear(m: int, k: int, n: int, dtype: str = "float32") -> Problem:
    return Problem("linear", m, k, n, (k, n), (m, n), dtype=dtype)


CASES = {
    "full weight": (_linear(64, 64, 196), np.ones((64, 64), np.float32)),
    "one column": (_linear(64, 64, 1), np.eye(64, dtype=np.float32)),
    "codes": (_linear(64, 64, 196, "int8"), np.eye(64, dtype=np.float32)),
    "three columns of codes": (_linear(64, 64, 3, "int8"), np.ones((64, 64), np.float32)),
    "small": (_linear(2, 3, 5), np.ones((2, 3), np.float32)),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("target", ["x86:icelake-server", "x86:haswell", "x86:x86-64-v2", "aarch64", "wasm32"])
def test_every_family_without_a_configuration_gives_its_reason(name: str, target: str) -> None:
    problem, weight = CASES[name]
    where = parse_target(target)
    found = reasons(problem, weight, where)
    for made in families(where.kind):
        applies = any(option[0] == made.name for option in candidates(problem, weight, where))
        assert bool(found[made.name]) != applies
        assert found[made.name] != reason_of(())  # the words for a family that gives none


def test_the_error_for_a_family_that_does_not_apply_has_the_reason() -> None:
    problem, weight = CASES["full weight"]
    with pytest.raises(UnsupportedError, match=r"indexed: it needs 40 % zeros, and this weight has 0\.0 %"):
        candidates(problem, weight, AVX512, ["indexed"])


def test_a_window_is_named() -> None:
    window = Window(8, 8, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1))
    problem = Problem("conv2d", 4, 36, 64, (1, 4, 8, 8), (1, 4, 8, 8), window=window, dtype="int8")
    found = reasons(problem, np.eye(4, 36, dtype=np.float32), AVX512, ["indexed"])
    assert found["indexed"] == "it computes products and unpadded 1x1 convolutions, and this one is 3x3, stride 1x1"
