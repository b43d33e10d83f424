"""The benchmark of what compiling costs, on a network that compiles in seconds."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks import compile_cost, zoo


def tiny() -> onnx.ModelProto:
    weight = np.random.default_rng(0).standard_normal((24, 16)).astype(np.float32)
    return helper.make_model(
        helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"], name="fc")],
            "tiny",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [8, 24])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [8, 16])],
            [numpy_helper.from_array(weight, "w")],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=10,
    )


@pytest.mark.slow
def test_it_compiles_and_weighs_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "tiny", tiny, raising=False)
    row = compile_cost.cost("tiny", 0.5, 1)
    assert row is not None
    assert row["seconds"] > 0.5  # a Python with TVM does not start faster
    assert 0.05 < row["peak_gb"] < 8
    assert 0.001 < row["library_mb"] < 5


def test_a_failure_is_told(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def broken() -> onnx.ModelProto:
        model = tiny()
        model.graph.node[0].op_type = "NoSuchOperator"
        return model

    monkeypatch.setattr(zoo, "tiny", broken, raising=False)
    assert compile_cost.cost("tiny", 0.5, 1) is None
    assert "NoSuchOperator" in capfd.readouterr().err
