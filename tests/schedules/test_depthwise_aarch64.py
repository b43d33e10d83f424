"""Depthwise convolutions for 64-bit ARM: borders by whole loads and permutations, never outside of an array."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from tesa.schedules.registry import find
from tesa.schedules.types import Epilogue, Problem, Window
from tesa.targets.target import Target, parse_target
from tests.emulated.programs import Case, case, check, run

TARGET = parse_target("aarch64:cortex-a53")


def layer(
    window: Window, activation: str | None, seed: int, channels: int = 3, target: Target = TARGET, live: float = 1.0
) -> Case:
    out = (window.out_height, window.out_width)
    shapes = (1, channels, window.height, window.width), (1, channels, *out)
    taps = window.kernel[0] * window.kernel[1]
    epilogue = Epilogue(True, seed % 2 == 0, activation)
    p = Problem("depthwise", channels, taps, out[0] * out[1], *shapes, 1, window, epilogue)
    rng = np.random.default_rng(seed)
    weight = (rng.standard_normal((channels, taps)) * (rng.random((channels, taps)) < live)).astype(np.float32)
    space = find("depthwise").space(p, weight, target.core)
    return case("depthwise", p, weight, target, space[seed % len(space)], name=f"{window} {activation}")


def test_borders_of_rows_around_the_length_of_a_vector() -> None:
    cases = []
    for seed, (width, stride) in enumerate(product((2, 3, 4, 5, 7, 9), (1, 2))):
        kernel, padding = ((3, 3), (1, 1, 1, 1)) if seed % 3 else ((3, 5), (1, 3, 0, 2))
        window = Window(6, width, kernel, (stride, stride), padding)
        cases.append(layer(window, (None, "relu", "relu6", "hardswish")[seed % 4], seed))
    check(cases, TARGET, "cortex-a53")


@pytest.mark.slow
def test_columns_a_stride_apart_are_one_vector_moved_on() -> None:
    cases = []
    shapes = ((3, 2, 1), (5, 2, 1), (5, 2, 2), (4, 3, 1), (7, 3, 1), (3, 4, 2), (1, 2, 1), (2, 2, 3))
    for seed, (kernel, stride, dilation) in enumerate(shapes):
        for width in (4, 8, 13, 18, 33):
            if width + 3 < dilation * (kernel - 1) + 1:
                continue
            padding = (1, seed % 4, 1, 3 - seed % 4)
            window = Window(7, width, (2, kernel), (2, stride), padding, (1, dilation))
            cases.append(layer(window, (None, "relu")[seed % 2], seed + width, live=(1.0, 0.6)[width % 2]))
    check(cases, TARGET, "cortex-a53")


def test_a_stride_costs_few_loads() -> None:
    window = Window(32, 32, (3, 3), (2, 2), (1, 1, 1, 1))
    with_it = parse_target("aarch64:cortex-a76")
    without = replace(with_it, core=replace(with_it.core, edges=False))
    moved, loaded = run([layer(window, "relu6", 3, 16, target) for target in (with_it, without)], with_it, counted=True)
    assert moved.count is not None
    assert loaded.count is not None
    assert moved.count.products == loaded.count.products
    assert moved.count.loads < loaded.count.loads / 2
    assert moved.count.instructions < 0.7 * loaded.count.instructions


def test_borders_cost_no_loads_of_single_lanes() -> None:
    window = Window(8, 8, (3, 3), (1, 1), (1, 1, 1, 1))
    without = replace(TARGET, core=replace(TARGET.core, edges=False))
    edges, lanes = run([layer(window, "relu6", 3, 16, target) for target in (TARGET, without)], TARGET, counted=True)
    assert edges.count is not None
    assert lanes.count is not None
    assert edges.count.products == lanes.count.products
    assert edges.count.loads < lanes.count.loads
    assert edges.count.instructions < lanes.count.instructions
