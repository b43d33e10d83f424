"""The families that are functions of TVM, compiled for NVIDIA's GPUs: their PTX, on NumPy, gives what it must."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tesa.build.gpu.tir import lowered
from tesa.schedules.gpus import GpuTir
from tesa.targets.target import parse_target
from tests.gpu import simulate
from tests.gpu.extra import require_compiler
from tests.gpu.families import Case, compare, prepare, sparse
from tests.gpu.problems import ALL, CODES, HALF, WINDOWS, conv, depthwise, linear

INDEXED = {"rows": 2, "threads": 32, "vectors": 1, "lanes": 4, "split": 2}
CASES: dict[str, Callable[[], Case]] = {
    "indexed": lambda: prepare("indexed", linear(5, 20, 16, epilogue=ALL), sparse(5, 20, 0.3), INDEXED),
    "indexed float16": lambda: prepare("indexed", linear(5, 20, 16, **HALF), sparse(5, 20, 0.3), INDEXED),
    "indexed int8": lambda: prepare(
        "indexed", conv(3, 2, WINDOWS[1], **CODES), sparse(3, 18, 0.5, dtype="int8"), {**INDEXED, "lanes": 1}
    ),
    "skinny": lambda: prepare(
        "skinny", linear(5, 300, 1, epilogue=ALL), sparse(5, 300, 0.3), {"warps": 4, "rows": 1, "bits": 32}
    ),
    "skinny float16": lambda: prepare(
        "skinny", linear(5, 300, 1, storage="float16"), sparse(5, 300, 0.3), {"warps": 4, "rows": 1, "bits": 256}
    ),
    "depthwise": lambda: prepare(
        "depthwise", depthwise(3, WINDOWS[0], epilogue=ALL), sparse(3, 9, 0.5), {"rows": 2, "threads": 64}
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_ptx(name: str) -> None:
    require_compiler()
    case = CASES[name]()
    (module,) = case.code.modules
    assert isinstance(module, GpuTir)
    text, functions = lowered(module, parse_target("cuda:sm_80"))
    names = case.code.launches[0].arguments
    arrays = [np.ascontiguousarray(one) for one in case.arrays(names)]
    for kernel in functions["kernel"].kernels:
        given = [arrays[number] for number in kernel.arguments]
        simulate.run(text.text, kernel.entry, kernel.grid, kernel.block, kernel.shared, given)
    case.given |= dict(zip(names, arrays, strict=True))
    compare(case)
    if name == "indexed":
        assert "ld.global.nc.v4" in text.text, "loads of four neighbours are one instruction"


@pytest.mark.parametrize("name", ["indexed", "skinny", "depthwise"])
def test_amd(name: str) -> None:
    (module,) = CASES[name]().code.modules
    assert isinstance(module, GpuTir)
    text, _ = lowered(module, parse_target("rocm:gfx90a"))
    assert ".amdgcn_target" in text.text
