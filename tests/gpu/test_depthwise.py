"""The depthwise family of GPUs against NumPy, through OpenCL."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from tesa.schedules.gpu.depthwise import SETS, plan
from tesa.schedules.types import Problem
from tests.gpu import opencl
from tests.gpu.families import Case, prepare, run, sparse
from tests.gpu.problems import ALL, CODES, HALF, WINDOWS, depthwise


def config(rows: int = 2, threads: int = 64) -> dict[str, int]:
    return {"rows": rows, "threads": threads}


def some_taps(problem: Problem, sets: int) -> np.ndarray:
    """A weight whose channels have one of so many sets of live taps, the first of them none."""
    weight = sparse(problem.m, problem.k, 1.0, seed=3, dtype=problem.dtype)
    masks = np.random.default_rng(sets).random((sets, problem.k)) < 0.5
    masks[0] = False
    return weight * masks[np.arange(problem.m) % sets]


def turned(case: Case) -> Case:
    """The same with features last."""
    problem = case.problem
    shapes = {name: np.moveaxis(case.given[name], 1, -1).shape for name in ("x", "y")}
    last = replace(problem, layout="features_last", x_shape=shapes["x"], y_shape=shapes["y"])
    made = prepare("depthwise", last, case.weight, config(4))
    for name in ("x", "residual"):
        made.given[name] = np.ascontiguousarray(np.moveaxis(case.given[name], 1, -1))
    made.given |= {name: case.given[name] for name in ("bias", "scale")}
    assert case.wanted is not None
    made.wanted = np.moveaxis(case.wanted, 1, -1)
    return made


def test_windows_with_borders_and_sets_of_taps() -> None:
    opencl.require_opencl()
    cases = []
    for rows, window in zip((4, 2, 1, 8, 3), WINDOWS, strict=True):
        problem = depthwise(6, window, 2, epilogue=ALL)
        cases.append(prepare("depthwise", problem, some_taps(problem, 3), config(rows)))
    run(cases)


def test_many_sets_share_the_code_of_their_union() -> None:
    opencl.require_opencl()
    problem = depthwise(2 * SETS, WINDOWS[0])
    weight = some_taps(problem, 2 * SETS)
    assert len(plan(problem, weight, config()).groups) == 1
    run([prepare("depthwise", problem, weight, config())])


def test_int8_and_features_last() -> None:
    opencl.require_opencl()
    problem = replace(depthwise(5, WINDOWS[1], 2, **CODES), x_zero=9)
    case = prepare("depthwise", problem, some_taps(problem, 2), config())
    real = prepare("depthwise", depthwise(5, WINDOWS[0], epilogue=ALL), sparse(5, 9, 0.5), config())
    run([case, turned(case), turned(real)])


def test_no_two_threads_race(tmp_path: Path) -> None:
    problem = depthwise(3, WINDOWS[1], epilogue=ALL)
    run([prepare("depthwise", problem, some_taps(problem, 2), config(2, 32))], "grind", tmp_path)


def test_float16(tmp_path: Path) -> None:
    opencl.require_intel()
    problem = depthwise(4, WINDOWS[0], epilogue=ALL, residual=HALF["output"], **HALF)
    run([prepare("depthwise", problem, sparse(4, 9, 0.5))], "intel", tmp_path)
