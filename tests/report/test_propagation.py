"""Sparsity and bits by layer: the numbers in the table are those of the arrays, and the picture shows all layers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread
from rich.console import Console

from benchmarks import prune, zoo
from tesa import report
from tesa.errors import UsageError
from tesa.frontend import import_onnx
from tesa.propagate import TesaModel, propagate
from tesa.report.propagation import Change, LayerChange, PropagationTable, propagation_table
from tesa.report.propagation_plot import plot_propagation
from tests.frontend.onnx_models import floats, model, node, port


def mlp() -> TesaModel:
    """Three of six features pruned; the bias of one of them is 2, so that it is a constant, not 0."""
    nodes = [
        node("MatMul", ["x", "a.weight"], "a"),
        node("Add", ["a", "a.bias"], "b"),
        node("Relu", ["b"], "r"),
        node("MatMul", ["r", "c.weight"], "y", name="c"),
    ]
    mask = np.ones((4, 6), bool)
    mask[:, :3] = False
    bias = np.array([0, -1, 2, 3, 4, 5], np.float32)
    constants = {"a.weight": floats(4, 6), "a.bias": bias, "c.weight": floats(6, 2)}
    return propagate(import_onnx(model(nodes, [port("x", [1, 4])], ["y"], constants), masks={"a": mask}))


def test_rows() -> None:
    table = propagation_table(mlp())
    assert [layer.layer for layer in table.layers] == ["a", "c"]
    first, last = table.layers
    assert (first.op, first.weight, first.zeros, first.folded) == ("matmul", (4, 6), Change(0.5, 0.5), 0.5)
    assert last.zeros is not None
    assert last.zeros.before == 0
    assert last.zeros.after == pytest.approx(2 / 6)  # relu leaves 0 of the biases 0 and -1
    assert last.folded == pytest.approx(3 / 6)  # and the constant 2 moves into the bias
    assert last.input is not None
    assert last.input.after == pytest.approx(2 / 6)
    assert last.weight_bits == Change(32, 32)
    assert (table.parameters, table.zeros) == (36, Change(12, 16))


def test_layers_without_a_weight_on_request() -> None:
    table = propagation_table(mlp(), every=True)
    assert [layer.layer for layer in table.layers] == ["a", "b", "r", "c"]
    relu = table.layer("r")
    assert (relu.weight, relu.zeros, relu.folded, relu.weight_bits) == (None, None, None, None)
    assert relu.output.after == pytest.approx(2 / 6)
    assert relu.constant == pytest.approx(1 / 6)
    with pytest.raises(KeyError):
        table.layer("nothing")


def test_it_prints() -> None:
    lines = str(propagation_table(mlp())).splitlines()
    assert lines[0].rstrip() == "the given model: facts by layer"
    assert lines[1].split() == ("layer op weight zero before after folded input gone output gone constant".split())
    assert lines[-3].split() == "c matmul 6x2 0 % 33.3 % 50 % 33.3 % 0 % 0 %".split()
    assert lines[-1] == "36 weights: 33.3 % zero as given, 44.4 % zero or dead after propagation"


def test_bits_are_shown_where_there_are_fewer() -> None:
    nodes = [node("DequantizeLinear", ["q", "s"], "w"), node("MatMul", ["x", "w"], "y", name="fc")]
    constants = {"q": np.arange(-128, 128, 2, dtype=np.int8).reshape(32, 4), "s": np.float32(0.5)}
    table = propagation_table(propagate(import_onnx(model(nodes, [port("x", [2, 32])], ["y"], constants))))
    change = table.layer("fc").weight_bits
    assert change is not None
    assert change.before == 8
    assert change.after <= 8
    assert "bits after" in str(table)
    assert "8/32/32" in str(table)
    assert "bits" not in str(propagation_table(mlp()))


def test_json_and_notebook() -> None:
    table = propagation_table(mlp())
    data = json.loads(json.dumps(table.to_json()))
    assert [layer["layer"] for layer in data["layers"]] == ["a", "c"]
    assert data["zeros"] == {"before": 12, "after": 16}
    shown = table._repr_html_()
    assert shown.startswith('<div class="tesa">')
    assert "33.3 %" in shown


def test_narrow_terminals_get_fewer_columns() -> None:
    console = Console(width=60, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    for part in propagation_table(mlp()).view():
        console.print(part)
    shown = console.export_text()
    assert "left out to fit 60 columns" in shown
    assert max(len(line.rstrip()) for line in shown.splitlines()) <= 60


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_picture(tmp_path: Path, suffix: str) -> None:
    for name in "ab":
        report.plot_propagation(mlp(), tmp_path / f"{name}.{suffix}")
    assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()


def test_picture_shows_each_layer(tmp_path: Path) -> None:
    plot_propagation(mlp(), tmp_path / "facts.svg")
    drawn = (tmp_path / "facts.svg").read_text()
    for word in ("zero or dead, % of elements", "bits of the widest element", "weight, before", "input, after"):
        assert f"<!-- {word} -->" in drawn
    assert drawn.count("<!-- c -->") == 1


def many(count: int) -> PropagationTable:
    eight, zeros = Change(8, 8), Change(0.5, 0.7)
    layers = [
        LayerChange(f"layer{i}", "conv2d", (8, 8), zeros, 0.8, Change(0, 0.2), Change(0, 0.1), 0.0, *[eight] * 3)
        for i in range(count)
    ]
    return PropagationTable("many.onnx", tuple(layers), 64 * count, Change(32 * count, 45 * count))


def test_picture_grows_with_the_model_and_has_no_background(tmp_path: Path) -> None:
    sizes = {}
    for count in (3, 130):
        plot_propagation(many(count), tmp_path / "facts.png")
        picture = imread(tmp_path / "facts.png")
        sizes[count] = picture.shape[1]
        assert picture[0, 0, 3] == 0  # transparent
    assert sizes[3] < sizes[130] <= 60 * 150


def test_nothing_to_draw(tmp_path: Path) -> None:
    plain = propagate(import_onnx(model([node("Relu", ["x"], "y")], [port("x", [2])], ["y"])))
    with pytest.raises(UsageError, match="no layer to draw"):
        plot_propagation(plain, tmp_path / "facts.png")
    with pytest.raises(UsageError, match="must end in"):
        plot_propagation(mlp(), tmp_path / "facts.bmp")
    assert list(tmp_path.iterdir()) == []


def test_a_real_network() -> None:
    net = zoo.resnet50(32, width=8, stages=(2, 1), classes=10)
    table = propagation_table(propagate(import_onnx(net, masks=prune.coarse(net, 0.5))))
    changes: list[Any] = [layer.zeros for layer in table.layers]
    assert all(c.before <= c.after for c in changes)
    assert all(layer.folded is not None and layer.folded >= layer.zeros.after for layer in table.layers if layer.zeros)
    assert table.layer("layer1.1.conv1").zeros == Change(0.5, 0.75)


def test_an_integer_sum_that_may_overflow_is_listed() -> None:
    """150,000 products of two bytes can leave int32 behind; a hundred cannot."""
    for terms, risky in ((150_000, True), (100, False)):
        nodes = [node("MatMulInteger", ["x", "w"], "y", name="sum")]
        constants = {"w": np.full((terms, 2), -128, np.int8)}
        proto = model(nodes, [port("x", [1, terms], "int8")], ["y"], constants)
        table = propagation_table(propagate(import_onnx(proto)), every=True)
        assert bool(table.overflows) == risky
        assert ("wraps around" in " ".join(str(table).split())) == risky
