"""Verification layer by layer leaves out what compiling may change, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tesa.choose.plan import Plan
from tesa.cli import main
from tesa.runtime import Model, verify
from tests.frontend.onnx_models import floats, node, port
from tests.frontend.onnx_models import model as onnx_model

from .models import build, convolutions, first_row, mlp, weight_on_the_left


@pytest.mark.parametrize(
    ("proto", "dead", "channels"),
    [(mlp(), (3, 5), 8), (convolutions(), (1, 3), 4), (weight_on_the_left(), (1, 4), 6), (first_row(), range(8), 8)],
    ids=["linear", "conv", "left", "rows"],
)
def test_dead_channels_are_listed_and_left_out(tmp_path: Path, proto: Any, dead: Any, channels: int) -> None:
    model = build(tmp_path, proto, compact=False)
    first = model.plan.layers[[layer.kind for layer in model.plan.layers].index("sparse")]
    assert first.dead == tuple(dead)
    result = verify(model, tmp_path / "model.onnx", per_layer=True)
    assert result.ok, result
    assert (result.layers[0].dead, result.layers[0].channels) == (len(tuple(dead)), channels)
    assert all(layer.dead == 0 and layer.note == "" for layer in result.layers[1:])


def test_without_the_list_the_dead_channels_differ(tmp_path: Path) -> None:
    model = build(tmp_path, mlp(), compact=False)
    layers = tuple(replace(layer, dead=()) for layer in model.plan.layers)
    model = model.at(replace(model.sizes[0], plan=replace(model.plan, layers=layers)))
    assert not verify(model, tmp_path / "model.onnx", per_layer=True).ok


def _changed(folder: Path, weight: str, column: int) -> Path:
    """The model in the folder with one column of a weight changed."""
    proto = onnx.load(folder / "model.onnx")
    for tensor in proto.graph.initializer:
        if tensor.name == weight:
            array = numpy_helper.to_array(tensor).copy()
            array[:, column] += 1
            tensor.CopyFrom(numpy_helper.from_array(array, weight))
    onnx.save(proto, folder / "other.onnx")
    return folder / "other.onnx"


@pytest.mark.parametrize(("column", "ok"), [(3, True), (4, False)])
def test_a_live_channel_that_differs_is_found(tmp_path: Path, column: int, ok: bool) -> None:
    model = build(tmp_path, mlp(), compact=False)
    result = verify(model, _changed(tmp_path, "w0", column), per_layer=True)
    assert (result.layers[0].name, result.layers[0].ok) == ("hidden", ok)


def test_the_plan_keeps_the_list_through_json(tmp_path: Path) -> None:
    plan = build(tmp_path, mlp(), compact=False).plan
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    older = plan.to_json()
    for row in older["layers"]:
        del row["dead"]
    assert [layer.dead for layer in Plan.from_json(older).layers] == [()] * len(plan.layers)


def test_the_table_says_what_was_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build(tmp_path, mlp(), compact=False)
    words = ["verify", str(tmp_path / "model.so"), "--ref", str(tmp_path / "model.onnx"), "--per-layer"]
    assert main(words) == 0
    assert "2 of 8 channels are dead, not compared" in capsys.readouterr().out
    build(tmp_path, first_row(), compact=False)
    assert main(words) == 0
    assert "not compared: all 8 channels have dead elements" in capsys.readouterr().out


def test_masks_kill_channels_too(tmp_path: Path) -> None:
    mask = np.ones((8, 3), bool)
    mask[[0, 1]] = False
    model: Model = build(tmp_path, mlp(), masks={"w1": mask}, compact=False)
    assert next(layer for layer in model.plan.layers if layer.layer == "hidden").dead == (0, 1, 3, 5)


@pytest.mark.parametrize(
    ("proto", "axis", "left"),
    [(mlp(), 1, (0, 1, 2, 4, 6, 7)), (convolutions(), 1, (0, 2)), (weight_on_the_left(), 0, (0, 2, 3, 5))],
    ids=["linear", "conv", "left"],
)
def test_what_is_left_of_a_removed_tensor_is_compared(tmp_path: Path, proto: Any, axis: int, left: Any) -> None:
    model = build(tmp_path, proto)
    first = model.plan.layers[[layer.kind for layer in model.plan.layers].index("sparse")]
    assert first.kept[axis] == left
    assert any(fact.startswith("removed: ") for fact in first.facts)
    assert Plan.from_json(json.loads(json.dumps(model.plan.to_json()))) == model.plan
    assert verify(model, tmp_path / "model.onnx", per_layer=True).ok
    wrong = tuple(i - (i > 0) for i in left)
    layers = tuple(
        replace(layer, kept=tuple(wrong if row else row for row in layer.kept)) for layer in model.plan.layers
    )
    model = model.at(replace(model.sizes[0], plan=replace(model.plan, layers=layers)))
    assert not verify(model, tmp_path / "model.onnx", per_layer=True).ok


@pytest.mark.parametrize("options", [{"compact": False}, {"propagation": False}])
def test_shrinking_and_propagation_can_be_left_out(tmp_path: Path, options: Any) -> None:
    model = build(tmp_path, mlp(), **options)
    shapes = [layer.shape for layer in model.plan.layers if layer.kind == "sparse"]
    assert shapes == [(8, 6, 4), (3, 8, 4)]
    assert not any(layer.kept for layer in model.plan.layers)
    assert bool(model.plan.layers[-1].dead or any(layer.dead for layer in model.plan.layers)) == (
        "propagation" not in options
    )


def test_a_smaller_model_is_compared_with_the_original_as_far_as_it_can_be(tmp_path: Path) -> None:
    """A constant channel behind a padded convolution leaves a table that is added: there is no such tensor before."""
    from tesa.compact import compact
    from tesa.frontend import import_onnx
    from tesa.propagate import propagate

    first, bias = floats(16, 3, 3, 3), floats(16, seed=5)
    first[::2] = 0
    nodes = [
        node("Conv", ["x", "w0", "b0"], "a", name="first", pads=[1, 1, 1, 1]),
        node("Relu", ["a"], "r"),
        node("Conv", ["r", "w1"], "c", name="second", pads=[1, 1, 1, 1]),
        node("Relu", ["c"], "y"),
    ]
    constants = {"w0": first, "b0": np.abs(bias) + 1, "w1": floats(4, 16, 3, 3, seed=2)}
    proto = onnx_model(nodes, [port("x", [1, 3, 6, 6])], ["y"], constants)
    onnx.save(proto, tmp_path / "original.onnx")
    model = build(tmp_path, compact(propagate(import_onnx(proto))).proto, name="smaller")
    result = verify(model, tmp_path / "original.onnx", per_layer=True)
    assert result.ok
    assert [layer.compared for layer in result.layers] == [False, True]  # the second adds the table by itself
    assert "not compared" in result.layers[0].note
    whole = build(tmp_path, proto, name="whole")
    layers = verify(whole, tmp_path / "original.onnx", per_layer=True).layers
    assert [layer.compared for layer in layers] == [True, True]


def test_dead_weights_are_zero_in_layers_that_stay_dense_too(tmp_path: Path) -> None:
    """A channel that is a known 0 by its bias is dead for the next layer, and that layer's weight for it is dead too.

    The transposed convolution stays dense. With its weight as it was, what the first layer leaves there would count.
    """
    first, bias = floats(2, 2, 1, 1), np.array([0.3, -1.0], np.float32)
    first[1] = np.array([2.0, 0.0], np.float32).reshape(2, 1, 1)
    nodes = [
        node("Mul", ["x", "zero"], "m"),
        node("Sigmoid", ["m"], "s"),
        node("Conv", ["s", "w", "b"], "h", name="first"),
        node("ConvTranspose", ["h", "t"], "u", strides=[2, 2]),
        node("Add", ["u", "v"], "y"),
    ]
    constants = {"zero": np.zeros((1, 2, 1, 1), np.float32), "w": first, "b": bias, "t": floats(2, 3, 2, 2)}
    proto = onnx_model(nodes, [port("x", [1, 2, 4, 4]), port("v", [1, 3, 8, 8])], ["y"], constants)
    for options in ({}, {"compact": False}, {"propagation": False}):
        assert verify(build(tmp_path, proto, **options), tmp_path / "model.onnx").ok, options
