"""Runs the kernels that families emit for GPUs, on NumPy, and compares them with the reference."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.measure.reference import Inputs, reference
from tesa.schedules.gpus import GpuCode, GpuText
from tesa.schedules.types import FloatArray, Problem
from tests.gpu import simulate


def sparse(m: int, k: int, density: float, seed: int = 0) -> FloatArray:
    """A weight of which about so many elements are no zeros."""
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((m, k), dtype=np.float32)
    weight[rng.random((m, k)) >= density] = 0
    return weight


def run(code: GpuCode, problem: Problem, inputs: Inputs) -> tuple[NDArray[Any], Counter[str]]:
    """Y, and how often a warp ran each instruction. Memory that no launch has written is not-a-number."""
    dtype = problem.output.dtype
    y: NDArray[Any] = np.full(problem.y_shape, np.nan if dtype == "float32" else 85, dtype)
    arrays: dict[str, NDArray[Any] | None] = {
        "x": np.ascontiguousarray(inputs.x), "y": y, "bias": inputs.bias, "residual": inputs.residual,
        "scale": inputs.scale,
        **{f"constant{i}": array for i, array in enumerate(code.constants)},
        **{f"scratch{i}": np.full(size // 4, np.nan, np.float32) for i, size in enumerate(code.scratch)},
    }  # fmt: skip
    counts: Counter[str] = Counter()
    for launch in sorted(code.launches, key=lambda one: one.stage):
        module = code.modules[launch.module]
        assert isinstance(module, GpuText)
        given = [array for name in launch.arguments if (array := arrays[name]) is not None]
        assert len(given) == len(launch.arguments)
        counts += simulate.run(module.text, launch.entry, launch.grid, launch.block, launch.shared, given)
    return y, counts


def check(code: GpuCode, problem: Problem, weight: FloatArray, seed: int = 0) -> Counter[str]:
    """Fail where the kernel's Y is not what it must be."""
    inputs = Inputs.random(problem, seed)
    y, counts = run(code, problem, inputs)
    assert reference(problem, weight, inputs).difference(y) == ""
    return counts
