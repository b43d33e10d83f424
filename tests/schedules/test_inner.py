"""Numbers that are rounded to codes on their way from a sum to its code: every family, behind each step."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from tesa.costs.sample import problem_from_json, problem_to_json
from tesa.measure.reference import Inputs, reference
from tesa.schedules.cpu.requantize import stretches_of
from tesa.schedules.registry import families
from tesa.schedules.types import STEPS, Epilogue, Output, Problem, Window
from tesa.targets.target import Target, parse_target, runs_here
from tests.schedules.features_last import Kernel, check, convolution, draw, linear
from tests.support import rest_slow

KINDS = (Output("uint8", 0.0613, 11), Output("int8", 0.0457, -20), Output("uint8", 0.0719, 130))
"""Of steps whose ratios are no small fractions: else every other number would lie between two codes."""

INNER = [tuple(zip(steps, KINDS, strict=False)) for n in (1, 2, 3) for steps in combinations(STEPS, n)]

pytestmark = pytest.mark.usefixtures("any_work_on_threads")


def problems(first: int) -> list[Problem]:
    """Each set of steps with a size, an output, a residual and an activation. first: of the sizes."""
    window = Window(7, 9, (3, 3), (1, 1), (1, 1, 1, 1))
    depthwise = Problem(
        "depthwise", 72, 9, 63, (1, 7, 9, 72), (1, 7, 9, 72), 1, window, dtype="int8", layout="features_last"
    )
    shapes = (linear(64, 96, 21), linear(70, 64, 9), convolution(40, 8, window), depthwise, linear(9, 40, 3),
              linear(128, 100, 5), linear(300, 64, 1))  # fmt: skip
    found = []
    for i, inner in enumerate(INNER):
        residual = i % 3 > 0 or any(step == "residual" for step, _ in inner)
        said: dict[str, Any] = {
            "inner": inner, "x_zero": 3 * i, "threads": 1 + i % 2,
            "output": (Output("uint8", 0.0537, 7), Output("int8", 0.0413, -3), Output())[(i + first) % 5 // 2],
            "epilogue": Epilogue(i % 4 > 0, residual, (None, "relu", "relu6", None, "hardswish")[i % 5], scale=True),
            "residual": (Output("uint8", 0.0511, 9), Output())[(i + first) % 2],
        }  # fmt: skip
        found.append(replace(shapes[(i + first) % len(shapes)], **said))
    return found


def kernels(target: Target, first: int) -> list[Kernel]:
    made = []
    for i, problem in enumerate(problems(first)):
        weight = draw(problem, (0.1, 0.3)[i % 2], i)
        for family in families("cpu"):
            space = family.space(problem, weight, target.core)
            made += [(problem, weight, family.name, space[i % len(space)])] if space else []
    return made


@pytest.mark.parametrize(
    ("cpu", "first"), rest_slow([("haswell", 1), ("alderlake", 5), ("icelake-server", 0), ("icelake-server", 3)])
)
def test_every_family_rounds_on_the_way(cpu: str, first: int) -> None:
    target = parse_target(f"x86:{cpu}")
    if not runs_here(target):
        pytest.skip("this machine's CPU is an older one")
    made = [one for one in kernels(target, first) if one[2] != "unrolled"]
    assert {"lanes"} < {name for _, _, name, _ in made}
    check(made, target)


def test_a_rounding_on_the_way_is_seen_by_the_reference() -> None:
    plain = linear(8, 16, 5, output=Output("uint8", 0.01, 0), epilogue=Epilogue(True, False, None, True))
    coarse = replace(plain, inner=(("scale", Output("uint8", 0.5, 128)),))
    weight = draw(plain, 0.5, 0)
    inputs = Inputs.random(plain)
    first, second = (reference(problem, weight, inputs) for problem in (plain, coarse))
    assert (first.y != second.y).any()
    assert inputs.scale is not None
    assert inputs.bias is not None
    sums = inputs.x.reshape(5, 16).astype(np.float64) @ weight.T * inputs.scale
    wanted = np.clip(np.rint(sums / 0.5), -128, 127) * 0.5 + inputs.bias
    np.testing.assert_array_equal(second.y.reshape(5, 8), np.clip(np.rint(wanted / 0.01), 0, 255))


def test_constants_are_added_where_they_belong() -> None:
    problem = linear(
        8, 16, 5, output=Output("uint8", 0.1, 4), epilogue=Epilogue(True, True, None, True),
        inner=(("scale", Output("uint8", 0.2, 3)), ("bias", Output("uint8", 0.05, 2))),
        residual=Output("uint8", 0.4, 10),
    )  # fmt: skip
    first, second, third = stretches_of(problem)
    assert (first.biased, first.constant, first.residual) == (False, 3.0, None)
    assert (second.biased, second.constant, second.residual) == (True, 2.0, None)
    assert (third.biased, third.constant, third.residual) == (False, 4.0 - 40.0, 4.0)
    assert problem_from_json(problem_to_json(problem)) == problem
