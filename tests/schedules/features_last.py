"""Integer layers of features_last for tests: problems, extreme weights, and many kernels run as one library.

check([(problem, weight, "lanes", config), ...], target) compares every result with tesa.measure.reference, and names
each that is wrong. All arrays end at memory that must not be touched, or begin behind it.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tvm

import tesa.schedules.cpu  # noqa: F401  (registers the families)
from tesa.measure.reference import Inputs, reference
from tesa.schedules.registry import find
from tesa.schedules.types import ACTIVATIONS, Config, Epilogue, FloatArray, Output, Problem, Window
from tesa.targets.target import Target
from tests.schedules.guarded import guarded

Kernel = tuple[Problem, FloatArray, str, Config]


def linear(m: int, k: int, n: int, batch: int = 1, **more: Any) -> Problem:
    """A linear layer of tokens x features; its result are the bare sums by default."""
    options = {"dtype": "int8", "output": Output("int32"), "layout": "features_last", **more}
    return Problem("linear", m, k, n, (batch, n, k), (batch, n, m), batch, **options)


def convolution(m: int, channels: int, window: Window, batch: int = 1, **more: Any) -> Problem:
    """A convolution of NHWC; the same."""
    options = {"dtype": "int8", "output": Output("int32"), "layout": "features_last", **more}
    height, width = window.out_height, window.out_width
    return Problem(
        "conv2d", m, channels * window.kernel[0] * window.kernel[1], height * width,
        (batch, window.height, window.width, channels), (batch, height, width, m), batch, window, **options,
    )  # fmt: skip


def draw(problem: Problem, density: float, seed: int) -> FloatArray:
    """W of the most extreme codes, and some others."""
    rng = np.random.default_rng(seed)
    live = rng.random((problem.m, problem.k)) < density
    return np.where(live, rng.choice([-128, -127, -1, 1, 3, 127], live.shape), 0).astype(np.float32)


SIZES = ((1, 1, 1), (3, 2, 5), (16, 4, 1), (17, 33, 3), (5, 64, 7), (40, 41, 30), (64, 70, 13), (100, 19, 49))
WINDOWS = (
    (3, Window(7, 9, (3, 3), (1, 1), (1, 1, 1, 1))),
    (8, Window(8, 8, (3, 3), (2, 2), (0, 0, 1, 1))),
    (6, Window(6, 11, (2, 3), (1, 2), (0, 2, 1, 2), (2, 1))),
    (5, Window(5, 7, (1, 1), (2, 2))),
    (7, Window(9, 8, (3, 2), (1, 1), (0, 0, 0, 0), (1, 2))),
    (1, Window(6, 6, (3, 1), (1, 1), (2, 0, 0, 0))),
    (4, Window(5, 5, (5, 5))),
    (9, Window(4, 6, (1, 1), (1, 1))),
    (3, Window(1, 40, (1, 5), (1, 1), (0, 2, 0, 2))),
)
OUTPUTS = (Output("int32"), Output(), Output("uint8", 0.05, 7), Output("int8", 0.04, -3))
RESIDUALS = (Output(), Output("uint8", 0.05, 9), Output("int8", 0.02, -1))


def problems(seed: int) -> Iterator[Problem]:
    """Every size and window, with outputs, epilogues, batches and threads drawn for each."""
    rng = np.random.default_rng(seed)

    def options() -> dict[str, Any]:
        output = OUTPUTS[int(rng.integers(4))]
        found = {"batch": int(rng.integers(1, 3)), "threads": int(rng.integers(1, 4)), "output": output,
                 "x_zero": int(rng.integers(256)), "residual": RESIDUALS[int(rng.integers(3))]}  # fmt: skip
        if output.dtype == "int32":
            return found
        activation = rng.choice([None, "relu", *ACTIVATIONS])
        bias, residual = (bool(rng.integers(2)) for _ in range(2))
        return {**found, "epilogue": Epilogue(bias, residual, None if activation is None else str(activation), True)}

    for size in SIZES:
        yield linear(*size, **options())
    for channels, window in WINDOWS:
        yield convolution(int(rng.integers(1, 40)), channels, window, **options())


def check(kernels: Sequence[Kernel], target: Target) -> None:
    """Compile all into one library, run each, and fail with the names of those that are wrong."""
    codes = [
        find(family).emit(problem, weight, target.core, config, f"kernel{i}")
        for i, (problem, weight, family, config) in enumerate(kernels)
    ]
    module = tvm.IRModule({f"kernel{i}": code.main for i, code in enumerate(codes)})
    faults = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        tvm.compile(module, target=tvm.target.Target(target.tvm)).mod.write_to_file(str(path / "k.o"), "o")
        subprocess.run(["ld", "-shared", "-o", str(path / "k.so"), str(path / "k.o")], check=True)
        library = tvm.runtime.load_module(str(path / "k.so"))
        for i, (problem, weight, family, config) in enumerate(kernels):
            inputs = Inputs.random(problem, i)
            arrays = (inputs.x, *codes[i].constants, *inputs.extra, np.full(problem.y_shape, 77, problem.output.dtype))
            passed = [guarded(array, (i + j) % 3 > 0) for j, array in enumerate(arrays)]
            library[f"kernel{i}"](*passed)
            fault = difference(problem, weight, inputs, passed[-1].numpy())
            faults += [f"{family} {dict(config)} {problem}: {fault}"] if fault else []
    assert not faults, f"{len(faults)} of {len(kernels)} kernels are wrong:\n" + "\n".join(faults)


def difference(problem: Problem, weight: FloatArray, inputs: Inputs, got: Any) -> str:
    """What is wrong with a result, "" for nothing. A code may be off by one where the number lies between two."""
    wanted = reference(problem, weight, inputs)
    said = wanted.difference(got)
    if not said and problem.output.quantized and (got != wanted.y).mean() >= 0.02 and (got != wanted.y).sum() > 1:
        said = f"{(got != wanted.y).mean():.1%} of the codes are off by one"
    return said
