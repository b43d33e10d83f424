"""tesa's runners behind MetaSchedule's interface."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from tvm.s_tir.meta_schedule.arg_info import TensorInfo
from tvm.s_tir.meta_schedule.runner import RunnerInput
from tvm.script import tirx as T

from tesa.measure.reference import Reference
from tesa.measure.remote import LocalRunner, RpcRunner, as_metaschedule
from tests.measure.remote.park import KEY, Park

ROWS, COLUMNS = 4, 64


def library(folder: Path, off: float = 0.0) -> Path:
    """Y[i] = X[index[i]] + off."""

    @T.prim_func
    def main(
        X: T.Buffer((ROWS, COLUMNS), "float32"),  # type: ignore[valid-type]
        index: T.Buffer((ROWS,), "int32"),  # type: ignore[valid-type]
        Y: T.Buffer((ROWS, COLUMNS), "float32"),  # type: ignore[valid-type]
    ) -> None:
        for i, j in T.grid(ROWS, COLUMNS):
            Y[i, j] = X[index[i], j] + T.float32(off)

    function: Any = main
    module = tvm.IRModule({"main": function.with_attr("global_symbol", "main")})
    path = folder / f"artifact{off}.so"
    tvm.compile(module, target=tvm.target.Target({"kind": "llvm", "mcpu": "haswell"})).export_library(str(path))
    return path


def inputs(path: Path) -> RunnerInput:
    shapes = [("float32", (ROWS, COLUMNS)), ("int32", (ROWS,)), ("float32", (ROWS, COLUMNS))]
    return RunnerInput(str(path), "cpu", [TensorInfo(dtype, list(shape)) for dtype, shape in shapes])


def arguments(shapes: Sequence[tuple[str, tuple[int, ...]]]) -> list[Any]:
    assert [dtype for dtype, _ in shapes] == ["float32", "int32"]
    return [np.arange(ROWS * COLUMNS, dtype=np.float32).reshape(shapes[0][1]), np.array([3, 1, 0, 2], np.int32)]


def expected(arrays: Sequence[Any]) -> Reference:
    return Reference(arrays[0][arrays[1]].astype(np.float64), 1e-5)


@pytest.mark.parametrize("where", ["local", "rpc"])
def test_artifacts_are_compared_and_timed(park: Park, tmp_path: Path, where: str) -> None:
    runner = LocalRunner() if where == "local" else RpcRunner("127.0.0.1", park.port, KEY)
    wrapped = as_metaschedule(runner, arguments=arguments, expected=expected, budget_ms=2)
    items = [inputs(library(tmp_path)), inputs(library(tmp_path, 1.0)), inputs(tmp_path / "none.so")]
    right, wrong, missing = [future.result() for future in wrapped.run(items)]
    assert right.error_msg is None
    assert [0 < float(seconds) < 1 for seconds in right.run_secs] == [True]
    assert wrong.run_secs is None
    assert wrong.error_msg.startswith("wrong: largest error 1")
    assert missing.run_secs is None
    runner.close()


def test_indices_are_never_random(tmp_path: Path) -> None:
    wrapped = as_metaschedule(LocalRunner())
    (result,) = [future.result() for future in wrapped.run([inputs(library(tmp_path))])]
    assert result.run_secs is None
    assert "an argument is int32" in result.error_msg
