"""Emulated programs: right kernels pass, and each kind of wrong one is named while the others run; counts are exact."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tvm.tirx.script import builder as T

from tesa.schedules.cpu.loops import function, lanes, parameter, serial
from tesa.schedules.types import Code, Epilogue, Problem
from tesa.targets.target import parse_target
from tests.emulated.assembly import foreign, listing
from tests.emulated.programs import case, check, made, objects_of, run

TARGET = parse_target("aarch64:cortex-a76")


def copy(read: int, write: int) -> Code:
    """Vectors of x from element `read` to element `write` of y, both of 64 elements."""
    with function("copy") as builder:
        x, y = parameter("x", (64,)), parameter("y", (64,))
        with serial("i", 16) as i, lanes(4) as lane:
            T.buffer_store(y, x[i * 4 + lane + read], [i * 4 + lane + write])
    return Code(builder.get())


def product(n: int = 35) -> Any:
    weight = np.random.default_rng(0).standard_normal((16, 24)).astype(np.float32)
    epilogue = Epilogue(bias=True, activation="relu", residual=True)
    return case("dense", Problem("linear", 16, 24, n, (1, 24, n), (1, 16, n), epilogue=epilogue), weight, TARGET)


def test_faults_are_named_and_the_other_cases_run() -> None:
    x = np.arange(64, dtype=np.float32)
    cases = [
        made("reads too far", copy(4, 0), [x], (64,)),
        made("writes in front", copy(0, -4), [x], (64,)),
        made("right", copy(0, 0), [x], (64,)),
    ]
    far, front, right = run(cases, TARGET)
    assert far.fault == "Segmentation fault"
    assert front.fault == "wrote in front of an array"
    assert right.fault == ""
    np.testing.assert_array_equal(right.y, x)
    good = product()
    check([good, product(36)], TARGET)
    wrong = replace(good, name="the wrong one", inputs=[good.inputs[0] + 1, *good.inputs[1:]])
    with pytest.raises(AssertionError, match="1 of 2 kernels are wrong on max:\nthe wrong one: largest error"):
        check([good, wrong], TARGET)


def test_counts_of_one_call() -> None:
    (result,) = run([product(36)], TARGET, counted=True)
    assert result.count is not None
    assert result.count.products == 16 * 24 * 36 // 4
    assert result.count.products < result.count.instructions < 3 * result.count.products
    again = run([product(36)], TARGET, counted=True)[0].count
    assert again == result.count
    x = np.arange(64, dtype=np.float32)
    count = run([made("copy", copy(0, 0), [x], (64,))], TARGET, counted=True)[0].count
    assert count is not None
    assert 8 <= count.stores <= 24
    assert count.products == 0


def test_the_instructions_that_a_cpu_lacks(tmp_path: Path) -> None:
    newer = parse_target("aarch64:neoverse-n2")
    problem = Problem("linear", 8, 16, 32, (16, 32), (8, 32), dtype="int8", epilogue=Epilogue(scale=True))
    objects = objects_of(case("dense", problem, np.ones((8, 16), np.float32), newer).code, newer, tmp_path)
    products = re.compile("us(dot|mmla)")
    assert any(products.match(line) for line in listing(objects).busiest("us(dot|mmla)").lines)
    assert all(products.match(line) for line in foreign(objects, "cortex-a53"))
    assert foreign(objects, "cortex-a53")
    assert foreign(objects, "neoverse-n2") == []
