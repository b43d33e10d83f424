"""Modules built through MetaSchedule's interface run, in its own runner too."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm

from tesa.build.cache import Cache
from tesa.decompose.candidates import candidates
from tesa.errors import UsageError
from tesa.schedules.registry import find
from tesa.schedules.types import Code, FloatArray, Problem
from tesa.targets.target import parse_target
from tesa.tune.builders import LocalBuilder
from tesa.tune.builders.metaschedule import as_metaschedule, as_module
from tests.build import toy

PROBLEM = toy.linear()
WEIGHT = toy.weight(PROBLEM)
TARGET = parse_target("x86:haswell")
TVM_TARGET = tvm.target.Target(TARGET.tvm)


@pytest.fixture(scope="module")
def compilers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBuilder]:
    with LocalBuilder(2, Cache(tmp_path_factory.mktemp("objects"))) as made:
        yield made


def inputs(*modules: Any) -> list[Any]:
    from tvm.s_tir.meta_schedule.builder import BuilderInput

    return [BuilderInput(module, TVM_TARGET) for module in modules]


def run(path: str, code: Code, problem: Problem) -> tuple[FloatArray, FloatArray]:
    """X, and what the artifact makes of it."""
    x = np.random.default_rng(1).standard_normal(problem.x_shape, dtype=np.float32)
    y = tvm.runtime.tensor(np.zeros(problem.y_shape, np.float32))
    arguments = [tvm.runtime.tensor(array) for array in (x, *code.constants)]
    tvm.runtime.load_module(path)["main"](*arguments, y)
    return x, y.numpy()


def test_a_primfunc_is_built_and_runs(compilers: LocalBuilder, tmp_path: Path) -> None:
    code = toy.code(PROBLEM, WEIGHT, "main")
    (result,) = as_metaschedule(compilers, tmp_path).build(inputs(tvm.IRModule({"main": code.main})))
    assert result.error_msg is None
    x, y = run(str(result.artifact_path), code, PROBLEM)
    np.testing.assert_allclose(y, WEIGHT @ x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["dense"])
def test_generated_code_is_built_by_its_own_pipelines(compilers: LocalBuilder, tmp_path: Path, name: str) -> None:
    option = next(option for option in candidates(PROBLEM, WEIGHT, TARGET) if option[0] == name)
    code = find(name).emit(PROBLEM, WEIGHT, TARGET.core, option[1], "main")
    assert bool(code.panels) == (name == "unrolled")
    (result,) = as_metaschedule(compilers, tmp_path).build(inputs(as_module(code)))
    assert result.error_msg is None
    x, y = run(str(result.artifact_path), code, PROBLEM)
    np.testing.assert_allclose(y, WEIGHT @ x, rtol=1e-4, atol=1e-5)


def test_metaschedules_runner_takes_the_artifact(
    compilers: LocalBuilder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tvm.s_tir.meta_schedule.arg_info import TensorInfo
    from tvm.s_tir.meta_schedule.runner import EvaluatorConfig, LocalRunner, RunnerInput

    code = toy.code(PROBLEM, WEIGHT, "main")
    (result,) = as_metaschedule(compilers, tmp_path).build(inputs(as_module(code)))
    arguments = [TensorInfo("float32", shape) for shape in (PROBLEM.x_shape, WEIGHT.shape, PROBLEM.y_shape)]
    runner = LocalRunner(timeout_sec=60, evaluator_config=EvaluatorConfig(number=2, repeat=2, min_repeat_ms=0))
    (future,) = runner.run([RunnerInput(result.artifact_path, "cpu", arguments)])
    answer = future.result()
    assert answer.error_msg is None
    assert len(answer.run_secs) == 2
    assert "tvm.s_tir.tensor_intrin" not in sys.modules, "half a minute of imports"


def test_a_failure_is_the_modules_own(compilers: LocalBuilder) -> None:
    modules = [as_module(toy.broken(PROBLEM, WEIGHT, "main")), as_module(toy.code(PROBLEM, WEIGHT, "main"))]
    bad, good = as_metaschedule(compilers).build(inputs(*modules))
    assert bad.artifact_path is None
    assert bad.error_msg.startswith("build: InternalError")
    assert "llvm.sqrt" in bad.error_msg
    assert Path(good.artifact_path).is_file()


def test_the_same_artifact_for_the_same_module(compilers: LocalBuilder, tmp_path: Path) -> None:
    module = as_module(toy.code(PROBLEM, WEIGHT, "main"))
    one, two = as_metaschedule(compilers, tmp_path).build(inputs(module, module))
    assert one.artifact_path != two.artifact_path
    assert Path(one.artifact_path).read_bytes() == Path(two.artifact_path).read_bytes()


def test_unknown_pipeline(compilers: LocalBuilder) -> None:
    function = toy.code(PROBLEM, WEIGHT, "main").main
    module = tvm.IRModule({"main": function.with_attr("tesa.pipeline", "fastest")})
    with pytest.raises((UsageError, RuntimeError), match="unknown pipeline 'fastest'; there are default, straight"):
        as_metaschedule(compilers).build(inputs(module))
