"""Every family of kernels as WebAssembly: run in Node.js against NumPy, and the instructions that it is made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tesa.schedules.registry import families, find
from tesa.schedules.types import Epilogue, FloatArray, Output, Problem, Window
from tesa.targets.target import parse_target
from tests.node import TARGETS, Case, check_all, instructions
from tests.support import rest_slow

FLOAT = ("dense", "block", "indexed", "sliced", "rowlanes", "vector", "depthwise")
INT8 = ("dense", "block", "indexed")


def _weight(problem: Problem, density: float, seed: int = 0) -> FloatArray:
    """Of 2x2 blocks, with an empty row; codes where the problem is of codes."""
    rng = np.random.default_rng(seed)
    shape = (problem.m, problem.k)
    mask = np.kron(rng.random((-(-shape[0] // 2), -(-shape[1] // 2))) < density, np.ones((2, 2)))
    made = rng.integers(-128, 128, shape) if problem.dtype == "int8" else rng.standard_normal(shape)
    made = made * mask[: shape[0], : shape[1]]
    if problem.op != "depthwise":
        made[shape[0] // 2] = 0
    return made.astype(np.float32)


def _linear(m: int, k: int, n: int, batch: int = 1, **more: Any) -> Problem:
    return Problem("linear", m, k, n, (batch, k, n), (batch, m, n), batch, **more)


def _window(op: str, m: int, channels: int, window: Window, **more: Any) -> Problem:
    out = (window.out_height, window.out_width)
    taps = window.kernel[0] * window.kernel[1]
    k = taps if op == "depthwise" else channels * taps
    shapes = (1, channels, window.height, window.width), (1, m, *out)
    return Problem(op, m, k, out[0] * out[1], *shapes, 1, window, **more)


def _problems() -> Iterator[Problem]:
    full = Epilogue(True, True, "relu6")
    for n in (1, 3, 7, 49, 100):
        yield _linear(13, 22, n, epilogue=full)
    yield _linear(8, 16, 33, batch=2, epilogue=Epilogue(False, False, "gelu"))
    yield _linear(5, 9, 20, epilogue=Epilogue(True, False, "hardswish"))
    yield _linear(6, 300, 12, epilogue=Epilogue(True, False, "sigmoid"))
    ragged = Window(9, 11, (3, 3), (2, 2), (1, 1, 1, 1))
    yield _window("conv2d", 6, 4, ragged, epilogue=full)
    yield _window("conv2d", 6, 5, Window(7, 6, (1, 1)), epilogue=Epilogue(True, False, "relu"))
    yield _window("depthwise", 6, 6, ragged, epilogue=full)
    yield _window("depthwise", 5, 5, Window(8, 9, (3, 3), (1, 1), (1, 1, 1, 1)), epilogue=Epilogue(True, False, "relu"))
    for n in (1, 49):
        for output in (Output("int32"), Output("uint8", 0.05, 7), Output("float32")):
            scaled = Epilogue(True, False, "relu", True) if output.dtype != "int32" else Epilogue()
            yield _linear(7, 21, n, dtype="int8", epilogue=scaled, output=output)


def _cases(target: str) -> list[Case]:
    """Every family for each problem and a sparse and a full weight: the packed and the unpacked form in turns."""
    core, made = parse_target(target).core, []
    for number, (problem, density) in enumerate((p, d) for p in _problems() for d in (0.15, 0.9)):
        weight = _weight(problem, density)
        for family in families("cpu"):
            space = list(family.space(problem, weight, core))
            turn = [config for config in space if config.get("pack", number // 2 % 2) == number // 2 % 2]
            made += [Case(problem, weight, family.name, config) for config in (turn or space)[:1]]
    return made


PARTS = [*((TARGETS[0], part) for part in range(4)), (TARGETS[1], 0), (TARGETS[1], 2)]
"""The relaxed target has the same loops, with multiply-adds: half of them are enough."""


@pytest.mark.parametrize(("target", "part"), rest_slow(PARTS))
def test_every_family_is_right(target: str, part: int) -> None:
    cases = _cases(target)
    assert {case.family for case in cases if case.problem.dtype == "float32"} >= set(FLOAT)
    assert {case.family for case in cases if case.problem.dtype == "int8"} >= set(INT8)
    check_all(cases[part::4], target)


def test_no_unrolled_kernel_is_offered() -> None:
    problem = _linear(64, 64, 196)
    assert not find("unrolled").space(problem, _weight(problem, 0.1), parse_target("wasm32").core)


def _first(family: str, problem: Problem, density: float) -> Case:
    weight, core = _weight(problem, density), parse_target("wasm32").core
    return Case(problem, weight, family, find(family).space(problem, weight, core)[0])


@pytest.mark.parametrize(("family", "n"), [("dense", 49), ("block", 49), ("indexed", 49), ("vector", 1), ("sliced", 1)])
def test_a_product_and_its_sum_are_one_relaxed_instruction(family: str, n: int) -> None:
    case = _first(family, _linear(16, 64, n), 0.15)
    plain, relaxed = (instructions(case, target) for target in TARGETS)
    assert plain["f32x4.mul"]
    assert plain["f32x4.add"]
    assert not plain["call"]
    assert relaxed["f32x4.relaxed_madd"]
    assert not relaxed["f32x4.mul"]
    assert not relaxed["call"]


def test_pairs_of_codes_have_an_instruction() -> None:
    problem = _linear(16, 64, 49, dtype="int8", output=Output("int32"))
    assert instructions(_first("dense", problem, 0.9), "wasm32")["i32x4.dot_i16x8_s"]


def test_a_window_is_permuted() -> None:
    assert instructions(_first("sliced", _linear(16, 64, 1), 0.15), "wasm32")["i8x16.swizzle"]
