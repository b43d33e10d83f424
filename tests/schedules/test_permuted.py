"""The permuted family: exact sums of gathered bytes, whatever the shape, and how its weights are packed."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tesa.schedules.cpu  # noqa: F401  (registers the families)
from tesa.build.source import source
from tesa.measure.reference import Inputs, reference
from tesa.schedules.cpu.windows import GROUP, pack
from tesa.schedules.registry import find
from tesa.schedules.types import Epilogue, Output, Problem, Window
from tesa.targets.target import parse_target, runs_here
from tests.schedules.reference import build, unaligned
from tests.support import drawn

TARGET = parse_target("x86:icelake-server")
CORE = TARGET.core
FAMILY = find("permuted")
here = pytest.mark.skipif(not runs_here(TARGET), reason="this machine's CPU cannot permute bytes (AVX-512 VBMI)")

sizes = st.tuples(st.integers(1, 40), st.integers(1, 200), st.integers(1, 40))
densities = st.sampled_from([0.02, 0.1, 0.3, 0.5])


def product(m: int, k: int, n: int, **more: Any) -> Problem:
    options = {"dtype": "int8", "output": Output("int32"), **more}
    batch = int(options.get("batch", 1))
    shapes = ((k, n), (m, n)) if batch == 1 else ((batch, k, n), (batch, m, n))
    return Problem("linear", m, k, n, *shapes, **options)


def draw(m: int, k: int, density: float, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    return np.where(rng.random((m, k)) < density, rng.choice([-128, -1, 1, 127], (m, k)), 0).astype(np.float32)


def run(problem: Problem, w: Any, config: Any, *arrays: Any) -> Any:
    code = FAMILY.emit(problem, w, CORE, config, "kernel")
    y = unaligned(np.full(problem.y_shape, 77, problem.output.dtype))
    with tempfile.TemporaryDirectory() as folder:
        function = build(code, CORE, Path(folder), TARGET.cpu)
        function(*map(unaligned, (arrays[0], *code.constants, *arrays[1:])), y)
    return y.numpy()


@given(sizes, st.sampled_from([4, 16]), st.sampled_from([16, 64]), densities, st.integers(0, 99))
def test_the_steps_are_the_weight(size: Any, lanes: int, align: int, density: float, seed: int) -> None:
    m, k, _ = size
    w = draw(m, k, density, seed)
    steps = pack(w, lanes, 64, align)
    found = np.zeros((m, k + 64 + 256), np.int64)
    for number, rows in enumerate(steps.rows):
        for step in range(steps.starts[number], steps.starts[number + 1]):
            assert steps.bases[step] % align == 0
            assert steps.places[step].max() < 64
            for lane, row in enumerate(rows):
                for value, place in zip(steps.values[step, lane], steps.places[step, lane], strict=True):
                    found[row, steps.bases[step] + place] += value if row >= 0 else 0
                    assert row >= 0 or value == 0
    np.testing.assert_array_equal(found[:, :k], w)
    assert not found[:, k:].any()
    assert sorted(steps.rows[steps.rows >= 0]) == list(range(m))
    fewest = np.count_nonzero(w, axis=1)[steps.rows[:, 0]]
    assert (np.diff(steps.starts) >= -(-fewest // GROUP)).all()  # the first row of a slice has the most weights


@here
@drawn(30)
@given(sizes, densities, st.sampled_from([1, 2]), st.sampled_from([1, 2]), st.integers(0, 99), st.data())
@pytest.mark.usefixtures("any_work_on_threads")
def test_sums_are_exact(size: Any, density: float, batch: int, threads: int, seed: int, data: st.DataObject) -> None:
    problem, w = product(*size, batch=batch, threads=threads), draw(size[0], size[1], density, seed)
    space = FAMILY.space(problem, w, CORE)
    if space:
        x = np.random.default_rng(seed).integers(0, 256, problem.x_shape).astype(np.uint8)
        got = run(problem, w, data.draw(st.sampled_from(list(space))), x)
        np.testing.assert_array_equal(got, w.astype(np.int64) @ x.astype(np.int64))


@here
@pytest.mark.parametrize("dtype", ["uint8", "int8", "float32"])
@pytest.mark.parametrize(("n", "activation"), [(1, None), (21, "relu"), (21, "gelu")])
def test_what_is_stored(dtype: str, n: int, activation: str | None) -> None:
    output = Output(dtype) if dtype == "float32" else Output(dtype, 0.05, 7)
    epilogue = Epilogue(bias=True, residual=True, activation=activation, scale=True)
    problem, w = product(20, 100, n, output=output, epilogue=epilogue), draw(20, 100, 0.4, 3)
    inputs = Inputs.random(problem, 5)
    wanted = reference(problem, w, inputs)
    got = run(problem, w, FAMILY.space(problem, w, CORE)[0], inputs.x, *inputs.extra)
    assert got.dtype == np.dtype(dtype)
    assert wanted.error(got) <= wanted.tolerance
    if output.quantized:
        assert (got != wanted.y).mean() < 0.02  # a code is off by one only where the number lies between two


@here
def test_a_pointwise_convolution_and_a_weight_of_zeros() -> None:
    problem = Problem("conv2d", 20, 40, 36, (1, 40, 6, 6), (1, 20, 6, 6), window=Window(6, 6, (1, 1)), dtype="int8",
                      output=Output("int32"))  # fmt: skip
    x = np.random.default_rng(0).integers(0, 256, problem.x_shape).astype(np.uint8)
    for w in (draw(20, 40, 0.3, 1), np.zeros((20, 40), np.float32)):
        got = run(problem, w, FAMILY.space(problem, w, CORE)[0], x)
        np.testing.assert_array_equal(got.reshape(20, 36), w.astype(np.int64) @ x.astype(np.int64).reshape(40, 36))


def test_the_loop_is_two_instructions_for_a_column() -> None:
    problem, w = product(64, 256, 64), draw(64, 256, 0.3, 0)
    text = source(FAMILY.emit(problem, w, CORE, {"columns": 16, "align": 32}, "k"), TARGET, "asm")
    (loop,) = (part for part in text.split("\n.LBB") if "vpermb" in part)
    assert (loop.count("vpermb"), loop.count("vpdpbusd"), loop.count("rsp")) == (16, 16, 0)
    assert loop.count("\n") < 16 * 2 + 16


def test_it_asks_for_what_it_needs() -> None:
    plain = parse_target("x86:cascadelake").core
    w = draw(32, 64, 0.2, 0)
    assert FAMILY.space(product(32, 64, 9), w, plain) == ()
    assert FAMILY.space(product(32, 64, 9), np.ones((32, 64), np.float32), CORE) == ()
    with pytest.raises(ValueError, match="permuted cannot compute int8 'linear' on core avx512"):
        FAMILY.emit(product(32, 64, 9), w, plain, {"columns": 8, "align": 32}, "k")
    with pytest.raises(ValueError, match="align is 32 or 64"):
        FAMILY.emit(product(32, 64, 9), w, CORE, {"columns": 8, "align": 8}, "k")
