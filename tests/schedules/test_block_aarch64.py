"""dense and block on 64-bit ARM: rows that are no multiple of a vector, and inner loops that are products alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tesa.schedules.types import Config, Epilogue, FloatArray, Problem
from tesa.targets.target import parse_target
from tests.emulated.assembly import ELEMENT, listing
from tests.emulated.programs import case, check, objects_of, run
from tests.support import rest_slow

TARGET = parse_target("aarch64:cortex-a76")
EPILOGUES = [Epilogue(True, False, "relu"), Epilogue(True, True, "relu6"), Epilogue(), Epilogue(True, False, "gelu")]


def sparse(m: int, k: int, block: tuple[int, int], share: float) -> FloatArray:
    rng = np.random.default_rng(m + k)
    live = rng.random((-(-m // block[0]), -(-k // block[1]))) < share
    mask = np.repeat(np.repeat(live, block[0], 0), block[1], 1)[:m, :k]
    return np.where(mask, rng.standard_normal((m, k)), 0).astype(np.float32)


def linear(m: int, k: int, n: int, epilogue: Epilogue = EPILOGUES[0]) -> Problem:
    return Problem("linear", m, k, n, (1, k, n), (1, m, n), epilogue=epilogue)


SIZES = [(29, 33, 50), (8, 1, 12), (13, 64, 7), (3, 70, 49), (12, 31, 24), (40, 2, 100), (1, 5, 5), (30, 66, 31)]


@pytest.mark.parametrize("part", rest_slow(range(4)))
def test_any_number_of_rows_columns_and_entries(part: int) -> None:
    cases = []
    for number, (m, k, n) in list(enumerate(SIZES))[part::4]:
        problem = linear(m, k, n, EPILOGUES[number % 4])
        for family, rows, vectors, pack, depth in (
            ("dense", 8, 3, 1, 0), ("dense", 12, 2, 0, 0), ("dense", 6, 4, 1, 0), ("dense", 4, 6, 1, 7),
            ("block", 8, 3, 1, 0), ("block", 5, 4, 0, 0), ("block", 2, 2, 1, 0), ("block", 7, 2, 1, 16),
        ):  # fmt: skip
            config = {"rows": rows, "vectors": vectors, "pack": pack, **({"depth": depth} if depth else {})}
            cases.append(case(family, problem, sparse(m, k, (4, 1), 0.5), TARGET, config))
    check(cases, TARGET)


def test_not_a_number_comes_out_of_every_activation() -> None:
    weight = np.ones((8, 4), np.float32)
    for activation in ("relu", "relu6", "hardswish"):
        one = case("dense", linear(8, 4, 24, Epilogue(True, False, activation)), weight, TARGET)
        one.inputs[0][0, 1, ::3] = np.nan
        (result,) = run([one], TARGET)
        assert np.isnan(result.y[..., ::3]).all()
        assert np.isfinite(result.y[..., 1::3]).all()


@pytest.mark.parametrize(("rows", "vectors"), [(8, 3), (12, 2), (4, 6), (4, 7)])
def test_inner_loops_are_products_by_element_and_few_others(rows: int, vectors: int, tmp_path: Path) -> None:
    problem, config = linear(48, 96, 28 * 12), {"rows": rows, "vectors": vectors, "pack": 1}
    for family, share, most in (("dense", 1.0, 1.24), ("block", 0.5, 1.4)):
        code = case(family, problem, sparse(48, 96, (12, 1), share), TARGET, config).code
        loop = listing(objects_of(code, TARGET, tmp_path)).busiest()
        assert loop.count(ELEMENT) == loop.count("fmla") == 2 * rows * vectors
        assert loop.spills() == ()
        assert len(loop.lines) < most * loop.count("fmla")


def counted(family: str, problem: Problem, weight: FloatArray, config: Config) -> int:
    count = run([case(family, problem, weight, TARGET, config)], TARGET, counted=True)[0].count
    assert count is not None
    return count.instructions


def test_one_column_behind_whole_tiles_costs_no_vector(tmp_path: Path) -> None:
    problem, weight, config = linear(64, 96, 49), sparse(64, 96, (1, 1), 1.0), {"rows": 8, "vectors": 3, "pack": 1}
    one = case("dense", problem, weight, TARGET, config)
    count = run([one], TARGET, counted=True)[0].count
    assert count is not None
    assert count.products == 64 * 96 * 49 // 4
    loops = listing(objects_of(one.code, TARGET, tmp_path)).loops()
    assert not any(loop.spills() for loop in loops if loop.count("fmla"))


def test_executed_instructions() -> None:
    problem, config = linear(128, 128, 196), {"rows": 8, "vectors": 3, "pack": 1}
    products = 128 * 128 * 49
    dense = counted("dense", problem, sparse(128, 128, (1, 1), 1.0), config)
    assert dense < 1.28 * products
    assert counted("block", problem, sparse(128, 128, (16, 1), 0.7), config) < 0.82 * dense
