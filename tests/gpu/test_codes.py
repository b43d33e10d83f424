"""Kernels between codes whose border is padded with a code, and whose epilogue rounds to codes on the way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tesa.measure.reference import Inputs, reference
from tesa.schedules.gpu.tiling import GROUPED
from tesa.schedules.registry import find
from tesa.schedules.types import Epilogue, Output, Problem, Window
from tests.gpu import families
from tests.gpu.kernels import run
from tests.gpu.problems import WINDOWS, conv, depthwise
from tests.schedules.gpu.tiles import config, gpu

INNER = (
    ("scale", Output("uint8", 0.03, 100)), ("bias", Output("int8", 0.04, -3)), ("residual", Output("uint8", 0.05, 90)),
)  # fmt: skip
"""Numbers are rounded to codes behind every step."""

CHAIN = {
    "dtype": "int8", "epilogue": Epilogue(True, True, "relu", scale=True), "output": Output("uint8", 0.05, 3),
    "residual": Output("uint8", 0.05, 90), "x_pad": 113, "inner": INNER,
}  # fmt: skip


def codes(m: int, k: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.asarray(rng.integers(-127, 128, (m, k)) * (rng.random((m, k)) < 0.4), np.float32)


def inputs(problem: Problem) -> Inputs:
    """Random ones whose sums fill the codes of the steps."""
    made = Inputs.random(problem)
    assert made.scale is not None
    return replace(made, scale=made.scale * 0.05)


@pytest.mark.parametrize("name", ["cuda:sm_80", "rocm:gfx90a", "rocm:gfx1100"])
@pytest.mark.parametrize("family", ["dots", "block"])
@pytest.mark.parametrize("window", WINDOWS[:2], ids=["same", "strides"])
def test_texts(name: str, family: str, window: Window) -> None:
    problem = conv(18, 5, window, 2, **CHAIN)
    weight, given = codes(problem.m, problem.k), inputs(problem)
    made = find(family, "gpu")
    wanted = config(depth=32) if family == "block" else made.space(problem, weight, gpu(name))[0]
    y, _ = run(made.emit(problem, weight, gpu(name), wanted, "k"), problem, given)
    right = reference(problem, weight, given)
    assert right.difference(y) == ""
    assert np.mean(y != right.y) < 0.01, "more than ties"
    unpadded = reference(replace(problem, x_pad=0), weight, given)
    assert np.mean(y != unpadded.y) > 0.05, "the border would be seen"
    flat = reference(replace(problem, inner=()), weight, given)
    assert np.mean(y != flat.y) > 0.05, "and the steps"


def test_groups_of_warps() -> None:
    """wgmma, whose X is brought another way."""
    problem = conv(18, 5, WINDOWS[0], 2, **CHAIN)
    weight, given = codes(problem.m, problem.k), inputs(problem)
    wanted = config(rows=64, depth=32, way=GROUPED)
    y, _ = run(find("block", "gpu").emit(problem, weight, gpu("cuda:sm_90"), wanted, "k"), problem, given)
    assert reference(problem, weight, given).difference(y) == ""


def test_functions() -> None:
    """Families that TVM compiles, on OpenCL."""
    first, other = conv(6, 4, WINDOWS[0], **CHAIN), depthwise(6, WINDOWS[1], **CHAIN)
    families.run([
        families.prepare("indexed", first, codes(6, first.k)),
        families.prepare("depthwise", other, codes(6, other.k), {"rows": 2, "threads": 64}),
    ])  # fmt: skip
