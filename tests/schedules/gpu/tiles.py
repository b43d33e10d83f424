"""Problems and weights for kernels of tiles, and the check of what such a kernel computes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from tesa.measure.reference import Inputs, reference
from tesa.schedules.gpus import Gpu, GpuCode
from tesa.schedules.types import FloatArray, Output, Problem, Window
from tesa.targets.target import parse_target
from tests.gpu.kernels import run
from tests.gpu.numbers import from_bf16, to_bf16, to_tf32


def gpu(name: str) -> Gpu:
    found = parse_target(name).gpu
    assert found is not None
    return found


def linear(m: int, k: int, n: int, batch: int = 1, **more: object) -> Problem:
    return Problem("linear", m, k, n, (batch, k, n), (batch, m, n), batch, **more)  # type: ignore[arg-type]


def conv(m: int, channels: int, window: Window, batch: int = 1, **more: object) -> Problem:
    k, n = channels * window.kernel[0] * window.kernel[1], window.out_height * window.out_width
    x, y = (batch, channels, window.height, window.width), (batch, m, window.out_height, window.out_width)
    return Problem("conv2d", m, k, n, x, y, batch, window, **more)  # type: ignore[arg-type]


def config(
    rows: int = 16, columns: int = 64, depth: int = 16, sparse: int = 0, way: int = 0, stages: int = 0
) -> dict[str, int]:
    return {"rows": rows, "columns": columns, "depth": depth, "sparse": sparse, "way": way, "stages": stages}


def blocks(problem: Problem, high: int, deep: int, density: float, seed: int = 0) -> FloatArray:
    """A weight of blocks of high x deep, of which about so many are no zeros; of codes where the problem is int8."""
    rng = np.random.default_rng(seed)
    m, k = problem.m, problem.k
    keep = rng.random((-(-m // high), -(-k // deep))) < density
    mask = np.kron(keep, np.ones((high, deep)))[:m, :k]
    values = rng.standard_normal((m, k)).astype(np.float32)
    if problem.dtype == "int8":
        return np.asarray(rng.integers(-127, 128, (m, k)) * mask, np.float32)
    return np.asarray(rounded(values, problem.arithmetic) * mask, np.float32)


def two_of_four(problem: Problem, seed: int = 0) -> FloatArray:
    """A weight with two non-zeros of each four along k, or fewer, and some empty tiles."""
    rng = np.random.default_rng(seed)
    m, k = problem.m, problem.k
    order = rng.random((m, -(-k // 4), 4)).argsort(-1) < rng.integers(1, 3, (m, -(-k // 4), 1))
    weight = blocks(problem, 16, 32, 0.8, seed) * order.reshape(m, -1)[:, :k]
    return np.asarray(weight, np.float32)


def check(code: GpuCode, problem: Problem, weight: FloatArray, seed: int = 0) -> Counter[str]:
    """Fail where Y is not what it must be. X has numbers of the unit's kind only, so that the sums alone may round."""
    inputs = Inputs.random(problem, seed)
    if problem.dtype == "float32":
        inputs = replace(inputs, x=rounded(inputs.x, problem.arithmetic))
    y, counts = run(code, problem, inputs)
    right = reference(replace(problem, arithmetic="float32"), weight, inputs)
    assert right.difference(y) == ""
    return counts


def rounded(array: FloatArray, kind: str) -> FloatArray:
    """Numbers that a kind of 16 bits, or tf32, has too."""
    if kind == "float32":
        return array
    if kind == "float16":
        return array.astype(np.float16).astype(np.float32)
    return from_bf16(to_bf16(array)) if kind == "bfloat16" else to_tf32(array)


def of_kind(problem: Problem, kind: str) -> Problem:
    """A problem with elements of a kind: "int8" for bare sums of codes, or an arithmetic."""
    if kind == "int8":
        return replace(problem, dtype="int8", output=Output("int32"))
    return replace(problem, arithmetic=kind)
