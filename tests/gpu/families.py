"""What a kernel for GPUs is compared with, and how a test runs one that its family writes as functions of TVM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import tesa.schedules.gpu  # noqa: F401  (registers the families)
from tesa.schedules.gpus import Gpu, GpuCode
from tesa.schedules.registry import find
from tesa.schedules.types import Config, FloatArray, Problem
from tesa.targets.cuda import GPUS
from tests.gpu import opencl
from tests.schedules import reference

GPU = GPUS["sm_80"]
_EPSILON = {"float32": 2.0**-23, "float16": 2.0**-10}


@dataclass
class Case:
    """A kernel and what it is given. given: its arrays by their names as arguments; wanted: Y in float64."""

    problem: Problem
    weight: FloatArray
    code: GpuCode
    given: dict[str, NDArray] = field(default_factory=dict)
    wanted: NDArray | None = None

    def arrays(self, places: Sequence[str]) -> list[NDArray]:
        """The arrays of a launch's arguments."""
        return [self.given[name] for name in places]


def sparse(m: int, k: int, density: float, seed: int = 0, dtype: str = "float32") -> FloatArray:
    """A random weight (m, k), of numbers that its kind holds exactly."""
    rng = np.random.default_rng(seed)
    values = rng.integers(-9, 10, (m, k)) / 4 if dtype != "int8" else rng.integers(-127, 128, (m, k))
    return (values * (rng.random((m, k)) < density)).astype(np.float32)


def prepare(
    family: str, problem: Problem, weight: FloatArray, config: Config | None = None, gpu: Gpu = GPU, seed: int = 1
) -> Case:
    """A kernel with random inputs. config: the first that the family offers where none is given."""
    made = find(family, "gpu")
    if config is None:
        config = made.space(problem, weight, gpu)[0]
    case = Case(problem, weight, made.emit(problem, weight, gpu, config, "kernel"))
    rng = np.random.default_rng(seed)
    x_kind = {"float32": "float32", "float16": "float16", "int8": "uint8"}[problem.dtype]
    x = (
        rng.standard_normal(problem.x_shape).astype(x_kind)
        if x_kind != "uint8"
        else _codes(rng, problem.x_shape, x_kind)
    )
    e, rows = problem.epilogue, problem.m
    case.given |= {f"constant{i}": one for i, one in enumerate(case.code.constants)}
    case.given["x"] = x
    case.given["bias"] = rng.standard_normal(rows).astype(np.float32)
    case.given["scale"] = (rng.random(rows) / 500 + 0.001).astype(np.float32)
    kind = problem.residual
    case.given["residual"] = (
        _codes(rng, problem.y_shape, kind.dtype)
        if kind.quantized
        else rng.standard_normal(problem.y_shape).astype(kind.dtype)
    )
    fill = 77 if problem.output.quantized or problem.output.dtype == "int32" else np.nan
    case.given["y"] = np.full(problem.y_shape, fill, problem.output.dtype)
    for i, size in enumerate(case.code.scratch):
        case.given[f"scratch{i}"] = np.full(size // 4, np.nan, np.float32)
    case.wanted = wanted(problem, weight, case.given, e.bias, e.residual, e.scale)
    return case


def wanted(
    problem: Problem, weight: FloatArray, given: dict[str, NDArray], bias: bool, residual: bool, scale: bool
) -> NDArray:
    """Y in float64 by NumPy, before it is rounded to a code or to 16 bits."""
    x = given["x"].astype(np.float64)
    cols, w = reference.columns(problem, x - problem.x_zero), weight.astype(np.float64)
    if problem.op == "depthwise":
        y = np.einsum("ct,bctn->bcn", w, cols)
    else:
        y = w @ cols.reshape(problem.batch, problem.k, problem.n)
    if scale:
        y = y * given["scale"].astype(np.float64)[:, None]
    y = _rounded(problem, "scale", y)
    if bias:
        y = y + given["bias"].astype(np.float64)[:, None]
    y = _rounded(problem, "bias", y)
    if residual:
        kind = problem.residual
        number = given["residual"].astype(np.float64).reshape(y.shape)
        y = y + ((number - kind.zero) * kind.scale if kind.quantized else number)
    y = _rounded(problem, "residual", y)
    return reference.activate(y, problem.epilogue.activation).reshape(problem.y_shape)


def _rounded(problem: Problem, step: str, y: NDArray) -> NDArray:
    """The numbers behind a step of the epilogue, as the codes stand for them that they are rounded to there, if any."""
    for at, kind in problem.inner:
        if at == step:
            codes = np.clip(np.rint(y / kind.scale) + kind.zero, *kind.range)
            y = (codes - kind.zero) * kind.scale
    return y


def run(cases: Sequence[Case], by: str = "pocl", folder: Path | None = None) -> None:
    """Run kernels, translated together, and compare what they give with NumPy."""
    functions = {}
    for number, case in enumerate(cases):
        tir = case.code.tir
        assert tir is not None, "the family writes no functions of TVM"
        functions |= {f"c{number}_{name}": func for name, func in tir().functions}
    made = opencl.translate(functions)
    for number, case in enumerate(cases):
        for launch in case.code.launches:
            arrays = [np.ascontiguousarray(one) for one in case.arrays(launch.arguments)]
            opencl.call(made, f"c{number}_{launch.entry}", arrays, by=by, folder=folder)
            case.given |= dict(zip(launch.arguments, arrays, strict=True))
        compare(case)


def compare(case: Case) -> None:
    """Y against NumPy, with a tolerance that grows with the sum's terms and with its kind."""
    problem, y, want = case.problem, case.given["y"], case.wanted
    assert want is not None
    if problem.output.quantized:
        low, high = problem.output.range
        codes = want / problem.output.scale + problem.output.zero
        away = np.abs(y - np.clip(codes, low, high))
        # half a step, and what float32 may add to it; a number on the way that lies between two codes may be either
        ties = sum(kind.scale for _, kind in problem.inner) / problem.output.scale
        assert away.max(initial=0) <= 0.5 + 1e-3 + ties, away.max()
        assert np.mean(away > 0.5 + 1e-3) < 0.01
        return
    if problem.output.dtype == "int32":
        np.testing.assert_array_equal(y, want)
        return
    size = np.abs(case.weight).sum(axis=1).max(initial=1.0) + 4
    tolerance = size * 4 * 2.0**-23 + 1e-5
    if problem.output.dtype == "float16":
        tolerance += _EPSILON["float16"] * max(1.0, float(np.abs(want).max(initial=0)))
    assert not np.isnan(y).any(), "some elements of Y were not written"
    np.testing.assert_allclose(y.astype(np.float64), want, rtol=1e-5, atol=tolerance)


def _codes(rng: np.random.Generator, shape: Sequence[int], kind: str) -> NDArray:
    info = np.iinfo(kind)
    return rng.integers(info.min, info.max + 1, tuple(shape)).astype(kind)
