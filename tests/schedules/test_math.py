"""Accuracy of the float32 polynomials over the whole range, and that they become vector code."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from numpy.typing import NDArray
from tvm.script import tirx as T

from tesa.schedules.cpu import math as fast
from tests.schedules.reference import CPUS, HERE

CPU = {"kind": "llvm", "mcpu": CPUS[HERE[0].name]}
SIZE = 1 << 15


def compiled(function: Callable[[Any], Any], tmp_path: Path) -> tuple[Callable[..., None], str]:
    @T.prim_func
    def main(X: T.Buffer((SIZE,), "float32", align=4), Y: T.Buffer((SIZE,), "float32", align=4)):
        T.func_attr({"tirx.noalias": True})
        for i in range(SIZE // 16):
            for j in T.vectorized(16):
                Y[i * 16 + j] = function(X[i * 16 + j])

    built = tvm.compile(tvm.IRModule({"main": main}), target=tvm.target.Target(CPU))
    path = tmp_path / f"{function.__name__}.so"
    built.export_library(str(path))
    return tvm.runtime.load_module(str(path))["main"], built.mod.inspect_source("asm")


@pytest.fixture(scope="module")
def inputs() -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    spread = np.concatenate([rng.uniform(-r, r, SIZE // 8) for r in (0.01, 1, 4, 10, 90, 110)])
    special = [0, -0.0, np.inf, -np.inf, np.nan, 1e30, -1e30, 88.72, 88.73, -87.3, -103.9, -104.1, 3.92, -3.92, 1e-38]
    bits = rng.integers(0, 2**32, SIZE - len(spread) - len(special), dtype=np.uint32).view(np.float32)
    return np.concatenate([spread.astype(np.float32), np.array(special, np.float32), bits])


def apply(name: str, x: NDArray[np.float32], tmp_path: Path) -> NDArray[np.float64]:
    kernel, asm = compiled(getattr(fast, name), tmp_path)
    assert not re.search(
        r"\b(exp|erf|tanh|log|atan|sinh|cosh)f?@|call\s+\S*(exp|erf|tanh|floor|log|atan|sinh|cosh)f", asm
    )
    assert re.search(r"vmulps.*[yz]mm", asm)
    y = tvm.runtime.tensor(np.zeros(SIZE, np.float32))
    kernel(tvm.runtime.tensor(x), y)
    return y.numpy().astype(np.float64)


EXACT: dict[str, Callable[[float], float]] = {
    "erf": math.erf, "tanh": math.tanh, "normal_share": lambda x: 0.5 * math.erfc(-x / math.sqrt(2)),
}  # fmt: skip


def exact(name: str, x: NDArray[np.float32]) -> NDArray[np.float64]:
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        wide = x.astype(np.float64)
        if name == "exp":
            return np.exp(wide)
        if name == "sigmoid":
            return 1 / (1 + np.exp(-wide))
        if name in ("log", "atan", "sinh", "cosh"):
            return np.asarray({"log": np.log, "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh}[name](wide))
    return np.array([EXACT[name](v) for v in wide])


RELATIVE = {"exp": 2e-7, "tanh": 4e-7, "sigmoid": 4e-7, "log": 2e-7, "atan": 3e-7, "sinh": 5e-7, "cosh": 5e-7}


ABSOLUTE = {"erf": 1.2e-7, "normal_share": 2e-7}


@pytest.mark.parametrize("name", ["erf", "normal_share", *RELATIVE])
def test_accuracy_over_the_full_range(name: str, inputs: NDArray[np.float32], tmp_path: Path) -> None:
    got, want = apply(name, inputs, tmp_path), exact(name, inputs)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        rounded = want.astype(np.float32)
    assert np.array_equal(np.isnan(got), np.isnan(want))
    infinite = np.isinf(rounded)
    assert np.array_equal(got[infinite], rounded[infinite])
    finite = np.isfinite(rounded)
    error, size = np.abs(got[finite] - want[finite]), np.abs(want[finite])
    tiny = float(np.finfo(np.float32).tiny)
    normal = size >= tiny
    if name in ABSOLUTE:
        assert error.max() <= ABSOLUTE[name]
    else:
        assert (error / np.maximum(size, tiny))[normal].max() <= RELATIVE[name]
        # 1 / (1 + exp(-x)) cannot say more about a subnormal number than that it is one
        assert error[~normal].max(initial=0) <= (tiny if name == "sigmoid" else 3e-45)
    if name in ("erf", "tanh"):
        assert np.abs(got[finite]).max() <= 1


def test_limits_and_zero(tmp_path: Path) -> None:
    x = np.zeros(SIZE, np.float32)
    x[:3] = np.inf, -np.inf, 0
    wanted = {
        "exp": (np.inf, 0, 1), "erf": (1, -1, 0), "tanh": (1, -1, 0), "sigmoid": (1, 0, 0.5),
        "normal_share": (1, 0, 0.5), "sinh": (np.inf, -np.inf, 0), "cosh": (np.inf, np.inf, 1),
    }  # fmt: skip
    for name, want in wanted.items():
        assert tuple(apply(name, x, tmp_path)[:3]) == want, name


def test_names_of_two_uses_do_not_collide(tmp_path: Path) -> None:
    def twice(x: Any) -> Any:
        return fast.exp(fast.exp(x) - fast.exp(x * 2.0))

    kernel, _ = compiled(twice, tmp_path)
    x = np.linspace(-1, 1, SIZE, dtype=np.float32)
    y = tvm.runtime.tensor(np.zeros(SIZE, np.float32))
    kernel(tvm.runtime.tensor(x), y)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(y.numpy(), np.exp(np.exp(wide) - np.exp(2 * wide)), rtol=2e-6)
    assert len(list(itertools.islice(tmp_path.iterdir(), 2))) == 1
