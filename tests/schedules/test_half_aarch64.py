"""Sums of float16 on 64-bit ARM where the user allows them: numbers, instructions, and who may not ask for them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tesa
from tesa.errors import UnsupportedError, UsageError
from tesa.schedules.registry import find
from tesa.schedules.types import Epilogue, FloatArray, Problem, Window
from tesa.targets.target import parse_target
from tests.emulated.assembly import foreign, listing
from tests.emulated.programs import Case, case, check, objects_of, run

TARGET = parse_target("aarch64:cortex-a76")


def weight(m: int, k: int, share: float = 0.5) -> FloatArray:
    """Numbers that float16 holds exactly, in columns that are dead for all rows or for none."""
    rng = np.random.default_rng(m)
    return np.where(rng.random((1, k)) < share, rng.integers(-64, 65, (m, k)) / 64, 0).astype(np.float32)


def half(problem: Problem) -> Problem:
    return replace(problem, storage="float16", arithmetic="float16")


def linear(m: int, k: int, n: int, epilogue: Epilogue | None = None) -> Problem:
    epilogue = epilogue or Epilogue(True, True, "relu")
    return Problem("linear", m, k, n, (1, k, n), (1, m, n), epilogue=epilogue)


def cases() -> list[Case]:
    found = []
    sizes = ((29, 33, 50), (16, 64, 5), (8, 40, 1), (40, 96, 196), (3, 9, 11))
    for (m, k, n), activation in zip(sizes, (None, "relu6", "gelu", "relu", "hardswish"), strict=True):
        problem = half(linear(m, k, n, Epilogue(True, bool(m % 2), activation)))
        for family, share in (("dense", 1.0), ("block", 0.5)):
            values = weight(m, k, share)
            for config in find(family).space(problem, values, TARGET.core)[::6]:
                found.append(case(family, problem, values, TARGET, config))
    window = Window(9, 11, (3, 3), (1, 1), (1, 1, 1, 1))
    convolution = half(Problem("conv2d", 12, 45, 99, (1, 5, 9, 11), (1, 12, 9, 11), 1, window, Epilogue(True)))
    return [*found, case("dense", convolution, weight(12, 45, 1.0), TARGET)]


def test_sums_of_float16() -> None:
    check(cases(), TARGET)


def test_rounding_is_that_of_float16_and_products_fill_vectors_of_eight(tmp_path: Path) -> None:
    problem, values = linear(64, 96, 192), weight(64, 96, 1.0)
    wide, narrow = (case("dense", p, values, TARGET) for p in (problem, half(problem)))
    exact, rounded = run([wide, narrow], TARGET, counted=True)
    assert wide.wanted is not None
    assert wide.wanted.error(rounded.y) > 20 * wide.wanted.error(exact.y)
    assert exact.count is not None
    assert rounded.count is not None
    assert rounded.count.instructions < 0.65 * exact.count.instructions
    objects = objects_of(narrow.code, TARGET, tmp_path)
    loop = listing(objects).busiest()
    assert loop.count(r"fmla\s.*\.8h, .*\.h\[\d\]$") == loop.count("fmla") > 40
    assert loop.spills() == ()
    assert foreign(objects, "cortex-a53")
    assert not any(".8h" in line for line in listing(objects_of(wide.code, TARGET, tmp_path)).lines if "fml" in line)


def test_other_families_and_older_cpus_compute_in_float32() -> None:
    older, problem = parse_target("aarch64:cortex-a53"), half(linear(16, 32, 24))
    check([case("dense", problem, weight(16, 32), older)], older, "cortex-a53")
    for family in ("indexed", "unrolled"):
        check([case(family, problem, weight(16, 32), TARGET)], TARGET)


def test_a_user_asks_for_it() -> None:
    values = weight(32, 48, 1.0)
    options = {"n": 96, "arithmetic": "float16", "family": "dense", "measure": False}
    assert ".8h" in tesa.kernel(values, target="aarch64:cortex-a76", **options).show("asm")
    with pytest.raises(UnsupportedError, match=r"does not compute in float16.*such as aarch64:cortex-a76"):
        tesa.kernel(values, target="aarch64:cortex-a53", **options)
    with pytest.raises(UsageError, match="not of bfloat16"):
        tesa.kernel(values, target="aarch64:cortex-a76", storage="bfloat16", **options)
