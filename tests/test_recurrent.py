"""A network with a recurrent cell, from the file to its numbers: compile, verify, profile, the smaller model, masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from rich.text import Text

import tesa
from tesa.analyze.inspection import inspect_model
from tesa.base.onnxruntime import reference_outputs
from tesa.compact import compact
from tesa.errors import UsageError
from tesa.frontend import import_onnx
from tesa.propagate import propagate
from tesa.report.inspection import inspection_view
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


@pytest.mark.parametrize("what", ["W", "R"])
@pytest.mark.parametrize("ending", ["", "_reverse"])
@pytest.mark.parametrize("form", ["one", "three axes", "turned"])
def test_a_mask_by_the_name_of_a_layer_prunes_its_direction_only(
    tmp_path: Path, what: str, ending: str, form: str
) -> None:
    source, layer = network(tmp_path / "m.onnx"), f"cell.{what}{ending}"
    keep = np.random.default_rng(3).random((4 * HIDDEN, INPUTS if what == "W" else HIDDEN)) < 0.5
    given = {"one": keep, "three axes": keep[None], "turned": keep.T}[form]
    before, after = inspect_model(source), inspect_model(source, masks={layer: given})
    for name, weight in before.weights.items():
        expected = np.where(keep.T, weight, 0) if name == layer else weight
        np.testing.assert_array_equal(after.weights[name], expected)
    masked = [row.layer for row in after.layers if "masked by the user" in row.note]
    assert masked == [layer]
    assert after.layer(layer).initializer == what.lower()
    assert before.layer("cell.R").initializer == "r"


def test_masks_for_both_directions_come_together(tmp_path: Path) -> None:
    source, rng = network(tmp_path / "m.onnx"), np.random.default_rng(3)
    keep = rng.random((2, 4 * HIDDEN, HIDDEN)) < 0.5
    mask = import_onnx(source, masks={"cell.R": keep[0], "cell.R_reverse_mask": keep[1]}).masks["r"]
    np.testing.assert_array_equal(mask, keep)


def test_a_mask_of_another_shape_than_its_layer_is_refused(tmp_path: Path) -> None:
    source = network(tmp_path / "m.onnx")
    for name, shape in (("cell.R_reverse", (2, 24, 6)), ("cell.R", (24, 5)), ("cell.R", (2, 24))):
        with pytest.raises(UsageError, match=rf"mask '{name}' has shape .* its layer \[24, 6\], .* weight 'r' of"):
            import_onnx(source, masks={name: np.ones(shape)})


def gru(steps: int, **options: Any) -> Any:
    rng = np.random.default_rng(0)
    arrays = {"w": rng.normal(size=(2, 18, 5)), "r": rng.normal(size=(2, 18, 6))}
    cell = helper.make_node("GRU", ["x", "w", "r"], ["", "h"], "cell", hidden_size=6, direction="bidirectional",
                            **options)  # fmt: skip
    tensors = [numpy_helper.from_array(a.astype(np.float32), n) for n, a in arrays.items()]
    graph = helper.make_graph(
        [cell], "test", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [steps, 1, 5])],
        [helper.make_tensor_value_info("h", TensorProto.FLOAT, [2, 1, 6])], tensors,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_the_third_gate_of_a_gru_has_a_mask_of_its_own_or_is_a_part_of_that_of_r() -> None:
    keep = np.random.default_rng(3).random((18, 6)) < 0.5
    for layer, part, rows in (
        ("cell.R", keep, slice(0, 18)), ("cell.R_reverse", keep[:12], slice(0, 12)),
        ("cell.Rh_reverse", keep[12:], slice(12, 18)),
    ):  # fmt: skip
        mask = import_onnx(gru(20), masks={layer: part}).masks["r"]
        expected = np.ones((2, 18, 6), bool)
        expected[int("reverse" in layer), rows] = part
        np.testing.assert_array_equal(mask, expected)
    rows = {row.layer: row.initializer for row in inspect_model(gru(20)).layers if row.weight}
    assert rows == {f"cell.{w}{e}": w[0].lower() for w in ("W", "R", "Rh") for e in ("", "_reverse")}
    shown = [part.plain for part in inspection_view(inspect_model(gru(20))) if isinstance(part, Text)]
    assert "--mask takes the names of the layers, or those in the column initializer" in shown
    late = import_onnx(gru(20, linear_before_reset=1), masks={"cell.R": keep}).masks["r"]
    np.testing.assert_array_equal(late, np.stack([keep, np.ones_like(keep)]))
    with pytest.raises(UsageError, match="matches no weight"):
        import_onnx(gru(20, linear_before_reset=1), masks={"cell.Rh": keep[12:]})


def test_the_steps_of_a_cell_that_is_written_out_have_one_weight() -> None:
    rows = [row for row in inspect_model(gru(2)).layers if row.weight and ".R" in row.layer]
    assert rows
    assert {row.initializer for row in rows} == {"r"}
    keep = np.random.default_rng(3).random((18, 6)) < 0.5
    for row in rows:
        mask = import_onnx(gru(2), masks={row.layer: keep[12:] if ".Rh" in row.layer else keep[:12]}).masks["r"]
        assert not mask[int("reverse" in row.layer)].all()
        assert mask[int("reverse" not in row.layer)].all()


def test_a_pruned_code_of_a_quantized_cell_is_its_zero_point() -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "w": rng.integers(0, 256, (2, 5, 24)).astype(np.uint8), "r": rng.integers(0, 256, (2, 6, 24)).astype(np.uint8),
        "ws": np.full(2, 0.01, np.float32), "wz": np.asarray([120, 131], np.uint8),
        "rs": np.full((2, 24), 0.01, np.float32), "rz": rng.integers(110, 140, (2, 24)).astype(np.uint8),
    }  # fmt: skip
    inputs = ["x", "w", "r", "", "", "", "", "", "ws", "wz", "rs", "rz"]
    cell = helper.make_node("DynamicQuantizeLSTM", inputs, ["y"], "cell", domain="com.microsoft", hidden_size=6,
                            direction="bidirectional")  # fmt: skip
    graph = helper.make_graph(
        [cell], "test", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [20, 1, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [20, 2, 1, 6])],
        [numpy_helper.from_array(a, n) for n, a in arrays.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    for name, layer, inner in (("w", "cell.W_reverse", 5), ("r", "cell.R", 6)):
        keep = rng.random((inner, 24)) < 0.5
        before = inspect_model(proto).weights
        after = inspect_model(proto, masks={layer: keep}).weights
        np.testing.assert_array_equal(after[layer], np.where(keep, before[layer], 0), err_msg=name)


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
