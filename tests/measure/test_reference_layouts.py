"""The reference of a problem in features_last is that of the same problem in features_first, turned."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tesa.measure.reference import Inputs, reference
from tesa.records.task import Task
from tesa.schedules.registry import families
from tesa.schedules.types import Epilogue, Output, Problem, Window
from tesa.targets.target import parse_target

CODES = Output("uint8", 0.05, 120)
WINDOW = Window(7, 9, (3, 2), (2, 1), (1, 0, 1, 2), (1, 2))
LINEAR = Problem("linear", 6, 10, 5, (2, 10, 5), (2, 6, 5), batch=2, dtype="int8", x_zero=3)
CONV = Problem(
    "conv2d", 6, 24, WINDOW.out_height * WINDOW.out_width, (2, 4, 7, 9), (2, 6, WINDOW.out_height, WINDOW.out_width),
    batch=2, window=WINDOW, dtype="int8", x_zero=3,
)  # fmt: skip
DEPTHWISE = replace(CONV, op="depthwise", m=4, k=6, y_shape=(2, 4, WINDOW.out_height, WINDOW.out_width))


@pytest.mark.parametrize("first", [LINEAR, CONV, DEPTHWISE], ids=lambda p: p.op)
@pytest.mark.parametrize("output", [Output("int32"), Output(), CODES], ids=lambda o: o.dtype)
@pytest.mark.parametrize("kind", [Output(), Output("uint8", 0.1, 100)], ids=lambda o: f"residual {o.dtype}")
def test_turned(first: Problem, output: Output, kind: Output) -> None:
    epilogue = Epilogue() if output.dtype == "int32" else Epilogue(True, True, "relu", True)
    first = replace(first, output=output, epilogue=epilogue, residual=kind)
    turn = {shape: (shape[0], *shape[2:], shape[1]) for shape in (first.x_shape, first.y_shape)}
    last = replace(first, layout="features_last", x_shape=turn[first.x_shape], y_shape=turn[first.y_shape])
    weight = np.random.default_rng(0).integers(-127, 128, (first.m, first.k)).astype(np.float32)
    inputs = Inputs.random(first)
    residual = None if inputs.residual is None else np.moveaxis(inputs.residual, 1, -1)
    turned = replace(inputs, x=np.moveaxis(inputs.x, 1, -1), residual=residual)
    found = reference(last, weight, turned).y
    np.testing.assert_array_equal(found, np.moveaxis(reference(first, weight, inputs).y, 1, -1))
    assert Inputs.random(last).x.shape == last.x_shape
    assert Task.of(first, weight).key != Task.of(last, weight).key


def test_codes_of_a_residual_are_numbers() -> None:
    problem = Problem(
        "linear", 1, 1, 1, (1, 1), (1, 1), dtype="int8", epilogue=Epilogue(residual=True, scale=True),
        residual=Output("int8", 0.5, -3),
    )  # fmt: skip
    inputs = Inputs(np.full((1, 1), 7, np.uint8), None, np.full((1, 1), 5, np.int8), np.full(1, 0.25, np.float32))
    assert reference(problem, np.full((1, 1), 2, np.float32), inputs).y == 7 * 2 * 0.25 + (5 + 3) * 0.5


def test_families_of_another_layout_have_no_space() -> None:
    problem = replace(LINEAR, layout="features_last")
    weight = np.ones((6, 10), np.float32)
    core = parse_target("x86:znver4").core
    offered = {made.name for made in families("cpu") if made.space(problem, weight, core)}
    assert offered <= {made.name for made in families("cpu") if "features_last" in made.layouts}
    assert any(made.space(LINEAR, weight, core) for made in families("cpu"))
