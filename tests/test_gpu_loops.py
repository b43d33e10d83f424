"""Loops, branches and recurrent cells for GPUs, compiled, loaded and run on a pretended driver, against onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tesa.build.gpu import network
from tesa.compiler import compile_model
from tesa.errors import UnsupportedError
from tesa.runtime import load, verify
from tests.gpu.driver import started
from tests.gpu.extra import require_compiler
from tests.gpu.kernels import sparse

FLOAT = onnx.TensorProto.FLOAT


def saved(path: Path, nodes: list[onnx.NodeProto], shapes: dict[str, list[int]], **weights: np.ndarray) -> Path:
    """A model with the inputs x and so on, and the output y, whose shapes are given."""
    inputs, outputs = (
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in shapes.items() if (name == "y") == last]
        for last in (False, True)
    )
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "net", inputs, outputs, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def recurrent(path: Path, steps: int = 24, hidden: int = 8, inputs: int = 6) -> Path:
    """A cell whose loop is longer than what is written out."""
    nodes = [
        helper.make_node("LSTM", ["x", "W", "R", "B"], ["all"], hidden_size=hidden, name="cell"),
        helper.make_node("Squeeze", ["all", "axes"], ["y"]),
    ]
    shapes = {"x": [steps, 1, inputs], "y": [steps, 1, hidden]}
    return saved(
        path, nodes, shapes, W=sparse(4 * hidden, inputs, 0.5, 1)[None], R=sparse(4 * hidden, hidden, 0.4, 2)[None] / 4,
        B=np.linspace(-1, 1, 8 * hidden, dtype=np.float32)[None], axes=np.array([1]),
    )  # fmt: skip


def scanned(path: Path, steps: int = 60) -> Path:
    """The sums so far, of a product of what each step gets, with a branch that the data choose behind them."""
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["row", "w"], ["p"], name="inner"),
            helper.make_node("Tanh", ["p"], ["t"]),
            helper.make_node("Add", ["before", "t"], ["after"]),
            helper.make_node("Identity", ["after"], ["out"]),
        ],
        "body",
        [helper.make_tensor_value_info(n, FLOAT, s) for n, s in (("before", [1, 5]), ("row", [1, 8]))],
        [helper.make_tensor_value_info(n, FLOAT, [1, 5]) for n in ("after", "out")],
    )
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node(op, ["rows"], [name])], name, [], [helper.make_tensor_value_info(name, FLOAT, None)]
        )
        for name, op in (("then", "Neg"), ("else", "Abs"))
    }
    nodes = [
        helper.make_node("Scan", ["zeros", "x"], ["last", "rows"], body=body, num_scan_inputs=1),
        helper.make_node("ReduceSum", ["last"], ["total"], keepdims=0),
        helper.make_node("Greater", ["total", "nothing"], ["positive"]),
        helper.make_node("If", ["positive"], ["y"], **branches),
    ]
    shapes = {"x": [steps, 1, 8], "y": [steps, 1, 5]}
    return saved(path, nodes, shapes, w=sparse(8, 5, 0.5, 3), zeros=np.zeros((1, 5), np.float32), nothing=np.float32(0))


@pytest.mark.slow
@pytest.mark.parametrize("make", [recurrent, scanned])
def test_loops_are_lists_of_launches(make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = started(tmp_path, monkeypatch)
    source = make(tmp_path / "net.onnx")
    made = compile_model(source, output=tmp_path / "net.so", target="cuda:sm_80", measure=False)
    assert max(row.calls for row in made.plan.layers) > 8, "a loop is not written out"
    with load(tmp_path / "net.so") as model:  # type: ignore[attr-defined]
        result = verify(model, source)
        assert driver.faults == []
        assert result.ok, result
    assert driver.graphs > 0
    assert len(driver.launched) > 60


def test_loops_of_too_many_launches_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_compiler()
    monkeypatch.setattr(network, "MOST_LAUNCHES", 100)
    with pytest.raises(UnsupportedError, match=r"makes more than 100 launches .*for fewer steps"):
        compile_model(
            scanned(tmp_path / "net.onnx"), output=tmp_path / "net.so", target="cuda:sm_80", measure=False,
        )  # fmt: skip
    assert not (tmp_path / "net.so").exists()
