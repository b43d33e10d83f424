"""The kernels of dot products of bytes, run on NumPy: every shape and epilogue equals the reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tesa.schedules.gpu.dots import emit, refusal, space
from tesa.schedules.gpus import GpuText
from tesa.schedules.types import Epilogue, FloatArray, Output, Problem, Window
from tests.gpu.assembler import assemble
from tests.schedules.gpu.tiles import blocks, check, conv, gpu, linear, of_kind

TARGETS = ["cuda:sm_75", "cuda:sm_90", "rocm:gfx906", "rocm:gfx90a", "rocm:gfx942", "rocm:gfx1030", "rocm:gfx1100"]
SHAPES = [
    linear(20, 40, 72), linear(9, 33, 37, 2), linear(16, 16, 64, 3),
    conv(10, 5, Window(9, 7, (3, 3), padding=(1, 1, 1, 1)), 2),
    conv(7, 6, Window(11, 10, (3, 3), (2, 2), (0, 1, 1, 0))),
]  # fmt: skip


def groups(problem: Problem, seed: int = 0) -> FloatArray:
    """Codes of which about a third of the groups of four have a non-zero."""
    return blocks(problem, 1, 4, 0.3, seed)


@pytest.mark.parametrize("problem", SHAPES, ids=lambda p: f"{p.op}-{p.m}x{p.k}x{p.n}")
@pytest.mark.parametrize("name", TARGETS)
def test_every_shape(problem, name):
    problem = of_kind(problem, "int8")
    weight = groups(problem)
    weight[0] = 0
    code = emit(problem, weight, gpu(name), {"rows": 8, "threads": 64}, "k")
    if name.startswith("rocm"):
        for module in code.modules:
            assert isinstance(module, GpuText)
            assemble(module.text)
    counts = check(code, problem, weight)
    assert any(one.startswith(("dp4a", "v_dot4")) for one in counts)


@pytest.mark.parametrize("name", ["cuda:sm_80", "rocm:gfx90a", "rocm:gfx1100"])
@pytest.mark.parametrize("output", [Output("uint8", 0.05, 3), Output("int8", 0.1, -7), Output()], ids=lambda o: o.dtype)
@pytest.mark.parametrize("n", [36, 33])
def test_codes(name, output, n):
    epilogue = Epilogue(True, True, "relu", scale=True)
    problem = linear(20, 40, n, 2, dtype="int8", epilogue=epilogue, output=output, residual=output)
    weight = groups(problem, 3)
    for wanted in space(problem, weight, gpu(name))[:1]:
        check(emit(problem, weight, gpu(name), wanted, "k"), problem, weight)


def test_one_instruction_for_each_live_group_and_column():
    problem = of_kind(linear(16, 64, 64), "int8")
    weight = groups(problem, 4)
    live = int((weight.reshape(16, 16, 4) != 0).any(-1).sum())
    code = emit(problem, weight, gpu("cuda:sm_80"), {"rows": 16, "threads": 64}, "k")
    assert sum(module.text.count("dp4a") for module in code.modules) == 4 * live  # type: ignore[union-attr]


def test_large_weights_are_several_modules():
    problem = of_kind(linear(64, 512, 64), "int8")
    weight = np.ones((64, 512), np.float32)
    code = emit(problem, weight, gpu("cuda:sm_80"), {"rows": 8, "threads": 64}, "k")
    assert len(code.modules) == len(code.launches) > 1
    assert sum(launch.grid[1] for launch in code.launches) == 8


def test_a_panel_that_is_longer_than_a_branch_reaches():
    problem = of_kind(linear(32, 2048, 64), "int8")
    code = emit(problem, np.ones((32, 2048), np.float32), gpu("rocm:gfx90a"), {"rows": 32, "threads": 64}, "k")
    assemble(code.modules[0].text)  # type: ignore[union-attr]


def test_refusals():
    weight = np.ones((16, 16), np.float32)
    assert "no codes" in refusal(linear(16, 16, 16), weight, gpu("cuda:sm_80"))
    problem = of_kind(linear(16, 16, 16), "int8")
    assert not refusal(problem, weight, gpu("cuda:sm_80"))
    assert "no dot products" in refusal(problem, weight, replace(gpu("cuda:sm_80"), dots=False))
    wide = of_kind(conv(4, 1, Window(16, 16, (9, 9))), "int8")
    assert "rows and columns" in refusal(wide, np.ones((4, 81), np.float32), gpu("rocm:gfx90a"))
    large = of_kind(linear(1024, 1024, 16), "int8")
    assert "groups of four" in refusal(large, np.ones((1024, 1024), np.float32), gpu("cuda:sm_80"))
