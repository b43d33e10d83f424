"""Measuring: right kernels get times, wrong ones never, and a crash is the candidate's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tesa.build.objects import BuildFailure, build_objects
from tesa.build.product import Product
from tesa.measure.failure import Failure, FailureKind
from tesa.measure.local import measure
from tesa.measure.reference import Inputs, activate, reference
from tesa.measure.timing import Timing
from tesa.schedules.types import Code, Epilogue, FloatArray, Problem, Window
from tests.build import toy

PROBLEM = toy.linear()
WEIGHT = toy.weight(PROBLEM)


def built(tmp_path: Path, codes: list[tuple[str, Code]]) -> list[Product]:
    found = build_objects(codes, toy.TARGET, jobs=1, cache=None, folder=tmp_path)
    kernels = []
    for (symbol, code), objects in zip(codes, found, strict=True):
        assert not isinstance(objects, BuildFailure)
        kernels.append(Product(symbol, objects, code.constants))
    return kernels


@pytest.mark.parametrize("isolate", [True, False])
def test_right_kernels_are_timed_and_wrong_ones_are_not(tmp_path: Path, isolate: bool) -> None:
    codes = [
        ("tesa_once", toy.code(PROBLEM, WEIGHT, "tesa_once")),
        ("tesa_off", toy.code(PROBLEM, WEIGHT, "tesa_off", error=0.01)),
        ("tesa_often", toy.code(PROBLEM, WEIGHT, "tesa_often", repeat=1000)),
    ]
    once, off, often = measure(PROBLEM, WEIGHT, built(tmp_path, codes), isolate=isolate, budget_ms=20)
    assert isinstance(once, Timing)
    assert isinstance(often, Timing)
    assert 0 < once.min_ms <= once.median_ms < often.median_ms
    assert once.repeats > often.repeats == 3  # far slower: it dropped out after the first rounds
    assert isinstance(off, Failure)
    assert off.kind == "wrong"
    assert "largest error 0.01" in off.message


def test_a_crash_is_the_candidates_own(tmp_path: Path) -> None:
    codes = [
        ("tesa_a", toy.code(PROBLEM, WEIGHT, "tesa_a")),
        ("tesa_bang", toy.crashing(PROBLEM, WEIGHT, "tesa_bang")),
        ("tesa_b", toy.code(PROBLEM, WEIGHT, "tesa_b")),
    ]
    first, bang, last = measure(PROBLEM, WEIGHT, built(tmp_path, codes), budget_ms=5)
    assert isinstance(first, Timing)
    assert isinstance(last, Timing)
    assert isinstance(bang, Failure)
    assert bang.kind == "crash"
    assert "SIGABRT" in bang.message


def test_a_kernel_that_does_not_end(tmp_path: Path) -> None:
    codes = [("tesa_a", toy.code(PROBLEM, WEIGHT, "tesa_a", repeat=2_000_000_000))]
    (result,) = measure(PROBLEM, WEIGHT, built(tmp_path, codes), limit_s=3)
    assert isinstance(result, Failure)
    assert result.kind == "timeout"


def test_missing_symbol_and_bad_object(tmp_path: Path) -> None:
    (kernel,) = built(tmp_path, [("tesa_a", toy.code(PROBLEM, WEIGHT, "tesa_a"))])
    garbage = tmp_path / "garbage.o"
    garbage.write_bytes(b"not an object")
    unlinked, unloaded = measure(
        PROBLEM, WEIGHT, [Product("tesa_a", (garbage,)), Product("tesa_other", kernel.objects)], budget_ms=1
    )
    assert isinstance(unlinked, Failure)
    assert unlinked.kind == "link"
    assert isinstance(unloaded, Failure)
    assert unloaded.kind == "load"


def test_wrong_arguments_are_a_failed_call(tmp_path: Path) -> None:
    (kernel,) = built(tmp_path, [("tesa_a", toy.code(PROBLEM, WEIGHT, "tesa_a"))])
    (result,) = measure(PROBLEM, WEIGHT, [Product("tesa_a", kernel.objects)], budget_ms=1)
    assert isinstance(result, Failure)
    assert result.kind == "call"


def test_what_fails_before_any_kernel_runs_blames_none(tmp_path: Path) -> None:
    made = built(tmp_path, [("tesa_a", toy.code(PROBLEM, WEIGHT, "tesa_a"))])
    results = measure(PROBLEM, WEIGHT, made * 2, inputs=Inputs(np.zeros((1, 2, 3), np.float32)))
    assert [result.kind for result in results if isinstance(result, Failure)] == [FailureKind.DEVICE] * 2
    assert not FailureKind.DEVICE.blames_kernel


def test_a_pool_of_two_threads(tmp_path: Path) -> None:
    problem = Problem("linear", 8, 12, 16, (1, 12, 16), (1, 8, 16), threads=2)
    codes = [("tesa_a", toy.code(problem, WEIGHT, "tesa_a"))]
    (result,) = measure(problem, WEIGHT, built(tmp_path, codes), budget_ms=5)
    assert isinstance(result, Timing)


def direct(problem: Problem, weight: FloatArray, x: FloatArray) -> np.ndarray:
    """The sum of a convolution, one element at a time."""
    w = problem.window
    assert w is not None
    x = x.reshape(problem.batch, problem.channels, w.height, w.width)
    y = np.zeros((problem.batch, problem.m, w.out_height, w.out_width))
    for b, m, i, j in np.ndindex(*y.shape):
        for k in range(problem.k):
            channel, area = divmod(k, w.kernel[0] * w.kernel[1])
            channel = m if problem.op == "depthwise" else channel
            row = i * w.stride[0] + area // w.kernel[1] * w.dilation[0] - w.padding[0]
            column = j * w.stride[1] + area % w.kernel[1] * w.dilation[1] - w.padding[1]
            if 0 <= row < w.height and 0 <= column < w.width:
                y[b, m, i, j] += weight[m, k] * x[b, channel, row, column]
    return y


@pytest.mark.parametrize(
    "window",
    [
        Window(5, 6, (3, 2)),
        Window(7, 6, (3, 3), stride=(2, 1), padding=(1, 0, 2, 1)),
        Window(8, 9, (3, 2), padding=(1, 1, 1, 1), dilation=(2, 3), stride=(1, 2)),
    ],
)
@pytest.mark.parametrize("op", ["conv2d", "depthwise"])
def test_reference_of_convolutions(window: Window, op: str) -> None:
    area = window.kernel[0] * window.kernel[1]
    k, n = (area if op == "depthwise" else 2 * area), window.out_height * window.out_width
    channels = 3 if op == "depthwise" else 2
    shape, out = (2, channels, window.height, window.width), (2, 3, window.out_height, window.out_width)
    epilogue = Epilogue(bias=True, residual=True, activation="relu")
    problem = Problem(op, 3, k, n, shape, out, batch=2, window=window, epilogue=epilogue)
    weight, inputs = toy.weight(problem), Inputs.random(problem, 3)
    assert inputs.bias is not None
    assert inputs.residual is not None
    expected = np.maximum(direct(problem, weight, inputs.x) + inputs.bias[:, None, None] + inputs.residual, 0)
    found = reference(problem, weight, inputs)
    np.testing.assert_allclose(found.y, expected, rtol=1e-6, atol=1e-6)
    assert found.tolerance < 1e-4
    assert found.error(expected.astype(np.float32)) < found.tolerance
    off = expected.astype(np.float32)
    off.flat[0] += 1e-3
    assert found.error(off) > found.tolerance
    off.flat[0] = np.nan
    assert found.error(off) == np.inf


def test_activations_at_known_points() -> None:
    x = np.array([-4.0, -1.0, 0.0, 1.0, 8.0])
    assert activate(x, "relu").tolist() == [0, 0, 0, 1, 8]
    assert activate(x, "relu6").tolist() == [0, 0, 0, 1, 6]
    np.testing.assert_allclose(activate(x, "hardswish"), [0, -1 / 3, 0, 2 / 3, 8])
    np.testing.assert_allclose(activate(x, "gelu"), [-1.2668497e-4, -0.15865525, 0, 0.84134475, 8], rtol=1e-6)
    np.testing.assert_allclose(activate(x, "sigmoid")[2:4], [0.5, 0.73105858], rtol=1e-7)
    np.testing.assert_allclose(activate(x, "silu")[2:4], [0.0, 0.73105858], rtol=1e-7)
    np.testing.assert_allclose(activate(x, "tanh")[3], 0.76159416, rtol=1e-7)
    with pytest.raises(ValueError, match="no activation"):
        activate(x, "step")
