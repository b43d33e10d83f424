"""The panel program of GPUs as functions of TVM, through OpenCL: NumPy's numbers, and those of the written text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from tesa.schedules.gpu.program import panels
from tesa.schedules.gpu.unrolled import emit
from tesa.schedules.gpu.unrolled_space import grid_of
from tesa.schedules.gpu.writers.tir import write
from tesa.schedules.types import Config, Problem
from tesa.targets.cuda import GPUS
from tests.gpu import kernels, opencl
from tests.gpu.problems import ALL, WINDOWS, conv, linear

GPU = GPUS["sm_80"]


def config(rows: int = 16, threads: int = 32, groups: int = 1, stage: int = 0) -> Config:
    return {"rows": rows, "threads": threads, "groups": groups, "stage": stage}


def check(given: list[tuple[Problem, np.ndarray, Config]], by: str = "pocl", folder: Path | None = None) -> None:
    """Run the functions, compare with NumPy and with the code for sm_80 on the interpreter of its text."""
    grids = [grid_of(problem, GPU, chosen) for problem, _, chosen in given]
    parts = [panels(grid, weight) for grid, (_, weight, _) in zip(grids, given, strict=True)]
    functions = {
        name: func
        for i, (grid, part) in enumerate(zip(grids, parts, strict=True))
        for name, func in write(f"k{i}", grid, part).functions
    }
    made = opencl.translate(functions)
    for i, (problem, weight, chosen) in enumerate(given):
        inputs = kernels.Inputs.random(problem)
        y = np.full(problem.y_shape, np.nan, np.float32)
        arrays = [inputs.x, inputs.bias, inputs.residual, y]
        e = problem.epilogue
        wanted = [one for one, there in zip(arrays, (True, e.bias, e.residual, True), strict=True) if there]
        for number in range(len(parts[i])):
            opencl.call(made, f"k{i}_p{number}", wanted, by=by, folder=folder)  # type: ignore[arg-type]
        assert kernels.reference(problem, weight, inputs).difference(wanted[-1]) == ""
        if not grids[i].pairs:
            text, _ = kernels.run(emit(problem, weight, GPU, chosen, "k"), problem, inputs)
            np.testing.assert_allclose(wanted[-1], text, rtol=1e-5, atol=1e-5)


def test_linear_layers() -> None:
    opencl.require_opencl()
    check(
        [
            (linear(20, 30, 50, epilogue=ALL), kernels.sparse(20, 30, 0.2), config()),
            (linear(18, 40, 64, 2), kernels.sparse(18, 40, 0.15), config(stage=1)),
            (linear(5, 33, 7, 3, epilogue=ALL), kernels.sparse(5, 33, 0.3), config(groups=4)),
            (linear(4, 8, 40), np.zeros((4, 8), np.float32), config(groups=2)),
        ]
    )


def test_convolutions() -> None:
    opencl.require_opencl()
    given = []
    for window, chosen in zip(
        WINDOWS, (config(), config(stage=1), config(groups=2), config(), config(stage=1)), strict=True
    ):
        problem = conv(6, 2, window, 2, epilogue=ALL)
        given.append((problem, kernels.sparse(problem.m, problem.k, 0.3), chosen))
    check(given)


def test_no_two_threads_race(tmp_path: Path) -> None:
    check([(linear(20, 30, 50, epilogue=ALL), kernels.sparse(20, 30, 0.2), config(groups=2))], "grind", tmp_path)


def test_pairs(tmp_path: Path) -> None:
    opencl.require_intel()
    problem = replace(linear(18, 30, 70), arithmetic="float16")
    weight = kernels.sparse(18, 30, 0.2).astype(np.float16).astype(np.float32)
    check([(problem, weight, config(groups=2))], "intel", tmp_path)
