"""Bare functions: right by ctypes alone, and without a symbol of TVM's."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from numpy.typing import NDArray

import tesa.schedules.cpu  # noqa: F401  (registers the families)
from tesa.schedules.cpu.bare import PIPELINES, bare
from tesa.schedules.registry import find
from tesa.schedules.types import Epilogue, Problem
from tesa.targets.target import parse_target

_WORKSPACE = """
#include <stdint.h>
#include <stdlib.h>
static void* allocate(int t, int d, uint64_t n, int c, int b) { return aligned_alloc(64, (n + 63) / 64 * 64); }
static int release(int t, int d, void* p) { free(p); return 0; }
void* (*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int) = allocate;
int (*__TVMBackendFreeWorkspace)(int, int, void*) = release;
"""


def _aligned(array: NDArray[Any]) -> NDArray[Any]:
    """A copy that begins at a multiple of 64 bytes, as a kernel's constants do wherever they lie."""
    room = np.empty(array.nbytes + 64, np.uint8)
    made = room[-room.ctypes.data % 64 :][: array.nbytes].view(array.dtype).reshape(array.shape)
    made[...] = array
    return made


@pytest.mark.parametrize(("family", "n"), [("indexed", 24), ("dense", 24), ("vector", 1)])
def test_a_bare_kernel_runs_without_tvm(family: str, n: int, tmp_path: Path) -> None:
    target = parse_target("x86:x86-64-v2")
    rng = np.random.default_rng(0)
    weight = (rng.standard_normal((16, 32)) * (rng.random((16, 32)) < 0.3)).astype(np.float32)
    problem = Problem("linear", 16, 32, n, (1, 32, n), (1, 16, n), epilogue=Epilogue(bias=True))
    code = find(family).emit(problem, weight, target.core, find(family).space(problem, weight, target.core)[0], "k")
    assert not code.panels
    mod = tvm.IRModule({tvm.ir.GlobalVar("k"): bare(code.main, "k")})
    made = tvm.compile(mod, target=tvm.target.Target(target.tvm), tir_pipeline=PIPELINES[code.pipeline]).mod
    made.write_to_file(str(tmp_path / "k.o"), "o")
    target.toolchain.compile(_WORKSPACE, tmp_path / "workspace.o")
    # an undefined symbol is an error
    target.toolchain.link([tmp_path / "k.o", tmp_path / "workspace.o"], tmp_path / "k.so", ["-Wl,-z,defs"])

    x, bias = rng.standard_normal((1, 32, n)).astype(np.float32), rng.standard_normal(16).astype(np.float32)
    y = np.full((1, 16, n), np.nan, np.float32)
    arrays = [x, *map(_aligned, code.constants), bias, y]
    status = ctypes.CDLL(str(tmp_path / "k.so")).k(*(ctypes.c_void_p(array.ctypes.data) for array in arrays))
    assert status == 0
    np.testing.assert_allclose(y[0], weight @ x[0] + bias[:, None], rtol=1e-5, atol=1e-5)
