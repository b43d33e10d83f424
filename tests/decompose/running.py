"""Random mixed weights, and how a test compiles and runs an option of any family."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from hypothesis import strategies as st
from numpy.typing import NDArray

from tesa.build.objects import build_objects, write_objects
from tesa.measure.reference import Inputs, reference
from tesa.schedules.registry import find
from tesa.schedules.types import ACTIVATIONS, Config, Epilogue, FloatArray, Output, Problem, Window
from tesa.targets.target import parse_target
from tesa.targets.toolchain import NATIVE
from tests.schedules.reference import unaligned

TARGET = parse_target(None)
KINDS = ("blocks", "rows", "n:m", "scattered", "dense", "empty")


def linear(m: int, k: int, n: int, **more: Any) -> Problem:
    """A linear layer of one batch item unless batch is given."""
    batch = int(more.get("batch", 1))
    shapes = ((k, n), (m, n)) if batch == 1 else ((batch, k, n), (batch, m, n))
    return Problem("linear", m, k, n, *shapes, **more)


def convolution(m: int, channels: int, window: Window, **more: Any) -> Problem:
    """A 2-D convolution of batch 1 unless batch is given."""
    batch, out = int(more.get("batch", 1)), (window.out_height, window.out_width)
    k = channels * window.kernel[0] * window.kernel[1]
    shapes = (batch, channels, window.height, window.width), (batch, m, *out)
    return Problem("conv2d", m, k, out[0] * out[1], *shapes, window=window, **more)


def mask(m: int, k: int, kind: str, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Where a weight of one kind is not zero."""
    if kind == "blocks":
        side = int(rng.choice([4, 8, 16]))
        tiles = rng.random((-(-m // side), -(-k // side))) < 0.3
        return np.asarray(np.kron(tiles, np.ones((side, side), bool))[:m, :k])
    if kind == "rows":
        supports = rng.random((max(1, m // 4), k)) < 0.3
        return np.asarray(supports[rng.permutation(np.arange(m) % len(supports))])
    if kind == "n:m":
        return np.asarray(np.argsort(rng.random((m, -(-k // 4), 4)), axis=2).reshape(m, -1)[:, :k] < 2)
    return np.asarray(rng.random((m, k)) < {"scattered": 0.05, "dense": 1.0, "empty": 0.0}[kind])


def weight(problem: Problem, kinds: list[str], seed: int) -> FloatArray:
    """Random numbers wherever one of the kinds has an element; codes and outliers for dtype "mixed"."""
    rng = np.random.default_rng(seed)
    shape = (problem.m, problem.k)
    live = np.any([mask(*shape, kind, rng) for kind in kinds], axis=0)
    if problem.dtype == "float32":
        return np.where(live, rng.standard_normal(shape), 0).astype(np.float32)
    codes = np.where(live, rng.integers(-128, 128, shape), 0).astype(np.float32)
    if problem.dtype == "mixed":
        codes = np.where(rng.random(shape) < 0.05, 300 * rng.standard_normal(shape), codes).astype(np.float32)
    return codes


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Linear layers and convolutions, ragged sizes, any epilogue, one or two threads, the three types."""
    e = Epilogue(draw(st.booleans()), draw(st.booleans()), draw(st.sampled_from([None, *ACTIVATIONS])))
    more: dict[str, Any] = {"epilogue": e, "threads": draw(st.sampled_from([1, 2])), "batch": draw(st.integers(1, 2))}
    if draw(st.sampled_from([0, 0, 1])):
        kernel = draw(st.sampled_from([(1, 1), (3, 3), (2, 3)]))
        stride, edge = draw(st.sampled_from([(1, 1), (2, 2)])), draw(st.sampled_from([0, 1]))
        window = Window(draw(st.integers(4, 12)), draw(st.integers(4, 20)), kernel, stride, (edge, edge, edge, edge))
        return convolution(draw(st.integers(4, 40)), draw(st.integers(1, 12)), window, **more)
    dtype = draw(st.sampled_from(["float32", "float32", "mixed"]))
    if dtype == "mixed":
        more["epilogue"] = Epilogue(e.bias, e.residual, e.activation, scale=draw(st.booleans()))
        more["output"] = draw(st.sampled_from([Output(), Output(), Output("uint8", 3.0, 9)]))
    return linear(draw(st.integers(4, 70)), draw(st.integers(8, 90)), draw(st.integers(1, 90)), dtype=dtype, **more)


def run(name: str, problem: Problem, values: FloatArray, config: Config, inputs: Inputs) -> NDArray[Any]:
    """Y of an option, from arrays that are aligned to their elements only."""
    code = find(name).emit(problem, values, TARGET.core, config, "tesa_test")
    with tempfile.TemporaryDirectory() as folder:
        paths = write_objects(build_objects("tesa_test", code, TARGET), Path(folder))
        library = Path(folder) / "kernel.so"
        NATIVE.link(paths, library)
        function = tvm.runtime.load_module(str(library))["tesa_test"]
        y = unaligned(np.full(problem.y_shape, 77, problem.output.dtype))
        function(*map(unaligned, (inputs.x, *code.constants, *inputs.extra)), y)
        return np.array(y.numpy())


def check(name: str, problem: Problem, values: FloatArray, config: Config, seed: int = 0) -> None:
    """Compare an option with NumPy."""
    inputs = Inputs.random(problem, seed)
    wanted = reference(problem, values, inputs)
    error = wanted.error(run(name, problem, values, config, inputs))
    assert error <= wanted.tolerance, f"{name} {dict(config)} is off by {error}, allowed is {wanted.tolerance}"
