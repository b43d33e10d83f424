"""The indexed family of GPUs against NumPy, through OpenCL."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tesa.schedules.registry import find
from tesa.schedules.types import ACTIVATIONS, Epilogue
from tests.gpu import opencl
from tests.gpu.families import GPU, prepare, run, sparse
from tests.gpu.problems import ALL, CODES, HALF, SUMS, WINDOWS, conv, linear


def config(rows: int = 2, vectors: int = 1, lanes: int = 1, split: int = 1, threads: int = 32) -> dict[str, int]:
    return {"rows": rows, "threads": threads, "vectors": vectors, "lanes": lanes, "split": split}


def test_linear_layers_of_any_size() -> None:
    opencl.require_opencl()
    cases = [
        prepare("indexed", linear(m, k, n, batch), sparse(m, k, density, seed=m), chosen)
        for m, k, n, batch, density, chosen in (
            (5, 7, 3, 1, 0.4, config()),
            (17, 40, 64, 2, 0.2, config(8, lanes=4, threads=8)),
            (9, 33, 130, 1, 0.1, config(4, vectors=2, lanes=2)),
            (3, 100, 37, 3, 0.3, config(1, vectors=2, split=4)),
            (4, 8, 8, 1, 0.0, config(1, lanes=4, split=2, threads=8)),
        )
    ]
    run(cases)


def test_every_epilogue() -> None:
    opencl.require_opencl()
    weight = sparse(6, 12, 0.3)
    weight[2] = 0
    epilogues = [Epilogue(True, True, name) for name in (None, *ACTIVATIONS)] + [Epilogue(False, True), Epilogue(True)]
    run([prepare("indexed", linear(6, 12, 16, epilogue=one), weight, config(lanes=4, threads=8)) for one in epilogues])


@pytest.mark.parametrize("more", [{"epilogue": ALL}, CODES], ids=["float32", "int8"])
def test_convolutions_with_borders(more: dict[str, object]) -> None:
    opencl.require_opencl()
    cases = []
    for window in WINDOWS:
        problem = conv(5, 3, window, 2, **more)
        weight = sparse(problem.m, problem.k, 0.4, dtype=problem.dtype)
        cases.append(prepare("indexed", problem, weight, config(2, vectors=2, split=2)))
    run(cases)


def test_int8_sums_are_exact() -> None:
    opencl.require_opencl()
    run([prepare("indexed", linear(8, 300, 12, **SUMS), sparse(8, 300, 0.5, dtype="int8"), config(lanes=4))])


def test_what_is_not_a_number_stays_so() -> None:
    opencl.require_opencl()
    names, weight = (None, *ACTIVATIONS), np.eye(2, 4, dtype=np.float32)
    cases = [prepare("indexed", linear(2, 4, 4, epilogue=Epilogue(activation=name)), weight) for name in names]
    made = opencl.translate({f"c{i}": one.code.modules[0].functions[0][1] for i, one in enumerate(cases)})
    for i, case in enumerate(cases):
        case.given["x"][0, 0, 1] = np.nan
        opencl.call(made, f"c{i}", case.arrays(case.code.launches[0].arguments))
        assert np.isnan(case.given["y"]).tolist() == [[[False, True, False, False], [False] * 4]], names[i]


def test_no_two_threads_race(tmp_path: Path) -> None:
    problem = conv(3, 2, WINDOWS[1], epilogue=ALL)
    run([prepare("indexed", problem, sparse(3, 18, 0.5), config(2, 1, split=2, threads=8))], "grind", tmp_path)


def test_float16(tmp_path: Path) -> None:
    opencl.require_intel()
    problem = linear(6, 40, 16, epilogue=ALL, residual=HALF["output"], **HALF)
    run([prepare("indexed", problem, sparse(6, 40, 0.3), config(lanes=4, threads=8))], "intel", tmp_path)


def test_what_it_offers_is_ordered_by_its_estimate() -> None:
    family = find("indexed", "gpu")
    problem, weight = linear(1024, 1024, 1024), sparse(1024, 1024, 0.1)
    offered = family.space(problem, weight, GPU)
    costs = [family.estimate(problem, weight, GPU, one) for one in offered]
    assert costs == sorted(costs)
    assert len(offered) > 4
    assert family.space(problem, np.ones_like(weight), GPU) == []
