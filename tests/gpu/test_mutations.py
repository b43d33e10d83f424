"""Every mistake that is planted into the text of a kernel is found: by a fault, or by a wrong number."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tesa.measure.reference import Inputs, Reference, reference
from tesa.schedules.gpu import blocks, dots, unrolled
from tesa.schedules.gpus import GpuCode, GpuText
from tesa.schedules.types import Epilogue, FloatArray, Output, Problem, Window
from tesa.targets.target import parse_target
from tests.gpu.kernels import run, sparse
from tests.gpu.mutations import AMD, PTX, mutants
from tests.gpu.simulate import Fault
from tests.schedules.gpu.tiles import rounded
from tests.support import rest_slow


def _gpu(name: str):
    return parse_target(name).gpu


def _linear(m: int, k: int, n: int, batch: int = 1, **more: object) -> Problem:
    return Problem("linear", m, k, n, (batch, k, n), (batch, m, n), batch, **more)  # type: ignore[arg-type]


BORDER = Window(6, 6, (3, 3), padding=(1, 1, 1, 1))
CONV = Problem("conv2d", 18, 36, 36, (2, 4, 6, 6), (2, 18, 6, 6), 2, BORDER)
WIDE = Problem("conv2d", 18, 144, 36, (2, 16, 6, 6), (2, 18, 6, 6), 2, BORDER, arithmetic="float16")
ALL = Epilogue(True, True, "relu")


def _unrolled(
    problem: Problem, groups: int, stage: int, name: str = "cuda:sm_80"
) -> tuple[Problem, FloatArray, GpuCode]:
    weight = rounded(sparse(problem.m, problem.k, 0.3), problem.arithmetic)
    config = {"rows": 16, "threads": 64, "groups": groups, "stage": stage}
    return problem, weight, unrolled.emit(problem, weight, _gpu(name), config, "k")


def _tiles(
    problem: Problem, kind: int = 0, name: str = "cuda:sm_80", way: int = 0
) -> tuple[Problem, FloatArray, GpuCode]:
    rng = np.random.default_rng(0)
    integer = problem.dtype == "int8"
    weight = rng.integers(-127, 128, (problem.m, problem.k)) if integer else rng.standard_normal((problem.m, problem.k))
    if kind:
        weight = weight * (rng.random((problem.m, problem.k // 4, 4)).argsort(-1) < 2).reshape(weight.shape)
    weight = weight.astype(np.float32) if integer else rounded(weight.astype(np.float32), problem.arithmetic)
    config = {"rows": 16, "columns": 64, "depth": 16 if name.startswith("cuda") else 32, "sparse": kind}
    shapes = {0: config, 1: {**config, "stages": 3}, 2: {**config, "rows": 64, "depth": 32}}
    return problem, weight, blocks.emit(problem, weight, _gpu(name), {**shapes[way], "way": way}, "k")


def _dots(problem: Problem, name: str) -> tuple[Problem, FloatArray, GpuCode]:
    rng = np.random.default_rng(0)
    weight = (rng.integers(-127, 128, (problem.m, problem.k)) * (rng.random((problem.m, problem.k)) < 0.3)).astype("f4")
    return problem, weight, dots.emit(problem, weight, _gpu(name), {"rows": 8, "threads": 64}, "k")


INTEGER_CONV = replace(CONV, dtype="int8", m=6, y_shape=(2, 6, 6, 6), output=Output("int32"))
CODES = _linear(20, 64, 72, dtype="int8", epilogue=replace(ALL, scale=True), output=Output("uint8", 0.05, 3))
CURVED = replace(CODES, k=32, x_shape=(1, 32, 72), epilogue=replace(ALL, scale=True, activation="silu"))
KERNELS = {
    "unrolled": lambda: _unrolled(_linear(18, 24, 40, epilogue=ALL), 1, 0),
    "unrolled, groups": lambda: _unrolled(_linear(10, 64, 30, 2), 2, 0),
    "unrolled, staged groups": lambda: _unrolled(_linear(10, 96, 40), 2, 1),
    "unrolled, staged border": lambda: _unrolled(CONV, 1, 1),
    "unrolled, border": lambda: _unrolled(CONV, 1, 0),
    "tiles of float16": lambda: _tiles(_linear(20, 64, 72, arithmetic="float16", epilogue=ALL)),
    "tiles of float16, border": lambda: _tiles(replace(CONV, arithmetic="float16")),
    "tiles of tf32": lambda: _tiles(_linear(20, 32, 72, arithmetic="tfloat32")),
    "tiles of two in four": lambda: _tiles(_linear(20, 96, 72, arithmetic="float16"), 1),
    "tiles of codes": lambda: _tiles(CODES),
    "tiles by copies": lambda: _tiles(_linear(20, 96, 72, arithmetic="float16", epilogue=ALL), way=1),
    "tiles by copies, border": lambda: _tiles(WIDE, way=1),
    "tiles of four warps": lambda: _tiles(_linear(20, 128, 68, arithmetic="float16"), 0, "cuda:sm_90", 2),
    "tiles of float16, CDNA": lambda: _tiles(_linear(20, 96, 72, arithmetic="float16"), 0, "rocm:gfx90a"),
    "tiles of two in four, CDNA3": lambda: _tiles(_linear(20, 96, 72, arithmetic="float16"), 1, "rocm:gfx942"),
    "tiles of codes, RDNA3": lambda: _tiles(CURVED, 0, "rocm:gfx1100"),
    "dots": lambda: _dots(_linear(6, 24, 72, dtype="int8", output=Output("int32")), "cuda:sm_80"),
    "dots, border, gfx1030": lambda: _dots(INTEGER_CONV, "rocm:gfx1030"),
    "unrolled, CDNA": lambda: _unrolled(_linear(18, 24, 40), 1, 0, "rocm:gfx90a"),
    "unrolled, RDNA3, groups": lambda: _unrolled(_linear(10, 40, 40), 2, 0, "rocm:gfx1100"),
    "unrolled, pairs, CDNA": lambda: _unrolled(_linear(10, 10, 100, arithmetic="float16"), 2, 0, "rocm:gfx90a"),
}


def _inputs(problem: Problem, weight: FloatArray, pairs: bool = False) -> tuple[Inputs, Reference]:
    """X of numbers that the unit has, so that the tolerance is that of the sums alone, and the right result.

    pairs: the sums are of 16 bits, too."""
    inputs = Inputs.random(problem)
    if problem.arithmetic != "float32":
        inputs = replace(inputs, x=rounded(inputs.x, problem.arithmetic))
    return inputs, reference(problem if pairs else replace(problem, arithmetic="float32"), weight, inputs)


@pytest.mark.parametrize("name", rest_slow(sorted(KERNELS, key=lambda name: "," in name), 6))
def test_every_mistake_is_found(name):
    problem, weight, code = KERNELS[name]()
    inputs, right = _inputs(problem, weight, "pairs" in name)
    assert right.difference(run(code, problem, inputs)[0]) == ""
    module = code.modules[0]
    assert isinstance(module, GpuText)
    missed = []
    count = 0
    for what, text in mutants(module.text):
        count += 1
        wrong = replace(code, modules=(replace(module, text=text), *code.modules[1:]))
        try:
            if right.difference(run(wrong, problem, inputs)[0]) == "":
                missed.append(what)
        except Fault:
            pass
    assert count >= 6
    assert not missed, "\n".join(missed)


def test_every_kind_of_mistake_is_made_somewhere():
    texts = [text.text for make in KERNELS.values() for text in make()[2].modules if isinstance(text, GpuText)]
    for mutation in (*PTX, *AMD):
        amd = mutation in AMD
        assert any(mutation.places(text) for text in texts if (".amdgcn" in text) == amd), mutation.name


def test_one_bit_of_a_constant_is_found():
    """The weights of tiles are data: a bit of each of some words is turned."""
    problem, weight, code = KERNELS["tiles of float16"]()
    inputs, right = _inputs(problem, weight)
    packed = code.constants[0]
    for at in np.flatnonzero(packed.reshape(-1) & 0xFFFF)[:: packed.size // 7]:
        words = packed.copy()
        words.reshape(-1)[at] ^= 1 << 13
        assert right.difference(run(replace(code, constants=(words, *code.constants[1:])), problem, inputs)[0])
