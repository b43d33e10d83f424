"""Problems of all kinds for property tests: ragged sizes, windows, epilogues, threads, empty rows and weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from tesa.schedules.types import ACTIVATIONS, Config, Depth, Epilogue, FloatArray, Problem, Window
from tests.schedules.reference import HERE

cores = st.sampled_from(HERE)
epilogues = st.builds(Epilogue, st.booleans(), st.booleans(), st.sampled_from([None, *ACTIVATIONS]))
threads = st.sampled_from([1, 1, 2, 3])


def linear(m: int, k: int, n: int, **more: object) -> Problem:
    """A linear layer of one batch item."""
    return Problem("linear", m, k, n, (k, n), (m, n), **more)  # type: ignore[arg-type]


@st.composite
def unrolled_configs(draw: st.DrawFn) -> Config:
    """Configurations of the unrolled family."""
    rows, vectors = draw(st.sampled_from([(10, 1), (3, 2), (2, 4), (1, 1)]))
    kblock, chunk = draw(st.sampled_from([0, 0, 5])), draw(st.sampled_from([0, 1, 3]))
    return {"rows": rows, "vectors": vectors, "kblock": kblock, "chunk": chunk, "pack": draw(st.integers(0, 1))}


@st.composite
def linears(draw: st.DrawFn) -> Problem:
    """Linear layers, their X and Y in any shape with the same elements."""
    m, k, batch = draw(st.integers(1, 24)), draw(st.integers(1, 40)), draw(st.integers(1, 3))
    n = draw(st.one_of(st.integers(1, 20), st.integers(30, 80), st.sampled_from([1, 8, 16, 64, 196])))
    x_shape, y_shape = draw(st.sampled_from([((batch, k, n), (batch, m, n)), ((batch * k, n), (1, batch, m, n))]))
    return Problem("linear", m, k, n, x_shape, y_shape, batch, None, draw(epilogues), threads=draw(threads))


@st.composite
def convolutions(draw: st.DrawFn) -> Problem:
    """2-D convolutions with any stride, dilation and padding, the padding not the same on all sides."""
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    padding = draw(st.tuples(*[st.integers(0, 3)] * 4))
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    height = draw(st.integers(max(reach[0] - padding[0] - padding[2], 1), 20))
    width = draw(st.integers(max(reach[1] - padding[1] - padding[3], 1), 40))
    window = Window(height, width, kernel, stride, padding, dilation)
    m, channels, batch = draw(st.integers(1, 12)), draw(st.integers(1, 5)), draw(st.integers(1, 2))
    out = (window.out_height, window.out_width)
    shapes = (batch, channels, height, width), (batch, m, *out)
    k, n = channels * kernel[0] * kernel[1], out[0] * out[1]
    return Problem("conv2d", m, k, n, *shapes, batch, window, draw(epilogues), threads=draw(threads))


@st.composite
def volumes(draw: st.DrawFn) -> Problem:
    """Convolutions of three axes, slice by slice."""
    plane = draw(convolutions())
    assert plane.window is not None
    taps, stride, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
    before, after, reach = draw(st.integers(0, 2)), draw(st.integers(0, 2)), dilation * (taps - 1) + 1
    size = draw(st.integers(max(reach - before - after, 1), 6))
    depth = Depth(size, taps, (size + before + after - reach) // stride + 1, stride, before, dilation)
    (items, channels, *image), (_, m, *out) = plane.x_shape, plane.y_shape
    return replace(
        plane, k=plane.k * taps, batch=items * depth.out, x_shape=(items, channels, size, *image),
        y_shape=(items, m, depth.out, *out), depth=depth,
    )  # fmt: skip


windows = st.one_of(convolutions(), volumes())
"""Convolutions of two and of three axes."""


@st.composite
def weights(draw: st.DrawFn, problem: Problem) -> FloatArray:
    """A weight of any density from empty to full, with empty rows and columns."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    density = draw(st.sampled_from([0.0, 0.05, 0.2, 0.5, 1.0]))
    shape = (problem.m, problem.k)
    weight = rng.standard_normal(shape) * (rng.random(shape) < density)
    if draw(st.booleans()):
        weight *= rng.random((problem.m, 1)) < 0.6
        weight *= rng.random((1, problem.k)) < 0.6
    return weight.astype(np.float32)
