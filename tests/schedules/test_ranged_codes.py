"""Codes on a grid that is found at run time are those that an exact division gives, also between two codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
from numpy.typing import NDArray
from tvm import te

from tesa.schedules.cpu.operators import describe, schedule_function
from tesa.schedules.cpu.operators.marks import EXACT
from tesa.schedules.cpu.operators.ranged_codes import RANGED, coded
from tesa.schedules.types import Core
from tests.schedules.reference import CPUS, HERE

Numbers = NDArray[np.float32]


def codes(x: Numbers, scale: float, level: float, core: Core, threads: int = 1) -> NDArray[np.uint8]:
    """What the scheduled operator makes of x."""
    source = te.placeholder(x.shape, "float32", "x")
    grid = [te.placeholder((), "float32", name) for name in ("scale", "level")]
    func = te.create_prim_func([source, *grid, coded(source, *grid)]).with_attrs({RANGED: 1, EXACT: 1})
    made = schedule_function(func.without_attr("global_symbol"), core, threads)
    assert describe(made) == ("ranged_codes" if core.fma else "elementwise")
    target = tvm.target.Target({"kind": "llvm", "mcpu": CPUS[core.name]})
    built = tvm.compile(tvm.IRModule({"main": made.with_attr("global_symbol", "main")}), target=target)
    y = tvm.runtime.tensor(np.zeros(x.shape, np.uint8))
    arrays = [tvm.runtime.tensor(np.asarray(value, np.float32)) for value in (x, scale, level)]
    built(*arrays, y)
    return y.numpy()


def between(scale: np.float32, count: int, rng: Any) -> Numbers:
    """Numbers on the grid, between two of its codes, and next to either in float32."""
    middle = ((rng.integers(-510, 511, count) * 0.5).astype(np.float32) * scale).astype(np.float32)
    near = middle.view(np.int32) + rng.integers(-2, 3, count).astype(np.int32)
    return np.where(np.abs(middle) > 1e-37, near.view(np.float32), middle)


@pytest.mark.parametrize("core", HERE, ids=lambda core: core.name)
@pytest.mark.parametrize("count", [1, 5, 16, 33, 64, 200])
def test_any_size(core: Core, count: int) -> None:
    x, scale = between(np.float32(0.0371), count, np.random.default_rng(count)), np.float32(0.0371)
    want = np.clip(np.rint(x / scale) + 97, 0, 255)
    np.testing.assert_array_equal(codes(x, float(scale), 97, core), want)


@pytest.mark.parametrize("core", HERE, ids=lambda core: core.name)
def test_numbers_between_two_codes_and_scales_of_any_size(core: Core) -> None:
    rng, products = np.random.default_rng(0), 0
    scales = [0.1, 1 / 3, 255.0, 1e-30, 3e-38, 1e30, 1.3e36, *rng.uniform(0.001, 1, 3)]
    for scale in np.array(scales, np.float32):
        x = between(scale, 4000, rng)
        with np.errstate(all="ignore"):
            want = np.clip(np.rint(x / scale) + 128, 0, 255)
            products += int((np.clip(np.rint(x * (1 / scale)) + 128, 0, 255) != want).sum())
        np.testing.assert_array_equal(codes(x, float(scale), 128, core), want, err_msg=str(scale))
    assert products > 100  # a product with the inverse is not enough


def test_two_threads_and_axes() -> None:
    x = between(np.float32(0.7), 1 << 19, np.random.default_rng(1)).reshape(4, -1)
    want = np.clip(np.rint(x / np.float32(0.7)) + 3, 0, 255)
    np.testing.assert_array_equal(codes(x, 0.7, 3, HERE[0], threads=2), want)
