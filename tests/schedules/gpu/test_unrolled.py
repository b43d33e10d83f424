"""The unrolled kernels of GPUs, run on NumPy: every shape, epilogue and configuration equals the reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tesa.schedules.gpu.unrolled import emit
from tesa.schedules.gpu.unrolled_space import refusal, space
from tesa.schedules.gpus import Gpu, GpuText
from tesa.schedules.types import ACTIVATIONS, Epilogue, Problem, Window
from tesa.targets.target import parse_target
from tests.gpu.assembler import assemble
from tests.gpu.kernels import check, sparse
from tests.schedules.gpu.tiles import rounded


def gpu(name: str) -> Gpu:
    found = parse_target(name).gpu
    assert found is not None
    return found


def linear(m: int, k: int, n: int, batch: int = 1, **more: object) -> Problem:
    return Problem("linear", m, k, n, (batch, k, n), (batch, m, n), batch, **more)  # type: ignore[arg-type]


def conv(m: int, channels: int, window: Window, batch: int = 1, **more: object) -> Problem:
    k, n = channels * window.kernel[0] * window.kernel[1], window.out_height * window.out_width
    x, y = (batch, channels, window.height, window.width), (batch, m, window.out_height, window.out_width)
    return Problem("conv2d", m, k, n, x, y, batch, window, **more)  # type: ignore[arg-type]


def config(rows: int = 16, threads: int = 64, groups: int = 1, stage: int = 0) -> dict[str, int]:
    return {"rows": rows, "threads": threads, "groups": groups, "stage": stage}


LINEAR = [linear(20, 48, 100), linear(5, 70, 64, 3), linear(33, 40, 37, 2), linear(16, 33, 1), linear(40, 16, 128)]
CONV = [
    conv(18, 5, Window(9, 7, (3, 3), padding=(1, 1, 1, 1)), 2),
    conv(16, 6, Window(11, 10, (3, 3), (2, 2), (0, 1, 1, 0))),
    conv(9, 3, Window(12, 12, (5, 5), (2, 1), (2, 2, 2, 2), (1, 2))),
    conv(8, 40, Window(6, 6, (1, 1), (2, 2))),
    conv(17, 24, Window(8, 8, (1, 1))),
    conv(6, 8, Window(5, 6, (1, 3), padding=(0, 1, 0, 1))),
]


@pytest.mark.parametrize("problem", [*LINEAR, *CONV], ids=lambda p: f"{p.op}-{p.m}x{p.k}x{p.n}")
@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        *(("cuda:sm_80", wanted) for wanted in (config(), config(groups=2), config(stage=1), config(32, 64, 2, 1))),
        *(("rocm:gfx90a", wanted) for wanted in (config(), config(groups=2))),
        ("rocm:gfx1030", config(groups=2)),
        ("rocm:gfx1100", config(32)),
    ],
    ids=str,
)
def test_every_shape(problem: Problem, name: str, wanted: dict[str, int]) -> None:
    weight = sparse(problem.m, problem.k, 0.2)
    weight[min(3, problem.m - 1)] = 0
    weight[:, 2 : problem.k // 4] = 0
    check(emit(problem, weight, gpu(name), wanted, "k"), problem, weight)


@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
@pytest.mark.parametrize(("name", "residual"), [("cuda:sm_80", True), ("rocm:gfx90a", True), ("rocm:gfx1100", False)])
def test_every_epilogue(activation: str | None, residual: bool, name: str) -> None:
    problem = linear(18, 30, 70, 2, epilogue=Epilogue(True, residual, activation))
    weight = sparse(18, 30, 0.3)
    check(emit(problem, weight, gpu(name), config(groups=2), "k"), problem, weight)


@pytest.mark.parametrize("problem", [linear(20, 48, 100, 2), CONV[0]], ids=["linear", "conv2d"])
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("float16", "cuda:sm_75"), ("float16", "cuda:sm_80"), ("float16", "rocm:gfx906"), ("float16", "rocm:gfx90a"),
        ("float16", "rocm:gfx1030"), ("float16", "rocm:gfx1100"), ("bfloat16", "cuda:sm_80"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("wanted", [config(), config(groups=2)], ids=str)
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_pairs(problem: Problem, kind: str, name: str, wanted: dict[str, int], activation: str) -> None:
    problem = replace(problem, arithmetic=kind, epilogue=Epilogue(True, True, activation))
    weight = rounded(sparse(problem.m, problem.k, 0.2), kind)
    check(emit(problem, weight, gpu(name), wanted, "k"), problem, weight)


def test_staged_pairs() -> None:
    problem = replace(linear(20, 48, 128, 2), arithmetic="float16")
    weight = sparse(problem.m, problem.k, 0.2).astype(np.float16).astype(np.float32)
    check(emit(problem, weight, gpu("cuda:sm_90"), config(stage=1), "k"), problem, weight)


def test_a_weight_without_elements() -> None:
    problem = linear(4, 8, 32, epilogue=Epilogue(bias=True))
    weight = np.zeros((4, 8), np.float32)
    check(emit(problem, weight, gpu("cuda:sm_80"), config(groups=2), "k"), problem, weight)


def test_one_multiply_add_for_each_weight() -> None:
    problem, weight = linear(40, 64, 64), sparse(40, 64, 0.2)
    counts = check(emit(problem, weight, gpu("cuda:sm_80"), config(16, 64), "k"), problem, weight)
    assert counts["fma.rn.f32"] == 2 * np.count_nonzero(weight)  # two warps


@pytest.mark.parametrize("name", ["rocm:gfx90a", "rocm:gfx1100"])
def test_one_packed_multiply_add_for_each_weight_of_amd(name: str) -> None:
    """Pairs of columns on instructions of pairs, each with the 16 bits of its weight in the code before it."""
    problem, weight = replace(linear(40, 64, 128), arithmetic="float16"), sparse(40, 64, 0.2)
    (module,) = emit(problem, weight, gpu(name), config(16, 64), "k").modules
    assert isinstance(module, GpuText)
    assert len(assemble(module.text)) > 1000
    lines = [line.split()[0] for line in module.text.splitlines() if line.strip()]
    count = np.count_nonzero(weight.astype(np.float16))
    assert lines.count("v_pk_fma_f16") + lines.count("v_pk_mul_f16") == lines.count("s_movk_i32") == count


def test_large_weights_are_cut_into_modules() -> None:
    problem, weight = linear(256, 256, 64), np.ones((256, 256), np.float32)
    code = emit(problem, weight, gpu("cuda:sm_80"), config(16, 64), "k")
    assert len(code.modules) == len(code.launches) > 4
    assert sum(launch.grid[1] for launch in code.launches) == 16
    assert all(isinstance(module, GpuText) and module.text.count("fma.rn") <= 8192 for module in code.modules)


def test_what_does_not_apply_says_why() -> None:
    big = np.ones((600, 600), np.float32)
    assert "360,000 non-zeros" in refusal(linear(600, 600, 8), big, gpu("cuda"))
    assert not space(linear(600, 600, 8), big, gpu("cuda"))
    with pytest.raises(ValueError, match="non-zeros"):
        emit(linear(600, 600, 8), big, gpu("cuda"), config(), "k")
    assert "codes" in refusal(replace(linear(8, 8, 8), dtype="int8"), big[:8, :8], gpu("cuda"))


def test_the_default_has_rows_enough_for_a_load() -> None:
    for density, least in ((0.1, 32), (0.05, 64)):
        weight = sparse(1024, 1024, density)
        first = space(linear(1024, 1024, 1024), weight, gpu("cuda:sm_90"))[0]
        assert first["rows"] >= least
