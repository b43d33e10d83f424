"""Graphs that are odd: parts that reach no output, tensors without elements, unused inputs, doubled outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from tesa.errors import ModelError, UnsupportedError
from tesa.frontend import import_onnx
from tesa.propagate import propagate

from .onnx_models import floats, model, node, port
from .test_import import compare, operators


def test_what_reaches_no_output_is_listed() -> None:
    nodes = [
        node("Relu", ["x"], "y"), node("Tanh", ["x"], "t", name="lost"), node("MatMul", ["t", "w"], "u", name="more"),
    ]  # fmt: skip
    given = model(nodes, [port("x", [2, 3]), port("other", [4])], ["y"], {"w": floats(3, 3), "idle": floats(2)})
    imported = import_onnx(given)
    assert imported.dropped == ("lost", "more")
    assert imported.unused == ("other", "w", "idle")
    assert operators(imported) == ["nn.relu"]
    assert [p.name for p in imported.inputs] == ["x", "other"]
    facts = propagate(imported)
    assert facts.tesa["other"].dead.all()


def test_a_connected_graph_has_nothing_to_list() -> None:
    imported = import_onnx(model([node("Relu", ["x"], "y")], [port("x", [4])], ["y"]))
    assert imported.dropped == imported.unused == ()


def test_two_islands_are_both_there() -> None:
    nodes = [node("Relu", ["a"], "p"), node("Tanh", ["b"], "q")]
    imported = compare(
        model(nodes, [port("a", [2]), port("b", [3])], ["p", "q"]), {"a": floats(2), "b": floats(3, seed=1)}
    )
    assert imported.dropped == ()


def test_an_output_that_is_named_twice() -> None:
    given = model([node("Relu", ["x"], "y")], [port("x", [4])], ["y", "y"])
    with pytest.raises(ModelError, match="'y' is an output of the model 2 times; an output has one name of its own"):
        import_onnx(given)


def test_a_cycle_beside_a_sound_graph() -> None:
    nodes = [node("Relu", ["x"], "y"), node("Add", ["a", "x"], "b", name="one"), node("Relu", ["b"], "a", name="two")]
    with pytest.raises(ModelError, match="a cycle through the nodes 'one', 'two'"):
        import_onnx(model(nodes, [port("x", [4])], ["y"]))


def empty_slice(*more: Any, output: str = "y", **constants: Any) -> Any:
    """x[:, 2:2] as "e" of shape (2, 0), and what is done with it."""
    bounds = {"low": np.array([2]), "high": np.array([2]), "axis": np.array([1])}
    nodes = [node("Slice", ["x", *bounds], "e", name="cut"), *more]
    return model(nodes, [port("x", [2, 4])], [output], {**bounds, **constants})


def test_a_concat_does_without_empty_tensors() -> None:
    given = empty_slice(
        node("Relu", ["e"], "r"), node("Concat", ["r", "x", "r"], "c", axis=1), node("Tanh", ["c"], "y")
    )
    imported = compare(given, {"x": floats(2, 4)})
    assert "relu" not in str(operators(imported))


def test_a_concat_with_an_empty_constant() -> None:
    given = model(
        [node("Concat", ["none", "x"], "c", axis=0), node("Relu", ["c"], "y")], [port("x", [2, 3])], ["y"],
        {"none": np.zeros((0, 3), np.float32)},
    )  # fmt: skip
    compare(given, {"x": floats(2, 3)})


def test_the_sum_of_nothing_is_a_constant() -> None:
    given = empty_slice(
        node("ReduceSum", ["e", "axis"], "s", keepdims=1), node("Add", ["x", "s"], "y")
    )  # fmt: skip
    assert operators(compare(given, {"x": floats(2, 4)})) == ["add"]


def test_a_split_with_an_empty_part() -> None:
    split = helper.make_node("Split", ["x", "sizes"], ["a", "b", "c"], "split", axis=1)
    nodes = [split, node("Concat", ["c", "b", "a"], "y", axis=1)]
    given = model(nodes, [port("x", [2, 4])], ["y"], {"sizes": np.array([1, 0, 3])})
    assert operators(compare(given, {"x": floats(2, 4)})) == ["split", "concat"]


def test_an_output_without_elements() -> None:
    with pytest.raises(ModelError) as caught:
        import_onnx(empty_slice(node("Relu", ["e"], "y")))
    assert "output 'y' has the shape [2, 0], without elements" in str(caught.value)


def test_an_operator_that_makes_something_out_of_nothing() -> None:
    with pytest.raises(UnsupportedError) as caught:
        import_onnx(empty_slice(node("MatMul", ["e", "w"], "y", name="product"), w=np.zeros((0, 3), np.float32)))
    assert "node 'product' (MatMul) reads 'e' of shape [2, 0], without elements" in str(caught.value)


def test_an_empty_parameter_is_none() -> None:
    nodes = [node("Resize", ["x", "roi", "scales"], "y", mode="nearest", coordinate_transformation_mode="asymmetric",
                  nearest_mode="floor")]  # fmt: skip
    constants = {"roi": np.zeros(0, np.float32), "scales": np.array([1, 1, 2, 2], np.float32)}
    compare(model(nodes, [port("x", [1, 2, 3, 3])], ["y"], constants), {"x": floats(1, 2, 3, 3)})
    nodes = [node("ReduceMean", ["x", "axes"], "y")]
    compare(model(nodes, [port("x", [2, 3])], ["y"], {"axes": np.zeros(0, np.int64)}, opset=18), {"x": floats(2, 3)})


@pytest.mark.parametrize("value", [-np.inf, np.inf])
def test_one_infinite_number_is_a_mask_and_not_damage(value: float) -> None:
    given = model([node("Mul", ["x", "big"], "y")], [port("x", [4])], ["y"], {"big": np.float32(value)})
    assert operators(import_onnx(given)) == ["multiply"]


def test_a_graph_of_constants_only(tmp_path: Path) -> None:
    given = model([node("Add", ["a", "b"], "y")], [], ["y"], {"a": floats(3), "b": floats(3, seed=1)})
    imported = import_onnx(given)
    assert imported.inputs == ()
    assert imported.outputs[0].shape == (3,)
    assert propagate(imported).weights == {}
