"""Tuning and measuring for GPUs, on a pretended driver: its clock says 1 ms for whatever it runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import tesa
from tesa.base.worker import Worker
from tesa.build.gpu import ptx
from tesa.build.objects import BuildError
from tesa.choose import shortlist
from tesa.choose.gpu import choose_gpu
from tesa.errors import UnsupportedError, UsageError
from tesa.layers.layer import Layer
from tesa.measure.failure import Failure, FailureKind
from tesa.measure.gpu import process, runner
from tesa.measure.gpu.runner import GpuRunner
from tesa.measure.timing import UNTIMED, Timing
from tesa.records.log import Log
from tesa.schedules.types import Problem
from tesa.targets.target import parse_target
from tesa.tune.builders.gpu import library_of
from tesa.tune.gpu import GpuBench
from tesa.tune.model import tune_model
from tests.gpu.driver import Driver, build
from tests.gpu.extra import require_compiler
from tests.gpu.kernels import sparse

TARGET = parse_target("cuda:sm_80")
WEIGHT = sparse(16, 24, 0.3)
LAYER = Layer("fc", Problem("linear", 16, 24, 64, (1, 24, 64), (1, 16, 64)), WEIGHT)
DEVICE = "NVIDIA Mock-TM-1"


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    monkeypatch.setattr(ptx, "assembler", lambda: "")  # the driver gets the text, and runs it
    monkeypatch.setattr(GpuRunner, "isolate", False)  # it calls back into this process
    monkeypatch.setattr(process, "_timed", lambda call, _: Timing.of([call(2)]))  # few calls: NumPy runs them
    made = Driver(build(tmp_path))
    monkeypatch.setenv("TESA_GPU_DRIVER", str(made.path))
    return made.start()


def network(path: Path) -> Path:
    """One layer."""
    nodes = [helper.make_node("MatMul", ["w", "x"], ["y"], name="fc")]
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [24, 64])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [16, 64])],
        [numpy_helper.from_array(WEIGHT, "w")],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


@pytest.mark.slow
def test_a_model_is_tuned_and_the_log_is_taken_by_a_compile(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_compiler()
    monkeypatch.setattr(shortlist, "KEEP", 1)
    source, log = network(tmp_path / "net.onnx"), tmp_path / "log"
    tuned = tune_model(source, target="cuda:sm_80", trials=3, mode="random", log=log, progress=None)
    assert driver.faults == []
    assert (tuned.target, tuned.device["cpu"], tuned.device["model"]) == ("cuda:sm_80", DEVICE, "NVIDIA Mock(TM) 1")
    (layer,) = tuned.layers
    assert layer.failed == 0
    assert layer.best_ms is not None
    assert tuned.measured >= 3
    assert [path.name for path in log.iterdir() if path.suffix == ".jsonl"] == [f"{DEVICE}.jsonl"]
    again = tune_model(source, target="cuda:sm_80", trials=3, mode="random", log=log, progress=None)
    assert again.measured == 0
    launched = len(driver.launched)
    made = tesa.compile(source, output=tmp_path / "net.so", target="cuda:sm_80", log=log, measure=False)
    assert len(driver.launched) == launched
    (row,) = (row for row in made.plan.layers if row.parts)
    assert row.parts[0].reason.startswith("measured: ")
    assert row.parts[0].reason.endswith(" (from the log)")


def test_the_best_candidates_are_measured_once(driver: Driver, tmp_path: Path) -> None:
    bench = GpuBench.of(TARGET, tmp_path, measure=True)
    kernel = bench.choose(LAYER, families=["unrolled"])
    times = [row.measured_ms for row in kernel.part.candidates if row.measured_ms is not None]
    assert times == [1.0] * 3
    assert kernel.part.reason.startswith("measured: unrolled")
    launched = len(driver.launched)
    again = GpuBench.of(TARGET, tmp_path, measure=True).choose(LAYER, families=["unrolled"])
    assert len(driver.launched) == launched
    assert again.part.reason == f"{kernel.part.reason} (from the log)"
    records = [entry.record for entry in Log.load(tmp_path).entries()]
    assert {(record.target, record.cpu, record.ok) for record in records} == {("cuda:sm_80", DEVICE, True)}
    assert all(len(record.code) == 16 and record.stamp for record in records)


def test_kernels_that_fail_are_in_the_log_and_not_taken(driver: Driver, tmp_path: Path) -> None:
    driver.fail("cuLaunchKernel", 700)
    with pytest.raises(UnsupportedError, match=r"fc: no kernel for cuda:sm_80 can be built: unrolled: .*illegal"):
        GpuBench.of(TARGET, tmp_path, measure=True).choose(LAYER, families=["unrolled"])
    failed = [entry.record for entry in Log.load(tmp_path).entries()]
    assert len(failed) == 3
    assert all("illegal" in record.error for record in failed)
    driver.fail("", 0)
    kernel = GpuBench.of(TARGET, tmp_path, measure=True).choose(LAYER, families=["unrolled"])  # another configuration
    assert kernel.part.config not in [dict(record.config) for record in failed]


def test_wrong_results_are_no_kernels(driver: Driver) -> None:
    def refuse(*_: object) -> float:
        raise BuildError("its result is wrong: by far")

    with pytest.raises(UnsupportedError, match="layer fc: no kernel for cuda:sm_80 can be built: unrolled: its result"):
        choose_gpu(LAYER, TARGET, families=["unrolled"], measure=refuse)


def test_a_kernel_is_measured_where_there_is_a_driver(driver: Driver, tmp_path: Path) -> None:
    k = tesa.kernel(WEIGHT, n=64, target="cuda:sm_80", family="unrolled", log=tmp_path)
    assert k.plan.parts[0].reason.startswith("measured: unrolled")
    x = np.random.default_rng(0).standard_normal((24, 64), np.float32)
    np.testing.assert_allclose(k(x), WEIGHT @ x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("sm", "name", "options", "message"),
    [
        (75, "T4", {}, "measures is T4, sm_75, which cannot run code for cuda:sm_80: give --target cuda:sm_75"),
        (80, "", {}, "does not tell the name of device 0"),
        (80, "///", {}, "the driver of the GPU tells what cannot be: '' is no name of a GPU"),
        (80, "A100", {"cluster": "tcp://10.0.0.3:8786"}, "are built on this machine: leave --cluster"),
        (80, "A100", {"rpc": "10.0.0.3:9190", "key": "gpu"}, "is measured on this machine: leave --rpc and --key"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_told(
    driver: Driver, tmp_path: Path, sm: int, name: str, options: dict[str, str], message: str
) -> None:
    driver.start(sm=sm)
    driver.call_itself(name)
    with pytest.raises(UsageError, match=message):
        tune_model(network(tmp_path / "net.onnx"), target="cuda:sm_80", trials=1, log=tmp_path, **options)  # type: ignore[arg-type]


def test_no_driver_and_no_device(driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = network(tmp_path / "net.onnx")
    driver.start(devices=0)
    with pytest.raises(
        UsageError, match="the driver of NVIDIA knows no GPU, so that nothing can be measured for cuda:"
    ):
        tune_model(source, target="cuda:sm_80", trials=1)
    monkeypatch.setenv("TESA_GPU_DRIVER", str(tmp_path / "missing.so"))
    with pytest.raises(
        UsageError, match=r"no driver of a GPU of AMD was found.*name the driver's library in \$TESA_GPU"
    ):
        tune_model(source, target="rocm", trials=1)


def test_kernels_run_in_a_process_of_their_own(driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There the driver is one that runs nothing, and crashes, until it is started there as well."""
    monkeypatch.setattr(GpuRunner, "isolate", True)
    options = [("unrolled", {"rows": 16, "threads": 64, "groups": 1, "stage": 0})]
    built = choose_gpu(LAYER, TARGET, options=options).product
    candidate = library_of(LAYER.problem, built, TARGET, tmp_path / "k.so")
    run = GpuRunner(TARGET).run
    (result,) = run(LAYER.problem, WEIGHT, [candidate], budget_ms=0)
    assert isinstance(result, Failure)
    assert result.kind is FailureKind.CRASH
    root = str(Path(__file__).parents[2])
    started = Worker({"TESA_GPU_DRIVER": str(driver.path), "PYTHONPATH": root}, ["tests.gpu.in_child"])
    monkeypatch.setattr(runner, "_worker", lambda _: started)
    try:
        assert run(LAYER.problem, WEIGHT, [candidate], budget_ms=0) == [UNTIMED]
        wrong = run(LAYER.problem, WEIGHT + 1, [candidate], budget_ms=0)[0]
        assert isinstance(wrong, Failure)
        assert wrong.kind is FailureKind.WRONG
    finally:
        started.close()
