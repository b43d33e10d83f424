"""Integer kernels: exact sums of uint8 X and int8 W on every instruction set, and how they are stored."""

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
from tesa.schedules.cpu.arithmetic import arithmetic
from tesa.schedules.registry import find
from tesa.schedules.types import Core, Epilogue, Output, Problem
from tesa.targets.target import parse_target, runs_here
from tesa.targets.x86 import AVX2, AVX512, BYTES, SSE42
from tests.schedules.reference import CPUS, build, unaligned
from tests.support import drawn

VNNI = replace(AVX512, dot=BYTES)
CHIPS = {VNNI: "cascadelake", AVX512: CPUS["avx512"], AVX2: CPUS["avx2"], SSE42: CPUS["sse4.2"]}
HERE = [core for core, cpu in CHIPS.items() if runs_here(parse_target(f"x86:{cpu}"))]
FORMS = ("dense", "block", "indexed")

cores = st.sampled_from(HERE)
sizes = st.tuples(st.integers(1, 20), st.integers(1, 40), st.integers(1, 70))


pytestmark = pytest.mark.usefixtures("any_work_on_threads")


def product(m: int, k: int, n: int, **more: Any) -> Problem:
    options = {"dtype": "int8", "output": Output("int32"), **more}
    batch = int(options.get("batch", 1))
    shapes = ((k, n), (m, n)) if batch == 1 else ((batch, k, n), (batch, m, n))
    return Problem("linear", m, k, n, *shapes, **options)


def draw(problem: Problem, density: float, seed: int) -> tuple[Any, Any]:
    """W with all codes, the extreme ones too, and X."""
    rng = np.random.default_rng(seed)
    live = rng.random((problem.m, problem.k)) < density
    w = np.where(live, rng.choice([-128, -127, -1, 1, 3, 127], live.shape), 0).astype(np.float32)
    x = rng.choice(np.array([0, 1, 100, 254, 255], np.uint8), problem.x_shape)
    return w, x


def run(form: str, problem: Problem, w: Any, x: Any, core: Core, config: Any, *extra: Any) -> Any:
    code = find(form).emit(problem, w, core, config, "kernel")
    y = unaligned(np.full(problem.y_shape, 77, problem.output.dtype))
    with tempfile.TemporaryDirectory() as folder:
        function = build(code, core, Path(folder), CHIPS[core])
        function(*map(unaligned, (x, *code.constants, *extra)), y)
    return y.numpy()


@drawn(60)
@given(sizes, cores, st.sampled_from(FORMS), st.sampled_from([0.1, 0.5, 0.9]), st.integers(0, 99), st.data())
def test_sums_are_exact(size: Any, core: Core, form: str, density: float, seed: int, data: st.DataObject) -> None:
    problem = product(*size, batch=data.draw(st.sampled_from([1, 2])), threads=data.draw(st.sampled_from([1, 2])))
    w, x = draw(problem, density, seed)
    space = find(form).space(problem, w, core)
    if space:
        config = data.draw(st.sampled_from(list(space)))
        got = run(form, problem, w, x, core, config)
        np.testing.assert_array_equal(got, w.astype(np.int64) @ x.astype(np.int64))


@drawn(25)
@given(sizes, cores, st.sampled_from(["uint8", "int8", "float32"]), st.sampled_from([None, "relu", "gelu"]), st.data())
def test_what_is_stored(size: Any, core: Core, dtype: str, activation: str | None, data: st.DataObject) -> None:
    from tesa.measure.reference import Inputs, reference

    output = Output(dtype) if dtype == "float32" else Output(dtype, 0.05, 7)
    epilogue = Epilogue(data.draw(st.booleans()), data.draw(st.booleans()), activation, scale=True)
    problem = product(*size, output=output, epilogue=epilogue)
    w, _ = draw(problem, 0.4, 3)
    inputs = Inputs.random(problem, 5)
    wanted = reference(problem, w, inputs)
    got = run("dense", problem, w, inputs.x, core, find("dense").space(problem, w, core)[0], *inputs.extra)
    assert got.dtype == np.dtype(dtype)
    assert wanted.error(got) <= wanted.tolerance
    if output.quantized:
        assert (got != wanted.y).mean() < 0.02  # a code is off by one only where the number lies between two


@pytest.mark.parametrize("core", HERE, ids=lambda core: f"{core.name}-{core.dot.group}")
def test_a_group_without_weights_is_left_out(core: Core) -> None:
    sums = arithmetic(product(4, 16, 16), core)
    w = np.zeros((4, 16), np.float32)
    w[0, 5] = -1
    matrix = sums.matrix(w)
    assert matrix.shape == (4, 16 // sums.group)
    assert np.argwhere(matrix).tolist() == [[0, 5 // sums.group]]


def test_the_vnni_instruction_is_what_is_compiled() -> None:
    import tvm

    problem = product(16, 64, 64)
    w, _ = draw(problem, 1.0, 0)
    code = find("dense").emit(problem, w, VNNI, find("dense").space(problem, w, VNNI)[0], "kernel")
    target = tvm.target.Target({"kind": "llvm", "mcpu": "cascadelake"})
    text = tvm.compile(tvm.IRModule({"kernel": code.main}), target=target).mod.inspect_source("asm")
    assert "vpdpbusd" in text
