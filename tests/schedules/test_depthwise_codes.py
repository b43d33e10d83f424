"""Depthwise convolutions of codes, channels last: exact sums on every instruction set, and how they are stored."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tesa.schedules.cpu  # noqa: F401  (registers the families)
from tesa.measure.reference import Inputs, reference
from tesa.schedules.registry import find
from tesa.schedules.types import Core, Epilogue, Output, Problem, Window
from tesa.targets.target import parse_target, runs_here
from tesa.targets.x86 import AVX2, AVX512, BYTES, SSE42
from tests.schedules.reference import CPUS, build, unaligned
from tests.support import drawn, rest_slow

VNNI = replace(AVX512, dot=BYTES)
CHIPS = {VNNI: "cascadelake", AVX512: CPUS["avx512"], AVX2: CPUS["avx2"], SSE42: CPUS["sse4.2"]}
HERE = [core for core, cpu in CHIPS.items() if runs_here(parse_target(f"x86:{cpu}"))]
PLAIN = replace(SSE42, dot=None)
FAMILY = find("depthwise_codes")

pytestmark = pytest.mark.usefixtures("any_work_on_threads")


def convolution(channels: int, window: Window, **more: Any) -> Problem:
    options = {"dtype": "int8", "output": Output("int32"), "layout": "features_last", **more}
    batch = int(options.setdefault("batch", 1))
    places = (window.out_height, window.out_width)
    shapes = (batch, window.height, window.width, channels), (batch, *places, channels)
    area = window.kernel[0] * window.kernel[1]
    return Problem("depthwise", channels, area, places[0] * places[1], *shapes, window=window, **options)


def draw(problem: Problem, density: float, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    live = rng.random((problem.m, problem.k)) < density
    w = np.where(live, rng.choice([-128, -127, -1, 1, 3, 127], live.shape), 0)
    if seed % 3 == 0:
        w *= rng.random((1, problem.k)) < 0.5  # taps that no channel has
    return w.astype(np.float32)


def run(problem: Problem, w: Any, core: Core, config: Any, inputs: Inputs) -> Any:
    code = FAMILY.emit(problem, w, core, config, "kernel")
    y = unaligned(np.full(problem.y_shape, 77, problem.output.dtype))
    with tempfile.TemporaryDirectory() as folder:
        function = build(code, core, Path(folder), CHIPS.get(core, CPUS["sse4.2"]))
        function(*map(unaligned, (inputs.x, *code.constants, *inputs.extra)), y)
    return y.numpy()


@st.composite
def windows(draw_: st.DrawFn) -> Window:
    kernel = draw_(st.tuples(st.integers(1, 4), st.integers(1, 3)))
    stride, dilation = draw_(st.tuples(*[st.integers(1, 3)] * 2)), draw_(st.tuples(*[st.integers(1, 2)] * 2))
    padding = draw_(st.tuples(*[st.integers(0, 3)] * 4))
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    height = draw_(st.integers(max(reach[0] - padding[0] - padding[2], 1), 14))
    width = draw_(st.integers(max(reach[1] - padding[1] - padding[3], 1), 30))
    return Window(height, width, kernel, stride, padding, dilation)


@drawn(10)
@given(windows(), st.integers(1, 150), st.sampled_from([*HERE, PLAIN]), st.sampled_from([0.1, 1.0]), st.data())
def test_sums_are_exact(window: Window, channels: int, core: Core, density: float, data: st.DataObject) -> None:
    more = {"batch": data.draw(st.sampled_from([1, 2])), "threads": data.draw(st.sampled_from([1, 2, 3]))}
    problem = convolution(channels, window, x_zero=data.draw(st.sampled_from([0, 1, 128, 255])), **more)
    w = draw(problem, density, data.draw(st.integers(0, 99)))
    assert FAMILY.space(problem, w, core)
    config = {"rows": data.draw(st.sampled_from([1, 2])), "columns": 2}
    inputs = Inputs.random(problem, 3)
    np.testing.assert_array_equal(run(problem, w, core, config, inputs), reference(problem, w, inputs).y)


@pytest.mark.parametrize("core", [*HERE, PLAIN], ids=lambda core: f"{core.name}-{core.dot and core.dot.group}")
@pytest.mark.parametrize(
    ("dtype", "activation", "residual"),
    rest_slow(
        [("uint8", None, None), ("int8", "relu", None), ("float32", "gelu", "float32"), ("uint8", "relu6", "uint8")], 3
    ),
)
def test_what_is_stored(core: Core, dtype: str, activation: str | None, residual: str | None) -> None:
    output = Output(dtype) if dtype == "float32" else Output(dtype, 0.05, 7)
    kind = Output() if residual != "uint8" else Output("uint8", 0.02, 100)
    epilogue = Epilogue(bias=True, residual=bool(residual), activation=activation, scale=True)
    window = Window(5, 5, (3, 3), padding=(1, 1, 1, 1))
    problem = convolution(70, window, output=output, residual=kind, epilogue=epilogue, x_zero=9)
    w, inputs = draw(problem, 0.7, 4), Inputs.random(problem, 5)
    wanted = reference(problem, w, inputs)
    got = run(problem, w, core, {"rows": 1, "columns": 2}, inputs)
    assert got.dtype == np.dtype(dtype)
    assert wanted.error(got) <= wanted.tolerance
    if output.quantized:
        assert (got != wanted.y).mean() < 0.02  # a code is off by one only where the number lies between two


def test_it_knows_no_other_layout() -> None:
    problem = convolution(64, Window(9, 9, (3, 3)))
    assert FAMILY.space(replace(problem, layout="features_first"), draw(problem, 1.0, 1), VNNI) == ()
    with pytest.raises(ValueError, match="depthwise_codes cannot compute float32"):
        FAMILY.emit(replace(problem, dtype="float32"), draw(problem, 1.0, 1), VNNI, {"rows": 1, "columns": 4}, "k")
