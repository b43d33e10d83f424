"""The harness itself: it runs what it is given, and finds the races and the bounds that it is there for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tvm.tirx.script import builder as T

from tesa.schedules.cpu.loops import function, parameter
from tests.gpu import opencl
from tests.support import require_system

X = np.arange(4 * 32, dtype=np.float32).reshape(4, 32)


def turned(dtype: str = "float32", past: int = 0) -> Any:
    """Each row of X backwards, through shared memory. past: elements by which it reads beyond its row."""
    with function("turned") as builder:
        x, y = parameter("x", X.shape, dtype), parameter("y", X.shape, dtype)
        with T.launch_thread("blockIdx.x", 4) as row, T.launch_thread("threadIdx.x", 32) as lane:
            row_of_x = T.alloc_buffer((32,), dtype, scope="shared")
            T.buffer_store(row_of_x, x[row, lane + past], [lane])
            T.evaluate(T.tvm_storage_sync("shared"))
            T.buffer_store(y, row_of_x[31 - lane], [row, lane])
    return builder.get()


def test_a_kernel_gives_what_numpy_gives() -> None:
    opencl.require_opencl()
    np.testing.assert_array_equal(opencl.run(turned(), [X, np.zeros_like(X)]), X[:, ::-1])


def test_a_missing_barrier_is_a_race(tmp_path: Path) -> None:
    require_system("oclgrind", "oclgrind")
    made = opencl.translate({"main": turned()})
    opencl.launch(made.source, made.functions["main"], [X, np.zeros_like(X)], by="grind", folder=tmp_path)
    source = made.source.replace("barrier(CLK_LOCAL_MEM_FENCE);", "")
    assert source != made.source
    with pytest.raises(AssertionError, match="data race"):
        opencl.launch(source, made.functions["main"], [X, np.zeros_like(X)], by="grind", folder=tmp_path)


def test_a_read_beyond_an_array_is_found(tmp_path: Path) -> None:
    require_system("oclgrind", "oclgrind")
    with pytest.raises(AssertionError, match="Invalid read"):
        opencl.run(turned(past=1), [X, np.zeros_like(X)], by="grind", folder=tmp_path)


def test_fp16_runs_where_intels_library_is(tmp_path: Path) -> None:
    opencl.require_intel()
    x = X.astype(np.float16)
    made = opencl.run(turned("float16"), [x, np.zeros_like(x)], by="intel", folder=tmp_path)
    np.testing.assert_array_equal(made, x[:, ::-1])
