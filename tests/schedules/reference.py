"""What the kernels are compared with, and how a test compiles and runs one.

reference(): the operator of types.Problem by plain NumPy in float64. run(): a kernel, compiled alone into a temporary
shared object. check(): both, compared with a tolerance that grows with k.
"""

from __future__ import annotations

import math
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from numpy.typing import NDArray

import tesa.schedules.cpu  # noqa: F401  (registers the families)
from tesa.build.compile import compile_unit
from tesa.schedules.registry import find
from tesa.schedules.types import Code, Config, Core, Depth, FloatArray, Problem
from tesa.targets.target import parse_target, runs_here
from tesa.targets.x86 import AVX2, AVX512, SSE42

CPUS = {"avx512": "skylake-avx512", "avx2": "haswell", "sse4.2": "x86-64-v2"}
CORES = (AVX512, AVX2, SSE42)
HERE = tuple(core for core in CORES if runs_here(parse_target(f"x86:{CPUS[core.name]}")))
"""The cores whose code this machine can run."""

Wide = NDArray[np.float64]


def activate(y: Wide, name: str | None) -> Wide:
    """An activation of types.ACTIVATIONS, element by element."""
    if name is None:
        return y
    if name == "relu":
        return np.maximum(y, 0)
    if name == "relu6":
        return np.clip(y, 0, 6)
    if name == "hardswish":
        return y * np.clip(y + 3, 0, 6) / 6
    if name == "tanh":
        return np.tanh(y)
    if name == "gelu":
        return y * 0.5 * (1 + np.vectorize(math.erf)(y / math.sqrt(2)))
    if name == "gelu_tanh":
        return y * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3)))
    sigmoid = 1 / (1 + np.exp(-y))
    return {"sigmoid": sigmoid, "silu": y * sigmoid}[name]


def columns(problem: Problem, x: Wide) -> Wide:
    """The matrix of the operator's sum: (batch, channels, kernel area, n), an input element for each tap and output."""
    if problem.window is None:
        return x.reshape(problem.batch, problem.k, 1, problem.n)
    w = problem.window
    top, left, bottom, right = w.padding
    if problem.depth is not None:
        x = by_slice(problem, problem.depth, x)
    x = x.reshape(problem.batch, problem.channels, w.height, w.width)
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=problem.x_pad)
    taps = []
    for dy in range(w.kernel[0]):
        for dx in range(w.kernel[1]):
            y0, x0 = dy * w.dilation[0], dx * w.dilation[1]
            rows = slice(y0, y0 + (w.out_height - 1) * w.stride[0] + 1, w.stride[0])
            cols = slice(x0, x0 + (w.out_width - 1) * w.stride[1] + 1, w.stride[1])
            taps.append(x[:, :, rows, cols].reshape(problem.batch, problem.channels, problem.n))
    return np.stack(taps, axis=2)


def by_slice(problem: Problem, depth: Depth, x: Wide) -> Wide:
    """What each slice of Y reads, tap by tap: zeros in front of the first slice of X and behind the last."""
    volume = x.reshape(problem.batch // depth.out, problem.channels // depth.taps, depth.size, -1)
    zeros = np.zeros_like(volume[:, :, 0])
    items = []
    for item, nothing in zip(volume, zeros, strict=True):
        for d in range(depth.out):
            places = (d * depth.stride + t * depth.dilation - depth.before for t in range(depth.taps))
            items.append([item[:, at] if 0 <= at < depth.size else nothing for at in places])
    return np.array(items)


def reference(
    problem: Problem,
    weight: FloatArray,
    x: FloatArray,
    bias: FloatArray | None = None,
    residual: FloatArray | None = None,
) -> Wide:
    """Y of the problem, in float64 and in problem.y_shape."""
    cols, w = columns(problem, x.astype(np.float64)), weight.astype(np.float64)
    if problem.op == "depthwise":
        y = np.einsum("ct,bctn->bcn", w, cols)
    else:
        y = w @ cols.reshape(problem.batch, problem.k, problem.n)
    if problem.depth is not None:
        y = y.reshape(-1, problem.depth.out, problem.m, problem.n).swapaxes(1, 2)
        y = y.reshape(-1, problem.m, problem.pitch)
    if bias is not None:
        y = y + bias.astype(np.float64)[:, None]
    if residual is not None:
        y = y + residual.astype(np.float64).reshape(y.shape)
    return activate(y, problem.epilogue.activation).reshape(problem.y_shape)


def build(code: Code, core: Core, directory: Path, cpu: str | None = None) -> Any:
    """The loaded function of a kernel's main. directory must be fresh: the loader knows a file by its path."""
    target = {"kind": "llvm", "mcpu": cpu or CPUS[core.name]}
    symbol = str(code.main.attrs["global_symbol"])
    objects = []
    for i, unit in enumerate(code.units(symbol)):
        path = directory / f"{i}.o"
        compile_unit(unit, target).write_to_file(str(path), "o")
        objects.append(str(path))
    library = directory / "kernel.so"
    subprocess.run(["ld", "-shared", "-o", str(library), *objects], check=True)  # gcc takes four times as long
    return tvm.runtime.load_module(str(library))[symbol]


def unaligned(array: NDArray[Any]) -> Any:
    """The array as a tensor whose memory is aligned to its element size and no further, as callers' memory may be."""
    if not array.size:
        return tvm.runtime.tensor(array)
    raw = np.empty(array.nbytes + 64, np.uint8)
    start = -raw.ctypes.data % 64 + array.itemsize
    view = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    view[...] = array
    return tvm_ffi.from_dlpack(view, require_alignment=array.itemsize)


def run(
    kernel: Code | str,
    problem: Problem,
    weight: FloatArray,
    core: Core,
    config: Config,
    x: FloatArray,
    bias: FloatArray | None = None,
    residual: FloatArray | None = None,
) -> FloatArray:
    """Y of a kernel: a Code, or the name of a family that makes one from weight and config. Arrays are unaligned."""
    code = find(kernel).emit(problem, weight, core, config, "kernel") if isinstance(kernel, str) else kernel
    y = unaligned(np.full(problem.y_shape, np.nan, np.float32))
    arrays = [x.reshape(problem.x_shape), *code.constants]
    arrays += [a for a in (bias, None if residual is None else residual.reshape(problem.y_shape)) if a is not None]
    with tempfile.TemporaryDirectory() as directory:
        build(code, core, Path(directory))(*map(unaligned, arrays), y)
    return np.array(y.numpy())


def inputs(problem: Problem, seed: int = 0) -> tuple[FloatArray, FloatArray | None, FloatArray | None]:
    """Random X, bias and residual as the problem's epilogue wants them."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(problem.x_shape).astype(np.float32)
    bias = rng.standard_normal(problem.m).astype(np.float32) if problem.epilogue.bias else None
    residual = rng.standard_normal(problem.y_shape).astype(np.float32) if problem.epilogue.residual else None
    return x, bias, residual


def check(name: str, problem: Problem, weight: FloatArray, core: Core, config: Config, seed: int = 0) -> None:
    """Run a family on random data and compare with the reference; the tolerance is scaled by k."""
    x, bias, residual = inputs(problem, seed)
    got = run(name, problem, weight, core, config, x, bias, residual)
    want = reference(problem, weight, x, bias, residual)
    assert got.shape == tuple(problem.y_shape)
    size = float(np.abs(weight).max(initial=0)) * np.sqrt(problem.k) + 1
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=4e-6 * size)
