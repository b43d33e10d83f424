"""A network with a recurrent cell, from the file to its numbers: compile, verify, profile, the smaller model, masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import tesa
from tesa.analyze.inspection import inspect_model
from tesa.base.onnxruntime import reference_outputs
from tesa.compact import compact
from tesa.frontend import import_onnx
from tesa.propagate import propagate
from tesa.runtime.bench import profile_layers
from tesa.runtime.verify import verify

STEPS, INPUTS, HIDDEN = 20, 8, 6


def pruned(rng: Any, *shape: int) -> Any:
    return np.where(rng.random(shape) < 0.4, rng.normal(size=shape), 0).astype(np.float32)


def network(path: Path) -> Path:
    """Linear, a bidirectional LSTM over 20 steps, linear."""
    rng = np.random.default_rng(0)
    arrays = {
        "first": pruned(rng, 5, INPUTS), "w": pruned(rng, 2, 4 * HIDDEN, INPUTS),
        "r": pruned(rng, 2, 4 * HIDDEN, HIDDEN), "b": pruned(rng, 2, 8 * HIDDEN), "last": pruned(rng, 2 * HIDDEN, 3),
        "sizes": np.asarray([STEPS, 1, 2 * HIDDEN]),
    }  # fmt: skip
    arrays["first"][:, 2] = 0
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["a"], "first"),
        helper.make_node("LSTM", ["a", "w", "r", "b"], ["y", "h"], "cell", hidden_size=HIDDEN,
                         direction="bidirectional"),
        helper.make_node("Transpose", ["y"], ["t"], "turn", perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["t", "sizes"], ["u"], "join"),
        helper.make_node("MatMul", ["u", "last"], ["out"], "last"),
    ]  # fmt: skip
    ports = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [STEPS, 1, 5])]
    outs = [
        helper.make_tensor_value_info("out", TensorProto.FLOAT, [STEPS, 1, 3]),
        helper.make_tensor_value_info("h", TensorProto.FLOAT, [2, 1, HIDDEN]),
    ]
    graph = helper.make_graph(nodes, "test", ports, outs, [numpy_helper.from_array(a, n) for n, a in arrays.items()])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.slow
def test_a_compiled_cell(tmp_path: Path) -> None:
    """Its weights are layers with kernels of their own, which the loop calls once a step; the numbers are right."""
    source = network(tmp_path / "m.onnx")
    tesa.compile(source, output=tmp_path / "m.so", measure=False, log=tmp_path / "log")
    model = tesa.load(tmp_path / "m.so")
    calls = {layer.layer: layer.calls for layer in model.plan.layers if layer.kind == "sparse"}
    loops = {name: count for name, count in calls.items() if count > 1}
    assert loops == {"cell.R": STEPS, "cell.R_reverse": STEPS}
    assert set(calls) - set(loops) == {"first", "cell.W", "cell.W_reverse", "last"}
    result = verify(model, source, per_layer=True)
    assert result.ok
    compared = {row.name: row.compared for row in result.layers}
    assert compared["last"]
    assert not compared["cell.R"]
    feeds = {"x": np.random.default_rng(1).normal(size=(STEPS, 1, 5)).astype(np.float32)}
    rows = profile_layers(model, model.prepare(feeds), 2)
    assert [row.layer for row in rows].count("cell.R") == 1


def test_the_smaller_model_with_a_cell_is_right(tmp_path: Path) -> None:
    """What the loop reads can get smaller; the loop itself is a Scan in the file."""
    source = network(tmp_path / "m.onnx")
    smaller = compact(propagate(import_onnx(source)))
    assert any(row.layer == "cell.W" and row.after < row.before for row in smaller.removed)
    rng = np.random.default_rng(2)
    feeds = {"x": rng.normal(size=(STEPS, 1, 5)).astype(np.float32)}
    expected = reference_outputs(onnx.load(source), feeds, name="given")
    found = reference_outputs(smaller.proto, feeds, name="smaller")
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-5)


def test_inspect_shows_the_weights_of_a_cell_once_each(tmp_path: Path) -> None:
    rows = [row for row in inspect_model(network(tmp_path / "m.onnx")).layers if row.weight is not None]
    assert sorted(row.layer for row in rows) == [
        "cell.R", "cell.R_reverse", "cell.W", "cell.W_reverse", "first", "last",
    ]  # fmt: skip


def test_a_mask_finds_the_weights_of_a_cell(tmp_path: Path) -> None:
    """By the name of the initializer, or of the layer with .W or .R behind."""
    source = network(tmp_path / "m.onnx")
    keep = np.zeros((2, 4 * HIDDEN, HIDDEN), bool)
    keep[:, 0] = True
    for name in ("r", "cell.R"):
        weights = inspect_model(source, masks={name: keep}).weights
        kept = {layer: np.count_nonzero(weights[layer]) for layer in ("cell.R", "cell.R_reverse")}
        assert kept == {
            layer: np.count_nonzero(inspect_model(source).weights[layer][:, 0])
            for layer in ("cell.R", "cell.R_reverse")
        }


def test_layers_without_names_are_told_apart_inside_of_a_loop() -> None:
    """A product of two activations, and one with a weight in the body of a loop; both are only called after MatMul."""
    rng = np.random.default_rng(0)
    step = helper.make_graph(
        [helper.make_node("MatMul", ["h", "w"], ["m"]), helper.make_node("Tanh", ["m"], ["new"]),
         helper.make_node("Identity", ["go"], ["on"])],
        "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []),
         helper.make_tensor_value_info("go", TensorProto.BOOL, []),
         helper.make_tensor_value_info("h", TensorProto.FLOAT, [4, 4])],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, []),
         helper.make_tensor_value_info("new", TensorProto.FLOAT, [4, 4])],
    )  # fmt: skip
    nodes = [
        helper.make_node("MatMul", ["x", "x"], ["a"]),
        helper.make_node("Loop", ["count", "", "a"], ["y"], body=step),
    ]
    tensors = [numpy_helper.from_array(pruned(rng, 4, 4), "w"), numpy_helper.from_array(np.int64(100), "count")]
    port, out = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, 4]) for name in ("x", "y"))
    graph = helper.make_graph(nodes, "test", [port], [out], tensors)
    given = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    imported = import_onnx(given)
    (use,) = imported.weights["w"]
    assert use.layer == "matmul_2"
    feeds = {"x": rng.normal(size=(4, 4)).astype(np.float32)}
    smaller = compact(propagate(imported)).proto
    np.testing.assert_allclose(
        reference_outputs(smaller, feeds, name="smaller")["y"], reference_outputs(given, feeds, name="given")["y"],
        rtol=1e-5, atol=1e-6,
    )  # fmt: skip
